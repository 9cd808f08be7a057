"""How far parts of a CT lie from where an MRI of the same patient shows them, whatever its contrast.

A rigid correction cannot see an open jaw, or a skull that a wrong deformable registration pushed aside. Here
each block of the CT looks for its place in the MRI, as in block matching (Ourselin et al., Image Vis. Comput.
19, 25 (2001)). What it looks for is signal that goes with its CT numbers: the logarithm of how much oftener
both meet in the whole head than chance has it, whose mean over the head is the mutual information (point
similarity of Rogelj, Kovačič and Gee, Comput. Vis. Image Underst. 92, 112 (2003)). Mutual information of a
block alone would have too few voxels for a histogram of its own.
"""

from itertools import product

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import avg_pool3d, pad

from .boxes import box_of
from .grid import around
from .resample import resample
from .shapes import Mask
from .volume import Quantity, Volume

_VOXEL_MM = 2.5
_REACH = 3  # voxels that a block is looked for along each axis
_BLOCK, _STEP = 12, 6  # voxels of a block's side, and between blocks
_FULL = 0.5  # share of a block that must show the body or its skin, and be seen by both
# HU between the bins of a CT: air, fat, soft tissues, then bone ever denser.
_LEVELS = (-800, -500, -300, -150, -80, -20, 20, 50, 80, 120, 200, 300, 450, 600, 800, 1000, 1300, 1600)
_N_BINS = 32  # of the signal, as many voxels in each
_BIAS = 25  # voxels over which a coil's shading is levelled
_GAIN = 0.04  # nats per voxel that another place must be better by: below it ties are noise

Image = Float[Tensor, "i j k"]
Bins = Int64[Tensor, "i j k"]


def local_shifts(ct: Volume, mr: Volume, body: Mask) -> Float[Tensor, " n"]:
    """How far (mm) each block of a body lies from its place in an MRI; 0 where no other place is better.

    Steps are voxels of 2.5 mm, at most three along each axis. A block says what most of its neighbours say:
    a deformation is wider than one of them, and noise is not.

    Parameters
    ----------
    ct
        HU.
    mr
        MR signal, shape ``(1, i, j, k)``, on any grid.
    body
        Voxels of ``ct`` inside the patient.

    Returns
    -------
    Tensor
        One distance for each block of 30 mm, every 15 mm; none where the two do not meet.
    """
    grid = around(ct.grid, (_VOXEL_MM,) * 3)
    hu = resample(ct.expect(Quantity.HU), grid).data[0].float()
    signal = resample(mr.expect(Quantity.MR), grid).data[0].float().clamp(min=0)
    inside = resample(Volume(body[None].float(), ct.grid, Quantity.PROBABILITY), grid).data[0] >= 0.5
    ones = Volume(torch.ones_like(mr.data, dtype=torch.float32), mr.grid, Quantity.PROBABILITY)
    seen = resample(ones, grid).data[0] >= 0.5
    near = (avg_pool3d(inside[None].float(), 5, 1, 2)[0] > 0) & seen  # skin's edge has two sides
    if not (inside & seen).any():
        return torch.zeros(0)
    box = box_of(near)
    valid = near[box].contiguous()
    level = _levelled(signal[box].contiguous(), (inside & seen)[box])
    cuts = torch.quantile(level[valid][::7], torch.linspace(0, 1, _N_BINS + 1)[1:-1])
    of_ct = torch.bucketize(hu[box].contiguous(), torch.tensor(_LEVELS, dtype=torch.float32))
    return _found(of_ct, torch.bucketize(level, cuts), valid)


def _found(of_ct: Bins, of_mr: Bins, valid: Mask) -> Float[Tensor, " n"]:
    meets = _meeting(of_ct[valid], of_mr[valid])
    share = _blocks(valid.float())
    full = share > _FULL
    if not full.any():
        return torch.zeros(0)
    r, (ni, nj, nk) = _REACH, of_ct.shape
    wide = pad(of_mr, (r,) * 6)
    steps = list(product(range(-r, r + 1), repeat=3))
    scores = []
    for i, j, k in steps:
        there = wide[r + i : r + i + ni, r + j : r + j + nj, r + k : r + k + nk]
        scores.append((_blocks(meets[of_ct * _N_BINS + there] * valid) / share)[full])
    score = torch.stack(scores)
    best, where = score.max(dim=0)
    away = torch.tensor(steps, dtype=torch.float32).norm(dim=1)[where] * _VOXEL_MM
    away[best - score[len(steps) // 2] <= _GAIN] = 0.0
    return _of_neighbours(away, full)


def _meeting(a: Int64[Tensor, " n"], b: Int64[Tensor, " n"]) -> Float[Tensor, " bins"]:
    """Logarithm of how much oftener two bins meet than chance has it, for each pair of bins."""
    counts = torch.bincount(a * _N_BINS + b, minlength=(len(_LEVELS) + 1) * _N_BINS).view(-1, _N_BINS) + 1.0
    by_chance = counts.sum(dim=0, keepdim=True) * counts.sum(dim=1, keepdim=True) / counts.sum()
    return (counts / by_chance).log().flatten()


def _of_neighbours(away: Float[Tensor, " n"], full: Mask) -> Float[Tensor, " n"]:
    """The median of each block and its 26 neighbours, as far as they are there."""
    field = torch.full(full.shape, torch.nan)
    field[full] = away
    wide = pad(field, (1,) * 6, value=torch.nan)
    around_it = wide.unfold(0, 3, 1).unfold(1, 3, 1).unfold(2, 3, 1).flatten(3)
    return around_it[full].nanmedian(dim=1).values


def _levelled(signal: Image, body: Mask) -> Image:
    """Signal over its mean in the neighbourhood, so that a coil's shading moves no bins."""
    inside = body.float()
    near = _smooth(signal * inside) / (_smooth(inside) + 1e-3)
    return signal / (near + 0.1 * signal[body].mean() + 1e-6)


def _smooth(values: Image) -> Image:
    out = values[None, None]
    for axis in range(3):
        size, edge = [1, 1, 1], [0, 0, 0]
        size[axis], edge[axis] = _BIAS, _BIAS // 2
        out = avg_pool3d(out, tuple(size), 1, tuple(edge))
    return out[0, 0]


def _blocks(values: Image) -> Float[Tensor, "_ _ _"]:
    return avg_pool3d(values[None], _BLOCK, _STEP, _BLOCK // 2)[0]
