"""Patients in OpenKBP's layout as what trainings and predictions take."""

from collections.abc import Sequence
from pathlib import Path

from planning.predict.openkbp import patients_of, read_patient

from .dose_material import DoseSource


def openkbp_folders(paths: Sequence[Path]) -> list[Path]:
    """Folders of patients in folders, each once, in order.

    Raises
    ------
    ValueError
        As :func:`planning.predict.openkbp.patients_of`.
    """
    return list(dict.fromkeys(folder for path in paths for folder in patients_of(path)))


def openkbp_sources(paths: Sequence[Path]) -> list[DoseSource]:
    """The same as sources of a training; every folder is another patient."""
    return [DoseSource(folder, read_patient) for folder in openkbp_folders(paths)]
