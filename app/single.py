"""Single steps of the walk as commands: a synthetic CT, contours, a dose."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pydicom.uid import RTPlanStorage

from imaging.atomic import new_folder
from imaging.case import Case
from imaging.dicom.opening import open_object
from imaging.dicom.rtdose import write_rtdose
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_ct
from imaging.folder import write_case
from imaging.grid import Grid
from imaging.nifti import write_nifti
from imaging.scan import read_scan
from imaging.volume import Quantity, Volume
from planning.contour.body import body_of
from planning.contour.prior import contours
from planning.density import relative_electron_density
from planning.dose.forward import calculate
from planning.dose.superposition import superpose
from planning.machine import Machine, load_machine
from planning.plan import Plan, Prescription
from planning.rtplan_machine import Head, head_of_plan, machine_for, with_leaves_of
from planning.rtplan_reader import read_rtplan

from .console import Progress
from .head_ct import bulk_ct
from .optimised import dose_grid
from .read_scans import read_mr


class Engine(Protocol):
    """Total dose (Gy) of a plan on a density, on a dose grid."""

    def __call__(
        self, plan: Plan, density: Volume, grid: Grid, machine: Machine, *, progress: Progress | None = None
    ) -> Volume:
        """Parameters as in :func:`planning.dose.forward.calculate`."""


ENGINES: dict[str, Engine] = {"pencil-beam": calculate, "collapsed-cone": superpose}


def contour_scan(
    mri: Sequence[Path], out: Path, progress: Progress, series: int | None = None
) -> dict[str, object]:
    """Organs of the aligned anatomy: a synthetic CT with its RTSTRUCT, and NIfTI masks, in a folder.

    Raises
    ------
    ValueError
        If it is not one MRI, or it cannot be read.
    """
    if len(mri) != 1:
        raise ValueError(f"expected one MRI alone with --aligned, got {len(mri)}; leave out the others")
    scan = read_mr(mri[0], series=series)
    head = bulk_ct(scan.volumes["mr"], progress)
    ct, structures = head.volumes["ct"], contours(head.volumes["tissues"])
    with new_folder(out) as here:
        source = write_ct(ct, scan.source, here / "CT")
        write_rtstruct(structures, source, ct.grid, here / "RTSTRUCT.dcm")
        (here / "masks").mkdir()
        write_case(Case({}, structures, scan.source), here / "masks")
    cc = {
        name: float(s.mask.sum()) * ct.grid.voxel_volume / 1000 for name, s in structures.structures.items()
    }
    return {"structures": str(out), "volumes_cc": cc}


@dataclass(frozen=True)
class Reading:
    """How a plan of another system is read, where the file does not say it or says otherwise.

    Parameters
    ----------
    machine
        Name of the machine that it is for; that of the plan, or the one with its leaves, where empty.
    plan_leaves
        Put the beam of that machine behind the leaves and jaws that the plan tells of.
    any_energy
        Take the machine's beam for beams of other energies too.
    prescription
        What is prescribed, where the plan does not say so; in as many fractions as the plan has.
    fraction_group
        Number of the fraction group, where there are several.
    """

    machine: str = ""
    plan_leaves: bool = False
    any_energy: bool = False
    prescription: Prescription | None = None
    fraction_group: int | None = None


def read_with_machine(rtplan: Path, reading: Reading = Reading()) -> tuple[Plan, Machine, list[str]]:
    """A plan, the machine that it is computed with, and what to say where that is not the plan's own.

    The plan's numbers stay as they are, but for the name of its machine.

    Raises
    ------
    ValueError
        If the plan cannot be read, has other fractions than are given, or no machine, or several, have its
        leaves and beam.
    """
    if reading.plan_leaves and not reading.machine:
        raise ValueError("expected the name of a machine beside --plan-leaves, got none; add --machine")
    head = head_of_plan(rtplan)
    machine = load_machine(reading.machine) if reading.machine else machine_for(head)
    if reading.plan_leaves:
        machine = with_leaves_of(machine, head)
    plan = read_rtplan(
        rtplan,
        machine=machine,
        prescription=reading.prescription,
        fraction_group=reading.fraction_group,
        any_energy=reading.any_energy,
    )
    _expect_fractions(rtplan, reading)
    return replace(plan, machine=machine.name), machine, _cautions(head, machine, reading)


def _expect_fractions(rtplan: Path, reading: Reading) -> None:
    """Refuse a prescription in other fractions than the plan's: the total dose would be another."""
    if reading.prescription is None:
        return
    groups = open_object(rtplan, RTPlanStorage).FractionGroupSequence
    chosen = [g for g in groups if reading.fraction_group in (None, int(g.FractionGroupNumber))]
    planned = int(chosen[0].get("NumberOfFractionsPlanned") or 0)
    if planned and planned != reading.prescription.n_fractions:
        raise ValueError(
            f"expected a prescription in the {planned} fractions of the plan, got "
            f"{reading.prescription.n_fractions}; give the total dose of the plan's fractions"
        )


