"""MR and CT series as volumes: classic slices or enhanced multi-frame images.

Slices are put in order by where they lie (DICOM PS3.3 C.7.6.2), never by number or name.
Whatever could put a voxel in the wrong place is refused.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
)

from imaging.shapes import Voxels
from imaging.source import Source
from imaging.volume import Quantity, Volume, expect_finite

from .frames import planes
from .image_plane import ImagePlane, stack
from .opening import source_of
from .pixels import stored

_MODALITY = {
    CTImageStorage: "CT",
    EnhancedCTImageStorage: "CT",
    LegacyConvertedEnhancedCTImageStorage: "CT",
    MRImageStorage: "MR",
    EnhancedMRImageStorage: "MR",
    LegacyConvertedEnhancedMRImageStorage: "MR",
}
_QUANTITY = {"CT": Quantity.HU, "MR": Quantity.MR}
# Scanners fill what lies outside the reconstruction with values that no tissue has.
_AIR_HU = -1000.0
_LOWEST_HU = -1024.0
_UNDEFINED_LENGTH = 0xFFFFFFFF

Header = tuple[Path, Dataset]


def read_series(
    path: Path, quantity: Quantity | None = None, series: int | None = None
) -> tuple[Volume, Source]:
    """The volume of an MR or CT series, with whose it is.

    Parameters
    ----------
    path
        Folder with the files of the series (searched below it too; files that are no MR or CT
        images are passed over), or one enhanced multi-frame file.
    quantity
        What is needed: ``Quantity.MR`` or ``Quantity.HU``; judged by the header.
    series
        Which one to take where there are several: 1 for the first, by series number.

    Returns
    -------
    volume
        MR signal or HU as ``float32``; slices in order of their normal, so right-handed.
    source
        Identity and header; ``instance_uids`` has one entry per slice along k.

    Raises
    ------
    ValueError
        If there is no such series, there are several and none was chosen, or the series does
        not fill a rectangular grid with whole, finite values.
    """
    with warnings.catch_warnings():
        # Warnings about odd values quote them, and a value can be a name.
        warnings.simplefilter("ignore")
        headers = _choose(_headers(path), series)
        modality = _expect_one_scan([dataset for _, dataset in headers])
        if quantity not in (None, _QUANTITY[modality]):
            wanted = next((m for m, q in _QUANTITY.items() if q is quantity), quantity)
            raise ValueError(
                f"expected an {wanted} series, got {modality}; give the {wanted} of this patient"
            )
        where = [(file, n, p) for file, dataset in headers for n, p in enumerate(planes(dataset))]
        if modality == "CT":
            _expect_hounsfield([p for _, _, p in where])
        order, grid = stack([p for _, _, p in where])
        data = _values(where, order, modality)
        source = _source(headers, [where[n][0] for n in order], modality)
    volume = Volume(data, grid, _QUANTITY[modality], source.frame)
    return expect_finite(volume), source


def _headers(path: Path) -> list[Header]:
    if not path.exists():
        raise ValueError("expected a DICOM file or folder, got a path where there is none; check the path")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if not files:
        raise ValueError("expected a folder with the files of a DICOM series, got an empty folder")
    found = [(file, dataset) for file in files if (dataset := _header(file)) is not None]
    images = [(file, dataset) for file, dataset in found if dataset.get("SOPClassUID") in _MODALITY]
    if images:
        return images
    kinds = sorted({UID(dataset.get("SOPClassUID", "")).name for _, dataset in found} - {""})
    raise ValueError(
        f"expected MR or CT images, got {len(files)} file{'s' * (len(files) > 1)} of which none is one"
        + (f" ({', '.join(kinds[:5])})" if kinds else "; none is DICOM")
    )


def _header(file: Path) -> Dataset | None:
    try:
        dataset = dcmread(file, stop_before_pixels=True)
        if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            return None
        whole = "SOPClassUID" in dataset and not _ends_early(dataset)
        if whole and dataset.SOPClassUID in _MODALITY:
            # A file can end between two elements; these stand near the end of an image's header.
            whole = "SeriesInstanceUID" in dataset and "PhotometricInterpretation" in dataset
    except InvalidDicomError:
        return None
    except Exception:  # noqa: BLE001 - what a broken file makes pydicom raise is not a closed list
        whole = False
    if not whole:
        raise ValueError("expected whole DICOM files, got one that is truncated or damaged; export it again")
    return dataset


def _choose(headers: list[Header], series: int | None) -> list[Header]:
    groups: dict[str, list[Header]] = {}
    for header in headers:
        groups.setdefault(str(header[1].get("SeriesInstanceUID", "")), []).append(header)
    uids = sorted(groups, key=lambda uid: (_series_number(groups[uid][0][1]), uid))
    if series is None and len(uids) > 1:
        listed = ", ".join(
            f"{n}: {_modality(groups[uid][0][1])} of {len(groups[uid])} images"
            for n, uid in enumerate(uids[:12], start=1)
        )
        raise ValueError(
            f"expected one series, got {len(uids)} ({listed}); choose one by its number with series"
        )
    if series is not None and not 1 <= series <= len(uids):
        raise ValueError(f"expected a series from 1 to {len(uids)}, got {series}")
    return groups[uids[(series or 1) - 1]]


def _series_number(dataset: Dataset) -> int:
    try:
        return int(dataset.SeriesNumber)
    except (AttributeError, TypeError, ValueError):
        return 0


def _modality(dataset: Dataset) -> str:
    return _MODALITY[dataset.SOPClassUID]


def _expect_one_scan(headers: Sequence[Dataset]) -> str:
    """The modality of the images, if they are one patient's, in one frame, of one kind."""
    kinds = {_modality(dataset) for dataset in headers}
    said = {str(dataset.get("Modality", "")) for dataset in headers}
    if len(kinds) > 1 or said != kinds:
        raise ValueError(f"expected images of one modality, got {', '.join(sorted(kinds | said))}")
    alike: dict[str, Callable[[Dataset], object]] = {
        "patient": lambda d: (str(d.get("PatientID", "")), str(d.get("PatientName", ""))),
        "study": lambda d: d.get("StudyInstanceUID"),
        "frame of reference": lambda d: d.get("FrameOfReferenceUID"),
    }
    for name, key in alike.items():
        n_values = len({key(dataset) for dataset in headers})
        if n_values > 1:
            raise ValueError(f"expected one {name} in the whole series, got {n_values}; split the series")
    return kinds.pop()


