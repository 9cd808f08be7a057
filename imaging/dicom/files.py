"""The MR and CT images among files, and the series they belong to."""

from pathlib import Path

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
    MRImageStorage,
)

from .attributes import whole_number

_MODALITY = {
    CTImageStorage: "CT",
    EnhancedCTImageStorage: "CT",
    LegacyConvertedEnhancedCTImageStorage: "CT",
    MRImageStorage: "MR",
    EnhancedMRImageStorage: "MR",
    LegacyConvertedEnhancedMRImageStorage: "MR",
}
_NEEDED = ("SOPInstanceUID", "SeriesInstanceUID", "PhotometricInterpretation")
# Whatever is read of a header outside its numbers; if one of these cannot be read, the file is broken.
_USED = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
    "Modality", "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
    "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientPosition", "BodyPartExamined",
    "RescaleType", "PhotometricInterpretation", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_UNDEFINED_LENGTH = 0xFFFFFFFF

Header = tuple[Path, Dataset]


def image_headers(path: Path) -> list[Header]:
    """The headers of all MR and CT images in a folder and below it, or of one file.

    What is not DICOM, or is DICOM but no MR or CT image, is passed over.

    Raises
    ------
    ValueError
        If there is no such image, or a DICOM file that does not read to its end.
    """
    if not path.exists():
        raise ValueError("expected a DICOM file or folder, got a path where there is none; check the path")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if not files:
        raise ValueError("expected a folder with the files of a DICOM series, got an empty folder")
    found = [(file, dataset) for file in files if (dataset := _header(file)) is not None]
    images = [(file, dataset) for file, dataset in found if _is_image(dataset)]
    if images:
        return images
    names = {UID(kind).name for _, dataset in found for kind in _kinds(dataset)}
    kinds = sorted({name if name[0].isalpha() else "an unknown kind" for name in names})
    raise ValueError(
        f"expected MR or CT images, got {len(files)} file{'s' * (len(files) > 1)} of which none is one"
        + (f" ({', '.join(kinds[:5])})" if kinds else "; none is DICOM")
    )


def _header(file: Path) -> Dataset | None:
    try:
        dataset = dcmread(file, stop_before_pixels=True)
        cut = _ends_early(dataset.file_meta) or not _kinds(dataset)
        if not cut and not _is_image(dataset):
            return dataset
        whole = not cut and not _ends_early(dataset) and _readable(dataset)
    except InvalidDicomError:
        return None
    except Exception:  # noqa: BLE001 - what a broken file makes pydicom raise is not a closed list
        whole = False
    if not whole:
        raise ValueError("expected whole DICOM files, got one that is truncated or damaged; export it again")
    return dataset


def _kinds(dataset: Dataset) -> set[str]:
    """What kind of object a file is: said before the data set and in it, in whole files alike."""
    said = (dataset.file_meta.get("MediaStorageSOPClassUID"), dataset.get("SOPClassUID"))
    return {str(uid) for uid in said if uid}


def _is_image(dataset: Dataset) -> bool:
    return any(kind in _MODALITY for kind in _kinds(dataset))


def _ends_early(dataset: Dataset) -> bool:
    """Whether the file ended inside an element: pydicom hands on what is left without a word."""
    elements = (dataset.get_item(tag) for tag in dataset.keys())  # noqa: SIM118 - items() would convert all
    raw = [e for e in elements if isinstance(e, RawDataElement) and e.length != _UNDEFINED_LENGTH]
    return any(len(e.value or b"") < e.length for e in raw)


def _readable(dataset: Dataset) -> bool:
    """Whether what is used of an image's header is there and converts; pydicom converts on first use."""
    for element in (dataset[word] for word in _USED if word in dataset):
        if element.VR == "SQ":
            for item in element.value:
                item.walk(lambda _, inner: inner.value)
    # A file can end between two elements; the last of these stands near the end of the header.
    return all(word in dataset for word in _NEEDED) and dataset.SOPClassUID in _MODALITY


def choose_series(headers: list[Header], series: int | None) -> list[Header]:
    """The headers of one series.

    Parameters
    ----------
    headers
        Headers of any series.
    series
        Which one, 1 for the first by series number; None where there is only one.

    Raises
    ------
    ValueError
        If there are several and none is chosen, or the chosen one is not there.
    """
    groups = series_among(headers)
    if series is None and len(groups) > 1:
        listed = ", ".join(
            f"{n}: {modality(group[0][1])} of {len(group)} images"
            for n, group in enumerate(groups[:12], start=1)
        )
        raise ValueError(
            f"expected one series, got {len(groups)} ({listed}); choose one by its number with series"
        )
    if series is not None and not 1 <= series <= len(groups):
        raise ValueError(f"expected a series from 1 to {len(groups)}, got {series}")
    return groups[(series or 1) - 1]


def series_among(headers: list[Header]) -> list[list[Header]]:
    """The headers of each series, in the order in which :func:`choose_series` counts them."""
    groups: dict[str, list[Header]] = {}
    for header in headers:
        groups.setdefault(str(header[1].get("SeriesInstanceUID", "")), []).append(header)
    uids = sorted(groups, key=lambda uid: (_series_number(groups[uid][0][1]), uid))
    return [groups[uid] for uid in uids]


def _series_number(dataset: Dataset) -> int:
    try:
        return whole_number(dataset, "SeriesNumber", 0)
    except ValueError:
        return 0


def modality(dataset: Dataset) -> str:
    """MR or CT, by the kind of object that an image is."""
    return _MODALITY[dataset.SOPClassUID]
