"""A plan report from what the walk found: everything is looked up and put in words here, once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.uid import RTPlanStorage

from app import independent, mri_only, robust
from app.evaluate_plan import figures
from app.patient import Planned
from imaging.dicom.header import software_version
from imaging.dicom.opening import open_object
from planning.check.dvh import Dvh
from planning.goals import Goal
from planning.machine import load_machine
from planning.plan import Plan

from . import tables
from .facts import Picture, Report, Section
from .pictures import dose_planes, dvh_plot
from .seal import chain

_APERTURES = (
    "As the source sees them, up to eight control points of each beam: what is open is light; the monitor "
    "units are those until the next picture."
)


@dataclass(frozen=True, eq=False)
class Found:
    """What a report is gathered from.

    Parameters
    ----------
    planned
        What the walk gave.
    facts
        What ``plan.json`` says.
    goals
        What was asked.
    dvhs
        Histograms of the plan's dose by structure.
    files
        SHA-256 of every sealed file, by its path in the folder.
    surface_distances
        Source to skin (mm) by beam name.
    true_dvhs
        Histograms of the same plan's dose on the true CT, where there is one.
    apertures
        What each beam opens.
    identity
        Whose plan it is, where somebody asked for it.
    """

    planned: Planned
    facts: Mapping[str, Any]
    goals: Sequence[Goal]
    dvhs: Mapping[str, Dvh]
    files: Mapping[str, str]
    surface_distances: Mapping[str, float] = field(default_factory=dict)
    true_dvhs: Mapping[str, Dvh] | None = None
    apertures: tuple[Picture, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict, repr=False)


def gather(found: Found) -> Report:
    """The report."""
    plan, facts = found.planned.plan, found.facts
    machine = load_machine(plan.machine)
    kinds = {name: s.kind for name, s in found.planned.structures.structures.items()}
    told: dict[str, Any] = figures(plan, machine, found.dvhs, kinds, found.goals)
    seal = chain({**facts["inputs"], **found.files})
    return Report(
        title="Plan report",
        statements=_statements(plan, told, machine.energy_mv),
        cautions=tuple(facts["cautions"]),
        sections=(
            _dose(found),
            Section("Beams", _isocenters(plan), tables=(tables.beams(plan.beams, found.surface_distances),)),
            Section("Goals", tables=tables.goals(told["goals"])),
            _histograms(found, told),
            _indices(told),
            *_checks(found),
            Section("Apertures", (_APERTURES,), found.apertures),
            _provenance(found, machine.calibration, seal),
        ),
        version=software_version(),
        seal=seal,
        identity=found.identity,
    )


def _statements(plan: Plan, told: Mapping[str, Any], energy_mv: float) -> dict[str, str]:
    rx = plan.prescription
    return {
        "Prescription": f"{rx.dose_gy:g} Gy, {rx.n_fractions} × {rx.dose_gy / rx.n_fractions:g} Gy",
        "Goals met": f"{told['goals_met']} of {told['goals_judged']} evaluated",
        "Beams": str(len(plan.beams)),
        "Monitor units": f"{told['mu']:.0f} per fraction",
        "Time": f"{told['delivery_seconds'] / 60:.1f} min per fraction (estimate)",
        "Machine": f"{plan.machine}, {energy_mv:g} MV photons",
    }


def _dose(found: Found) -> Section:
    planned, rx = found.planned, found.planned.plan.prescription
    picture = dose_planes(
        planned.ct, planned.structures, planned.dose, planned.plan.beams[0].isocenter, rx.dose_gy
    )
    return Section("Dose on the synthetic CT", pictures=(picture,))


def _isocenters(plan: Plan) -> tuple[str, ...]:
    places = dict.fromkeys(", ".join(f"{v:.1f}" for v in beam.isocenter) for beam in plan.beams)
    return tuple(f"Isocentre at ({place}) mm in the patient (LPS)." for place in places)


def _histograms(found: Found, told: Mapping[str, Any]) -> Section:
    planned = found.planned
    rx = planned.plan.prescription
    picture = dvh_plot(found.dvhs, planned.structures, rx.dose_gy, found.true_dvhs)
    return Section(
        "Dose–volume histograms", pictures=(picture,), tables=(tables.structures(told["structures"]),)
    )


def _indices(told: Mapping[str, Any]) -> Section:
    return Section(
        "Indices",
        tables=(
            *([tables.indices(told["targets"])] if told["targets"] else []),
            tables.modulation(told),
            *([tables.complications(told["complications"])] if told["complications"] else []),
        ),
    )


def _checks(found: Found) -> tuple[Section, ...]:
    facts = found.facts
    parts = []
    if facts.get("independent"):
        note = "Collapsed cone on the same CT; spectrum and output are fitted to the machine's pencil beam."
        parts.append(tables.checks(independent.rows(facts["independent"]), "Second dose engine", note))
    if facts.get("robustness"):
        parts.append(tables.checks(robust.rows(facts["robustness"]), "Robustness"))
    if facts.get("mri_only"):
        rows = mri_only.rows(facts["mri_only"])
        parts.extend(tables.synthetic_ct(rows, facts["mri_only"], facts.get("true_ct") or {}))
    return (Section("Checks", tables=tuple(parts)),) if parts else ()


def _provenance(found: Found, calibration: str, seal: str) -> Section:
    facts = found.facts
    seed = "none" if facts["seed"] is None else str(facts["seed"])
    said = {
        "software": f"Spindose {facts['version']}",
        "seed": seed,
        **facts["parameters"],
        "calibration": calibration,
    }
    dicom = {k.removeprefix("dicom/"): v for k, v in found.files.items() if k.startswith("dicom/")}
    others = {k: v for k, v in found.files.items() if not k.startswith("dicom/")}
    return Section(
        "Provenance",
        (
            "Every file below has the hash with which it was sealed.",
            f"The seal, the last link of a chain of SHA-256 over all inputs and files in order, is {seal}.",
        ),
        tables=(
            tables.plain(said, "Parameter", "Parameters"),
            tables.hashes(facts["inputs"], "Input", "Inputs"),
            tables.hashes(dicom, "File", "DICOM files"),
            tables.hashes(others, "File", "Kept steps of the walk"),
        ),
    )


def surface_distances(rtplan: Path) -> dict[str, float]:
    """Source to skin (mm) along the axis of each beam, by its name, where the RTPLAN says so."""
    found = {}
    for beam in open_object(rtplan, RTPlanStorage).get("BeamSequence") or []:
        distance = beam.ControlPointSequence[0].get("SourceToSurfaceDistance")
        if distance is not None:
            found[str(beam.BeamName)] = float(distance)
    return found


def identity_of(rtplan: Path) -> dict[str, str]:
    """Whose plan it is, for a report that shall say so."""
    header = open_object(rtplan, RTPlanStorage)
    words = {"Patient": "PatientName", "Patient ID": "PatientID", "Born": "PatientBirthDate"}
    return {label: str(header.get(word) or "not known") for label, word in words.items()}
