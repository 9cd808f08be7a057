"""``spindose machine``: a beam model from measurements, and what machines there are."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from imaging.atomic import new_folder
from imaging.dicom.header import software_version
from planning.commission.commission import Commissioned, commission, middle_field
from planning.commission.leaves import FILE as LEAF_FILE
from planning.commission.leaves import leaves_of
from planning.commission.reader import read_scans
from planning.commission.verify import pass_percent, worst_percent
from planning.machine import Machine, load_machine, machines, save_machine

from .console import Progress
from .machine_page import page
from .review.facts import Provenance
from .steps import file_hash

# What RTPLAN holds (value representation SH), without what file systems mind.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,15}")


def fit_machine(
    scans: Path,
    out: Path,
    progress: Progress,
    *,
    like: str = "generic-6mv",
    keep_out: Sequence[str] | None = None,
    check: Sequence[Path] = (),
    detector_blur: float = 0.0,
    gy_per_mu: float | None = None,
) -> tuple[dict[str, object], list[str]]:
    """A machine commissioned from measurements, in a new folder of its name, with ``report.html``.

    Parameters
    ----------
    scans
        Folder of the measurements, as :func:`planning.commission.reader.read_scans` takes them;
        ``SweepingGaps.csv`` there gives transmission and dosimetric leaf gap.
    out
        The new folder; its name becomes the machine's.
    progress
        Called with what happens now and the share of it that is done.
    like
        The machine whose leaves, jaws and limits hold for this one too.
    keep_out
        Fields that are only compared, such as ``10x10``; None for the middle one of three or more.
    check
        Folders of other measurements to compare with.
    detector_blur
        Standard deviation of the blur (mm) of the detector of scans that do not name theirs.
    gy_per_mu
        Dose of one monitor unit at reference conditions (Gy), where the measurements do not tell.

    Returns
    -------
    tuple
        The figures of the report, and lines for the console.

    Raises
    ------
    ValueError
        If the name is not one, or the measurements cannot be read or fitted.
    """
    if not _NAME.fullmatch(out.name):
        raise ValueError(
            f"expected a folder named like the machine (at most 16 letters, digits, '.', '_', '-'), got "
            f"{out.name!r}; choose another name"
        )
    if detector_blur < 0 or (gy_per_mu is not None and gy_per_mu <= 0):
        raise ValueError(
            f"expected a detector blur of 0 or more and a positive dose per MU, got {detector_blur:g} mm and "
            f"{gy_per_mu} Gy; correct them"
        )
    measured = read_scans(scans, detector_blur)
    found = commission(
        measured,
        _geometry(scans, load_machine(like)),
        out.name,
        keep_out=middle_field(measured) if keep_out is None else keep_out,
        others={folder.name: read_scans(folder, detector_blur) for folder in check},
        gy_per_mu=gy_per_mu,
        progress=progress,
    )
    facts = _facts(found)
    inputs = {folder.name: file_hash(folder) for folder in (scans, *check)}
    settings = {"leaves and limits": like, "detector blur": f"{detector_blur:g} mm"}
    with new_folder(out) as here:
        save_machine(found.machine, here)
        text = json.dumps({**facts, "inputs": inputs, "settings": settings}, indent=2, allow_nan=False)
        (here / "report.json").write_text(text + "\n", encoding="utf-8")
        provenance = Provenance(software_version(), inputs=inputs, parameters=settings, notes=found.notes)
        (here / "report.html").write_text(page(found, provenance), encoding="utf-8", newline="\n")
    return {"machine": str(out), "report": str(out / "report.html"), **facts}, [
        f"Machine: {out}",
        f"Report:  {out / 'report.html'}",
        *(
            f"{pass_percent(verdicts):.1f} % of the points within MPPG 5.a: {key}"
            for key, verdicts in found.verdicts.items()
        ),
        *found.notes,
    ]


def _geometry(scans: Path, like: Machine) -> Machine:
    gaps = scans / LEAF_FILE
    return replace(like, mlc=leaves_of(gaps, like.mlc)) if gaps.exists() else like


def _facts(found: Commissioned) -> dict[str, object]:
    beam, machine = found.fitted.beam, found.machine
    return {
        "research_use_only": True,
        "calibration": machine.calibration,
        "attenuation_per_mm": beam.attenuation,
        "build_up_per_mm": beam.betas.tolist(),
        "penumbra_fwhm_mm": machine.beam.penumbra_fwhm.tolist(),
        "transmission": machine.mlc.transmission,
        "dosimetric_gap_mm": machine.mlc.dosimetric_gap,
        "residual_percent": 100 * found.fitted.residual,
        "pass_percent": {key: pass_percent(verdicts) for key, verdicts in found.verdicts.items()},
        "worst_percent": {key: worst_percent(verdicts) for key, verdicts in found.verdicts.items()},
        "output_factors": {
            key: {f"{side / 10:g}x{side / 10:g}": list(pair) for side, pair in factors.items()}
            for key, factors in found.output.items()
        },
        "notes": list(found.notes),
    }


def machine_facts(name: str) -> dict[str, object]:
    """What a machine is, in numbers.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    machine = load_machine(name)
    return {
        "name": machine.name,
        "energy_mv": machine.energy_mv,
        "calibration": machine.calibration,
        "sad_mm": machine.sad,
        "leaf_pairs": machine.mlc.n_pairs,
        "layers": len(machine.mlc.layers),
        "jaws": list(machine.jaws),
        "leaves_from_to_mm": [float(machine.mlc.boundaries[0]), float(machine.mlc.boundaries[-1])],
        "transmission": machine.mlc.transmission,
        "dosimetric_gap_mm": machine.mlc.dosimetric_gap,
        "interdigitation": machine.mlc.interdigitation,
        "max_jaw_mm": machine.max_jaw,
        "penumbra_fwhm_mm": machine.beam.penumbra_fwhm.tolist(),
        "max_dose_rate_mu_per_min": machine.limits.max_dose_rate,
        "max_leaf_speed_mm_per_s": machine.limits.max_leaf_speed,
        "max_gantry_speed_deg_per_s": machine.limits.max_gantry_speed,
    }


def all_machines() -> dict[str, str]:
    """Every machine's calibration by name."""
    return {name: load_machine(name).calibration for name in machines()}
