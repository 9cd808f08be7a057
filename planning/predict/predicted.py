"""The dose of a good plan, foretold of a patient, with how sure networks are of it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from imaging.volume import Quantity, Volume
from planning.beams import Beam

from .channels import Seen, chosen, seen
from .lattice import returned
from .nets import DoseNet, doses
from .patient import Patient
from .site import Site


def predicted(
    patient: Patient,
    nets: Sequence[nn.Module],
    site: Site,
    config: DoseNet,
    style: str = "",
    beams: Sequence[Beam] | None = None,
    mirrored: bool = True,
) -> tuple[Volume, Volume]:
    """Dose and its standard deviation among networks and mirror images (Gy), on the patient's grid.

    Deviations are those of an ensemble (Lakshminarayanan et al., NeurIPS 2017) and of flips at test: where
    they are large the answer is doubtful; where they are small it may yet be wrong.

    Parameters
    ----------
    patient
        Any voxel size.
    nets
        Trained, of one config; their devices do the work.
    site, config
        What they were trained with.
    style, beams
        As :func:`planning.predict.channels.seen` takes them.
    mirrored
        Whether the patient's mirror image is looked at too.

    Raises
    ------
    ValueError
        If there is no network, or as :func:`planning.predict.channels.seen`.
    """
    return told(seen(patient, site, config.sizes, style, beams), patient, nets, site, config, mirrored)


def told(
    there: Seen,
    patient: Patient,
    nets: Sequence[nn.Module],
    site: Site,
    config: DoseNet,
    mirrored: bool = True,
) -> tuple[Volume, Volume]:
    """The same of a patient's planes, as :func:`planning.predict.channels.seen` gives them.

    Raises
    ------
    ValueError
        If there is no network.
    """
    if not nets:
        raise ValueError("expected a network or more to predict with, got none")
    planes = there.planes[chosen(site, config.sees)]
    views = torch.cat([answers(net, planes, there.scale, mirrored) for net in nets])
    grid, frame = patient.ct.grid, patient.ct.frame
    both = torch.stack([views.mean(dim=0), views.std(dim=0, correction=0)])
    back = returned(both, there.known, there.grid, patient.possible)
    dose, sigma = (Volume(one[None], grid, Quantity.DOSE, frame) for one in back)
    return dose, sigma


def answers(
    net: nn.Module, planes: Float[Tensor, "c i j k"], scale: float, mirrored: bool = True
) -> Float[Tensor, "n i j k"]:
    """What a network says (Gy) of planes, and of their mirror image with left and right as they were."""
    device = next(net.parameters()).device
    told = torch.tensor([scale], device=device)
    image = planes[None].to(device)
    views: list[list[int]] = [[], [2]] if mirrored else [[]]
    with torch.inference_mode():
        said = [doses(net, image.flip(axes), told)[-1].flip(axes)[0, 0].cpu() for axes in views]
    return torch.stack(said).clone()
