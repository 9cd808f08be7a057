"""A DICOM file taken in whole, or refused in one sentence that names no patient."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID

from imaging.source import Source

_UNDEFINED_LENGTH = 0xFFFFFFFF


def open_object(path: Path, sop_class: str) -> Dataset:
    """The data set of a DICOM file of one kind.

    Parameters
    ----------
    path
        The file.
    sop_class
        SOP class UID that it must hold.

    Raises
    ------
    ValueError
        If the file is not DICOM, was cut off, or holds another kind of object.
    """
    wanted = UID(sop_class).name.removesuffix(" Storage")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path, force=True)
            found = str(dataset.get("SOPClassUID", ""))
            cut = is_cut(dataset)
    except OSError as error:
        if error.errno is not None:  # the file system's own sentence is the clear one
            raise
        raise ValueError(f"expected a whole {wanted}, got a file that ends early; export it again") from None
    except Exception:  # noqa: BLE001, what a broken file makes pydicom raise is not a closed list
        raise ValueError(f"expected a DICOM {wanted}, got a file that is not DICOM or broken") from None
    if not found:
        raise ValueError(f"expected a DICOM {wanted}, got a file that is not DICOM")
    if found != sop_class:
        kind = UID(found, IGNORE).name  # a broken UID is told, not warned of
        raise ValueError(f"expected a DICOM {wanted} file, got {kind}; give the {wanted} file")
    if cut:
        raise ValueError(f"expected a whole {wanted}, got a file that ends early; export it again")
    return dataset


@contextmanager
def complete_object(kind: str) -> Iterator[None]:
    """Turn what pydicom says of missing, unreadable or odd attributes into one sentence, or silence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings of odd values repeat them
            yield
    except AttributeError as error:
        # pydicom's Dataset names the keyword that was asked for, and no value.
        raise ValueError(
            f"expected a complete {kind}, got one without {error.name}; export it again"
        ) from None
    except (KeyError, TypeError, OverflowError):
        raise ValueError(
            f"expected a complete {kind}, got one with unreadable values; export it again"
        ) from None


def is_cut(dataset: Dataset) -> bool:
    """Whether the file ended inside a value: pydicom hands on what is left without a word."""
    for tag in dataset.keys():  # noqa: SIM118, iterating over the items would convert every value
        item = dataset.get_item(tag)
        if isinstance(item, RawDataElement):
            held = len(item.value) if item.value is not None else 0
            if item.length != _UNDEFINED_LENGTH and held < item.length:
                return True
        known = item.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
        if known == "SQ" and any(is_cut(inner) for inner in dataset[tag].value):
            return True
    return False


def source_of(dataset: Dataset) -> Source:
    """Whose object it is, and which study, series and frame of reference it belongs to."""

    def text(keyword: str) -> str:
        value = dataset.get(keyword)
        return "" if value is None else str(value)

    return Source(
        patient_id=text("PatientID"),
        patient_name=text("PatientName"),
        birth_date=text("PatientBirthDate"),
        sex=text("PatientSex"),
        study_uid=text("StudyInstanceUID"),
        study_id=text("StudyID"),
        study_date=text("StudyDate"),
        study_time=text("StudyTime"),
        accession=text("AccessionNumber"),
        physician=text("ReferringPhysicianName"),
        series_uid=text("SeriesInstanceUID"),
        instance_uids=(text("SOPInstanceUID"),),
        sop_class=text("SOPClassUID"),
        frame=text("FrameOfReferenceUID"),
        modality=text("Modality"),
    )
