"""Values with their place in the patient."""

from dataclasses import dataclass
from enum import StrEnum

import torch

from .grid import Grid
from .shapes import Voxels


class Quantity(StrEnum):
    """What the values of a volume mean, with their unit."""

    HU = "HU"
    MR = "MR signal"
    DOSE = "Gy"
    LABEL = "label"
    PROBABILITY = "probability"
    DENSITY = "relative electron density"
    MASS_DENSITY = "mass density in g/cm3"
    DISPLACEMENT = "displacement in mm"
    HU_DEVIATION = "standard deviation in HU"


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values, where they lie, and what they mean.

    Parameters
    ----------
    data
        Values, shape ``(c, i, j, k)``.
    grid
        The lattice they lie on; its shape is the data's last three axes.
    quantity
        What the values mean.
    frame
        DICOM frame of reference UID; empty where none is known.

    Raises
    ------
    ValueError
        If the data do not fit the grid, or labels are not whole numbers.
    """

    data: Voxels
    grid: Grid
    quantity: Quantity
    frame: str = ""

    def __post_init__(self) -> None:
        if self.data.ndim != 4 or tuple(self.data.shape[1:]) != self.grid.shape:
            raise ValueError(
                f"expected data of shape (c, {', '.join(map(str, self.grid.shape))}) to fit the grid, "
                f"got {tuple(self.data.shape)}"
            )
        if self.quantity is Quantity.LABEL and self.data.is_floating_point():
            raise ValueError(f"expected labels as whole numbers, got {self.data.dtype}")

    def expect(self, quantity: Quantity) -> "Volume":
        """This volume, if it holds ``quantity``; otherwise a ValueError that says what it holds."""
        if self.quantity is not quantity:
            raise ValueError(f"expected a volume in {quantity}, got {self.quantity}")
        return self


def expect_finite(volume: Volume) -> Volume:
    """This volume, if it holds neither NaN nor infinity.

    Raises
    ------
    ValueError
        Saying how many values are not finite.
    """
    bad = int((~torch.isfinite(volume.data)).sum()) if volume.data.is_floating_point() else 0
    if bad:
        raise ValueError(
            f"expected finite values, got {bad} NaN or infinite voxels; repair or re-export the scan"
        )
    return volume
