"""What generators are told: classes of tissue and tumour as planes, boxes and bits, and voxels given."""

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Integer, Shaped, UInt8
from torch import Tensor

from imaging import brats
from imaging.tissue import BONE, Tissue

from .quick_scan import blurred


class ConditionClass(IntEnum):
    """Class of a voxel, and the plane of a volume's condition that holds it."""

    OUTSIDE = 0
    BRAIN = 1  # brain, where nobody has told its tissues apart
    SOFT = 2
    BONE = 3
    CSF = 4
    GREY = 5
    WHITE = 6
    AIR = 7
    NCR = 8
    ED = 9
    ET = 10
    RC = 11


TUMOUR = (ConditionClass.NCR, ConditionClass.ED, ConditionClass.ET, ConditionClass.RC)

# Tumours are told apart as in BraTS, here and in the labels that a cohort is written with.
_PART: dict[int, ConditionClass] = {
    brats.NCR: ConditionClass.NCR,
    brats.ED: ConditionClass.ED,
    brats.ET: ConditionClass.ET,
    brats.RC: ConditionClass.RC,
}
CLASS_OF: dict[Tissue, ConditionClass] = {
    Tissue.OUTSIDE: ConditionClass.OUTSIDE,
    Tissue.GREY: ConditionClass.GREY,
    Tissue.AIR: ConditionClass.AIR,
    **dict.fromkeys((Tissue.SCALP, Tissue.FAT, Tissue.GLAND, Tissue.FLUID), ConditionClass.SOFT),
    **dict.fromkeys((Tissue.EYE, Tissue.LENS), ConditionClass.SOFT),
    **dict.fromkeys((*BONE, Tissue.METAL), ConditionClass.BONE),
    **dict.fromkeys((Tissue.CSF, Tissue.DURA, Tissue.SHUNT), ConditionClass.CSF),
    **dict.fromkeys((Tissue.WHITE, Tissue.BRAINSTEM, Tissue.NERVE), ConditionClass.WHITE),
    **{tissue: _PART[number] for tissue, number in brats.LABELS.items()},
}
# The tissue that stands for each class in the labels of a drawn patient.
TISSUE_OF: dict[ConditionClass, Tissue] = {
    ConditionClass.OUTSIDE: Tissue.OUTSIDE,
    ConditionClass.BRAIN: Tissue.WHITE,
    ConditionClass.SOFT: Tissue.SCALP,
    ConditionClass.BONE: Tissue.SKULL,
    ConditionClass.CSF: Tissue.CSF,
    ConditionClass.GREY: Tissue.GREY,
    ConditionClass.WHITE: Tissue.WHITE,
    ConditionClass.AIR: Tissue.AIR,
    ConditionClass.NCR: Tissue.NECROSIS,
    ConditionClass.ED: Tissue.OEDEMA,
    ConditionClass.ET: Tissue.ENHANCING,
    ConditionClass.RC: Tissue.CAVITY,
}

N_CLASSES = len(ConditionClass)
_SMOOTH = 1.0  # voxel
N_BITS = 4

Numbers = Integer[Tensor, "*space"]
Classes = UInt8[Tensor, "*space"]
NumberBatch = Integer[Tensor, "b *space"]
ClassBatch = UInt8[Tensor, "b *space"]
Planes = Float[Tensor, "b k *space"]
Where = Bool[Tensor, "b *space"]


def classes_of(tissues: Numbers) -> Classes:
    """Class of each voxel (:class:`ConditionClass`) of a map of tissues (`imaging.tissue.Tissue`).

    Raises
    ------
    ValueError
        If a number is no tissue.
    """
    return _looked_up(tissues, [CLASS_OF[t] for t in Tissue], "tissues")


def tissues_of(classes: Numbers) -> Classes:
    """Tissue that stands for each class; brain that nobody has told apart becomes white matter.

    Raises
    ------
    ValueError
        If a number is no class.
    """
    return _looked_up(classes, [TISSUE_OF[c] for c in ConditionClass], "condition classes")


def with_brats(classes: Numbers, tumour: Integer[Tensor, "*tumour"]) -> Classes:
    """Classes with a tumour laid over them.

    Parameters
    ----------
    classes
        Of each voxel.
    tumour
        BraTS labels of the same voxels: NCR 1, ED 2, ET 3, RC 4, and 0 where the class stays. Sets before
        2023 number ET as 4 and have to be renumbered first: here 4 is a resection cavity.

    Raises
    ------
    ValueError
        If the shapes differ or a number is unknown.
    """
    if classes.shape != tumour.shape:
        raise ValueError(
            f"expected a tumour of shape {tuple(classes.shape)} as its tissues, got {tuple(tumour.shape)}"
        )
    below = _looked_up(classes, list(ConditionClass), "condition classes")
    parts = _looked_up(tumour, [ConditionClass.OUTSIDE, *(_PART[n] for n in sorted(_PART))], "BraTS labels")
    return torch.where(parts > 0, parts, below)


