"""Apertures where the objective falls fastest: the pricing step of column generation."""

import numpy as np
from jaxtyping import Float64

from .apertures import Window, of_pairs


def steepest(
    slope: Float64[np.ndarray, "beams rows columns"], window: Window
) -> tuple[Float64[np.ndarray, "beams 2 pairs"], Float64[np.ndarray, " beams"]]:
    """For each beam the aperture that lowers the objective most for each unit of its weight, and by how much.

    Leaves that may pass each other choose in each row the interval of least slope: Romeijn, Ahuja, Dempsey,
    Kumar, SIAM J. Optim. 15, 838 (2005).

    Parameters
    ----------
    slope
        How much the objective rises by the weight of each bixel.
    window
        Where the bixels are.

    Returns
    -------
        Leaf positions (mm at the isocentre), ends that meet where a pair is closed; and the slope of all
        bixels that are open together, never positive.
    """
    sums = np.concatenate([np.zeros((*slope.shape[:2], 1)), slope.cumsum(axis=2)], axis=2)
    # An interval that ends here best begins where the sum before it was greatest.
    highest = np.maximum.accumulate(sums, axis=2)
    right = (sums - highest).argmin(axis=2)
    worth = np.take_along_axis(sums - highest, right[..., None], axis=2)[..., 0]
    reached = np.take_along_axis(highest, right[..., None], axis=2)
    left = np.minimum((sums >= reached).argmax(axis=2), right)
    low, width = window.jaws_x[0], window.size[0]
    return of_pairs(low + width * np.stack([left, right], axis=1), window), worth.sum(axis=1)
