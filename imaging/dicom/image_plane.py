"""Image planes in the patient, and how they stack to a grid.

Image Plane module of DICOM PS3.3 C.7.6.2: the first value of the orientation runs along a row,
pixel spacing gives the distance between rows first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from imaging.grid import Grid
from imaging.shapes import Point, Points

from .attributes import numbers

# Headers round directions to about six digits; more than this is another direction.
_SAME_DIRECTION = 1e-4
# A slice further than this share of the spacing from its place is not evenly spaced.
_UNEVEN = 0.02
# Centres of one voxel closer than this are one place (mm).
_SAME_PLACE = 1e-3
# A tilt above this bends a head by more than a millimetre over 20 cm (degrees).
_TILT = 0.05


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """Where one image lies and how its stored values become numbers with a meaning.

    Parameters
    ----------
    position
        Centre of the first pixel (LPS, mm).
    along_row, along_column
        Unit vectors in which the column and the row index grow.
    spacing
        Distance between rows and between columns (mm).
    shape
        Number of rows and of columns.
    slope, intercept
        Value = slope x stored + intercept.
    units
        Rescale type, HU where slope and intercept stand without one (C.11.1.1.2); empty where
        there is no rescaling.
    """

    position: Point
    along_row: Point
    along_column: Point
    spacing: tuple[float, float]
    shape: tuple[int, int]
    slope: float
    intercept: float
    units: str


def plane(
    position: Dataset, orientation: Dataset, measures: Dataset, rescale: Dataset, image: Dataset
) -> ImagePlane:
    """A plane from the data sets that hold its parts; a classic image holds all of them itself.

    Raises
    ------
    ValueError
        If an attribute is missing or makes no sense.
    """
    directions = numbers(orientation, "ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1).max() > 1e-3 or abs(float(directions[0] @ directions[1])) > 1e-3:
        raise ValueError("expected an image orientation of two unit vectors at right angles, got others")
    directions = directions / lengths[:, None]
    spacing = numbers(measures, "PixelSpacing", 2)
    if spacing.min() <= 0:
        raise ValueError(f"expected positive pixel spacing, got {spacing[0]:g} x {spacing[1]:g} mm")
    slope, intercept, units = 1.0, 0.0, ""
    if "RescaleSlope" in rescale or "RescaleIntercept" in rescale:
        slope = float(numbers(rescale, "RescaleSlope", 1)[0])
        intercept = float(numbers(rescale, "RescaleIntercept", 1)[0])
        units = str(rescale.get("RescaleType") or "HU")
    shape = numbers(image, "Rows", 1)[0], numbers(image, "Columns", 1)[0]
    return ImagePlane(
        position=numbers(position, "ImagePositionPatient", 3),
        along_row=directions[0],
        along_column=directions[1],
        spacing=(float(spacing[0]), float(spacing[1])),
        shape=(int(shape[0]), int(shape[1])),
        slope=slope,
        intercept=intercept,
        units=units,
    )


def stack(planes: Sequence[ImagePlane]) -> tuple[list[int], Grid]:
    """The order of planes along their normal, and the grid that they fill.

    Parameters
    ----------
    planes
        The planes in any order.

    Returns
    -------
    order
        Index of the plane that is slice k, for every k.
    grid
        Voxel (i, j, k) is column i, row j of slice k.

    Raises
    ------
    ValueError
        If the planes differ in size or direction, if slices are missing, doubled, unevenly
        spaced or shifted against each other, or if there are fewer than two.
    """
    if len(planes) < 2:
        raise ValueError(f"expected a series of at least 2 slices, got {len(planes)}; give the whole series")
    _expect_alike(planes)
    normal = np.cross(planes[0].along_row, planes[0].along_column)
    positions = np.array([p.position for p in planes])
    depth = positions @ normal
    order = np.argsort(depth, kind="stable")
    _expect_even(depth[order])
    _expect_straight(positions[order], normal)
    first = planes[order[0]]
    affine = np.eye(4)
    affine[:3, 0] = first.along_row * first.spacing[1]
    affine[:3, 1] = first.along_column * first.spacing[0]
    affine[:3, 2] = (positions[order[-1]] - positions[order[0]]) / (len(planes) - 1)
    affine[:3, 3] = positions[order[0]]
    rows, columns = first.shape
    return [int(n) for n in order], Grid((columns, rows, len(planes)), affine)


def _expect_alike(planes: Sequence[ImagePlane]) -> None:
    shapes = sorted({p.shape for p in planes})
    if len(shapes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in shapes[:4])
        raise ValueError(f"expected images of one size, got rows x columns of {sizes}; give one series alone")
    first = planes[0]
    for p in planes:
        turned = max(
            np.abs(p.along_row - first.along_row).max(), np.abs(p.along_column - first.along_column).max()
        )
        if turned > _SAME_DIRECTION:
            raise ValueError(
                "expected slices of one orientation, got several; remove localizers or split the series"
            )
    if np.ptp([p.spacing for p in planes], axis=0).max() > _SAME_PLACE:
        raise ValueError("expected one pixel spacing in all slices, got several; give one series alone")


def _expect_even(depth: np.ndarray) -> None:
    gaps = np.diff(depth)
    doubled = int((gaps < _SAME_PLACE).sum())
    if doubled:
        raise ValueError(
            f"expected one image per slice position, got {len(depth)} images at {len(depth) - doubled} "
            "positions; remove duplicate slices, or keep one of the echoes or time points"
        )
    steps = gaps / gaps.min()
    whole = np.abs(steps - np.rint(steps)) <= _UNEVEN * np.rint(steps)
    if whole.all() and steps.max() > 1.5:
        k = int(np.argmax(steps))
        raise ValueError(
            f"expected slices {gaps.min():.2f} mm apart, got a gap of {gaps[k]:.2f} mm after slice {k + 1} "
            f"of {len(depth)}: {int(np.rint(steps - 1).sum())} missing in all; export the series again"
        )
    even = np.linspace(depth[0], depth[-1], len(depth))
    if np.abs(depth - even).max() > _UNEVEN * gaps.mean():
        raise ValueError(
            f"expected evenly spaced slices, got gaps of {gaps.min():.3f} to {gaps.max():.3f} mm; "
            "resample the scan to even spacing first"
        )


def _expect_straight(positions: Points, normal: Point) -> None:
    run = positions[-1] - positions[0]
    along = float(run @ normal)
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(run - along * normal), along)))
    if tilt > _TILT:
        raise ValueError(
            f"expected slices stacked along their normal, got a stack sheared by {tilt:.2f} degrees "
            "(gantry tilt); resample the scan to a rectangular grid first"
        )
    line = positions[0] + np.linspace(0, 1, len(positions))[:, None] * run
    if np.abs(positions - line).max() > max(_UNEVEN * along / (len(positions) - 1), _SAME_PLACE):
        raise ValueError("expected slices stacked along one line, got slices shifted against each other")
