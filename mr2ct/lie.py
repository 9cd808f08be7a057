"""How a head lies in a CT: which of the 24 ways to turn the average head is most like it.

Likeness is the correlation of CT numbers over what the scan saw, at the shift where it is greatest. All
shifts are tried at once by Fourier transforms (Padfield, IEEE Trans. Image Process. 21, 2706 (2012)). A head
and its mirror image are alike, so left and right cannot be told apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import avg_pool3d, max_pool3d, pad

from imaging.grid import Grid, around
from imaging.resample import resample
from imaging.shapes import Mask, Point
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from .bulk import to_ct

_MM = 8.0  # voxels that heads are compared on: so coarse that no head needs to be scaled or bent
_FINE = 2  # parts of such a voxel's side that are read
_NECK_MM = 96.0  # that the average head's neck goes on below where it ends
_LOW, _HIGH = -300.0, 1000.0  # HU: clipped, bone counts for more than the outline

Map = Float[Tensor, "_ _ _"]
Turn = tuple[tuple[int, int, int], tuple[int, ...]]
# Where LPS axes point to, in their negative and positive direction.
_SIDES = (("right", "left"), ("front", "back"), ("neck", "top"))


@dataclass(frozen=True, eq=False)
class Lie:
    """How the average head fits a CT.

    Parameters
    ----------
    upright, best
        Correlation, -1..1: lying as the scan says, and turned the way that fits best.
    crown, face
        Side of the patient, by the scan's orientation, where crown and face lie that best way.
    offset
        From a position in the scan to that of the upright average head (LPS, mm).
    """

    upright: float
    best: float
    crown: str
    face: str
    offset: Point


def lie(ct: Volume, prior: Volume) -> Lie:
    """How a head lies in a CT.

    Parameters
    ----------
    ct
        HU; the scan may cut the head.
    prior
        Labels of the average head (:class:`imaging.tissue.Tissue`), upright.
    """
    values, seen, scan = _coarse(ct.expect(Quantity.HU))
    average, _, there = _coarse(to_ct(prior.expect(Quantity.LABEL)))
    neck = round(_NECK_MM / _MM)
    average = torch.cat([average[..., :1].expand(-1, -1, neck), average], dim=2)
    turns = list(_turns())
    found = [_fit(values, seen, _turned(average, turn)) for turn in turns]
    best = max(range(len(turns)), key=lambda n: found[n][0])
    first = there.affine[:3, 3] - np.array([0, 0, neck * _MM])
    offset = first - _MM * np.array(found[0][1], dtype=np.float64) - scan.affine[:3, 3]
    crown, face = _side(turns[best], 2, 1), _side(turns[best], 1, -1)
    return Lie(found[0][0], found[best][0], crown, face, offset)


def _coarse(ct: Volume) -> tuple[Map, Map, Grid]:
    """CT numbers above air on upright cubes that cover a scan, which of them it saw, and their grid."""
    fine = around(ct.grid, (_MM / _FINE,) * 3)
    covered = Volume(torch.ones((1, *ct.grid.shape)), ct.grid, Quantity.PROBABILITY)
    maps = torch.cat(
        [resample(ct, fine).data.float().clamp(_LOW, _HIGH) - _LOW, resample(covered, fine).data]
    )
    beyond = [n for size in reversed(fine.shape) for n in (0, -size % _FINE)]
    values, share = avg_pool3d(pad(maps, beyond)[None], _FINE)[0]
    affine = fine.affine.copy()
    affine[:3, 3] += (_MM - _MM / _FINE) / 2
    affine[:3, :3] *= _FINE
    return values, (share > 0.5).float(), Grid((values.shape[0], values.shape[1], values.shape[2]), affine)


def _turns() -> Iterator[Turn]:
    """The 24 rotations of a cube as a permutation of axes and the axes that are then flipped; as is first."""
    for i, j, k in permutations(range(3)):
        order, odd = (i, j, k), ((i > j) + (i > k) + (j > k)) % 2
        for signs in product((0, 1), repeat=3):
            if sum(signs) % 2 == odd:
                yield order, tuple(axis for axis in range(3) if signs[axis])


def _turned(average: Map, turn: Turn) -> Map:
    order, flipped = turn
    return average.permute(order).flip(flipped)


def _side(turn: Turn, axis: int, sign: int) -> str:
    """The side of the patient that an axis of the turned head points to."""
    order, flipped = turn
    now = order.index(axis)
    return _SIDES[now][int((sign > 0) != (now in flipped))]


def _fit(values: Map, seen: Map, average: Map) -> tuple[float, list[int]]:
    """Greatest correlation, and the shift (voxels) where it is reached."""
    n_seen = seen.sum()
    centred = (values - (values * seen).sum() / n_seen) * seen
    size = [next_fast_len(a + b - 1, real=True) for a, b in zip(values.shape, average.shape, strict=True)]

    def correlated(image: Map, of: Map) -> Map:
        return torch.fft.irfftn(torch.fft.rfftn(image, s=size) * torch.fft.rfftn(of, s=size).conj(), s=size)

    spread = correlated(seen, average**2) - correlated(seen, average) ** 2 / n_seen
    # A shift that moves the average head out of the scan leaves nothing to be like.
    spread = spread.clamp(min=0.1 * float(spread.max()))
    likeness = correlated(centred, average) / (spread * (centred**2).sum().clamp(min=1e-9)).sqrt()
    place = np.unravel_index(int(likeness.argmax()), size)
    shift = [int(p) - (s if p >= m else 0) for p, s, m in zip(place, size, values.shape, strict=True)]
    return float(likeness.max()), shift


def natural_air(prior: Volume, offset: Point, grid: Grid, reach: float) -> Mask:
    """Voxels within ``reach`` mm of where the average head, lying upright, has air in it."""
    return _near(prior, Tissue.AIR, offset, grid, reach) > 0.5


def natural_tissue(prior: Volume, offset: Point, grid: Grid, depth: float) -> Mask:
    """Voxels that lie ``depth`` mm below the skin of the average head, lying upright, or deeper."""
    within = Volume(torch.ones_like(prior.data).float(), _moved(prior, offset), Quantity.PROBABILITY)
    covered = resample(within, grid).data[0] > 0.5
    return covered & (_near(prior, Tissue.OUTSIDE, offset, grid, depth) < 0.5)


def _near(prior: Volume, tissue: Tissue, offset: Point, grid: Grid, reach: float) -> Map:
    """Which voxels lie within ``reach`` mm of a tissue of the average head, lying upright (0..1)."""
    wide = round(reach / float(prior.grid.spacing[0]))
    there = (prior.data == int(tissue)).float()[None]
    grown = max_pool3d(there, 2 * wide + 1, 1, wide)[0]
    return resample(Volume(grown, _moved(prior, offset), Quantity.PROBABILITY), grid).data[0]


def _moved(prior: Volume, offset: Point) -> Grid:
    affine = prior.grid.affine.copy()
    affine[:3, 3] -= offset
    return Grid(prior.grid.shape, affine)
