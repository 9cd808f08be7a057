"""What synthetic images are worth: a reader of slices trained on real ones, on synthetic ones, on both.

Every arm takes the same number of steps of the same batch (unmatched steps fake a gain), is tested on the
same held-out real patients, and is repeated over seeds. The reader tells the kind of tumour and its box.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, smooth_l1_loss
from torch.utils.data import Dataset

from models.encoder import Encoder, EncoderConfig
from models.fit import Batch, Fit, Nets, fit

from .on_the_fly import generator_of

_PLACES = 4  # along each axis, that a box is told from

Images = Float[Tensor, "n c rows columns"]
Boxes = Float[Tensor, "n 4"]
Picture = Float[Tensor, "c rows columns"]
Box = Float[Tensor, "4"]


@dataclass(frozen=True, eq=False)
class Cases:
    """Slices with what is to be read from them.

    Parameters
    ----------
    images
        About -1 to 1, shape ``(n, c, rows, columns)``.
    classes
        Kind of tumour, shape ``(n,)``.
    boxes
        ``cx, cy, w, h`` as shares of the picture, shape ``(n, 4)``.
    """

    images: Images
    classes: Int64[Tensor, " n"]
    boxes: Boxes

    def __len__(self) -> int:
        return len(self.images)

    def at(self, which: Int64[Tensor, " _"]) -> "Cases":
        """Some of them."""
        return Cases(self.images[which], self.classes[which], self.boxes[which])


@dataclass(frozen=True)
class Arm:
    """What a reader is trained on.

    Parameters
    ----------
    name
        For tables.
    real
        Share of real images in a batch, the rest is synthetic, as a function of the share of training that
        is done.
    """

    name: str
    real: Callable[[float], float]


REAL = Arm("real", lambda _: 1.0)
SYNTHETIC = Arm("synthetic", lambda _: 0.0)
ONE_TO_ONE = Arm("both 1:1", lambda _: 1 / 2)
ONE_TO_TWO = Arm("both 1:2", lambda _: 1 / 3)
THEN_REAL = Arm("synthetic, then real", lambda done: float(done >= 0.5))


@dataclass(frozen=True)
class ReaderConfig:
    """The reader and its training.

    Parameters
    ----------
    encoder
        Its network below the two heads.
    n_classes
        Kinds of tumour.
    box_weight
        Of the box's error against the kind's.
    zoom, shift
        Greatest change of size, and shift as a share of the side, of a training image.
    fit
        Steps, batch and rates, the same for all arms.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    n_classes: int = 3
    box_weight: float = 10.0
    zoom: float = 0.15
    shift: float = 0.08
    fit: Fit = field(default_factory=lambda: Fit(steps=400, batch=32, learning_rate=1e-3))


class Reader(nn.Module):
    """Kind and box of the tumour: images to logits ``(b, kinds)`` and boxes ``(b, 4)`` within 0 to 1.

    The kind is told from the mean over all places, the box from every place: a mean has lost where.
    """

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.below = Encoder(config.encoder)
        self.kind = nn.Linear(config.encoder.features, config.n_classes)
        self.grid = nn.AdaptiveAvgPool2d(_PLACES)
        self.box = nn.Linear(config.encoder.features * _PLACES**2, 4)

    def forward(self, images: Float[Tensor, "b c rows columns"]) -> tuple[Tensor, Tensor]:
        """Logits and boxes."""
        seen = self.below.places(images)
        box = self.box(self.grid(seen).flatten(1))
        return self.kind(seen.mean(dim=(2, 3))).float(), box.float().sigmoid()


@dataclass(frozen=True, eq=False)
class Scores:
    """How well a reader reads held-out cases.

    Parameters
    ----------
    right
        Whether each case's kind is told, 0 or 1.
    overlap
        Intersection over union of each case's box.
    classes
        True kind of each.
    """

    right: Float[Tensor, " n"]
    overlap: Float[Tensor, " n"]
    classes: Int64[Tensor, " n"]

    @property
    def accuracy(self) -> float:
        """Mean over kinds of the share that is told rightly, so that frequent kinds count no more."""
        kinds = sorted(set(self.classes.tolist()))
        return float(torch.stack([self.right[self.classes == c].mean() for c in kinds]).mean())


