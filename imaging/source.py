"""Whose scan it is: what writers need and nobody prints."""

from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class Source:
    """Patient, study and series that a volume came from.

    Travels beside the pixels; only writers of files copy it. Printing it shows nothing, so
    that no identity reaches a log or an error.

    Parameters
    ----------
    patient_id, patient_name, birth_date, sex
        As in the header; empty where unknown.
    study_uid, study_id, study_date, study_time, accession, physician
        The study that results are filed in.
    series_uid
        The series that the pixels came from.
    instance_uids
        SOP instance UIDs, one per slice along k; empty where there are none.
    sop_class
        SOP class UID of the instances.
    frame
        Frame of reference UID.
    modality
        ``MR``, ``CT`` or empty where there was no header to say so.
    position
        Patient position, such as ``HFS``.
    body_part
        Body part examined.
    mark
        What every object made of it must say of itself beside that it is for research, in capitals.
    """

    patient_id: str = ""
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""
    study_uid: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    accession: str = ""
    physician: str = ""
    series_uid: str = ""
    instance_uids: tuple[str, ...] = ()
    sop_class: str = ""
    frame: str = ""
    modality: str = ""
    position: str = "HFS"
    body_part: str = "HEAD"
    mark: str = ""

    def __repr__(self) -> str:
        return "Source(hidden)"
