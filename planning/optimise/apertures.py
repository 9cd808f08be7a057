"""Apertures as what they let through bixels, differentiable in leaf positions and weights.

A bixel gets the share of its area that is open, so that the fluence changes with every leaf at the rate
of the bixels that the leaf is passing: Hårdemark, Liander, Rehbinder, Löf, RaySearch White Paper (2003);
for leaves that move between control points, its mean over the way: Christiansen, Heath, Xu, Phys. Med. Biol.
63, 21NT01 (2018).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from imaging.shapes import Points
from planning.beams import Beam, project
from planning.dose.aperture import widened
from planning.dose.bixels import Bixels
from planning.dose.layers import passed
from planning.machine import Machine
from planning.rows import rows_of

from .sweeping import open_between, open_together

# Leaves may wait so far under a jaw (mm at the isocentre).
UNDER_JAW = 6.0


@dataclass(frozen=True, eq=False)
class Window:
    """The rectangle that leaves shape, as bixels: no edge of a leaf lies within a row.

    Rows are leaf pairs; halves of them where another layer of leaves is shifted by half a leaf, or where
    some leaves are twice as wide as others.

    Parameters
    ----------
    pairs
        Leaf pairs over the rows, of the upper layer and then of the lower one, ascending.
    rows
        Middles of the rows along y (mm at the isocentre).
    columns
        Middles of the bixels along x, evenly spaced (mm at the isocentre).
    size
        Of a bixel along x and y (mm at the isocentre).
    over
        Which of ``pairs`` lies over each row, in each layer, shape ``(layers, rows)``.
    """

    pairs: Int64[np.ndarray, " pairs"]
    rows: Float64[np.ndarray, " rows"]
    columns: Float64[np.ndarray, " columns"]
    size: tuple[float, float]
    over: Int64[np.ndarray, "layers rows"]

    @property
    def bixels(self) -> Bixels:
        """All of them, row after row."""
        y, x = np.meshgrid(self.rows, self.columns, indexing="ij")
        return Bixels(np.stack([x.ravel(), y.ravel()], axis=1), self.size)

    @property
    def jaws_x(self) -> tuple[float, float]:
        """From where to where it reaches along the leaves (mm); there stand jaws along x, if any do."""
        half = self.size[0] / 2
        return float(self.columns[0] - half), float(self.columns[-1] + half)

    @property
    def jaws_y(self) -> tuple[float, float]:
        """From where to where it reaches across the leaves (mm); there stand jaws along y, if any do."""
        half = self.size[1] / 2
        return float(self.rows[0] - half), float(self.rows[-1] + half)


@dataclass(frozen=True, eq=False)
class Apertures:
    """Shapes of the leaves, and what is delivered between them.

    Parameters
    ----------
    leaves
        Positions of bank A and bank B of each pair of a window (mm at the isocentre), shape
        ``(control points, 2, pairs)``.
    weights
        Fluence delivered in each span (pencil-beam weight in one fraction), shape ``(spans,)``.
    first, last
        Control points at the beginning and at the end of each span; the same where leaves stand.
    beam
        Which beam of the influence matrix each span is.
    """

    leaves: Float64[np.ndarray, "points 2 pairs"]
    weights: Float64[np.ndarray, " spans"]
    first: Int64[np.ndarray, " spans"]
    last: Int64[np.ndarray, " spans"]
    beam: Int64[np.ndarray, " spans"]


def window_over(
    target: Points, beams: Sequence[Beam], machine: Machine, margin: float = 5.0, column: float = 2.5
) -> Window:
    """The rectangle around all that any of the beams sees of a target.

    Parameters
    ----------
    target
        Voxel centres of the target (LPS, mm), shape ``(n, 3)``.
    beams
        Directions and isocentre.
    machine
        Its leaves and jaws.
    margin
        Beyond the target (mm at the isocentre).
    column
        Size of a bixel along the leaves (mm).

    Raises
    ------
    ValueError
        If the target is empty, reaches beyond leaves or jaws, is wider than the leaves of one bank may stand
        apart, or lies behind leaves whose widths are not multiples of the thinnest.
    """
    if len(target) == 0 or not beams:
        raise ValueError("expected a target with voxels and at least one beam, got none; contour the target")
    seen = np.concatenate([project(beam, target, machine.sad) for beam in beams])
    low, high = seen.min(axis=0) - margin, seen.max(axis=0) + margin
    rows, mlc = rows_of(machine.mlc), machine.mlc
    room = UNDER_JAW if "x" in machine.jaws else 0.0
    reach = min(mlc.max_position - room, mlc.max_overtravel - room, machine.max_jaw)
    if max(-low[0], high[0]) > reach or low[1] < rows.edges[0] or high[1] > rows.edges[-1]:
        raise ValueError(
            f"expected a target within {reach:g} mm of the isocentre, got one that reaches from "
            f"{np.round(low)} to {np.round(high)} mm; move the isocentre to the target's middle"
        )
    start, stop = np.floor(low[0] / column), np.ceil(high[0] / column)
    columns = (np.arange(start, stop) + 0.5) * column
    if len(columns) * column > mlc.max_span:
        raise ValueError(
            f"expected a target that is seen no wider than {mlc.max_span - 2 * margin:g} mm, as far apart as "
            f"leaves of one bank stand on {machine.name}, got {high[0] - low[0] - 2 * margin:.0f} mm; turn "
            "the collimator or choose another machine"
        )
    first = int(np.searchsorted(rows.edges, low[1], "right")) - 1
    last = int(np.searchsorted(rows.edges, high[1], "left"))
    middles, height, of_row = _strips(rows.edges[first : last + 1])
    over = rows.pairs[:, first + of_row]
    pairs = np.unique(over)
    return Window(pairs, middles, columns, (column, height), np.searchsorted(pairs, over))


def halved(window: Window) -> Window:
    """The same window with two bixels along the leaves for each of its own."""
    width = window.size[0] / 2
    columns = (window.columns[:, None] + width * np.array([-0.5, 0.5])).ravel()
    return replace(window, columns=columns, size=(width, window.size[1]))


def halves_of(window: Window) -> Int64[np.ndarray, " bixels"]:
    """For each bixel of :func:`halved`, which of the window's own it is half of."""
    own = np.arange(len(window.rows) * len(window.columns)).reshape(len(window.rows), -1)
    return own.repeat(2, axis=1).ravel()


