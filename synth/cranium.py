"""The space within the skull on a coarse lattice, where tumours are seeded and pushed about.

All lattices of one cranium fill the same box, so that a place in the box has one coordinate
from -1 to 1 along each axis, whatever the lattice.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from imaging.boxes import box_of
from imaging.shapes import Mask
from imaging.tissue import BRAIN, Tissue
from imaging.volume import Quantity, Volume

from .brain import tentorium

STEP = 2.0  # growth is computed at this cell size (mm), or the map's own if coarser
_LOWEST = -75.0  # the spinal canal goes on below (z, LPS mm)
WITHIN = (*BRAIN, Tissue.CSF, Tissue.DURA, Tissue.NERVE)  # what moves
_MARGIN = 4.0  # of bone about the cranium within the box (mm)

Cells = Float[Tensor, "_ _ _"]


@dataclass(frozen=True, eq=False)
class Cranium:
    """A box about the brain, and what each of its coarse cells holds.

    Parameters
    ----------
    box
        Voxels of the head that the box covers, along i, j, k.
    voxel
        Voxel size of the head (mm).
    low
        Lower corner of the box (LPS, mm).
    size
        Edges of the box (mm).
    within, white, grey, csf, dura, stem
        Share of each coarse cell, 0 to 1: what moves, and the tissues.
    """

    box: tuple[slice, slice, slice]
    voxel: tuple[float, float, float]
    low: tuple[float, float, float]
    size: tuple[float, float, float]
    within: Cells
    white: Cells
    grey: Cells
    csf: Cells
    dura: Cells
    stem: Cells

    @property
    def cells(self) -> tuple[int, int, int]:
        """Coarse cells along each axis."""
        i, j, k = self.within.shape
        return i, j, k

    @property
    def step(self) -> tuple[float, float, float]:
        """Edges of a coarse cell (mm)."""
        i, j, k = (s / n for s, n in zip(self.size, self.cells, strict=True))
        return i, j, k

    @property
    def voxels(self) -> tuple[int, int, int]:
        """Voxels of the head in the box, along each axis."""
        i, j, k = (b.stop - b.start for b in self.box)
        return i, j, k


def cranium(labels: Volume) -> Cranium:
    """The cranium of a head.

    Parameters
    ----------
    labels
        Tissues on an upright grid whose origin is the anterior commissure.

    Raises
    ------
    ValueError
        If the grid is not upright, or the head holds no brain.
    """
    grid = labels.expect(Quantity.LABEL).grid
    if not np.array_equal(grid.affine[:3, :3], np.diag(grid.spacing)):
        raise ValueError("expected labels on an upright grid with axes along x, y, z; resample them")
    tissue = labels.data[0]
    moves = among(tissue, *WITHIN)
    lowest = max(int(np.ceil((_LOWEST - grid.affine[2, 3]) / grid.spacing[2])), 0)
    moves[:, :, :lowest] = False
    if not bool(moves.any()):
        raise ValueError("expected a head with a brain to grow a tumour in, got none")
    voxel = tuple(float(s) for s in grid.spacing)
    i, j, k = (round(_MARGIN / s) for s in voxel)
    box = box_of(moves, (i, j, k))
    part, moves = tissue[box], moves[box]
    count = [max(round(n * s / max(STEP, s)), 2) for n, s in zip(part.shape, voxel, strict=True)]
    kinds = (Tissue.WHITE, Tissue.GREY, Tissue.CSF, Tissue.DURA, Tissue.BRAINSTEM)
    shares = [pooled(m, count) for m in (moves, *((part == t) & moves for t in kinds))]
    low = [float(grid.affine[a, 3] + (box[a].start - 0.5) * voxel[a]) for a in range(3)]
    size = [n * s for n, s in zip(part.shape, voxel, strict=True)]
    return Cranium(
        box, (voxel[0], voxel[1], voxel[2]), (low[0], low[1], low[2]), (size[0], size[1], size[2]), *shares
    )


def among(tissue: Tensor, *kinds: Tissue) -> Mask:
    """Where a voxel, a byte, is one of these tissues."""
    table = bytes(int(value in kinds) for value in range(256))
    # A table of bytes is read five times as fast as a tensor is indexed.
    flat = bytearray(tissue.contiguous().numpy().tobytes().translate(table))
    return torch.frombuffer(flat, dtype=torch.bool).reshape(tissue.shape)


def pooled(mask: Tensor, count: list[int]) -> Cells:
    """Share of each coarse cell that a mask covers."""
    return interpolate(mask[None, None].float(), size=count, mode="area")[0, 0]


def centers(space: Cranium, count: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """x, y and z (LPS, mm) of the cell centres of a lattice with so many cells along each axis."""
    x, y, z = (
        space.low[a] + (torch.arange(count[a], dtype=torch.float32) + 0.5) * (space.size[a] / count[a])
        for a in range(3)
    )
    return x, y, z


def brain_cc(space: Cranium) -> float:
    """Volume of the brain, all that moves but its fluid and dura (cc)."""
    solid = (space.within - space.csf - space.dura).clamp(min=0)
    return float(solid.double().numpy().sum()) * float(np.prod(space.step)) / 1000


def walls(space: Cranium) -> Cells:
    """Dura in each coarse cell; where none is told apart, the falx lies in the midline."""
    if float(space.dura.max()) > 0.05:
        return space.dura
    x, y, z = centers(space, space.cells)
    arch = (((y[:, None] - 8.0) / 38.0) ** 2 + ((z[None] - 2.0) / 27.0) ** 2).sqrt()
    falx = (arch > 1.05) & (z[None] > -5.0)
    middle = (1.0 - x.abs() / space.step[0]).clamp(0, 1)
    return middle[:, None, None] * falx[None] * 0.6


def midline(space: Cranium, y: Tensor, z: Tensor) -> Tensor:
    """Where the plane between the hemispheres, fitted to the falx, lies (x, mm); 0 where there is none.

    Parameters
    ----------
    space
        The cranium.
    y, z
        Where (LPS, mm).
    """
    axes = [a.double().numpy() for a in centers(space, space.cells)]
    i, j, k = np.nonzero(space.dura.numpy() > 0.05)
    at = np.stack([axes[0][i], axes[1][j], axes[2][k]], axis=1)
    at = at[(np.abs(at[:, 0]) < 20) & (at[:, 2] > 15)]
    plane = np.zeros(3)
    for reach in (15.0, 8.0, 5.0):
        off = at[:, 0] - plane @ np.stack([np.ones(len(at)), at[:, 1], at[:, 2]])
        near = at[np.abs(off) < reach]
        if len(near) < 50:
            return torch.zeros_like(y + z)
        terms = np.stack([np.ones(len(near)), near[:, 1], near[:, 2]])
        # Normal equations, summed in one order.
        normal = np.array([[float((a * b).sum()) for b in terms] for a in terms])
        plane = np.linalg.solve(normal, np.array([float((a * near[:, 0]).sum()) for a in terms]))
    return float(plane[0]) + float(plane[1]) * y + float(plane[2]) * z


def off_midline(
    space: Cranium, count: tuple[int, int, int], where: tuple[slice, ...] = (slice(None),) * 3
) -> Cells:
    """How far to the patient's left of the midline the cells of a lattice lie (mm), in a window of it."""
    x, y, z = (a[w] for a, w in zip(centers(space, count), where, strict=True))
    return x[:, None, None] - midline(space, y[:, None], z[None])


def below_tentorium(
    space: Cranium, count: tuple[int, int, int], where: tuple[slice, ...] = (slice(None),) * 3
) -> Mask:
    """Which cells of a lattice, in a window of it, lie behind and beneath the tentorium."""
    x, y, z = (a[w] for a, w in zip(centers(space, count), where, strict=True))
    tent = tentorium(x.abs()[:, None], y)[:, :, None]
    return (z < tent) & (y > 24.0)[:, None]
