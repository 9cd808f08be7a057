"""What a scan covers: folding at its edges, ends cut off, a box cut out, a face removed."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from imaging.grid import Grid
from imaging.tissue import BRAIN, Tissue
from imaging.volume import Quantity, Volume

from .sampling import Image, Resized

Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

_BUFFER = 4.0  # mm between the brain and the plane that cuts the face off


def wrapped(image: Image, axis: int, n_kept: int) -> Image:
    """A field of view shorter than the head along an axis: what lies outside it appears at its other end.

    Sampling k-space at 1/FOV cannot tell places a whole field of view apart. Outside the field of view,
    which is the middle of the image, the result is 0.

    Parameters
    ----------
    image
        Signal of everything that is excited.
    axis
        Phase-encoding axis.
    n_kept
        Voxels of the field of view.

    Raises
    ------
    ValueError
        If the field of view holds no voxel or more than there are.
    """
    n = image.shape[axis]
    if not 0 < n_kept <= n:
        raise ValueError(f"expected a field of view of 1 to {n} voxels, got {n_kept}")
    first = (n - n_kept) // 2
    out = torch.zeros_like(image)
    inside = out.narrow(axis, first, n_kept)
    # Each piece of the image, a whole field of view apart, falls on the middle one.
    for start in range(first - n_kept * math.ceil(first / n_kept), n, n_kept):
        low, high = max(start, 0), min(start + n_kept, n)
        inside.narrow(axis, low - start, high - low).add_(image.narrow(axis, low, high - low))
    return out


def random_window(shape: Sequence[int], bottom: float, crop: float, generator: torch.Generator) -> Window:
    """The part of an image that was scanned.

    Parameters
    ----------
    shape
        Voxels of the image.
    bottom
        Share of the height that is missing at the lower end of k.
    crop
        Share of each axis that is missing at one of its ends, drawn up to this much.
    generator
        Draws ends and shares.
    """
    out = []
    for axis, n in enumerate(shape):
        share, end = torch.rand(2, generator=generator).tolist()
        low, high = (crop * share * n, 0.0) if end < 0.5 else (0.0, crop * share * n)
        low = max(low, bottom * n) if axis == 2 else low
        out.append((min(round(low), n - 1), max(n - round(high), min(round(low), n - 1) + 1)))
    return out[0], out[1], out[2]


def windowed(image: Image, window: Window) -> Image:
    """An image that is 0 outside a window."""
    out = torch.zeros_like(image)
    where = tuple(slice(*ends) for ends in window)
    out[where] = image[where]
    return out


def cropped(image: Image, grid: Grid, window: Window) -> tuple[Resized, Grid]:
    """A window of an image, on the grid of its own voxels."""
    where = tuple(slice(*ends) for ends in window)
    affine = np.array(grid.affine)
    affine[:3, 3] += affine[:3, :3] @ np.array([low for low, _ in window])
    part = image[where].contiguous()
    return part, Grid((part.shape[0], part.shape[1], part.shape[2]), affine)


def face_plane(labels: Volume, degrees: float) -> tuple[tuple[float, float], float]:
    """A plane in front of the whole brain: nothing of the brain lies beyond it.

    After Quickshear (Schimke & Hale, USENIX HealthSec (2011)), which cuts the face off along a plane that
    touches the brain from the front and below.

    Parameters
    ----------
    labels
        Tissues of an upright head.
    degrees
        By how much the plane leans from coronal towards axial.

    Returns
    -------
    tuple
        Normal along y and z, forwards and downwards.
    float
        How far along it the plane lies from the origin (mm); 4 mm beyond the brain.

    Raises
    ------
    ValueError
        If there is no brain.
    """
    within = np.zeros(256, dtype=bool)
    within[[*BRAIN, Tissue.CAVITY]] = True
    codes = labels.expect(Quantity.LABEL).data[0].numpy()
    shadow = np.take(within, codes).any(axis=0)
    j, k = np.nonzero(shadow)
    if not len(j):
        raise ValueError("expected a head with a brain to remove its face, got none; pass labels of a head")
    normal = -math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))
    affine, half = labels.grid.affine, labels.grid.spacing / 2
    y, z = affine[1, 1] * j + affine[1, 3], affine[2, 2] * k + affine[2, 3]
    furthest = (normal[0] * y + normal[1] * z).max()
    return normal, float(furthest + abs(normal[0]) * half[1] + abs(normal[1]) * half[2] + _BUFFER)


def defaced(image: Image, grid: Grid, normal: tuple[float, float], offset: float) -> Image:
    """An image that is 0 beyond a plane.

    Parameters
    ----------
    image
        Signal on an upright grid.
    grid
        Its grid.
    normal, offset
        Plane of `face_plane`.
    """
    y = grid.affine[1, 3] + grid.affine[1, 1] * np.arange(grid.shape[1])
    z = grid.affine[2, 3] + grid.affine[2, 2] * np.arange(grid.shape[2])
    # A voxel is kept or dropped whole: brain within a voxel keeps all of it.
    half = (abs(normal[0]) * grid.spacing[1] + abs(normal[1]) * grid.spacing[2]) / 2
    kept = normal[0] * y[:, None] + normal[1] * z[None, :] - half <= offset
    return image * torch.from_numpy(kept)
