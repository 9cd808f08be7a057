"""The DICOM objects of a plan, which refer to each other."""

import dataclasses
from datetime import datetime
from pathlib import Path

from imaging.dicom.header import date, time
from imaging.dicom.rtdose import write_rtdose
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_ct
from imaging.uids import seeded_uid
from planning.arrange import target_of
from planning.density import relative_electron_density
from planning.machine import load_machine
from planning.rtplan import write_rtplan
from planning.rtplan_distances import surface_distances

from .optimised import BODY
from .patient import Planned


def write_dicom(planned: Planned, folder: Path, words: tuple[object, ...], mark: str = "") -> None:
    """CT series, RTSTRUCT, RTPLAN and RTDOSE in one study and one frame of reference.

    Parameters
    ----------
    planned
        What to write.
    folder
        An existing, empty folder.
    words
        What the UIDs follow from.
    mark
        What every series says of itself beside that it is for research.
    """

    def uid(name: str) -> str:
        return seeded_uid(*words, name)

    now = datetime.now().astimezone()
    of = dataclasses.replace(planned.scan.source, mark=mark)
    # A study that began without a date, as from NIfTI, began when its results are filed.
    of = of if of.study_date else dataclasses.replace(of, study_date=date(now), study_time=time(now))
    source = write_ct(planned.ct, of, folder / "CT", seed=(*words, "CT"), when=now)
    structures = write_rtstruct(
        planned.structures,
        source,
        planned.ct.grid,
        folder / "RTSTRUCT.dcm",
        series_uid=uid("RTSTRUCT series"),
        instance_uid=uid("RTSTRUCT"),
        when=now,
    )
    machine = load_machine(planned.plan.machine)
    density = relative_electron_density(planned.ct, planned.structures.mask(BODY))
    plan = write_rtplan(
        planned.plan,
        machine,
        source,
        folder / "RTPLAN.dcm",
        structure_set_uid=structures,
        target_roi=list(planned.structures.structures).index(target_of(planned.structures)) + 1,
        surface_distances=surface_distances(planned.plan, density, machine),
        dose_uid=uid("RTDOSE"),
        series_uid=uid("RTPLAN series"),
        instance_uid=uid("RTPLAN"),
        when=now,
    )
    write_rtdose(
        planned.dose,
        source,
        folder / "RTDOSE.dcm",
        plan_uid=plan,
        series_uid=uid("RTDOSE series"),
        instance_uid=uid("RTDOSE"),
        when=now,
    )