def planes(classes: NumberBatch) -> Planes:
    """One plane for each class, 1 where a voxel is of it and 0 elsewhere, shape ``(b, 12, *space)``."""
    numbers = _looked_up(classes, list(ConditionClass), "condition classes")
    each = torch.arange(N_CLASSES, dtype=torch.uint8, device=classes.device)
    return (numbers[:, None] == each.reshape(1, -1, *(1,) * (classes.ndim - 1))).float()


def box_planes(boxes: Float[Tensor, "n 5"], n_classes: int, shape: tuple[int, int]) -> Float[Tensor, "k y x"]:
    """One plane for each class of tumour, with its boxes filled with 1.

    A pixel that a box covers in part holds the covered share, so that the sum over a box is its area.

    Parameters
    ----------
    boxes
        Rows ``class cx cy w h`` as YOLO writes them: centre and size as shares of the image's width (cx, w)
        and height (cy, h), from its upper left corner.
    n_classes
        Planes.
    shape
        Rows and columns of the image: cy and h run along the first axis, cx and w along the second.

    Raises
    ------
    ValueError
        If a class is unknown, or a box is empty or has its centre outside the image.
    """
    out = torch.zeros(n_classes, *shape)
    for number, cx, cy, w, h in boxes.double().tolist():
        if number not in range(n_classes):
            raise ValueError(
                f"expected a class from 0 to {n_classes - 1}, got {number:g}; check the box file"
            )
        if not (0 <= cx <= 1 and 0 <= cy <= 1 and 0 < w <= 1 and 0 < h <= 1):
            raise ValueError(
                f"expected centre and size as shares of the image, got {cx:g} {cy:g} {w:g} {h:g}; "
                "divide pixels by the image's width and height"
            )
        rows, columns = (_covered(m, s, n) for m, s, n in zip((cy, cx), (h, w), shape, strict=True))
        plane = out[int(number)]
        torch.maximum(plane, rows[:, None] * columns, out=plane)
    return out


def _covered(middle: float, size: float, n: int) -> Float[Tensor, " n"]:
    """Share of each of n pixels in a row that lies within a stretch of it."""
    low, high = n * (middle - size / 2), n * (middle + size / 2)
    at = torch.arange(n)
    return ((at + 1).clamp(max=high) - at.clamp(min=low)).clamp(min=0)


def to_bits(classes: NumberBatch) -> Float[Tensor, "b bits *space"]:
    """Classes as four analog bits of -1 or 1, the most significant first (Chen et al., arXiv 2208.04202).

    The generator of images then draws maps of classes too: with four channels and no condition.
    """
    numbers = _looked_up(classes, list(ConditionClass), "condition classes").long()
    return _codes(classes.device)[numbers].movedim(-1, 1)


def from_bits(bits: Float[Tensor, "b bits *space"]) -> ClassBatch:
    """Class whose bits lie nearest; four signs that belong to no class are taken for the likeliest one.

    Raises
    ------
    ValueError
        If there are not four channels.
    """
    if bits.shape[1] != N_BITS:
        raise ValueError(f"expected {N_BITS} channels of analog bits, got {bits.shape[1]}")
    # All codes are as long, so the nearest is the one with the greatest product.
    best = torch.full((len(bits), *bits.shape[2:]), -math.inf, device=bits.device)
    found = torch.zeros(best.shape, dtype=torch.uint8, device=bits.device)
    for number, code in enumerate(_codes(bits.device)):
        product = torch.einsum("bn...,n->b...", bits.float(), code)
        found[product > best] = number
        best = torch.maximum(best, product)
    return found


def from_drawn_bits(bits: Float[Tensor, "b bits i j k"]) -> Integer[Tensor, "b i j k"]:
    """The class map that drawn bits mean: noise that a generator's steps leave is alone in its voxel.

    So each bit is first averaged with its neighbours by a Gaussian of one voxel.
    """
    smooth = torch.stack([torch.stack([blurred(bit, (_SMOOTH,) * 3) for bit in one]) for one in bits])
    return from_bits(smooth)


def _codes(device: torch.device) -> Float[Tensor, "k bits"]:
    number = torch.arange(N_CLASSES, device=device)
    place = torch.arange(N_BITS - 1, -1, -1, device=device)
    return 2.0 * ((number[:, None] >> place) & 1) - 1.0


