"""Tissue between the slices of a series that no slice shows."""

import warnings
from pathlib import Path

from pydicom.dataset import Dataset

from .attributes import numbers
from .files import choose_series, image_headers
from .frames import planes
from .image_plane import stack


def slice_gap(path: Path, series: int | None = None) -> tuple[float, float]:
    """Thickness of the slices of a series and the gap between them (mm); 0 where slices touch or overlap.

    Slice Thickness and where slices lie say so (DICOM PS3.3 C.7.6.2); a series that does not tell its
    thickness is taken to have no gaps, and 0 is given for both.

    Parameters
    ----------
    path, series
        As :func:`imaging.dicom.series.read_series` takes them.

    Raises
    ------
    ValueError
        If there is no such series, or its slices are no stack.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about odd values quote them
        headers = [dataset for _, dataset in choose_series(image_headers(path), series)]
        told = [thickness for dataset in headers if (thickness := _thickness(dataset)) > 0]
        if not told:
            return 0.0, 0.0
        _, grid = stack([plane for dataset in headers for plane in planes(dataset)])
    thickness = min(told)
    return thickness, max(float(grid.spacing[2]) - thickness, 0.0)


def _thickness(dataset: Dataset) -> float:
    """Slice thickness (mm) of an image, or 0."""
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])[:1]
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    groups = [measure for group in (*frames, *shared) for measure in group.get("PixelMeasuresSequence") or []]
    for measures in (*groups, dataset):
        try:
            return float(numbers(measures, "SliceThickness", 1)[0])
        except ValueError:
            continue
    return 0.0