def _strips(
    edges: Float64[np.ndarray, " edges"],
) -> tuple[Float64[np.ndarray, " rows"], float, Int64[np.ndarray, " rows"]]:
    """Strips as wide as the narrowest between these edges: middles, height, and between which they lie."""
    widths = np.diff(edges)
    height = float(widths.min())
    counts = np.rint(widths / height).astype(np.int64)
    if np.abs(counts * height - widths).max() > 1e-6:
        raise ValueError(
            "expected leaves over the target whose widths are multiples of the thinnest; choose another "
            "machine or isocentre"
        )
    middles = edges[0] + height * (np.arange(counts.sum()) + 0.5)
    return middles, height, np.repeat(np.arange(len(widths)), counts)


def fluence_of(
    leaves: Tensor, weights: Tensor, apertures: Apertures, window: Window, machine: Machine, n_beams: int
) -> Tensor:
    """Weight of every bixel of every beam, differentiable in leaves and weights; shape ``(m,)``.

    Parameters
    ----------
    leaves, weights
        In the shapes of ``apertures``, whose own are not looked at.
    apertures
        What belongs to what.
    window
        The bixels, the same for each beam.
    machine
        Its leaves.
    n_beams
        Beams of the influence matrix.
    """
    mlc, over = machine.mlc, torch.from_numpy(window.over).to(leaves.device)
    edges, width = torch.from_numpy(window.columns - window.size[0] / 2).to(leaves), window.size[0]
    starts, stops = (widened(leaves[points], mlc) for points in (apertures.first, apertures.last))
    left, right = ((start[:, over], stop[:, over]) for start, stop in zip(starts, stops, strict=True))
    each = [
        open_between(edges, width, (left[0][:, n], left[1][:, n]), (right[0][:, n], right[1][:, n]))
        for n in range(len(over))
    ]
    together = each.pop() if len(over) == 1 else open_together(edges, width, left, right)
    through = passed(leaves.new_ones(()), together, each, mlc)
    spans = (weights[:, None, None] * through).flatten(1)
    whole = leaves.new_zeros((n_beams, spans.shape[1]))
    return whole.index_add(0, torch.from_numpy(apertures.beam).to(leaves.device), spans).flatten()


def of_pairs(
    rows: Float64[np.ndarray, "points 2 rows"], window: Window
) -> Float64[np.ndarray, "points 2 pairs"]:
    """Leaves that open every row at least as far as wished: each pair as far as any of its rows.

    Parameters
    ----------
    rows
        Where each row shall begin and end (mm at the isocentre); ends that meet where it is closed.
    window
        Which pairs lie over which rows.
    """
    found = np.empty((len(rows), 2, len(window.pairs)))
    for pair in range(len(window.pairs)):
        left, right = rows[:, :, (window.over == pair).any(axis=0)].swapaxes(0, 1)
        is_open = right > left
        found[:, 0, pair] = np.where(is_open, left, np.inf).min(axis=1)
        found[:, 1, pair] = np.where(is_open, right, -np.inf).max(axis=1)
        # Closed where its first row is.
        shut = ~is_open.any(axis=1)
        found[shut, :, pair] = left[shut, :1]
    return found


def room_beside(window: Window, machine: Machine) -> tuple[float, float]:
    """From where to where leaves may stand (mm at the isocentre).

    A little under the jaws, as far as leaves of one bank may stand apart. Without jaws along x over the
    window's bixels alone, so that whatever leaves open is seen.
    """
    (low, high), mlc = window.jaws_x, machine.mlc
    # Rounded leaf ends open a little more than their positions say.
    room = -mlc.dosimetric_gap / 2
    if "x" in machine.jaws:
        room = min(UNDER_JAW, (mlc.max_span - (high - low)) / 2)
    return max(low - room, -mlc.max_position), min(high + room, mlc.max_position)


def within_reach(apertures: Apertures, machine: Machine, furthest: float) -> Apertures:
    """Apertures whose leaves travel no further than allowed in any span, and keep their gap.

    Each control point follows the one before it; a leaf that would have to go further stays behind.
    """
    leaves = apertures.leaves.copy()
    leaves[:, 1] = np.maximum(leaves[:, 1], leaves[:, 0] + machine.mlc.min_gap)
    for first, last in zip(apertures.first, apertures.last, strict=True):
        leaves[last] = np.clip(leaves[last], leaves[first] - furthest, leaves[first] + furthest)
    return replace(apertures, leaves=leaves)
