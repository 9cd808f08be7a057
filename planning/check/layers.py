"""What contours on planes enclose: the area of cross-sections and the thin layers in and between planes.

Polygons come in indices (i, j) of a grid by the index k of their plane, as :mod:`imaging.contours` has them,
and are looked at in mm along i, j and k. Nothing is rounded to a voxel.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.interpolate import CubicHermiteSpline

from imaging.contours import Polygon
from imaging.grid import Grid

# Layers between two planes: at least so many (even), for the interpolated area is summed at their middles;
# more where a slice is thick for the structure, up to cubes of so small a share of the volume.
_LAYERS_AT_LEAST = 2
_CUBES = 250_000
# A gap of more slices than this was left on purpose; the structure ends on both sides of it.
_GAP = 1.5

Planes = Mapping[float, Sequence[Polygon]]
# Planes in ascending order with their place along k, all in mm.
Drawn = Sequence[tuple[float, Sequence[Polygon]]]


@dataclass(frozen=True, eq=False)
class Layer:
    """A thin layer: its middle and thickness (mm along k), its area (mm²), the planes it lies between."""

    middle: float
    thickness: float
    area: float
    below: int
    above: int


def contoured_volume_cc(planes: Planes, grid: Grid, *, thickness: float | None = None) -> float:
    """Volume (cm³) of a structure drawn as contours, as :func:`.contoured.contoured_histogram` counts it."""
    layers = layers_of(in_mm(planes, grid), slice_of(planes, thickness) * float(grid.spacing[2]))
    return sum(layer.area * layer.thickness for layer in layers) / 1000


def slice_of(planes: Planes, thickness: float | None) -> float:
    """What one contour stands for (indices k): as given, or the usual distance of planes, or one slice.

    The lower middle of the distances: two planes that are one but for rounding do not count, nor a gap.
    """
    if thickness is not None and not thickness > 0:
        raise ValueError(
            f"expected a slice of some thickness, got {thickness:g}; give that of the drawn scan"
        )
    gaps = np.diff(sorted(planes))
    if thickness is not None or len(gaps) == 0:
        return 1.0 if thickness is None else thickness
    return float(np.sort(gaps)[(len(gaps) - 1) // 2])


def layers_of(drawn: Drawn, step: float) -> Iterator[Layer]:
    """Thin layers of the whole structure, from its lowest to its highest; ``step`` is a slice (mm)."""
    z = np.array([depth for depth, _ in drawn])
    return layers_through(z, np.array([even_odd_area(polygons) for _, polygons in drawn]), step)


def layers_through(
    z: Float64[np.ndarray, " n"],
    areas: Float64[np.ndarray, " n"],
    step: float,
    *,
    n_cubes: int = _CUBES,
    closes: bool = False,
) -> Iterator[Layer]:
    """Thin layers of a structure by the areas (mm²) of its cross-sections at rising places (mm).

    Parameters
    ----------
    z
        Places of the cross-sections (mm).
    areas
        Their areas (mm²).
    step
        What one cross-section stands for (mm); cross-sections more than 1.5 of it apart have a gap.
    n_cubes
        Layers are as thin as the edge of a cube of this share of the volume.
    closes
        Whether an end whose area falls to nothing within a whole step goes on that far. Contours are drawn
        as slabs and never do; a mask was only sampled, and may end anywhere before its next slice.
    """
    if len(z) == 0:
        return
    breaks = np.flatnonzero(np.diff(z) > _GAP * step) + 1
    for run in np.split(np.arange(len(z)), breaks):
        yield from _run(z[run], areas[run], int(run[0]), step, n_cubes, closes=closes)


def _run(
    z: Float64[np.ndarray, " n"],
    areas: Float64[np.ndarray, " n"],
    first: int,
    step: float,
    n_cubes: int,
    *,
    closes: bool,
) -> Iterator[Layer]:
    """Layers of planes that follow one another; ``first`` is the number of the lowest."""
    edge = (max(float(areas.sum()) * step, 1e-3) / n_cubes) ** (1 / 3)
    n_layers = max(_LAYERS_AT_LEAST, int(np.ceil(step / edge)))
    below = list(_end(z[::-1], areas[::-1], step, n_layers, closes=closes))
    for away, thin, area in below[::-1]:
        yield Layer(float(z[0] - away), thin, area, first, first)
    if len(z) > 1:
        yield from _between(z, areas, first, step / n_layers)
    last = first + len(z) - 1
    for away, thin, area in _end(z, areas, step, n_layers, closes=closes):
        yield Layer(float(z[-1] + away), thin, area, last, last)


def _between(
    z: Float64[np.ndarray, " n"], areas: Float64[np.ndarray, " n"], first: int, dz: float
) -> Iterator[Layer]:
    """Layers of about a thickness (mm) from the first plane to the last."""
    curve = CubicHermiteSpline(z, areas, _slopes(z, areas))
    for n in range(len(z) - 1):
        count = max(1, round((z[n + 1] - z[n]) / dz))
        thin = float(z[n + 1] - z[n]) / count
        for middle in z[n] + (np.arange(count) + 0.5) * thin:
            yield Layer(float(middle), thin, max(float(curve(middle)), 0.0), first + n, first + n + 1)


def _end(
    z: Float64[np.ndarray, " n"],
    areas: Float64[np.ndarray, " n"],
    step: float,
    n_layers: int,
    *,
    closes: bool,
) -> Iterator[tuple[float, float, float]]:
    """Distance beyond the last plane (mm), thickness and area of the layers there, outwards."""
    whole = closes and _beyond(z, areas, np.array([step]))[0] <= 0
    n = n_layers if whole else n_layers // 2
    thin = (step if whole else step / 2) / n
    away = (np.arange(n) + 0.5) * thin
    for distance, area in zip(away, _beyond(z, areas, away), strict=True):
        yield float(distance), thin, float(area)


def _slopes(z: Float64[np.ndarray, " n"], areas: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Slopes of the area at the planes: those of parabolas, at most 3 times either neighbouring secant."""
    slopes = np.gradient(areas, z, edge_order=2 if len(z) > 2 else 1)
    secants = np.diff(areas) / np.diff(z)
    before, after = np.r_[secants[0], secants], np.r_[secants, secants[-1]]
    limit = 3 * np.minimum(np.abs(before), np.abs(after))
    return np.clip(slopes, -limit, limit)


