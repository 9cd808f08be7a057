"""OpenKBP's patients planned on our beams: ``python -m benchmarks.openkbp_plans --openkbp DIR --keep ROWS``.

There is no machine in that data: nine coplanar fields of ours on the patients' own CT mimic the true dose and
the dose that the shipped network foretells, and OpenKBP-Opt's linear model (mean absolute) mimics the latter.
Clinical criteria are counted as OpenKBP-Opt counts them. Validation patients, whom no training saw. A killed
run goes on.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.ct_nets import ZOO
from app.openkbp_linear import linear_openkbp
from app.openkbp_plans import Achieved, planned_openkbp
from app.predict_dose import Predictor, load_predictor
from imaging.atomic import whole_file
from imaging.volume import Volume
from planning.machine import Machine, load_machine
from planning.predict.criteria import Judged, judged_by_criteria
from planning.predict.openkbp import patients_of, read_patient
from planning.predict.patient import Patient
from planning.predict.site import Site

from .record import report

_MACHINE = "generic-6mv"
_MIMICKED = ("true mimicked", "predicted mimicked")
_DOSES = ("true dose", "predicted dose", *_MIMICKED)
_LINEAR = "predicted by linear model"


def main() -> int:
    """Every patient, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--openkbp", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=ZOO / "dose-openkbp.safetensors")
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--no-record", action="store_true")
    asked = parser.parse_args()
    asked.keep.mkdir(parents=True, exist_ok=True)
    predictor = load_predictor([asked.weights])
    folders = patients_of(asked.openkbp / "provided-data" / "validation-pats")[: asked.cases]
    rows = [row(folder, predictor, asked.keep) for folder in folders]
    if not asked.no_record:
        report("openkbp_plans", summary(rows))
    return 0


def row(folder: Path, predictor: Predictor, keep: Path) -> dict[str, Any]:
    """Criteria of one patient by every dose; read where an earlier run kept them."""
    path = keep / f"{folder.name}.json"
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    patient, machine, site = read_patient(folder), load_machine(_MACHINE), predictor.site
    if patient.dose is None:
        raise ValueError("expected a validation patient with a dose, got one without")
    told = predictor(patient)[0]
    made = {
        "true mimicked": planned_openkbp(patient, patient.dose, machine, site),
        "predicted mimicked": planned_openkbp(patient, told, machine, site),
    }
    given = {"true dose": patient.dose, "predicted dose": told}
    out: dict[str, Any] = {
        **{name: {"met": _met(judged_by_criteria(d, patient.structures, site))} for name, d in given.items()},
        **{name: _told(one) for name, one in made.items()},
        _LINEAR: _linearly(patient, told, machine, site),
    }
    with whole_file(path) as part:
        part.write_text(json.dumps(out), encoding="utf-8")
    said = {name: f"{sum(of['met'])}/{len(of['met'])}" if "met" in of else "none" for name, of in out.items()}
    print(folder.name, said, flush=True)
    return out


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Share of all criteria that each dose satisfies, how far plans are from what they mimic, and seconds.

    Where the linear model has no end in time it has no plan; all are compared once more where it has.
    """
    ended = [r for r in rows if "met" in r[_LINEAR]]
    return {
        "patients": len(rows),
        "criteria": sum(len(r["true dose"]["met"]) for r in rows),
        "satisfied": {name: _satisfied(rows, name) for name in _DOSES},
        "off_gy": {name: float(np.median([r[name]["off_gy"] for r in rows])) for name in _MIMICKED},
        "seconds": {name: float(np.median([r[name]["seconds"] for r in rows])) for name in _MIMICKED},
        "where_the_linear_model_ended": {
            "patients": len(ended),
            "satisfied": {name: _satisfied(ended, name) for name in (*_DOSES, _LINEAR)},
            "off_gy": float(np.median([r[_LINEAR]["off_gy"] for r in ended])),
            "seconds": float(np.median([r[_LINEAR]["seconds"] for r in ended])),
        },
    }


def _satisfied(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([met for r in rows for met in r[name]["met"]]))


def _linearly(patient: Patient, told: Volume, machine: Machine, site: Site) -> dict[str, Any]:
    """The linear model's plan, or that it had no end in time."""
    try:
        return _told(linear_openkbp(patient, told, machine, site))
    except ValueError as error:
        return {"failed": str(error)}


def _met(judged: Sequence[Judged]) -> list[bool]:
    return [bool(one.met) for one in judged]


def _told(made: Achieved) -> dict[str, Any]:
    return {"met": _met(made.judged), "off_gy": made.off_gy, "seconds": made.seconds}


if __name__ == "__main__":
    raise SystemExit(main())
