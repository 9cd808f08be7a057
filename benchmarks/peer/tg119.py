"""TG119 planned by pyRadPlan 0.5.0, as its users call it; the last line is JSON.

Runs with the interpreter of ``benchmarks/peer/.venv``, which ``make bench-peer`` builds::

    benchmarks/peer/.venv/bin/python benchmarks/peer/tg119.py DATA --beams 5

The configuration is that of the reference doses (``planning/reference/README.md`` of the data). On
two idle cores that README's author measured, for five beams, 48 s and 1.15 GB for the influence
matrix, 57 s and 134 iterations for the optimisation, 193 s in all; for nine beams 489 s and 4.7 GB.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pyRadPlan import (  # type: ignore[import-not-found]
    PhotonPlan,
    calc_dose_influence,
    fluence_optimization,
    generate_stf,
    validate_cst,
    validate_ct,
)
from pyRadPlan.cst import validate_voi  # type: ignore[import-not-found]
from pyRadPlan.optimization.objectives import (  # type: ignore[import-not-found]
    MeanDose,
    SquaredDeviation,
    SquaredOverdosing,
)
from pyRadPlan.optimization.problems import NonLinearFluencePlanningProblem  # type: ignore[import-not-found]

# Type, rank among overlaps and objectives of each structure.
STRUCTURES = {
    "Core": ("OAR", 2, [SquaredOverdosing(d_max=1.0, priority=10.0)]),
    "OuterTarget": ("TARGET", 1, [SquaredDeviation(d_ref=3.0, priority=100.0)]),
    "BODY": (
        "OAR",
        3,
        [MeanDose(d_ref=0.0, priority=1.0), SquaredOverdosing(d_max=2.0, priority=10.0)],
    ),
}


def main() -> None:
    """One whole plan, timed step by step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of tg119.npz and reference/")
    parser.add_argument("--beams", type=int, default=5, help="beams, evenly around the patient")
    parser.add_argument("--grid", type=float, default=3.0, help="voxels of the dose grid (mm)")
    parser.add_argument("--goal", type=float, default=0.7909, help="objective whose first time is noted")
    asked = parser.parse_args()
    started = time.perf_counter()
    ct, cst = phantom(asked.data / "tg119.npz")
    plan = plan_of(asked.beams, asked.grid)
    stf = generate_stf(ct, cst, plan)
    before = time.perf_counter()
    dij = calc_dose_influence(ct, cst, stf, plan)
    influence_s = time.perf_counter() - before
    matrix = dij.physical_dose.flat[0]
    seen = _stamped_objectives()
    before = time.perf_counter()
    told: dict[str, object] = {}
    fluence = fluence_optimization(ct, cst, stf, dij, plan, opt_info=told)
    optimisation_s = time.perf_counter() - before
    dose = sitk.GetArrayFromImage(dij.compute_result_dose_grid(fluence)["physical_dose"])
    plan_s = time.perf_counter() - started
    reached = [at - before for at, value in seen if value <= asked.goal]
    figures = {
        "n_beams": asked.beams,
        "n_bixels": int(matrix.shape[1]),
        "influence_s": influence_s,
        "influence_entries": int(matrix.nnz),
        "influence_bytes": int(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes),
        "goal": asked.goal,
        "goal_s": reached[0] if reached else None,
        "optimisation_s": optimisation_s,
        "n_iterations": told.get("num_iter"),
        "objective": min(value for _, value in seen),
        "plan_s": plan_s,
        "peak_bytes": _peak_bytes(),
        # Against the stored dose of the same plan: the peer is set up as the reference was.
        "dose_rms_percent": _difference(dose, asked.data) if asked.beams == 5 else None,
    }
    print(json.dumps(figures))


def plan_of(n_beams: int, spacing: float) -> PhotonPlan:
    """Beams evenly around the patient, bixels of 5 mm, a dose grid of this spacing (mm)."""
    plan = PhotonPlan(machine="Generic")
    gantry = [360.0 * n / n_beams for n in range(n_beams)]
    plan.prop_stf = {"gantry_angles": gantry, "couch_angles": [0.0] * n_beams, "bixel_width": 5.0}
    plan.prop_dose_calc = {"dose_grid": {"resolution": dict.fromkeys("xyz", spacing)}}
    plan.prop_opt = {"solver": "scipy"}
    return plan


def phantom(file: Path) -> tuple[object, object]:
    """CT and structures with their objectives."""
    with np.load(file, allow_pickle=False) as stored:
        packed = {key: stored[key] for key in stored.files}
    # Stored (row y, column x, z); images are (z, y, x).
    hu = sitk.GetImageFromArray(np.ascontiguousarray(packed["hu"].transpose(2, 0, 1)).astype(np.float64))
    hu.SetSpacing((3.0, 3.0, 2.5))
    hu.SetOrigin((-250.0, -250.0, -160.0))
    ct = validate_ct(cube_hu=hu)
    vois = []
    for name, (kind, rank, objectives) in STRUCTURES.items():
        flat = np.unpackbits(packed[f"mask_{name}"])[: packed["hu"].size]
        mask = sitk.GetImageFromArray(
            np.ascontiguousarray(flat.reshape(packed["hu"].shape).transpose(2, 0, 1))
        )
        mask.CopyInformation(hu)
        vois.append(
            validate_voi(
                name=name,
                voi_type=kind,
                mask=mask,
                ct_image=ct,
                overlap_priority=rank,
                objectives=objectives,
            )
        )
    return ct, validate_cst(vois=vois, ct_image=ct)


def _stamped_objectives() -> list[tuple[float, float]]:
    """Time (s) and value of each objective, filled while the optimiser runs."""
    seen: list[tuple[float, float]] = []
    evaluate = NonLinearFluencePlanningProblem._objective_function  # noqa: SLF001 # no public callback tells values

    def stamped(problem: object, x: object) -> float:
        value = evaluate(problem, x)
        seen.append((time.perf_counter(), float(value)))
        return float(value)

    NonLinearFluencePlanningProblem._objective_function = stamped  # noqa: SLF001
    return seen


def _peak_bytes() -> int:
    """The most memory this process has held: VmHWM, as ru_maxrss keeps that of whoever started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise OSError("expected VmHWM in /proc/self/status, got none; run on Linux")


def _difference(dose: np.ndarray, folder: Path) -> float | None:
    """Root mean square of dose less the stored dose (% of its maximum); None on another grid."""
    with np.load(folder / "reference/tg119_5_beams.npz", allow_pickle=False) as stored:
        truth = stored["dose_opt"] * float(stored["dose_opt_gy_per_unit"])
    if dose.shape != truth.shape:
        return None
    return float(100 * np.sqrt(np.mean((dose - truth) ** 2)) / truth.max())


if __name__ == "__main__":
    main()
