"""The built-in average head brought onto a given one, by what they have in common: tissues.

First shift, turn and size, then a smooth bend; both lessen the squared difference of tissue shares on coarse
voxels (as in Ashburner & Friston, NeuroImage 26, 839 (2005), without intensities).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import avg_pool3d

from imaging.grid import Grid, axial
from imaging.tissue import BONE, Tissue
from imaging.volume import Quantity, Volume
from imaging.warp import lattice, sample

from .deform import steepest
from .labelling import average_head
from .raster import drawn, straight
from .threads import one_thread

# Tissues that any label map tells apart.
CLASSES: tuple[tuple[Tissue, ...], ...] = (
    (Tissue.OUTSIDE, Tissue.AIR),
    (Tissue.SCALP, Tissue.FAT, Tissue.EYE, Tissue.LENS, Tissue.GLAND, Tissue.FLUID),
    BONE,
    (Tissue.CSF, Tissue.DURA),
    (Tissue.GREY,),
    (Tissue.WHITE, Tissue.BRAINSTEM, Tissue.NERVE),
)
BOX = axial(np.array([-102.0, -116.0, -132.0]), np.array([103.0, 124.0, 108.0]), (5.0, 5.0, 5.0))
_KNOTS_MM = 24.0
_STIFFNESS = 0.02
_STEEPEST = 0.9

Shares = Float[Tensor, "c _ _ _"]
Affine = Float[Tensor, "3 4"]


@dataclass(frozen=True, eq=False)
class Fit:
    """How a given head lies to the average one.

    Parameters
    ----------
    to_given
        Affine map (3 rows of 4) from the average head's place and size to the given head.
    bend
        Displacement (mm) from a place of the given head, brought to the average head's place and size, to
        the like place of the average head.
    """

    to_given: np.ndarray
    bend: Volume


def fitted(shares: Mapping[Tissue, Volume]) -> Fit:
    """The average head on a head that is given as the share of each tissue (0 to 1) in each voxel."""
    with one_thread():
        given, grid = _coarse(shares)
        labels, _, _ = drawn(average_head(), straight(), _halved(BOX))
        average = avg_pool3d(_classes(labels.data[0].long()), 2)
        to_given = _affine_fit(average, given, grid)
        moved = _apply(to_given, lattice(BOX))
        there = sample(given, grid, moved).reshape(average.shape)
        seen = _covered(grid, moved).reshape(BOX.shape)
        return Fit(to_given.double().numpy(), _bend(average, there, seen))


def _halved(grid: Grid) -> Grid:
    affine = grid.affine.copy()
    affine[:3, :3] /= 2
    affine[:3, 3] -= affine[:3, :3].sum(axis=1) / 2
    return Grid((2 * grid.shape[0], 2 * grid.shape[1], 2 * grid.shape[2]), affine)


def _classes(labels: Tensor) -> Shares:
    """Share of each class, 0 or 1."""
    table = torch.zeros(max(Tissue) + 2, len(CLASSES))
    for c, tissues in enumerate(CLASSES):
        table[list(tissues), c] = 1
    return table[labels].permute(3, 0, 1, 2).contiguous()


def _coarse(shares: Mapping[Tissue, Volume]) -> tuple[Shares, Grid]:
    """Share of each class on voxels of about 4 mm; what no tissue fills is outside."""
    grid = next(iter(shares.values())).grid
    by = [max(1, round(4.0 / s)) for s in grid.spacing]
    kept = [n // b * b for n, b in zip(grid.shape, by, strict=True)]
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] * by
    affine[:3, 3] += grid.affine[:3, :3] @ ((np.array(by) - 1) / 2)
    out = torch.zeros(len(CLASSES), *(n // b for n, b in zip(kept, by, strict=True)))
    for c, tissues in enumerate(CLASSES):
        for tissue in tissues:
            if tissue in shares:
                whole = shares[tissue].data[:, : kept[0], : kept[1], : kept[2]].float()
                out[c] += avg_pool3d(whole, by)[0]
    out[0] += (1 - out.sum(dim=0)).clamp(min=0)
    return out / out.sum(dim=0).clamp(min=1e-6), Grid((out.shape[1], out.shape[2], out.shape[3]), affine)


def _affine_fit(average: Shares, given: Shares, grid: Grid) -> Affine:
    points = lattice(BOX)
    values = average.reshape(len(CLASSES), -1)
    start = _start(average, given, points, grid)

    def loss(p: Tensor) -> Tensor:
        moved = _apply(_affine(p), points)
        difference = ((sample(given, grid, moved) - values) ** 2).sum(dim=0)
        seen = _covered(grid, moved)
        return (difference * seen).sum() / seen.sum().clamp(min=1) + 0.05 * ((p[6:] - start[6:]) ** 2).sum()

    return _affine(_descend(loss, start, 60)).detach()


def _start(average: Shares, given: Shares, points: Tensor, grid: Grid) -> Float[Tensor, "9"]:
    """Shift and size from the middle and the spread of what lies inside the skull."""
    moments = []
    for shares, at in ((average, points), (given, lattice(grid))):
        weight = shares[3:].sum(dim=0).reshape(-1, 1).double()
        middle = (at * weight).sum(dim=0) / weight.sum()
        moments.append((middle, (((at - middle) ** 2 * weight).sum(dim=0) / weight.sum()).sqrt()))
    size = (moments[1][1] / moments[0][1]).clamp(0.6, 1.6)
    shift = moments[1][0] - size * moments[0][0]
    return torch.cat([shift / 50, torch.zeros(3).double(), size.log()]).float()


def _affine(p: Tensor) -> Affine:
    """Shift (50 mm), angles (rad) and log sizes as a map."""
    c, s = torch.cos(p[3:6]), torch.sin(p[3:6])
    one, zero = torch.ones(()), torch.zeros(())
    rx = torch.stack([one, zero, zero, zero, c[0], -s[0], zero, s[0], c[0]]).reshape(3, 3)
    ry = torch.stack([c[1], zero, s[1], zero, one, zero, -s[1], zero, c[1]]).reshape(3, 3)
    rz = torch.stack([c[2], -s[2], zero, s[2], c[2], zero, zero, zero, one]).reshape(3, 3)
    return torch.cat([rz @ ry @ rx @ torch.diag(torch.exp(p[6:9])), 50 * p[:3, None]], dim=1)


def _apply(affine: Affine, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    return points @ affine[:, :3].T + affine[:, 3]


def _covered(grid: Grid, points: Float[Tensor, "n 3"]) -> Tensor:
    """1 where a grid has voxels, 0 beyond them."""
    inverse = torch.from_numpy(np.linalg.inv(grid.affine)).float()
    index = points.detach() @ inverse[:3, :3].T + inverse[:3, 3]
    return ((index > -0.5) & (index < torch.tensor(grid.shape) - 0.5)).all(dim=1).float()


def _bend(average: Shares, there: Shares, seen: Tensor) -> Volume:
    """Displacement from the given head, in the average one's place and size, to the average head."""
    knots = axial(BOX.affine[:3, 3], BOX.affine[:3, 3] + 5.0 * (np.array(BOX.shape) - 1), (_KNOTS_MM,) * 3)
    points = lattice(BOX)
    values, weight = there.reshape(len(CLASSES), -1), seen.reshape(-1) / seen.sum()

    def loss(flat: Tensor) -> Tensor:
        u = flat.reshape(3, *knots.shape)
        found = sample(average, BOX, points + sample(u, knots, points).T)
        strain = [u.diff(dim=a) / _KNOTS_MM for a in (1, 2, 3)]
        bending = sum((s**2).mean() + 100 * (s**4).mean() for s in strain)
        return (((found - values) ** 2).sum(dim=0) * weight).sum() + _STIFFNESS * 50 * bending

    best = _descend(loss, torch.zeros(3 * int(np.prod(knots.shape))), 40).reshape(3, *knots.shape)
    bend = Volume(best, knots, Quantity.DISPLACEMENT)
    return Volume(best * min(1.0, _STEEPEST / max(steepest(bend), 1e-9)), knots, Quantity.DISPLACEMENT)


def _descend(loss: Callable[[Tensor], Tensor], start: Tensor, n_steps: int) -> Tensor:
    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        p = torch.from_numpy(x).float().requires_grad_()
        out = loss(p)
        (gradient,) = torch.autograd.grad(out, p)
        return out.item(), gradient.double().numpy()

    found = minimize(
        value,
        start.double().numpy(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": n_steps, "gtol": 1e-9, "ftol": 1e-7},
    )
    return torch.from_numpy(found.x).float()
