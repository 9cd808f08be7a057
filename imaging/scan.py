"""One door for scans, whatever they come as."""

from pathlib import Path

from .dicom.series import read_series
from .nifti import read_nifti
from .source import Source
from .volume import Quantity, Volume


def read_scan(path: Path, quantity: Quantity, series: int | None = None) -> tuple[Volume, Source]:
    """The scan in a NIfTI file, a DICOM folder or an enhanced DICOM file, with whose it is.

    Parameters
    ----------
    path
        The file or folder.
    quantity
        What is needed: ``Quantity.MR`` or ``Quantity.HU``. DICOM headers must say so too;
        NIfTI cannot say it and is taken at the caller's word, with an empty source.
    series
        Which series of a DICOM folder to take where there are several, 1 for the first.

    Raises
    ------
    ValueError
        If the scan cannot be read, does not fill a rectangular grid with finite values, or is
        not what is needed.
    """
    if path.name.endswith((".nii", ".nii.gz")) and not path.is_dir():
        if series is not None:
            raise ValueError("expected a DICOM folder to choose a series from, got a NIfTI file")
        return read_nifti(path, quantity), Source()
    return read_series(path, quantity, series)
