"""One scan: a perfect image goes through coils, k-space and reconstruction, and comes out as it is stored."""

from dataclasses import dataclass

import torch

from imaging.grid import Grid
from imaging.volume import Quantity, Volume

from .artefacts import bias_field, rician
from .field_of_view import Window, cropped, defaced, windowed, wrapped
from .kspace import Pose, ghosted, motion, truncated
from .sampling import Image
from .slices import Stack, filled


@dataclass(frozen=True)
class Scan:
    """What is drawn for one image; 0 or none stands for a fault that is not there.

    Parameters
    ----------
    stack
        Slices, or the grid itself.
    phase
        Phase-encoding axis.
    snr
        A brightness of 1 over the standard deviation of one channel's noise.
    white
        What a brightness of 1 becomes in the stored image.
    bias
        Standard deviation of the shading's logarithm.
    poses
        How the head moves meanwhile.
    ghost, period
        Brightness of ghosts, and lines of k-space in a period.
    gibbs
        Share of k-space measured along both axes of a slice.
    wrap
        Share of the head's space that the field of view lacks along the phase-encoding axis.
    window
        Part of the image that is kept.
    face
        Plane beyond which nothing is kept (`face_plane`).
    """

    stack: Stack
    phase: int
    snr: float
    white: float
    bias: float = 0.0
    poses: tuple[Pose, ...] = ()
    ghost: float = 0.0
    period: int = 2
    gibbs: float = 0.0
    wrap: float = 0.0
    window: Window | None = None
    face: tuple[tuple[float, float], float] | None = None


def scanned(image: Image, scan: Scan, generator: torch.Generator) -> Image:
    """A perfect image with the faults of a scan, in their physical order; magnitude on the scan's own grid.

    Parameters
    ----------
    image
        Signal averaged over voxels; white matter or the brightest tissue lies near 1.
    scan
        What was drawn.
    generator
        Draws shading and noise.
    """
    grid = scan.stack.grid
    if scan.bias:
        image = bias_field(grid.shape, scan.bias, generator).mul_(image)
    if scan.wrap:
        n = image.shape[scan.phase]
        image = wrapped(image, scan.phase, max(1, round(n * (1 - scan.wrap))))
    if scan.poses:
        i, j, k = (float(s) for s in grid.spacing)
        image = motion(image, (i, j, k), scan.phase, list(scan.poses))
    if scan.ghost:
        image = ghosted(image, scan.phase, scan.period, scan.ghost)
    if scan.gibbs:
        for axis in range(3):
            # Slices are encoded within their plane only.
            if scan.stack.thickness == 0 or axis != scan.stack.axis:
                image = truncated(image, axis, scan.gibbs)
    return rician(image, 1 / scan.snr, generator).mul_(scan.white)


def stored(image: Image, scan: Scan, grid: Grid, frame: str, *, native: bool) -> Volume:
    """A scanned image as a volume: without what was cut off, on the grid asked for or on its own.

    Parameters
    ----------
    image
        Magnitude on the scan's own grid.
    scan
        What was drawn.
    grid
        Grid asked for.
    frame
        Frame of reference.
    native
        Whether slices stay as they are, cropped to their window.
    """
    own = scan.stack.grid
    if scan.face is not None:
        image = defaced(image, own, *scan.face)
    if scan.window is not None:
        if native:
            image, own = cropped(image, own, scan.window)
            return Volume(image[None], own, Quantity.MR, frame)
        image = windowed(image, scan.window)
    if scan.stack.thickness == 0 or native:
        return Volume(image[None], own, Quantity.MR, frame)
    return Volume(filled(image, scan.stack, grid)[None], grid, Quantity.MR, frame)
