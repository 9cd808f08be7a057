"""The three sets that an evaluation compares: training, held-out and synthetic images, of one kind."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from torch import Tensor

from imaging.brats_folder import CONTRASTS, find_cases
from imaging.slices import Slices, read_slices, split_by_blocks
from synth.conditions import TUMOUR, ConditionClass
from synth.privacy.crops import boxes_of

from .console import Progress
from .generator_material import split_cases
from .slice_examples import pictures
from .volume_examples import Lattice, prepare_volumes

_BLOCK = 60  # neighbouring file numbers that may show one patient
_LEAST = 8  # images of each set


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one set, with what is known of each.

    Parameters
    ----------
    images
        Shape ``(n, c, *space)``, -1 to 1.
    labels
        Class of every voxel, shape ``(n, *space)``.
    boxes
        First and last edge of each tumour along each axis (voxels), shape ``(n, d, 2)``, or None.
    classes
        What each image as a whole shows, shape ``(n,)``, or None.
    groups
        Patient, or block of neighbours, of each, shape ``(n,)``, or None.
    names
        What to find each image by; never a patient's name.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor | None
    classes: Tensor | None
    groups: Tensor | None
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def at(self, which: Tensor) -> "ImageSet":
        """Some of them."""
        boxes, classes, groups = (
            None if part is None else part[which] for part in (self.boxes, self.classes, self.groups)
        )
        names = tuple(self.names[k] for k in which.tolist())
        return ImageSet(self.images[which], self.labels[which], boxes, classes, groups, names)

    def sha256(self) -> str:
        """Of the images as they are compared."""
        return hashlib.sha256(self.images.numpy().tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Sets:
    """What is compared, all on one lattice.

    Parameters
    ----------
    train, held_out, synthetic
        The sets.
    kind
        ``slices`` or ``volumes``.
    contrasts
        Name of each channel.
    labels
        Name of each class of a voxel.
    region
        Classes that make the region of the radiomics.
    spacing
        Of the voxels along each axis (mm; pixels where slices have lost their size).
    """

    train: ImageSet
    held_out: ImageSet
    synthetic: ImageSet
    kind: str
    contrasts: tuple[str, ...]
    labels: tuple[str, ...]
    region: tuple[int, ...]
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class Where:
    """Folders to compare.

    Parameters
    ----------
    real, synthetic
        Of slices (`imaging.slices`), or of cases in BraTS layout.
    held_out
        Real images that the generator never saw; None to hold out a share of ``real`` as training does.
    share, seed
        What training held out, and its seed: the same two hold out the same images.
    side
        Pixels a side that slices are compared at.
    lattice
        Voxels that volumes are compared at.
    """

    real: Path
    synthetic: Path
    held_out: Path | None = None
    share: float = 0.25
    seed: int = 0
    side: int = 128
    lattice: Lattice = field(default_factory=Lattice)

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"expected a share between 0 and 1 to hold out, got {self.share}")


def read_sets(where: Where, progress: Progress) -> Sets:
    """The three sets of an evaluation.

    Raises
    ------
    ValueError
        If a folder holds no images, the folders do not fit one another, or a set has fewer than eight.
    """
    folders = {"--real": where.real, "--synthetic": where.synthetic, "--held-out": where.held_out}
    for option, folder in folders.items():
        if folder is not None and not folder.is_dir():
            raise ValueError(f"expected {option} to name a folder of images, got none there")
    sets = _slices(where) if _holds_slices(where.real) else _volumes(where, progress)
    counts = (len(sets.train), len(sets.held_out), len(sets.synthetic))
    if min(counts) < _LEAST:
        raise ValueError(
            f"expected {_LEAST} training, held-out and synthetic images or more, got {counts[0]}, "
            f"{counts[1]} and {counts[2]}; give more of them"
        )
    return sets


def _holds_slices(folder: Path) -> bool:
    return any(folder.glob("*/*.[jJpP][pPnN]*[gG]"))


def _slices(where: Where) -> Sets:
    real = read_slices(where.real, where.side)
    synthetic = read_slices(where.synthetic, where.side)
    if where.held_out is None:
        train, held_out = split_by_blocks(
            real, where.share, torch.Generator().manual_seed(where.seed), _BLOCK
        )
    else:
        train, held_out = real, read_slices(where.held_out, where.side)
    if {real.names, synthetic.names, held_out.names} != {real.names}:
        raise ValueError(
            f"expected the same classes in every folder, got {list(real.names)}, {list(synthetic.names)} and "
            f"{list(held_out.names)}; name the folders alike"
        )
    return Sets(
        _of_slices(train, 0),
        _of_slices(held_out, len(train)),
        replace(_of_slices(synthetic, 0), groups=None),
        "slices",
        ("slice",),
        ("outside the box", *(f"box of {name}" for name in real.names)),
        tuple(range(1, len(real.names) + 1)),
        (1.0, 1.0),
    )


def _of_slices(slices: Slices, first: int) -> ImageSet:
    """Slices with their groups numbered from ``first``: no two sets share a patient."""
    side = int(slices.images.shape[2])
    cx, cy, w, h = (side * column for column in slices.boxes.unbind(dim=1))
    low, high = torch.stack([cy - h / 2, cx - w / 2], 1), torch.stack([cy + h / 2, cx + w / 2], 1)
    at = torch.arange(side) + 0.5
    rows, columns = ((at > low[:, a : a + 1]) & (at < high[:, a : a + 1]) for a in (0, 1))
    inside = rows[:, :, None] & columns[:, None, :]
    blocks = torch.stack([slices.classes, slices.numbers // _BLOCK])
    return ImageSet(
        pictures(slices),
        inside * (slices.classes[:, None, None] + 1),
        torch.stack([low, high], dim=2),
        slices.classes,
        torch.unique(blocks, dim=1, return_inverse=True)[1] + first,
        tuple(
            f"{slices.names[c]} {n}"
            for c, n in zip(slices.classes.tolist(), slices.numbers.tolist(), strict=True)
        ),
    )


def _volumes(where: Where, progress: Progress) -> Sets:
    real, present = _of_cases(where.real, where.lattice, progress)
    synthetic, drawn = _of_cases(where.synthetic, where.lattice, progress)
    if where.held_out is None:
        train, held_out = _split(real, where.share, where.seed)
        shared = present & drawn
    else:
        held_out, others = _of_cases(where.held_out, where.lattice, progress)
        train, shared = real, present & drawn & others
    if not bool(shared.any()):
        raise ValueError("expected a contrast that all cases of all folders have, got none; leave some out")
    three = [replace(each, images=each.images[:, shared]) for each in (train, held_out, synthetic)]
    masks = [torch.isin(each.labels, torch.tensor([int(c) for c in TUMOUR])) for each in three]
    if all(bool(mask.flatten(1).any(dim=1).all()) for mask in masks):
        three = [replace(each, boxes=boxes_of(mask)) for each, mask in zip(three, masks, strict=True)]
    return Sets(
        three[0],
        three[1],
        three[2],
        "volumes",
        tuple(name for name, there in zip(CONTRASTS, shared.tolist(), strict=True) if there),
        tuple(c.name.lower() for c in ConditionClass),
        tuple(int(c) for c in TUMOUR),
        (where.lattice.spacing,) * 3,
    )


def _of_cases(folder: Path, lattice: Lattice, progress: Progress) -> tuple[ImageSet, Tensor]:
    """Every case of a folder, and which contrasts all of them have."""
    find_cases(folder)  # refuses before anything is written
    with TemporaryDirectory() as kept:
        cases = [load_file(path) for path in prepare_volumes([folder], lattice, Path(kept), progress)]
    images = torch.stack([case["image"].float() for case in cases])
    labels = torch.stack([case["classes"].long() for case in cases])
    names = tuple(f"case {n + 1}" for n in range(len(cases)))
    present = torch.stack([case["present"] for case in cases]).bool().all(dim=0)
    return ImageSet(images, labels, None, None, None, names), present


def _split(real: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """As training splits cases."""
    train, held_out = split_cases(len(real), share, seed)
    return real.at(torch.tensor(train)), real.at(torch.tensor(held_out))
