"""Left and right of a head: by where it lies, never by what a network says."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from imaging.grid import Grid, positions
from imaging.shapes import Mask, Point

_LEAST_EYE_CC = 1.5
_APART = (45.0, 85.0)  # mm between the middles of an adult's eyes
_LEAST_ALONG = 0.7  # of the line between them that runs along x: no head lies further round


@dataclass(frozen=True, eq=False)
class Midplane:
    """The plane between both halves of a head.

    Parameters
    ----------
    point
        On it (LPS, mm).
    normal
        Of unit length, towards the patient's left.
    """

    point: Point
    normal: Point


def midplane(eyes: Mask, head: Mask, grid: Grid) -> Midplane:
    """The plane that mirrors one eye onto the other; upright through the middle where two are not seen.

    Parameters
    ----------
    eyes
        Both of them, shape ``(i, j, k)``.
    head
        Brain or body.
    grid
        Where both lie.

    Raises
    ------
    ValueError
        If the head is empty.
    """
    if not head.any():
        raise ValueError("expected a head with voxels inside, got an empty one; check the scan")
    if (two := _two(eyes, grid)) is not None:
        left, right = two
        return Midplane((left + right) / 2, (left - right) / np.linalg.norm(left - right))
    middle = positions(grid, head.nonzero().double().mean(dim=0, keepdim=True).numpy())[0]
    return Midplane(middle, np.array([1.0, 0.0, 0.0]))


def off(plane: Midplane, grid: Grid) -> Float[Tensor, "i j k"]:
    """How far (mm) each voxel lies from a plane, towards the left."""
    slope = grid.affine[:3, :3].T @ plane.normal
    start = float((grid.affine[:3, 3] - plane.point) @ plane.normal)
    i, j, k = (torch.arange(n, dtype=torch.float32) for n in grid.shape)
    a, b, c = (float(s) for s in slope)
    return a * i[:, None, None] + b * j[None, :, None] + c * k + start


def _two(eyes: Mask, grid: Grid) -> tuple[Point, Point] | None:
    """Middles of the left and the right eye; None where two that could be an adult's are not seen."""
    pieces, n = ndimage.label(eyes.numpy())
    sizes = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
    large = 1 + np.argsort(sizes, kind="stable")[::-1][:2]
    if len(large) < 2 or sizes[large[1] - 1] * grid.voxel_volume < 1000 * _LEAST_EYE_CC:
        return None
    middles = positions(grid, np.array(ndimage.center_of_mass(pieces > 0, pieces, large), dtype=np.float64))
    left, right = sorted(middles, key=lambda p: -p[0])
    apart = float(np.linalg.norm(left - right))
    if not _APART[0] <= apart <= _APART[1] or left[0] - right[0] < _LEAST_ALONG * apart:
        return None
    return left, right