def _cautions(head: Head, machine: Machine, reading: Reading) -> list[str]:
    said = []
    if head.name != machine.name:
        said.append(
            f"The plan is for a machine that is not described here; this is {machine.name}, whose monitor "
            "units and beam may differ."
        )
    if reading.plan_leaves:
        said.append(f"The leaves are the plan's; what passes them is as on {machine.name}.")
    if reading.any_energy:
        said.append(f"Every beam is taken for one of {machine.energy_mv:g} MV, whatever the plan says.")
    return said


def dose_of_rtplan(
    rtplan: Path,
    ct: Path,
    out: Path,
    spacing: float,
    progress: Progress,
    engine: str = "pencil-beam",
    reading: Reading = Reading(),
) -> dict[str, object]:
    """The total dose of an RTPLAN on a CT, as a NIfTI file, or as an RTDOSE if ``out`` ends in .dcm.

    Parameters
    ----------
    rtplan
        The plan.
    ct
        NIfTI file or DICOM series.
    out
        Where the dose goes.
    spacing
        Voxel size of the dose grid (mm).
    progress
        Called with what happens now and the share of it that is done.
    engine
        One of :data:`ENGINES`: the pencil beam that plans are made with, or the collapsed cone that
        knows electrons in air and bone.
    reading
        How a plan of another system is read.

    Raises
    ------
    ValueError
        If there is no such engine, or for what :func:`read_with_machine` refuses, or the plan is in
        another frame of reference than a DICOM CT.
    """
    if engine not in ENGINES:
        raise ValueError(f"expected one of the dose engines {', '.join(ENGINES)}, got {engine!r}")
    header = open_object(rtplan, RTPlanStorage)
    plan, machine, cautions = read_with_machine(rtplan, reading)
    volume, source = read_scan(ct, Quantity.HU)
    frame = str(header.get("FrameOfReferenceUID") or "")
    if source.frame and not frame:
        raise ValueError(
            "expected a plan with a frame of reference, as the CT has one, got none; give the CT as NIfTI if "
            "both surely count from one place"
        )
    if source.frame and source.frame != frame:
        raise ValueError(
            "expected a CT in the plan's frame of reference, got one in another; "
            "take the CT that the plan was made on, or register the scans first"
        )
    title = "Dose of the segments"
    progress(title, 0.0)
    body = body_of(volume)
    dose = ENGINES[engine](
        plan,
        relative_electron_density(volume, body),
        dose_grid(volume.grid, body, spacing),
        machine,
        progress=lambda _step, share: progress(title, share),
    )
    progress(title, 1.0)
    if out.suffix == ".dcm":
        write_rtdose(dose, source, out, plan_uid=str(header.SOPInstanceUID))
    else:
        write_nifti(dose, out)
    return {
        "dose": str(out),
        "engine": engine,
        "machine": machine.name,
        "max_gy": float(dose.data.max()),
        "spacing_mm": spacing,
        "caution": " ".join(cautions),
    }
