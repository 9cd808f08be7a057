"""The recipe of the encoder that judges slices: two looks at one image are alike, two images are not.

SimCLR's loss (Chen et al., ICML 2020), and where the class of an image is known a head that tells it (as
the joint losses of Khosla et al., NeurIPS 2020, sec. 3, without their supervised pairs: those would make
every glioma one point, and memorised images could no longer be told from others of their class).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, normalize
from torch.utils.data import Dataset

from models.augment import brightened
from models.encoder import Encoder, EncoderConfig
from models.fit import Batch, Fit, Nets, Watch, fit

NET = "net"
UNKNOWN = -1  # class of an image that nobody has told

Images = Float[Tensor, "b c rows columns"]
Rows = Float[Tensor, "b d"]


@dataclass(frozen=True)
class Moves:
    """How two looks at one image differ.

    Noise, blur, sharpness and cut-outs are left out on purpose: what training makes the encoder overlook, no
    distance of its features can see in a synthetic image afterwards.

    Parameters
    ----------
    rotation
        Greatest turn (degrees).
    zoom, shift
        Greatest change of size, and shift as a share of the side.
    brightness, contrast
        Greatest amount added, for images of -1 to 1, and greatest stretch about the mean, as a share.
    mirrored
        Share of looks that are mirrored from left to right.
    """

    rotation: float = 15.0
    zoom: float = 0.15
    shift: float = 0.08
    brightness: float = 0.2
    contrast: float = 0.25
    mirrored: float = 0.5


@dataclass(frozen=True)
class Contrastive:
    """Network and training of an encoder.

    Parameters
    ----------
    encoder
        What is kept.
    n_classes
        Classes that the head tells; 0 for no head.
    projection
        Numbers that the contrastive loss compares; they are not kept, as Chen et al. find features better
        one layer before.
    temperature
        Of the contrastive loss.
    class_weight
        Weight of the head's cross-entropy.
    moves
        How two looks differ.
    bf16
        Whether the encoder trains in bfloat16.
    fit
        Rates and budget.

    Raises
    ------
    ValueError
        If the temperature is not positive, a count or weight is negative, or batches hold one image.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    n_classes: int = 0
    projection: int = 64
    temperature: float = 0.2
    class_weight: float = 0.5
    moves: Moves = field(default_factory=Moves)
    bf16: bool = True
    fit: Fit = field(default_factory=lambda: Fit(budget_s=1200.0, batch=64, average=0.995))

    def __post_init__(self) -> None:
        if self.temperature <= 0 or min(self.n_classes, self.class_weight) < 0 or self.projection < 1:
            raise ValueError(
                "expected a positive temperature and projection, and no negative count or weight"
            )
        if self.fit.batch < 2:
            raise ValueError("expected batches of two images or more, to tell one from another; got one")


class Contrast(nn.Module):
    """An encoder with the two heads that train it."""

    def __init__(self, config: Contrastive) -> None:
        super().__init__()
        d = config.encoder.features
        self.encoder = Encoder(config.encoder)
        self.project = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, config.projection))
        self.classify = nn.Linear(d, config.n_classes) if config.n_classes else None

    def forward(self, images: Images) -> Rows:
        """Features of images."""
        return self.encoder(images)


def network(config: Contrastive, seed: int = 0) -> Contrast:
    """Encoder and heads with first weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Contrast(config)


def looked_at(images: Images, moves: Moves, generator: torch.Generator) -> Images:
    """Images turned, zoomed, shifted, mirrored and brightened by chance, each in its own way.

    Parameters
    ----------
    images
        Of -1 (air) to 1; what comes in from beyond is air.
    moves
        How far.
    generator
        Draws on its own device.
    """
    b = len(images)
    u = 2 * torch.rand(7, b, generator=generator, device=generator.device).to(images.device) - 1
    angle, scale = math.radians(moves.rotation) * u[0], 1 + moves.zoom * u[1]
    side = torch.where((u[6] + 1) / 2 < moves.mirrored, -1.0, 1.0)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    # A shift of one share of the side is twice that in torch's coordinates, which run from -1 to 1.
    turn = torch.stack([side * cos, -sin, 2 * moves.shift * u[2], side * sin, cos, 2 * moves.shift * u[3]])
    grid = affine_grid(turn.T.reshape(b, 2, 3), list(images.shape), align_corners=False)
    moved = grid_sample(images + 1, grid, align_corners=False) - 1
    return brightened(moved, moves.brightness * u[4], 1 + moves.contrast * u[5])


def nt_xent(first: Rows, second: Rows, temperature: float) -> Float[Tensor, ""]:
    """The contrastive loss of two looks at each of b images (Chen et al. 2020, eq. 1).

    Cross-entropy of finding each look's own partner among the 2b - 1 others by cosine similarity: near 0
    where partners agree and images differ, log(2b - 1) where all are one.
    """
    rows = normalize(torch.cat([first, second]).float(), dim=1)
    alike = rows @ rows.T / temperature
    alike.fill_diagonal_(-torch.inf)
    n = len(first)
    partner = torch.arange(2 * n, device=rows.device).roll(n)
    return cross_entropy(alike, partner)


def losses(
    nets: Nets, batch: Batch, generator: torch.Generator, config: Contrastive
) -> Iterator[tuple[str, Tensor]]:
    """The loss of one batch.

    Parameters
    ----------
    nets
        ``net``, a :class:`Contrast`.
    batch
        ``image`` (b, c, rows, columns) of -1 to 1; ``class`` (b,), :data:`UNKNOWN` where nobody knows.
    generator
        Draws both looks.
    config
        Weights of the losses.
    """
    net, image = nets[NET], batch["image"]
    looks = torch.cat([looked_at(image, config.moves, generator) for _ in range(2)])
    with torch.autocast(image.device.type, torch.bfloat16, enabled=config.bf16):
        rows = net(looks)
    first, second = _head(net, "project")(rows).chunk(2)
    loss = nt_xent(first, second, config.temperature)
    if config.n_classes and "class" in batch:
        wanted = torch.cat([batch["class"], batch["class"]])
        loss = loss + config.class_weight * _told(_head(net, "classify")(rows), wanted)
    yield NET, loss


def _head(net: nn.Module, name: str) -> nn.Module:
    return net.get_submodule(name)


def _told(logits: Rows, wanted: Int64[Tensor, " b"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the images whose class is known; 0 where there is none."""
    known = wanted != UNKNOWN
    summed = cross_entropy(logits.float(), wanted, ignore_index=UNKNOWN, reduction="sum")
    return summed / known.sum().clamp(min=1)


def train(
    config: Contrastive,
    samples: Dataset[Batch],
    folder: Path,
    progress: Callable[[str, float], None],
    device: str = "cpu",
    seed: int = 0,
    watch: Watch | None = None,
    trackers: Sequence[GeneralTracker] = (),
) -> tuple[Encoder, Mapping[str, Any]]:
    """An encoder trained on samples, and what training took; goes on with what ``folder`` holds.

    Parameters
    ----------
    config
        Network and training.
    samples
        Gives what :func:`losses` asks of a batch, without the batch's axis; no image moved yet.
    folder
        Keeps checkpoints.
    progress
        Called with what happens and the share that is done.
    device
        Where it trains.
    seed
        Of the first weights and of all that training draws.
    watch, trackers
        As `models.fit.fit` takes them.
    """
    net = network(config, seed).to(device)
    loss = partial(losses, config=config)
    took = fit({NET: net}, samples, loss, config.fit, folder, progress, seed, watch, trackers)
    return net.encoder, took
