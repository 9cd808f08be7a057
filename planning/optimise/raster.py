"""Bixels as rows and columns behind the leaves, and the leaves that open some of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from planning.dose.bixels import Bixels
from planning.machine import Mlc
from planning.rows import left_open, rows_of

from .openings import Opening

Leaves = Float64[np.ndarray, "2 _"]

_MM = 1e-6


@dataclass(frozen=True, eq=False)
class Raster:
    """Where the bixels of a beam are among its leaves.

    Parameters
    ----------
    rows, columns
        Of each bixel, from the first leaf pair and the first column that have one.
    shape
        Number of rows and columns.
    layer, pair
        The layer whose leaf pairs the rows are, and its pair that is row 0.
    edge, width
        Where column 0 begins and how wide columns are (mm at the isocentre).
    """

    rows: Int64[np.ndarray, " n"]
    columns: Int64[np.ndarray, " n"]
    shape: tuple[int, int]
    layer: int
    pair: int
    edge: float
    width: float


def raster_of(bixels: Bixels, mlc: Mlc) -> Raster:
    """The rows and columns of bixels: one row for each leaf pair, of one layer where there are two.

    Raises
    ------
    ValueError
        If the leaves cannot open as little as a bixel or do not reach one, or rows of bixels are not leaf
        pairs.
    """
    width = bixels.width[0]
    x = bixels.positions[:, 0]
    if width < mlc.min_gap:
        raise ValueError(f"expected bixels wider than the leaf gap of {mlc.min_gap:g} mm, got {width:g} mm")
    if np.abs(x).max() + width / 2 > mlc.max_position + _MM:
        raise ValueError(
            f"expected bixels within {mlc.max_position:g} mm of the axis, got one at {np.abs(x).max():g} mm; "
            "move the isocentre into the target"
        )
    edge = float(x.min()) - width / 2
    columns = np.rint((x - edge) / width - 0.5).astype(np.int64)
    layer, pairs = _layer_behind(bixels, mlc)
    first = int(pairs.min())
    shape = (int(pairs.max()) - first + 1, int(columns.max()) + 1)
    if len(np.unique(pairs * shape[1] + columns)) < len(x):
        raise ValueError("expected every bixel once, got some more often; lay them out anew")
    return Raster(pairs - first, columns, shape, layer, first, edge, width)


def _layer_behind(bixels: Bixels, mlc: Mlc) -> tuple[int, Int64[np.ndarray, " n"]]:
    """The first layer with a pair over each bixel, as high as it, and the pair of each bixel."""
    y, half = bixels.positions[:, 1], bixels.width[1] / 2
    for layer, edges in enumerate(mlc.layers):
        pairs = np.searchsorted(edges, y) - 1
        if pairs.min() < 0 or pairs.max() >= len(edges) - 1:
            continue
        if np.allclose([y - half, y + half], [edges[pairs], edges[pairs + 1]], rtol=0, atol=_MM):
            return layer, pairs
    raise ValueError(
        "expected every row of bixels behind a leaf pair and as high, got one that is not; take a smaller "
        "target, or rows that are the machine's leaf pairs"
    )


def leaves_of(opening: Opening, raster: Raster, mlc: Mlc) -> Leaves:
    """Positions of all leaf pairs that open what an opening does (mm at the isocentre).

    Pairs without bixels are closed where the outermost row's leaves allow. Those of the other layer, where
    there are two, open as far as any pair that they cover, so that together the layers leave open what the
    one does.
    """
    n_pairs = len(mlc.layers[raster.layer]) - 1
    after = n_pairs - raster.pair - raster.shape[0]
    left = np.pad(opening.left, (raster.pair, after), mode="edge")
    right = left.copy()
    right[raster.pair : n_pairs - after] = opening.right
    own = raster.edge + raster.width * np.stack([left, right])
    if len(mlc.layers) == 1:
        return own
    other = _covering(own, mlc.layers[raster.layer], mlc.layers[1 - raster.layer], mlc)
    return np.concatenate([own, other] if raster.layer == 0 else [other, own], axis=1)


def _covering(own: Leaves, edges: np.ndarray, others: np.ndarray, mlc: Mlc) -> Leaves:
    """The narrowest openings of another layer's pairs behind which those of this layer lie."""
    touches = (edges[:-1] < others[1:, None] - _MM) & (edges[1:] > others[:-1, None] + _MM)
    if mlc.interdigitation:
        # Closed pairs do not matter where leaves may pass them.
        wanted = touches & (own[1] > own[0])
        touches = np.where(wanted.any(axis=1)[:, None], wanted, touches)
        closed = ~wanted.any(axis=1)
    else:
        closed = np.zeros(len(touches), dtype=bool)
    # A pair beside the other layer stays where its neighbours are.
    alone = ~touches.any(axis=1)
    nearest = np.abs((edges[:-1] + edges[1:]) / 2 - ((others[:-1] + others[1:]) / 2)[:, None]).argmin(axis=1)
    touches[alone, nearest[alone]] = True
    left = np.where(touches, own[0], np.inf).min(axis=1)
    right = np.where(touches, own[1], -np.inf).max(axis=1)
    return np.stack([left, np.where(closed, left, right)])


def area(leaves: Leaves, mlc: Mlc) -> float:
    """How large the opening is that all layers leave together (mm² at the isocentre)."""
    rows = rows_of(mlc)
    left, right = left_open(leaves, rows)
    return float(((right - left) * np.diff(rows.edges)).sum())
