"""The influence matrix: dose of every bixel in every voxel."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor

from imaging.shapes import Points
from imaging.volume import Volume
from planning.beams import Beam
from planning.machine import Machine

from .bixel_dose import CUTOFF, Progress, blocks, each_beam
from .bixels import Bixels
from .entry import expect_geometry
from .layout import Layout, lay_out
from .memory import expect_room

# With fewer entries, handing blocks to cores costs more than a second core gains.
_ENTRIES_FOR_CORES = 2**24


@dataclass(frozen=True, eq=False)
class Desk:
    """The blocks of a matrix, and a vector of its rows and one of its columns cut up as they are.

    Cutting costs as much as multiplying, so that it is done once; who works there holds the lock.
    """

    blocks: Sequence[Tensor]
    rows: Float32[Tensor, " rows"]
    columns: Float32[Tensor, " columns"]
    row: Sequence[Tensor]
    column: Sequence[Tensor]
    lock: AbstractContextManager[bool]


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

    @cached_property
    def desk(self) -> Desk:
        """Where products with it are worked out."""
        n_rows, n_columns = self.shapes.T.tolist()
        flat = self.values.split(self.shapes.prod(axis=1).tolist())
        blocks = [block.view(*shape) for block, shape in zip(flat, self.shapes.tolist(), strict=True)]
        rows, columns = (torch.empty(sum(n), device=self.values.device) for n in (n_rows, n_columns))
        return Desk(blocks, rows, columns, rows.split(n_rows), columns.split(n_columns), Lock())

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
    for beam in beams:
        expect_geometry(beam, density, machine)
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
    given = weights.to(torch.float32)
    if weights.ndim == 1:
        desk = matrix.desk
        with desk.lock:
            torch.index_select(given, 0, matrix.bixels, out=desk.columns)
            _side_by_side(matrix, lambda n: torch.mv(desk.blocks[n], desk.column[n], out=desk.row[n]))
            dose = torch.zeros(matrix.n_voxels, device=given.device)
            return dose.index_add_(0, matrix.voxels, desk.rows).to(weights.dtype)
    rows = torch.empty((len(matrix.voxels), *weights.shape[1:]), device=given.device)
    n_rows, n_columns = matrix.shapes.T.tolist()
    own, out = matrix.bixels.split(n_columns), rows.split(n_rows)
    _side_by_side(matrix, lambda n: torch.mm(matrix.desk.blocks[n], given[own[n]], out=out[n]))
    dose = torch.zeros((matrix.n_voxels, *weights.shape[1:]), device=given.device)
    return dose.index_add_(0, matrix.voxels, rows).to(weights.dtype)


def adjoint(matrix: Influence, gradient: Float[Tensor, " voxels"]) -> Float[Tensor, " bixels"]:
    """Transpose of :func:`apply`: gradient by dose to gradient by bixel weights."""
    desk = matrix.desk
    with desk.lock:
        torch.index_select(gradient.to(torch.float32), 0, matrix.voxels, out=desk.rows)
        _side_by_side(matrix, lambda n: torch.mv(desk.blocks[n].t(), desk.row[n], out=desk.column[n]))
        slope = torch.zeros(matrix.n_bixels, device=gradient.device)
        return slope.index_add_(0, matrix.bixels, desk.columns).to(gradient.dtype)


def _side_by_side(matrix: Influence, work: Callable[[int], object]) -> None:
    """Work on every block; on the processor each core takes blocks with as many entries."""
    n_blocks, n_cores = len(matrix.shapes), torch.get_num_threads()
    if matrix.values.device.type != "cpu" or n_cores == 1 or len(matrix.values) < _ENTRIES_FOR_CORES:
        for n in range(n_blocks):
            work(n)
        return
    before = _ends(matrix)[2]
    ends = np.searchsorted(before, np.linspace(0, before[-1], n_cores + 1)).tolist()
    spans = list(pairwise([0, *ends[1:-1], n_blocks]))
    try:
        with ThreadPoolExecutor(n_cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(lambda span: [work(n) for n in range(*span)], spans):
                pass
    finally:
        torch.set_num_threads(n_cores)


def _ends(matrix: Influence) -> list[Int64[np.ndarray, " blocks_and_1"]]:
    """Where each block's rows, columns and entries begin, and their end."""
    n_rows, n_columns = matrix.shapes.T
    return [np.concatenate([[0], np.cumsum(n)]) for n in (n_rows, n_columns, n_rows * n_columns)]
