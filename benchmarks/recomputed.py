"""Plans through their files and back: ``python -m benchmarks.recomputed``.

A ball in an ellipsoid of water with bone and air gets an arc of conformal leaves and four standing fields
of three segments each. Either plan's own dose is compared with what ``spindose dose`` makes of the RTPLAN
and the CT once both have been written and read again (gamma 1 %/1 mm above a tenth of the maximum), and
every file of the set is given to dciodvfy, without which that figure is null. Needs no data.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from app.optimised import dose_grid
from app.single import dose_of_rtplan
from imaging.dicom.header import complete
from imaging.dicom.rtdose import read_rtdose, write_rtdose
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_ct
from imaging.grid import axial
from imaging.phantoms import ellipsoid, sphere
from imaging.shapes import Points
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint, project
from planning.check.gamma import gamma_pass
from planning.contour.body import body_of
from planning.density import relative_electron_density
from planning.dose.forward import calculate
from planning.machine import Machine, load_machine
from planning.plan import Plan, Prescription
from planning.rtplan import write_rtplan

from .record import report

TARGETS = {"recomputed_plan_gamma_percent": (">=", 99.9), "dciodvfy_errors": ("<=", 0.0)}
_CENTER = np.array([12.3456789, -8.7654321, 5.5555555])  # no whole number: files hold 16 characters
_RADIUS = 22.0
_MARGIN = 5.0  # mm from the target to the leaves
_FIELDS = (20.0, 110.0, 200.0, 290.0)
_SEGMENTS = 3


def main() -> int:
    """The figures beside their targets."""
    found = figures()
    report("recomputed", found, keep=False)  # a part of delivery_qa, which keeps it
    met = [
        value is not None and (value >= target if sign == ">=" else value <= target)
        for value, (sign, target) in ((found[name], TARGETS[name]) for name in TARGETS)
    ]
    return 0 if all(met) else 1


def figures(
    machine_name: str = "millennium-6mv", *, spacing: float = 3.0, step: float = 4.0
) -> dict[str, float | None]:
    """The worse gamma of the two plans (%), and the errors that dciodvfy finds in the files of both.

    Parameters
    ----------
    machine_name
        The linac.
    spacing
        Voxel size of the dose grid (mm).
    step
        Degrees between control points of the arc.
    """
    machine = load_machine(machine_name)
    plans = {"imrt": standing_fields(machine), "vmat": arc(machine, step)}
    with tempfile.TemporaryDirectory() as name:
        passed = []
        for kind, plan in plans.items():
            write_set(plan, machine, Path(name) / kind, spacing)
            passed.append(gamma_of_set(Path(name) / kind, spacing))
        errors = _dciodvfy_errors(Path(name))
    return {"recomputed_plan_gamma_percent": min(passed), "dciodvfy_errors": errors}


def head() -> tuple[Volume, StructureSet]:
    """Whole Hounsfield units of an ellipsoid with bone and an air cavity; a body and a target in it."""
    grid = axial(np.array([-80.0, -95.0, -80.0]), np.array([80.0, 95.0, 80.0]), (2.5, 2.5, 2.5))
    outside = ellipsoid(grid, np.zeros(3), np.array([72.0, 86.0, 72.0]))
    inside = ellipsoid(grid, np.zeros(3), np.array([66.0, 80.0, 66.0]))
    hu = torch.full(grid.shape, -1000.0)
    hu[outside] = 800.0
    hu[inside] = 35.0
    hu[sphere(grid, np.array([0.0, -55.0, -20.0]), 14.0)] = -1000.0
    structures = {
        "BODY": Structure(outside, RoiType.EXTERNAL, (0, 200, 0)),
        "PTV": Structure(sphere(grid, _CENTER, _RADIUS), RoiType.PTV, (200, 0, 0)),
    }
    return Volume(hu[None], grid, Quantity.HU), StructureSet(grid, structures)


def arc(machine: Machine, step: float) -> Plan:
    """Clockwise from 200 to 160 degrees; leaves breathe around the target, and so does the dose rate."""
    n_points = 1 + round(320 / step)
    angles = (200 + np.linspace(0, 320, n_points)) % 360
    spans = 1.5 + np.sin(np.arange(n_points - 1) / 3)
    shares = np.concatenate([[0.0], np.cumsum(spans)]) / spans.sum()
    beam = Beam(float(angles[0]), 0.0, 11.25, _CENTER, "Arc", 412.3456789)
    points = tuple(
        _point(
            beam, machine, float(share), float(angle), margin=_MARGIN + 4 * np.sin(n / 5), shift=np.cos(n / 4)
        )
        for n, (share, angle) in enumerate(zip(shares / shares[-1], angles, strict=True))
    )
    return Plan((replace(beam, control_points=points),), Prescription(60.0, 30), machine.name, "Arc")


def standing_fields(machine: Machine) -> Plan:
    """Step and shoot: the beam is on while nothing moves."""
    beams = []
    for gantry in _FIELDS:
        beam = Beam(gantry, 15.0 if gantry < 180 else 0.0, 350.0, _CENTER, f"G{gantry:g}", 71.23456789)
        shapes = [(_MARGIN - 6.0 * n, 4.0 * n) for n in range(_SEGMENTS)]
        points = tuple(
            _point(beam, machine, end / _SEGMENTS, gantry, margin=margin, shift=shift)
            for n, (margin, shift) in enumerate(shapes)
            for end in (n, n + 1)
        )
        beams.append(replace(beam, control_points=points))
    return Plan(tuple(beams), Prescription(60.0, 30), machine.name, "Fields")


def _point(
    beam: Beam, machine: Machine, share: float, gantry: float, *, margin: float, shift: float
) -> ControlPoint:
    """Leaves around the target with a margin, shifted along x (mm); those beyond it are closed."""
    seen = project(replace(beam, gantry=gantry), _surface(), machine.sad)
    beyond = (-machine.max_jaw, machine.max_jaw)
    window = (-_RADIUS - 15.0, _RADIUS + 15.0)
    banks = []
    for edges in machine.mlc.layers:
        radius = np.abs(seen).max() + margin
        middle = (edges[:-1] + edges[1:]) / 2
        half = np.sqrt(np.clip(radius**2 - middle**2, 0, None))
        half[half < machine.mlc.min_gap] = 0
        banks.append(np.stack([shift - half, shift + half]))
    return ControlPoint(
        share,
        gantry,
        window if "x" in machine.jaws else beyond,
        window if "y" in machine.jaws else beyond,
        np.concatenate(banks, axis=1),
    )


def _surface() -> Points:
    """Points on the target's surface."""
    return _CENTER + _RADIUS * np.concatenate([np.eye(3), -np.eye(3)])


