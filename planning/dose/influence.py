"""The influence matrix: dose of every bixel in every voxel."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from scipy.sparse import csr_array
from torch import Tensor

from imaging.shapes import Points
from imaging.volume import Volume
from planning.beams import Beam
from planning.machine import Machine

from .bixel_dose import CUTOFF, Block, Progress, blocks, each_beam
from .bixels import Bixels

_MOST_ENTRIES = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Influence:
    """Dose of each bixel in each voxel, in compressed sparse rows.

    Row r belongs to voxel ``voxels[r]``; a voxel has one row for each beam that reaches it.

    Parameters
    ----------
    values
        Dose of a bixel of weight 1 (Gy).
    columns
        Which bixel, counted through all beams.
    row_starts
        Where each row begins in ``values``, and their end.
    voxels
        Which point each row belongs to.
    n_voxels
        Number of points.
    beam_starts
        Where each beam's bixels begin, and their end.
    """

    values: Float32[Tensor, " entries"]
    columns: Int32[Tensor, " entries"]
    row_starts: Int32[Tensor, " rows_and_1"]
    voxels: Int64[Tensor, " rows"]
    n_voxels: int
    beam_starts: tuple[int, ...]

    @property
    def n_bixels(self) -> int:
        """Number of bixels of all beams."""
        return self.beam_starts[-1]


def influence(
    beams: Sequence[Beam],
    bixels: Sequence[Bixels],
    density: Volume,
    points: Points,
    machine: Machine,
    *,
    cutoff: float = CUTOFF,
    progress: Progress | None = None,
) -> Influence:
    """Dose of every bixel at every point.

    Parameters
    ----------
    beams, bixels
        The beams and, for each, its bixels.
    density
        Relative electron density, zero outside the body; the computation runs where it lies.
    points
        Where to compute dose (LPS, mm), shape ``(n, 3)``.
    machine
        Its geometry and pencil beam.
    cutoff
        Furthest lateral reach of a bixel (mm at the isocentre). Entries are never cut by value.
    progress
        Told the share that is done, 0..1.

    Raises
    ------
    ValueError
        If the density is not finite, an isocentre is outside its grid, a beam meets no tissue or
        has no bixel, or an angle is out of range.
    """
    if len(beams) != len(bixels) or not beams:
        raise ValueError(f"expected bixels for each of one or more beams, got {len(bixels)} for {len(beams)}")
    starts = np.cumsum([0, *(len(b.positions) for b in bixels)])

    def one(n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found = blocks(beams[n], bixels[n], density, points, machine, cutoff=cutoff)
        return _rows(found, int(starts[n]), density.data.device)

    parts = each_beam(one, len(beams), density.data.device, "influence", progress)
    pieces = [list(piece) for piece in zip(*parts, strict=True)]
    del parts
    values, columns, counts, voxels = (_joined(piece) for piece in pieces)
    if len(values) > _MOST_ENTRIES:
        raise ValueError(
            f"expected at most {_MOST_ENTRIES} influence entries, got {len(values)}; use a coarser dose grid"
        )
    row_starts = torch.zeros(len(counts) + 1, dtype=torch.int32, device=counts.device)
    row_starts[1:] = counts.cumsum(0)
    return Influence(values, columns, row_starts, voxels, len(points), tuple(int(s) for s in starts))


def _rows(
    found: Iterator[Block], first_bixel: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, columns, entries per row and voxel per row of one beam's blocks."""
    # Points may all lie outside a beam: begin with nothing of each type.
    values = [torch.empty(0, dtype=torch.float32, device=device)]
    columns = [torch.empty(0, dtype=torch.int32, device=device)]
    counts = [torch.empty(0, dtype=torch.int64, device=device)]
    voxels = [torch.empty(0, dtype=torch.int64, device=device)]
    for block in found:
        # An exact zero adds no dose: out of reach, or in no depth. Nothing is cut by value.
        inside = block.dose != 0
        values.append(block.dose[inside])
        columns.append((block.bixels.int() + first_bixel).expand(inside.shape)[inside])
        counts.append(inside.sum(dim=1))
        voxels.append(block.voxels)
    return _joined(values), _joined(columns), _joined(counts), _joined(voxels)


def _joined(pieces: list[Tensor]) -> Tensor:
    """All pieces in one, each let go as soon as it is copied; the list is empty afterwards."""
    whole = torch.empty(sum(map(len, pieces)), dtype=pieces[0].dtype, device=pieces[0].device)
    end = len(whole)
    while pieces:
        piece = pieces.pop()
        whole[end - len(piece) : end] = piece
        end -= len(piece)
    return whole


def apply(matrix: Influence, weights: Float[Tensor, " bixels"]) -> Float[Tensor, " voxels"]:
    """Dose of bixel weights (Gy), where the matrix lies."""
    if matrix.values.device.type == "cpu":
        rows = torch.from_numpy(_csr(matrix) @ weights.numpy()).to(weights.dtype)
    else:
        rows = _sparse(matrix) @ weights
    dose = torch.zeros(matrix.n_voxels, dtype=weights.dtype, device=weights.device)
    return dose.index_add_(0, matrix.voxels, rows)


def adjoint(matrix: Influence, gradient: Float[Tensor, " voxels"]) -> Float[Tensor, " bixels"]:
    """Transpose of :func:`apply`: gradient by dose to gradient by bixel weights."""
    rows = gradient[matrix.voxels]
    if matrix.values.device.type == "cpu":
        return torch.from_numpy(rows.numpy() @ _csr(matrix)).to(gradient.dtype)
    return _sparse(matrix).t() @ rows


def _csr(matrix: Influence) -> csr_array:
    """The matrix as SciPy sees it, without copying."""
    parts = (matrix.values.numpy(), matrix.columns.numpy(), matrix.row_starts.numpy())
    return csr_array(parts, shape=(len(matrix.voxels), matrix.n_bixels))


def _sparse(matrix: Influence) -> Tensor:
    """The matrix as torch sees it, on its device, without copying."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            matrix.row_starts,
            matrix.columns,
            matrix.values,
            size=(len(matrix.voxels), matrix.n_bixels),
            check_invariants=False,
        )
