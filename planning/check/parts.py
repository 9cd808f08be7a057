"""Equal parts of a structure: points that each stand for the same volume.

A structure is a stack of cross-sections. Between two of them the area follows a curve
(:mod:`planning.check.layers`), and the shape is the level of that area of the two sections' signed distances,
weighted by nearness (shape-based interpolation: Raya and Udupa, IEEE Trans. Med. Imaging 9, 32 (1990)).
No voxel counts whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import map_coordinates

from imaging.shapes import Points

from .layers import Layer

# One layer of the box around a structure has no more points than this; what a structure fills little of is
# divided more coarsely for that, unless it were in fewer parts than the other number.
_POINTS_AT_ONCE = 500_000
_PARTS_AT_LEAST = 10_000
# Steps of the R2 sequence and of R1: powers of the inverse of g, g³ = g + 1, and of the golden ratio
# (Roberts, 2018).
_STEPS = np.array([1.32471795724474602596**-1, 1.32471795724474602596**-2])
_STEP_ACROSS = 1.61803398874989484820**-1
# The columns are axes of a lattice turned by the angle whose tangent is the inverse of the golden ratio.
_ASKEW = np.array([[1.0, -_STEP_ACROSS], [_STEP_ACROSS, 1.0]]) / np.hypot(1.0, _STEP_ACROSS)


@dataclass(frozen=True, eq=False)
class Parts:
    """Points that a structure is made of, each for an equal part of its volume.

    Parameters
    ----------
    points
        Where they lie (LPS, mm), shape ``(n, 3)``.
    volume_cc
        Volume of the structure (cm³).
    """

    points: Points
    volume_cc: float


@dataclass(frozen=True, eq=False)
class Section:
    """A cross-section: signed distance to its border (mm, positive inside) at ``low + step * (a, b)``.

    Parameters
    ----------
    z
        Its place across the planes (mm).
    low, step
        Where the first distance lies, and how far apart they are (mm along i, j).
    distances
        Signed distances, shape ``(a, b)``.
    """

    z: float
    low: Float64[np.ndarray, "2"]
    step: Float64[np.ndarray, "2"]
    distances: Float64[np.ndarray, "a b"]


def part_volume(volume: float, area: float, thickest: float, n_parts: int) -> float:
    """Volume (mm³) that each point is to stand for.

    Parameters
    ----------
    volume
        Of the structure (mm³).
    area, thickest
        The box around its cross-sections (mm²) and its thickest layer (mm).
    n_parts
        Parts wanted.
    """
    return max(volume / n_parts, min(area * thickest / _POINTS_AT_ONCE, volume / _PARTS_AT_LEAST))


def points_in(
    layers: Sequence[Layer],
    section: Callable[[int], Section],
    low: Float64[np.ndarray, "2"],
    high: Float64[np.ndarray, "2"],
    part: float,
) -> Points:
    """Points in a structure (mm along i, j and across the planes), each for a part of its volume.

    Parameters
    ----------
    layers
        Thin layers of the structure from end to end.
    section
        The cross-section of a plane by its number.
    low, high
        The box around all cross-sections (mm along i, j).
    part
        Volume (mm³) of each part.
    """
    found = list(_layer_by_layer(layers, section, low, high, part))
    return np.concatenate(found) if found else np.zeros((0, 3))


def _layer_by_layer(
    layers: Sequence[Layer],
    section: Callable[[int], Section],
    low: Float64[np.ndarray, "2"],
    high: Float64[np.ndarray, "2"],
    part: float,
) -> Iterator[Points]:
    sections: dict[int, Section] = {}
    due = 0.5  # half a part over, so that rounding is even
    for number, layer in enumerate(layers):
        due += layer.area * layer.thickness / part
        count = int(due)
        due -= count
        if count > 0:
            sections = {n: sections.get(n) or section(n) for n in (layer.below, layer.above)}
            step = (part / layer.thickness) ** 0.5
            lattice = _lattice(low, high, step, number)
            yield _deepest(sections[layer.below], sections[layer.above], layer, lattice, count, number)


def _lattice(
    low: Float64[np.ndarray, "2"], high: Float64[np.ndarray, "2"], step: float, number: int
) -> Float64[np.ndarray, "_ 2"]:
    """A lattice over the box, of its own for each layer.

    One for all would see no more doses along a gradient in the plane than it has rows. It lies askew by the
    golden ratio, or the rows that end a structure along an axis would be up to a step inside it.
    """
    box = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])
    seen = (box - low) @ _ASKEW / step
    first, last = np.floor(seen.min(axis=0)).astype(int) - 1, np.ceil(seen.max(axis=0)).astype(int) + 1
    rows, columns = (np.arange(first[axis], last[axis] + 1) + number * _STEPS[axis] % 1 for axis in (0, 1))
    points = (
        low + step * np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2) @ _ASKEW.T
    )
    inside = (points >= low - step / 2) & (points <= high + step / 2)
    return points[inside.all(axis=1)]


def _deepest(
    below: Section,
    above: Section,
    layer: Layer,
    lattice: Float64[np.ndarray, "n 2"],
    count: int,
    number: int,
) -> Float64[np.ndarray, "_ 3"]:
    """The ``count`` points of a layer deepest inside the shape between two cross-sections."""
    across = (np.arange(len(lattice)) * _STEP_ACROSS + number * _STEPS[0]) % 1 - 0.5
    z = layer.middle + across * layer.thickness
    gap = above.z - below.z
    nearness = (z - below.z) / gap if gap > 0 else np.zeros(len(z))
    depth = (1 - nearness) * _at(below, lattice) + nearness * _at(above, lattice)
    chosen = np.argpartition(-depth, count - 1)[:count] if count < len(depth) else np.arange(len(depth))
    return np.column_stack([lattice[chosen], z[chosen]])


def _at(section: Section, plane: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, " n"]:
    """Signed distances at points of the plane, bilinear."""
    index = ((plane - section.low) / section.step).T
    found: Float64[np.ndarray, " n"] = map_coordinates(section.distances, index, order=1, mode="nearest")
    return found