def _expect_hounsfield(planes: Sequence[ImagePlane]) -> None:
    units = {p.units for p in planes}
    if "" in units:
        raise ValueError("expected a CT with rescale slope and intercept, got none: its HU are unknown")
    if units != {"HU"}:
        raise ValueError(f"expected a CT in HU, got rescale type {', '.join(sorted(units))}")


def _ends_early(dataset: Dataset) -> bool:
    """Whether the file ended inside an element: pydicom hands on what is left without a word."""
    elements = (dataset.get_item(tag) for tag in dataset.keys())  # noqa: SIM118 - items() would convert all
    raw = [e for e in elements if isinstance(e, RawDataElement) and e.length != _UNDEFINED_LENGTH]
    return any(len(e.value or b"") < e.length for e in raw)


def _values(where: Sequence[tuple[Path, int, ImagePlane]], order: Sequence[int], modality: str) -> Voxels:
    rows, columns = where[0][2].shape
    data = torch.empty((1, columns, rows, len(where)), dtype=torch.float32)
    slice_of = {n: k for k, n in enumerate(order)}
    held: tuple[Path | None, Dataset, np.ndarray] = (None, Dataset(), np.empty(0))
    for n, (file, frame, p) in enumerate(where):
        if held[0] != file:
            dataset = dcmread(file)
            held = (file, dataset, stored(dataset))
        _, dataset, frames = held
        values = frames[frame].astype(np.float64) * p.slope + p.intercept
        if modality == "CT":
            values = _without_padding(values, frames[frame], dataset)
        data[0, :, :, slice_of[n]] = torch.from_numpy(values.T.astype(np.float32))
    return data


def _without_padding(values: np.ndarray, raw: np.ndarray, dataset: Dataset) -> np.ndarray:
    if "PixelPaddingValue" not in dataset:
        return values
    ends = (
        int(dataset.PixelPaddingValue),
        int(dataset.get("PixelPaddingRangeLimit", dataset.PixelPaddingValue)),
    )
    padding = (raw >= min(ends)) & (raw <= max(ends)) & (values < _LOWEST_HU)
    return np.where(padding, _AIR_HU, values)


def _source(headers: Sequence[Header], files: Sequence[Path], modality: str) -> Source:
    first = headers[0][1]
    instances = {file: str(dataset.SOPInstanceUID) for file, dataset in headers}
    default = Source()
    return dataclasses.replace(
        source_of(first),
        instance_uids=tuple(instances[file] for file in files),
        modality=modality,
        position=str(first.get("PatientPosition") or default.position),
        body_part=str(first.get("BodyPartExamined") or default.body_part),
    )
