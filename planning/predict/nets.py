"""The network that predicts a dose: its config, its loss and its training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.dose_unet import DoseUNet, DoseUNetConfig, dose_unet
from models.fit import Fit, Watch, fit
from models.weights import start_from

from .channels import Sees, names_of
from .lattice import Sizes
from .loss import dose_error, histogram_error
from .site import Site

_EARLY = 0.5  # of the last U-Net's loss, for each of those before it


@dataclass(frozen=True)
class DoseNet:
    """Config of a predictor and of its training.

    Parameters
    ----------
    net
        Size of the cascade; its inputs are what it sees.
    sees
        Groups of planes.
    sizes
        Voxels that it knows.
    histogram
        How much the histograms of structures weigh beside the dose of voxels; 0 for nothing.
    shape
        Voxels of a training sample.
    fit
        Budget and rates.

    Raises
    ------
    ValueError
        If the weight is negative.
    """

    net: DoseUNetConfig
    sees: Sees = field(default_factory=Sees)
    sizes: Sizes = field(default_factory=Sizes)
    histogram: float = 0.25
    shape: tuple[int, int, int] = (96, 64, 64)
    fit: Fit = field(default_factory=lambda: Fit(budget_s=3600.0, muon=True))

    def __post_init__(self) -> None:
        if self.histogram < 0:
            raise ValueError(f"expected a weight of histograms of 0 or more, got {self.histogram}")

    def as_json(self) -> dict[str, Any]:
        """What a card tells, and :func:`dose_net_of` reads."""
        return {**self.net.as_json(), "sees": self.sees.as_json(), "sizes": asdict(self.sizes)}


def dose_net(site: Site, sees: Sees | None = None, **net: Any) -> DoseNet:
    """The config of a site's predictor; ``net`` takes fields of :class:`models.dose_unet.DoseUNetConfig`."""
    sees = sees or Sees()
    return DoseNet(DoseUNetConfig(len(names_of(site, sees)), **net), sees)


def dose_net_of(config: Mapping[str, Any], site: Site) -> DoseNet:
    """The config that a card tells.

    Raises
    ------
    ValueError
        If it is no dose predictor's, or one of another site.
    """
    try:
        sees = Sees(**{k: bool(v) for k, v in config["sees"].items()})
        finest, coarsest = (tuple(float(s) for s in config["sizes"][k]) for k in ("finest", "coarsest"))
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError("expected the card of a dose predictor, got another's") from None
    net = DoseUNetConfig.of(config)
    if net.inputs != len(names_of(site, sees)):
        raise ValueError(
            f"expected a predictor that sees the {len(names_of(site, sees))} planes of the site {site.name}, "
            f"got one of {net.inputs}; name its site"
        )
    return DoseNet(
        net, sees, Sizes((finest[0], finest[1], finest[2]), (coarsest[0], coarsest[1], coarsest[2]))
    )


def doses(net: nn.Module, image: Float[Tensor, "b c i j k"], scale: Float[Tensor, " b"]) -> list[Tensor]:
    """What each U-Net of a cascade says (Gy), the last one last, ``(b, 1, i, j, k)``."""
    assert isinstance(net, DoseUNet)  # noqa: S101 - networks of `dose_unet` are
    with torch.autocast(image.device.type, torch.bfloat16):
        answers = net.answers(image)
    return [share * scale.view(-1, 1, 1, 1, 1) for share in answers]


def errors(
    config: DoseNet, site: Site, dose: Float[Tensor, "b 1 i j k"], batch: Mapping[str, Tensor]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Differences (Gy) of dose and of histograms, the latter 0 where they weigh nothing.

    Parameters
    ----------
    config, site
        Of the predictor.
    dose
        What it said.
    batch
        ``dose`` (Gy), ``known``, ``bits`` and ``voxel_mm3`` as :func:`loss_of` takes them.
    """
    off = dose_error(dose, batch["dose"], batch["known"])
    if config.histogram == 0:
        return off, torch.zeros_like(off)
    return off, histogram_error(dose, batch["dose"], batch["bits"], site, batch["voxel_mm3"])


def loss_of(config: DoseNet, site: Site, net: nn.Module, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """What a predictor learns from (Gy): that of the last U-Net, and half as much of those before.

    Parameters
    ----------
    config, site
        Of the predictor.
    net
        Of :func:`models.dose_unet.dose_unet`.
    batch
        ``image`` ``(b, c, i, j, k)``, ``dose`` (Gy) and ``known`` ``(b, 1, i, j, k)``, ``bits``
        ``(b, i, j, k)``, ``scale`` (Gy) and ``voxel_mm3`` ``(b,)``.
    """
    *early, last = (
        dose_loss(config, site, dose, batch) for dose in doses(net, batch["image"], batch["scale"])
    )
    return torch.stack([last, *(_EARLY * one for one in early)]).sum()


def dose_loss(
    config: DoseNet, site: Site, dose: Float[Tensor, "b 1 i j k"], batch: Mapping[str, Tensor]
) -> Float[Tensor, ""]:
    """Dose, and histograms with their weight."""
    voxels, histograms = errors(config, site, dose, batch)
    return voxels + config.histogram * histograms


def train(
    config: DoseNet,
    site: Site,
    samples: Dataset[dict[str, Tensor]],
    folder: Path,
    progress: Callable[[str, float], None],
    device: str = "cpu",
    seed: int = 0,
    start: Path | None = None,
    watch: Watch | None = None,
    trackers: Sequence[GeneralTracker] = (),
) -> tuple[nn.Module, Mapping[str, Any]]:
    """A predictor trained on samples, and what training took; goes on with what ``folder`` holds.

    Parameters
    ----------
    config, site
        Network, training, and what counts.
    samples
        Batches of them are what :func:`loss_of` takes.
    folder
        Keeps checkpoints.
    progress
        Called with what happens and the share that is done.
    device
        Where it trains.
    seed
        Of the first weights.
    start
        Weights of such a network, or of one that sees other planes.
    watch, trackers
        Look at the network now and then, and are told losses (:func:`models.fit.fit`).
    """
    torch.manual_seed(seed)
    net: nn.Module = dose_unet(config.net)
    if start is not None:
        start_from(net, start, partly=True)
    net = net.to(device)

    def losses(
        nets: Mapping[str, nn.Module], batch: Mapping[str, Tensor], _: torch.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        yield "net", loss_of(config, site, nets["net"], batch)

    took = fit({"net": net}, samples, losses, config.fit, folder, progress, seed, watch, trackers)
    return net, took
