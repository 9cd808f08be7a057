"""Tumours of one head put into the brain of another.

Parts of labelled images pasted into others teach a segmenter that what it looks for may lie anywhere (Ghiasi
et al., CVPR 2021; Zhang et al., CarveMix, MICCAI 2021); here labels are pasted, and the scan is made of them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from imaging.tissue import Tissue

from .poses import Labels, places_of, read_labels
from .randomisation import Randomisation

_SOFT = (Tissue.OEDEMA, Tissue.INFILTRATION)  # spread through the brain alone
_SOLID = (Tissue.NECROSIS, Tissue.ENHANCING, Tissue.CAVITY)  # push fluid aside too
_BRAIN = (Tissue.GREY, Tissue.WHITE, Tissue.BRAINSTEM)


def grafted(
    labels: Labels,
    heads: UInt8[Tensor, "n a b c"],
    lesions: Sequence[Tensor],
    spacing: float,
    how: Randomisation,
    generator: torch.Generator,
) -> Labels:
    """Labels of a sample, a share ``how.grafted`` of draws with the tumour of some head at some place.

    The tumour is turned, stretched and bent like any sample, and ends where the brain does.

    Parameters
    ----------
    labels
        Tissues of the sample, uint8 of ``how.shape``.
    heads
        Tissues of each head, uint8, on voxels of ``spacing``.
    lesions
        Some voxels of each head's tumour, shape ``(m, 3)``; none where it is healthy.
    spacing
        Voxel size of the heads (mm).
    how
        How much samples differ.
    generator
        Draws everything; on the CPU.
    """
    drawn, which, where, what = torch.rand(4, generator=generator).tolist()
    donors = [n for n, places in enumerate(lesions) if len(places)]
    if drawn >= how.grafted or not donors:
        return labels
    donor = donors[int(which * len(donors))]
    about = lesions[donor][int(what * len(lesions[donor]))].float()
    places = places_of(heads[donor].shape, spacing, how, generator, about)
    # Places are told of a coarse lattice: one of its nodes that lies in the brain gets what lies at `about`.
    sizes = zip(how.shape, places.shape[1:], strict=True)
    nodes = [torch.linspace(0, n - 1, c).round().long().to(labels.device) for n, c in sizes]
    free = torch.nonzero(_any(labels[torch.meshgrid(*nodes, indexing="ij")], _BRAIN)).cpu()
    if not len(free):
        return labels
    a, b, c = free[int(where * len(free))].tolist()
    moved = places + (about - places[:, a, b, c])[:, None, None, None]
    given = read_labels(heads[donor], moved.to(labels.device), how.shape)
    brain = _any(labels, _BRAIN)
    takes = (_any(given, _SOFT) & brain) | (_any(given, _SOLID) & (brain | (labels == Tissue.CSF)))
    return torch.where(takes, given, labels)


def _any(labels: Labels, kinds: Sequence[Tissue]) -> Tensor:
    table = torch.zeros(max(Tissue) + 1, dtype=torch.bool, device=labels.device)
    table[[*kinds]] = True
    return table[labels.int()]