def _beyond(
    z: Float64[np.ndarray, " n"], areas: Float64[np.ndarray, " n"], distances: Float64[np.ndarray, " m"]
) -> Float64[np.ndarray, " m"]:
    """Areas beyond the last plane, at rising distances from it: the last parabola, falling to 0 at most."""
    n = min(3, len(z))
    # From the last plane inwards; its own distance is 0 and those of the inner planes are below 0.
    x, a = np.abs(z[-n:] - z[-1])[::-1], areas[-n:][::-1]
    polynomial = np.polynomial.Polynomial.fit(-x, a, n - 1) if n > 1 else np.polynomial.Polynomial([a[0]])
    falling = np.minimum.accumulate(np.r_[a[0], polynomial(distances)])[1:]
    return np.clip(falling, 0.0, a[0])


def in_mm(planes: Planes, grid: Grid) -> Drawn:
    """Planes in ascending order with their place along k and their polygons, in mm."""
    spacing = grid.spacing
    return [
        (
            k * float(spacing[2]),
            [np.asarray(p, dtype=np.float64) * spacing[:2] for p in planes[k] if len(p) > 2],
        )
        for k in sorted(planes)
        if any(len(p) > 2 for p in planes[k])
    ]


def even_odd_area(polygons: Sequence[Polygon]) -> float:
    """Area of the points inside an odd number of polygons; exact where no two edges cross.

    Between neighbouring rows through vertices the inside is made of trapezoids, whose area is that of
    their middle: the lengths between every other crossing there, times the height.
    """
    start, end = edges(polygons)
    rows = np.unique(start[:, 1])
    middles, heights = (rows[1:] + rows[:-1]) / 2, np.diff(rows)
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    first, last = np.searchsorted(middles, low), np.searchsorted(middles, high)
    edge = np.repeat(np.arange(len(start)), last - first)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - last, last - first)
    rise = (end - start)[edge]
    crossing = start[edge, 0] + (middles[row] - start[edge, 1]) * rise[:, 0] / rise[:, 1]
    order = np.lexsort((crossing, row))
    lengths = crossing[order][1::2] - crossing[order][::2]
    return float(lengths @ heights[row[order][::2]])


def edges(polygons: Sequence[Polygon]) -> tuple[Polygon, Polygon]:
    """Starts and ends of all edges; a polygon that is given twice counts once, as in the masks."""
    unique = list({polygon.tobytes(): polygon for polygon in polygons}.values())
    return np.concatenate(unique), np.concatenate([np.roll(polygon, -1, axis=0) for polygon in unique])
