"""A whole adult head as tissue labels, made by code: average, or varied by a generator.

It is the embedded patient's body, and the prior that is fitted to a scan to find bone and air
there.
"""

import math

import numpy as np
import torch

from imaging.grid import axial
from imaging.volume import Volume

from .heads import AnatomyRecipe, draw
from .labelling import average_head
from .raster import drawn, straight

LOW = (-98.0, -108.0, -138.0)
HIGH = (98.0, 122.0, 106.0)


def anatomy(spacing: float = 1.0, generator: torch.Generator | None = None) -> Volume:
    """Tissue labels of an adult head from the vertex to below the chin.

    Parameters
    ----------
    spacing
        Voxel size (mm).
    generator
        Draws one head, upright; without it comes the average head.

    Returns
    -------
    Volume
        Labels of `imaging.tissue.Tissue`, uint8, shape ``(1, i, j, k)``, on an upright grid
        whose origin is the anterior commissure. Air surrounds the head on every side but the
        lower one, which cuts the neck.

    Raises
    ------
    ValueError
        If the spacing is not positive.
    """
    if not (math.isfinite(spacing) and spacing > 0):
        raise ValueError(f"expected a spacing > 0 mm, got {spacing}")
    step = (spacing, spacing, spacing)
    if generator is None:
        return drawn(average_head(), straight(), axial(np.array(LOW), np.array(HIGH), step))[0]
    one = draw(AnatomyRecipe(rotation=0.0, shift_mm=0.0), generator)
    size, margin = np.array(one.pose.scale), np.array([8.0, 8.0, 8.0])
    low, high = np.array(LOW) * size - margin * [1, 1, 0], np.array(HIGH) * size + margin
    return drawn(one.head, one.pose, axial(low, high, step))[0]
