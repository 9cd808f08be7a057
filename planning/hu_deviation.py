"""What an uncertainty of Hounsfield units means for density."""

import numpy as np
import torch

from imaging.resample import resample
from imaging.volume import Quantity, Volume, expect_finite

from .density import HU_TABLE


def density_deviation(sigma: Volume, ct: Volume, table: tuple[tuple[float, float], ...] = HU_TABLE) -> Volume:
    """One standard deviation of the relative electron density, on the grid of that of the HU.

    Half of the difference between the densities of HU + σ and HU − σ: σ times the slope of the table, and
    still right across its kinks.

    Parameters
    ----------
    sigma
        One standard deviation (HU).
    ct
        The synthetic CT that it belongs to (HU).
    table
        Pairs of HU and density, HU ascending.

    Raises
    ------
    ValueError
        If a volume is not in HU or deviations of it, one is negative or not finite, or the frames differ.
    """
    expect_finite(sigma.expect(Quantity.HU_DEVIATION))
    ct.expect(Quantity.HU)
    if sigma.frame and ct.frame and sigma.frame != ct.frame:
        raise ValueError(
            "expected the CT and its standard deviation in one frame of reference, got two; "
            "register them first"
        )
    if bool((sigma.data < 0).any()):
        raise ValueError("expected standard deviations of at least 0 HU, got a negative one; give sigma")
    hu, density = np.array(table, dtype=np.float64).T
    middle, spread = resample(ct, sigma.grid).data[:1].numpy(), sigma.data[:1].numpy()
    up, down = (np.interp(middle + sign * spread, hu, density) for sign in (1, -1))
    return Volume(
        torch.from_numpy(((up - down) / 2).astype(np.float32)), sigma.grid, Quantity.DENSITY, ct.frame
    )
