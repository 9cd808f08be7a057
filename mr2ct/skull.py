"""Whether a CT shows a skull that closes around a brain, by directions from the brain's middle."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy import ndimage

from imaging.grid import Grid, around, indices
from imaging.resample import resample
from imaging.volume import Quantity, Volume

_MM = 3.0  # voxels: a skull is not thinner for long
_BODY, _SOFT, _BONE = -300.0, -150.0, 200.0  # HU: from these on it is no air, no fat, and bone
_SPECK_CC = 5.0  # of bone, fat or air alone: calcified plexus or pineal gland, a cyst, a bolt
_DIRECTIONS = 400
_LOWEST = -0.2  # of a direction's height: below lie face and neck, where a skull is open
_JUDGED = 0.2  # share of directions that must leave the head within the scan


@dataclass(frozen=True)
class Skull:
    """What surrounds the largest ball of soft tissue.

    Parameters
    ----------
    radius
        Of the ball (mm): half the breadth of a brain.
    closed
        Share of the directions from its middle in which bone lies before the skin, 0..1; none where the scan
        ends inside the head in most directions.
    """

    radius: float
    closed: float | None


def skull(ct: Volume, scan: Grid | None = None) -> Skull:
    """The skull around the brain of a CT (HU), upper part; a scan may cut the head.

    Parameters
    ----------
    ct
        HU.
    scan
        What the scan that it was made of covers, if not the same.
    """
    grid = around(ct.expect(Quantity.HU).grid, (_MM,) * 3)
    hu = resample(ct, grid).data[0].numpy()
    body, bone = hu > _BODY, ndimage.binary_dilation(hu > _BONE)
    soft = np.pad(_without_specks((hu > _SOFT) & ~bone), 1)
    depth = ndimage.distance_transform_edt(soft)[1:-1, 1:-1, 1:-1]
    middle = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
    reach = np.arange(int(np.linalg.norm(hu.shape)) + 1)
    steps = middle + _around()[:, None, :] * reach[:, None]  # directions, steps, 3
    at = np.rint(steps).astype(int)
    seen = _seen(scan or ct.grid, grid, steps)
    at = np.clip(at, 0, np.array(hu.shape) - 1)
    in_body, in_bone = (mask[at[..., 0], at[..., 1], at[..., 2]] & seen for mask in (body, bone))
    last_seen = seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
    # A ray that is still in the body where the scan ends says nothing of what lies beyond.
    left = ~in_body[np.arange(len(seen)), last_seen]
    judged = left.mean() >= _JUDGED
    radius = (float(depth.max()) + 1) * _MM  # bone was made a voxel thicker
    return Skull(radius, float(in_bone.any(axis=1)[left].mean()) if judged else None)


def _without_specks(soft: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    """Soft tissue with what is small and alone in it."""
    parts, _ = ndimage.label(~soft)
    small = np.bincount(parts.ravel()) * _MM**3 < 1000 * _SPECK_CC
    small[0] = False  # soft tissue itself
    found: Bool[np.ndarray, "i j k"] = soft | small[parts]
    return found


def _around() -> Float64[np.ndarray, "n 3"]:
    """Directions spread evenly over the upper part of a sphere, on a spiral by the golden angle."""
    n = np.arange(_DIRECTIONS) + 0.5
    height = 1 - n / _DIRECTIONS * (1 - _LOWEST)
    angle = np.pi * (3 - np.sqrt(5)) * n
    wide = np.sqrt(1 - height**2)
    return np.stack([wide * np.cos(angle), wide * np.sin(angle), height], axis=1)


def _seen(scan: Grid, grid: Grid, steps: Float64[np.ndarray, "d s 3"]) -> np.ndarray:
    """Which steps (voxels of the grid) lie within the scan."""
    flat = steps.reshape(-1, 3) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    there = indices(scan, flat)
    inside = ((there > -0.5) & (there < np.array(scan.shape) - 0.5)).all(axis=1)
    return np.asarray(inside.reshape(steps.shape[:2]))