def write_set(plan: Plan, machine: Machine, folder: Path, spacing: float) -> None:
    """CT, RTSTRUCT, RTPLAN and RTDOSE of a plan, the dose straight from the plan in memory."""
    source = complete(Source(study_date="20260101", study_time="120000"), "recomputed", plan.name)
    ct, structures = head()
    ct = Volume(ct.data, ct.grid, ct.quantity, source.frame)
    series = write_ct(ct, source, folder / "CT")
    drawn = StructureSet(structures.grid, structures.structures, source.frame)
    made_on = write_rtstruct(drawn, series, ct.grid, folder / "RTSTRUCT.dcm")
    body = body_of(ct)
    dose = calculate(plan, relative_electron_density(ct, body), dose_grid(ct.grid, body, spacing), machine)
    uid = write_rtplan(plan, machine, series, folder / "RTPLAN.dcm", structure_set_uid=made_on, target_roi=2)
    write_rtdose(dose, series, folder / "RTDOSE.dcm", plan_uid=uid)


def gamma_of_set(folder: Path, spacing: float) -> float:
    """Points of a set's RTDOSE that find 1 %/1 mm in what its RTPLAN gives on its CT (%)."""
    out = folder / "recomputed.dcm"
    dose_of_rtplan(folder / "RTPLAN.dcm", folder / "CT", out, spacing, lambda *_: None)
    return gamma_pass(read_rtdose(folder / "RTDOSE.dcm")[0], read_rtdose(out)[0], 1.0, 1.0).pass_percent


def _dciodvfy_errors(folder: Path) -> float | None:
    program = shutil.which("dciodvfy")
    if program is None:
        return None
    return float(sum(_errors(program, path) for path in sorted(folder.rglob("*.dcm"))))


def _errors(program: str, path: Path) -> int:
    done = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"expected dciodvfy to end with 0 or 1, got {done.returncode}")
    return sum(line.startswith("Error") for line in done.stderr.splitlines())


if __name__ == "__main__":
    sys.exit(main())
