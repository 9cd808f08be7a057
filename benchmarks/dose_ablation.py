"""What each part of a dose predictor adds: ``python -m benchmarks.dose_ablation --openkbp DIR``.

One stage, equal steps, the same samples and 33 validation patients for every arm: without beams, without
distances, without the loss of histograms, two networks together, and fewer patients to learn from. DIR holds
OpenKBP's patients as ``unpack.py`` writes them. With --keep a killed run goes on; arms can be named.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from app.dose_material import ReadyDose, prepare_doses, read_whole
from app.dose_sources import dose_sources
from app.predict_dose import Predictor, load_predictor
from app.train_dose import DoseRun, off, train_dose
from imaging.atomic import whole_file
from models.fit import Fit
from planning.predict.channels import Sees, chosen
from planning.predict.predicted import answers
from planning.predict.site import read_site

from .record import report, say

_STEPS = 600
_SITE = read_site("openkbp")
_BASE = DoseRun(_SITE, fit=Fit(steps=_STEPS, muon=True), net={"stages": 1})
ARMS: Mapping[str, DoseRun] = {
    "all of it": _BASE,
    "no beams": replace(_BASE, sees=Sees(beams=False)),
    "no distances": replace(_BASE, sees=Sees(distances=False)),
    "no loss of histograms": replace(_BASE, histogram=0.0),
    "another seed": replace(_BASE, seed=1),
    "20 patients": replace(_BASE, patients=20),
    "50 patients": replace(_BASE, patients=50),
    "100 patients": replace(_BASE, patients=100),
}
_TOGETHER = ("all of it", "another seed")


def main() -> int:
    """Every arm, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--openkbp", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--no-record", action="store_true")
    asked = parser.parse_args()
    found = {name: arm(name, asked.openkbp, asked.keep) for name in asked.arms}
    if set(_TOGETHER) <= set(found):
        found["two seeds together"] = together(asked.openkbp, asked.keep)
    if not asked.no_record:
        report("dose_ablation", {"steps": _STEPS, "validation_gy": found})
    return 0


def arm(name: str, openkbp: Path, keep: Path) -> dict[str, float]:
    """Errors (Gy) of one arm on the validation patients; read where an earlier run kept them."""
    path = keep / f"{_folder(name)}.json"
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    data = openkbp / "provided-data"
    took = train_dose(
        ARMS[name],
        dose_sources([data / "train-pats"]),
        keep / _folder(name),
        say,
        validation=dose_sources([data / "validation-pats"]),
        prepared=keep / "ready",
    )
    found = {key: value for key, value in took["held_out"].items() if isinstance(value, float)}
    with whole_file(path) as part:
        part.write_text(json.dumps(found), encoding="utf-8")
    print(name, found, flush=True)
    return found


def together(openkbp: Path, keep: Path) -> dict[str, float]:
    """The same of the mean of two networks."""
    predictor = load_predictor([keep / _folder(name) / "dose.safetensors" for name in _TOGETHER])
    sources = dose_sources([openkbp / "provided-data" / "validation-pats"])
    cases, _ = prepare_doses(sources, _SITE, predictor.config.sizes, keep / "ready", say)
    each = [_errors(predictor, case) for case in cases]
    return {key: round(float(np.mean([one[key] for one in each])), 4) for key in each[0] if key != "loss"}


def _errors(predictor: Predictor, case: ReadyDose) -> dict[str, float]:
    batch = read_whole(case, chosen(_SITE, predictor.config.sees))
    views = [answers(net, batch["image"][0], case.scale) for net in predictor.nets]
    said = torch.cat(views).mean(dim=0)[None, None]
    return off(said, predictor.config, _SITE, batch)


def _folder(name: str) -> str:
    return name.replace(" ", "-")


if __name__ == "__main__":
    raise SystemExit(main())
