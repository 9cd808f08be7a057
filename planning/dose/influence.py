"""The influence matrix: dose of every bixel in every voxel."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor

from imaging.shapes import Points
from imaging.volume import Volume
from planning.beams import Beam
from planning.machine import Machine

from .bixel_dose import CUTOFF, Progress, blocks, each_beam, expect_geometry
from .bixels import Bixels
from .layout import Layout, lay_out
from .memory import expect_room


@dataclass(frozen=True, eq=False)
class Influence:
    """Dose of each bixel in each voxel: dense blocks of neighbouring voxels and the bixels near them.

    Blocks come beam after beam. A block needs no index for an entry, so that an entry takes four
    bytes, and to multiply it by weights is as fast as memory is read. What a block holds beyond the
    lateral reach is zero.

    Parameters
    ----------
    values
        Dose of a bixel of weight 1 (Gy), block by block, voxels first.
    voxels
        Which point each row of the blocks belongs to.
    bixels
        Which bixel, counted through all beams, each column of the blocks belongs to.
    shapes
        Rows and columns of each block.
    n_voxels
        Number of points.
    beam_starts
        Where each beam's bixels begin, and their end.
    beam_blocks
        Where each beam's blocks begin, and their end.
    """

    values: Float32[Tensor, " entries"]
    voxels: Int32[Tensor, " rows"]
    bixels: Int32[Tensor, " columns"]
    shapes: Int64[np.ndarray, "blocks 2"]
    n_voxels: int
    beam_starts: tuple[int, ...]
    beam_blocks: tuple[int, ...]

    @property
    def n_bixels(self) -> int:
        """Number of bixels of all beams."""
        return self.beam_starts[-1]

    @property
    def n_bytes(self) -> int:
        """Memory that values and indices take."""
        parts = (self.values, self.voxels, self.bixels)
        return sum(part.numel() * part.element_size() for part in parts) + self.shapes.nbytes

    @property
    def n_entries(self) -> int:
        """Entries that are not zero."""
        return sum(int(torch.count_nonzero(part)) for part in self.values.split(2**24))


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
        has no bixel, or an angle is out of the machine's range.
    MemoryError
        If the matrix would not fit, before any of it is computed.
    """
    if len(beams) != len(bixels) or not beams:
        raise ValueError(f"expected bixels for each of one or more beams, got {len(bixels)} for {len(beams)}")
    for beam, own in zip(beams, bixels, strict=True):
        expect_geometry(beam, own, density, machine)
    layouts = [lay_out(b, own, points, machine, cutoff) for b, own in zip(beams, bixels, strict=True)]
    starts = np.cumsum([0, *(len(own.positions) for own in bixels)]).tolist()
    ends = np.cumsum([0, *(layout.n_entries for layout in layouts)]).tolist()
    device = density.data.device
    values = _room(ends[-1], device, f"{len(points)} points and {starts[-1]} bixels")

    def one(n: int) -> None:
        own = values[ends[n] : ends[n + 1]]
        found = blocks(
            beams[n], bixels[n], density, points, machine, cutoff=cutoff, layout=layouts[n], out=own
        )
        for _ in found:
            pass

    each_beam(one, len(beams), device, "influence", progress)
    return _assembled(values, layouts, starts, len(points))


def beam_by_beam(
    beams: Sequence[Beam],
    bixels: Sequence[Bixels],
    density: Volume,
    points: Points,
    machine: Machine,
    *,
    cutoff: float = CUTOFF,
) -> Iterator[Influence]:
    """The influence of one beam after another, so that memory holds one; arguments as :func:`influence`."""
    for beam, own in zip(beams, bixels, strict=True):
        yield influence([beam], [own], density, points, machine, cutoff=cutoff)


def _room(n_entries: int, device: torch.device, what: str) -> Float32[Tensor, " entries"]:
    """Uninitialised memory for so many entries, if there is as much."""
    expect_room(4 * n_entries, device, f"an influence matrix of {what}")
    if device.type != "cpu":
        return torch.empty(n_entries, device=device)
    # NumPy asks for huge pages, torch does not: the first touch of a page costs as much as filling it.
    return torch.from_numpy(np.empty(n_entries, dtype=np.float32))