class Mixed(Dataset[Batch]):
    """Real and synthetic cases as an arm mixes them, moved anew; sample n is the same for any worker."""

    def __init__(self, arm: Arm, real: Cases, synthetic: Cases, config: ReaderConfig, seed: int) -> None:
        self.arm, self.sets, self.config, self.seed = arm, (real, synthetic), config, seed
        self.length = config.fit.steps * config.fit.batch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        """``image``, ``kind`` and ``box`` of sample ``index``."""
        generator = generator_of(self.seed, index)
        share = self.arm.real(index / self.length)
        cases = self.sets[0 if float(torch.rand(1, generator=generator)) < share else 1]
        n = int(torch.randint(len(cases), (1,), generator=generator))
        image, box = moved(cases.images[n], cases.boxes[n], self.config.zoom, self.config.shift, generator)
        return {"image": image, "kind": cases.classes[n], "box": box}


def moved(
    image: Picture, box: Box, zoom: float, shift: float, generator: torch.Generator
) -> tuple[Picture, Box]:
    """A picture mirrored in half of the cases, zoomed and shifted, and its box with it.

    Parameters
    ----------
    image
        Shape ``(c, rows, columns)``; -1 is empty.
    box
        ``cx, cy, w, h`` as shares.
    zoom, shift
        As in :class:`ReaderConfig`.
    generator
        Draws the move.
    """
    u = 2 * torch.rand(4, generator=generator) - 1
    size = 1 + zoom * float(u[0])
    flip = -1.0 if float(u[3]) < 0 else 1.0
    by = 2 * shift * u[1:3]
    # The picture at x shows what lay at flip * size * x + by, from -1 to 1.
    turn = torch.tensor([[flip * size, 0.0, float(by[0])], [0.0, size, float(by[1])]])
    grid = affine_grid(turn[None], [1, *image.shape], align_corners=False)
    picture = grid_sample(image[None] + 1, grid, align_corners=False)[0] - 1
    middle = (2 * box[:2] - 1 - by) / (size * torch.tensor([flip, 1.0]))
    half = box[2:] / size
    low, high = (middle - half).clamp(-1, 1), (middle + half).clamp(-1, 1)
    return picture, torch.cat([(low + high) / 4 + 0.5, (high - low) / 2])


def train_reader(
    arm: Arm, real: Cases, synthetic: Cases, config: ReaderConfig, folder: Path, seed: int
) -> Reader:
    """A reader trained as an arm says; goes on with what ``folder`` holds.

    Raises
    ------
    ValueError
        If the training is not counted in steps, or a set that the arm needs is empty.
    """
    if config.fit.steps == 0:
        raise ValueError("expected a number of steps, the same for all arms, got a budget of time; set steps")
    if (len(real) == 0 and arm.name != SYNTHETIC.name) or (len(synthetic) == 0 and arm.name != REAL.name):
        raise ValueError(f"expected cases of each kind that the arm {arm.name!r} mixes, got an empty set")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = Reader(config)

    def losses(nets: Nets, batch: Batch, _: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        with torch.autocast(batch["image"].device.type, torch.bfloat16):
            kinds, boxes = nets["net"](batch["image"])
        off = smooth_l1_loss(boxes, batch["box"], beta=0.05)
        yield "net", cross_entropy(kinds, batch["kind"]) + config.box_weight * off

    fit({"net": reader}, Mixed(arm, real, synthetic, config, seed), losses, config.fit, folder, _quiet, seed)
    return reader


@torch.no_grad()
def read(reader: Reader, cases: Cases, chunk: int = 64) -> Scores:
    """How well a reader reads cases that it never saw."""
    reader.eval()
    found = [reader(part) for part in torch.split(cases.images, chunk)]
    kinds, boxes = (torch.cat(each) for each in zip(*found, strict=True))
    right = (kinds.argmax(1) == cases.classes).float()
    return Scores(right, overlap(boxes, cases.boxes), cases.classes)


def overlap(one: Boxes, other: Boxes) -> Float[Tensor, " n"]:
    """Intersection over union of boxes ``cx, cy, w, h``."""
    low = torch.maximum(one[:, :2] - one[:, 2:] / 2, other[:, :2] - other[:, 2:] / 2)
    high = torch.minimum(one[:, :2] + one[:, 2:] / 2, other[:, :2] + other[:, 2:] / 2)
    both = (high - low).clamp(min=0).prod(dim=1)
    return both / (one[:, 2:].prod(dim=1) + other[:, 2:].prod(dim=1) - both).clamp(min=1e-9)


def paired_gain(one: Sequence[Scores], other: Sequence[Scores]) -> Float[Tensor, " n"]:
    """Difference of being right, case by case, averaged over seeds: what a paired bootstrap draws from."""
    return torch.stack([s.right for s in one]).mean(0) - torch.stack([s.right for s in other]).mean(0)


def _quiet(_title: str, _share: float) -> None:
    """Arms report when they are done."""
