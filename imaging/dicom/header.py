"""What every DICOM object that we write says of its patient, its study and its maker.

Modules of DICOM PS3.3: Patient (C.7.1.1), General Study (C.7.2.1), General Series (C.7.3.1),
Frame of Reference (C.7.4.1), General Equipment (C.7.5.1), SOP Common (C.12.1), and the file
meta information of PS3.10 section 7.1. What one kind of object needs beyond these stands in
its own writer.
"""

import contextlib
import dataclasses
import os
import warnings
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from imaging.source import Source
from imaging.uids import fresh_uid, seeded_uid

RESEARCH_ONLY = "Research use only, not a medical device"
_IMPLEMENTATION = seeded_uid("spindose", "implementation class")


def software_version() -> str:
    """The version of Spindose that is running."""
    try:
        return version("spindose")
    except PackageNotFoundError:
        return "0+uninstalled"


def complete(source: Source, *seed: object) -> Source:
    """A source with the study, patient and frame that it lacks, so that results can be filed.

    Parameters
    ----------
    source
        Whose scan it is; a scan without DICOM header has neither study nor patient nor frame.
    seed
        Words that the new UIDs follow from, always the same; fresh ones where there are none.
    """
    study = source.study_uid or (seeded_uid(*seed, "study") if seed else fresh_uid())
    frame = source.frame or (seeded_uid(*seed, "frame of reference") if seed else fresh_uid())
    return dataclasses.replace(
        source,
        study_uid=study,
        study_id=source.study_id or "1",
        frame=frame,
        # An archive would file all nameless patients as one if they shared an ID.
        patient_id=source.patient_id or f"RESEARCH-{study[-8:]}",
        patient_name=source.patient_name or "RESEARCH^ONLY",
    )


def new_object(
    source: Source,
    *,
    sop_class: str,
    modality: str,
    description: str,
    series_uid: str,
    instance_uid: str,
    series_number: int = 1,
    instance_number: int = 1,
    when: datetime | None = None,
) -> Dataset:
    """A data set that holds the modules which all our objects share.

    Parameters
    ----------
    source
        Patient, study and frame of reference that the object is filed in.
    sop_class, modality
        What kind of object it is.
    description
        Series description; "RESEARCH ONLY" is put before it.
    series_uid, instance_uid
        Identity of the new object.
    series_number, instance_number
        Its place in the study and in the series.
    when
        When it was made; now where not given.

    Raises
    ------
    ValueError
        If the source has no study or no frame of reference.
    """
    if not source.study_uid or not source.frame:
        raise ValueError("expected a source with a study and a frame of reference UID; complete it first")
    when = when or datetime.now().astimezone()
    dataset = Dataset()
    dataset.file_meta = _file_meta(sop_class, instance_uid)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.InstanceCreationDate = date(when)
    dataset.InstanceCreationTime = time(when)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = instance_uid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings of an odd name or date repeat it
        _patient_and_study(dataset, source)
    dataset.Modality = modality
    dataset.SeriesInstanceUID = series_uid
    dataset.SeriesNumber = series_number
    dataset.SeriesDate = date(when)
    dataset.SeriesTime = time(when)
    dataset.SeriesDescription = " ".join(filter(None, ("RESEARCH ONLY", source.mark, description)))[:64]
    dataset.InstanceNumber = instance_number
    dataset.FrameOfReferenceUID = source.frame
    dataset.PositionReferenceIndicator = ""
    dataset.OperatorsName = ""
    dataset.Manufacturer = "Spindose"
    dataset.ManufacturerModelName = f"Spindose. {RESEARCH_ONLY}"
    dataset.SoftwareVersions = software_version()
    return dataset


def _file_meta(sop_class: str, instance_uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_IMPLEMENTATION)
    meta.ImplementationVersionName = f"SPINDOSE_{software_version()}"[:16]
    return meta


def _patient_and_study(dataset: Dataset, source: Source) -> None:
    dataset.PatientName = source.patient_name
    dataset.PatientID = source.patient_id
    dataset.PatientBirthDate = source.birth_date
    dataset.PatientSex = source.sex
    dataset.StudyInstanceUID = source.study_uid
    dataset.StudyDate = source.study_date
    dataset.StudyTime = source.study_time
    dataset.StudyID = source.study_id
    dataset.AccessionNumber = source.accession
    dataset.ReferringPhysicianName = source.physician


def date(when: datetime) -> str:
    """A date as DICOM writes it (DA)."""
    return when.strftime("%Y%m%d")


def time(when: datetime) -> str:
    """A time of day as DICOM writes it (TM)."""
    return when.strftime("%H%M%S")


def decimal(value: float) -> str:
    """A number as a decimal string of at most 16 characters (DS, PS3.5 section 6.2).

    Raises
    ------
    ValueError
        If the number is not finite.
    """
    text = repr(float(value) + 0.0)  # + 0.0 turns -0.0 into 0.0
    return text if len(text) <= 16 and "n" not in text else str(format_number_as_ds(float(value)))


def save(dataset: Dataset, path: Path) -> None:
    """Write a data set as a DICOM file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        dataset.save_as(part, enforce_file_format=True)
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