def _assembled(values: Tensor, layouts: Sequence[Layout], starts: Sequence[int], n_voxels: int) -> Influence:
    cells = [
        (layout, cell, first) for layout, first in zip(layouts, starts, strict=False) for cell in layout.cells
    ]
    nothing = np.empty(0, dtype=np.int32)
    voxels = [layout.voxels.astype(np.int32) for layout in layouts]
    columns = [(cell.bixels + first).astype(np.int32) for _, cell, first in cells]
    shapes = [(cell.last - cell.first, len(cell.bixels)) for _, cell, _ in cells]
    return Influence(
        values,
        torch.from_numpy(np.concatenate(voxels)).to(values.device),
        torch.from_numpy(np.concatenate([nothing, *columns])).to(values.device),
        np.array(shapes, dtype=np.int64).reshape(-1, 2),
        n_voxels,
        tuple(starts),
        tuple(np.cumsum([0, *(len(layout.cells) for layout in layouts)]).tolist()),
    )


def of_beam(matrix: Influence, n: int) -> Influence:
    """The part of one beam, without a copy of its values; its bixels count from 0."""
    cells = slice(*matrix.beam_blocks[n : n + 2])
    rows, columns, entries = (ends[[cells.start, cells.stop]] for ends in _ends(matrix))
    first, last = matrix.beam_starts[n : n + 2]
    return Influence(
        matrix.values[slice(*entries)],
        matrix.voxels[slice(*rows)],
        matrix.bixels[slice(*columns)] - first,
        matrix.shapes[cells],
        matrix.n_voxels,
        (0, last - first),
        (0, cells.stop - cells.start),
    )


def apply(matrix: Influence, weights: Float[Tensor, "n_bixels *k"]) -> Float[Tensor, "n_voxels *k"]:  # noqa: F821
    """Dose of bixel weights (Gy), where the matrix lies; of several sets at once if there are columns."""
    weights_ = weights.to(torch.float32)
    rows = torch.empty((len(matrix.voxels), *weights.shape[1:]), device=weights_.device)

    def one(block: Tensor, row: slice, column: slice) -> None:
        torch.matmul(block, weights_[matrix.bixels[column]], out=rows[row])

    _each_block(matrix, one)
    dose = torch.zeros((matrix.n_voxels, *weights.shape[1:]), device=weights_.device)
    return dose.index_add_(0, matrix.voxels, rows).to(weights.dtype)


def adjoint(matrix: Influence, gradient: Float[Tensor, " voxels"]) -> Float[Tensor, " bixels"]:
    """Transpose of :func:`apply`: gradient by dose to gradient by bixel weights."""
    drawn = gradient.to(torch.float32)[matrix.voxels]
    columns = torch.empty(len(matrix.bixels), device=drawn.device)

    def one(block: Tensor, row: slice, column: slice) -> None:
        torch.mv(block.t(), drawn[row], out=columns[column])

    _each_block(matrix, one)
    slope = torch.zeros(matrix.n_bixels, device=drawn.device)
    return slope.index_add_(0, matrix.bixels, columns).to(gradient.dtype)


def _each_block(matrix: Influence, work: Callable[[Tensor, slice, slice], None]) -> None:
    """Work on every block, told with its rows and columns; on the processor a share on each core."""
    (n_rows, n_columns), (rows, columns, entries) = matrix.shapes.T, _ends(matrix)
    n_cores = torch.get_num_threads() if matrix.values.device.type == "cpu" else 1
    n_parts = min(n_cores, os.cpu_count() or 1)
    # Each core gets as many entries.
    ends = np.searchsorted(entries, np.linspace(0, entries[-1], n_parts + 1))
    ends[0], ends[-1] = 0, len(matrix.shapes)

    def part(first: int, last: int) -> None:
        for n in range(first, last):
            block = matrix.values[entries[n] : entries[n + 1]].view(n_rows[n], n_columns[n])
            work(block, slice(rows[n], rows[n + 1]), slice(columns[n], columns[n + 1]))

    if n_parts == 1:
        part(0, len(matrix.shapes))
        return
    try:
        with ThreadPoolExecutor(n_parts, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done in [pool.submit(part, int(a), int(b)) for a, b in pairwise(ends)]:
                done.result()
    finally:
        torch.set_num_threads(n_cores)


def _ends(matrix: Influence) -> list[Int64[np.ndarray, " blocks_and_1"]]:
    """Where each block's rows, columns and entries begin, and their end."""
    n_rows, n_columns = matrix.shapes.T
    return [np.concatenate([[0], np.cumsum(n)]) for n in (n_rows, n_columns, n_rows * n_columns)]