def _looked_up(numbers: Numbers, table: list[ConditionClass] | list[Tissue], what: str) -> Classes:
    if numbers.numel():
        low, high = int(numbers.min()), int(numbers.max())
        if low < 0 or high >= len(table):
            raise ValueError(f"expected {what} from 0 to {len(table) - 1}, got {low} to {high}")
    return torch.tensor([int(t) for t in table], dtype=torch.uint8, device=numbers.device)[numbers.long()]


@dataclass(frozen=True)
class Shares:
    """How often a training sample is given what; the rest is drawn from nothing but the condition.

    Parameters
    ----------
    contrasts
        Share of samples that are given some of their contrasts, whole, and have to draw the others.
    region
        Share that are given all outside a box around the tumour.
    condition
        Share that are told no condition, so that guidance can tell with from without (Ho and Salimans,
        arXiv 2207.12598), and scans without labels can be completed.

    Raises
    ------
    ValueError
        If a share is not within 0 to 1, or contrasts and regions are more than all.
    """

    contrasts: float = 0.35
    region: float = 0.25
    condition: float = 0.15

    def __post_init__(self) -> None:
        if min(self.contrasts, self.region, self.condition) < 0 or self.condition > 1:
            raise ValueError("expected shares from 0 to 1; lower them")
        if self.contrasts + self.region > 1:
            raise ValueError(
                f"expected shares of contrasts and regions of 1 in all at the most, "
                f"got {self.contrasts + self.region:g}; lower one"
            )


def tumour_mask(condition: Planes) -> Where:
    """Where a condition has tumour: any plane of boxes, or the tumour's planes of a volume's twelve."""
    parts = condition[:, min(TUMOUR) :] if condition.shape[1] == N_CLASSES else condition
    return (parts > 0).any(dim=1)


def told(condition: Planes, shares: Shares, generator: torch.Generator) -> Planes:
    """The condition, all zeros for the share of samples that are told none."""
    kept = torch.rand(len(condition), generator=generator, device=generator.device) >= shares.condition
    return condition * kept.to(condition.device).reshape(-1, *(1,) * (condition.ndim - 1))


def drawn_known(
    present: Shaped[Tensor, "b c"],
    tumour: Where,
    shares: Shares,
    generator: torch.Generator,
) -> Float[Tensor, "b c *space"]:
    """Voxels that each training sample is given, 1, and those it has to draw, 0.

    Nothing, some whole contrasts (at least one and never all), or all outside a box around the tumour
    (a box anywhere where there is none). One set of weights learns all three, by flow and in one pass.

    Parameters
    ----------
    present
        1 (or true) for every contrast that a sample has; what it lacks is never given.
    tumour
        Where its tumour is.
    shares
        How often which.
    generator
        Draws on its own device.
    """
    out = torch.zeros(*present.shape, *tumour.shape[1:], device=tumour.device)
    for n, (has, where) in enumerate(zip(present.cpu() > 0, tumour, strict=True)):
        kind = _uniform(generator)
        if kind < shares.contrasts:
            out[n, _some(has, generator)] = 1.0
        elif kind < shares.contrasts + shares.region:
            out[n, has] = 1.0
            out[n][(slice(None), *_box(where, generator))] = 0.0
    return out


def _some(has: Bool[Tensor, " c"], generator: torch.Generator) -> Bool[Tensor, " c"]:
    """Some of the contrasts there are: one at least, and never all."""
    there = has.nonzero()[:, 0]
    given = torch.zeros_like(has)
    if len(there) > 1:
        count = 1 + int(_uniform(generator) * (len(there) - 1))
        order = torch.rand(len(there), generator=generator, device=generator.device).cpu().argsort()
        given[there[order[:count]]] = True
    return given


def _box(tumour: Bool[Tensor, "*space"], generator: torch.Generator) -> tuple[slice, ...]:
    """A box about the tumour with a margin of up to an eighth of the side, or one of a quarter to a half."""
    out = []
    any_ = bool(tumour.any())
    for axis, n in enumerate(tumour.shape):
        first, second = _uniform(generator), _uniform(generator)
        if any_:
            others = tuple(a for a in range(tumour.ndim) if a != axis)
            at = tumour.any(dim=others).nonzero()[:, 0] if others else tumour.nonzero()[:, 0]
            low, high = int(at.min()) - 1 - int(first * n / 8), int(at.max()) + 2 + int(second * n / 8)
        else:
            size = max(round(n * (0.25 + 0.25 * first)), 1)
            low = int(second * (n - size + 1))
            high = low + size
        out.append(slice(max(low, 0), min(high, n)))
    return tuple(out)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand(1, generator=generator, device=generator.device))
