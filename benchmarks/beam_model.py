"""Beam models from measured scans by MPPG 5.a: ``python -m benchmarks.beam_model``.

``measured-6mv`` is made anew from ``beam_scans/elekta_6mv``, 10 cm x 10 cm kept out, as its card says, and
compared with that field and with ``ptw_6mv``, another linac. Beside it: the same with the detector taken
as a point; a model of the second linac's own, 5 cm x 5 cm kept out; and, as the baseline, the generic
machine without any fit. Needs SPINDOSE_DATA.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from planning.commission.commission import FITTED, KEPT_OUT, Commissioned, commission
from planning.commission.reader import read_scans
from planning.commission.scans import Scan
from planning.commission.verify import Verdict, pass_percent, verify, worst_percent
from planning.machine import Machine, load_machine

from .record import report

# As the card of measured-6mv says.
BLUR = 2.25
_OTHER = "other linac"


def main() -> int:
    """Every model, its share of points within the criteria, and its worst high dose."""
    data = os.environ.get("SPINDOSE_DATA")
    folder = Path(data) / "beam_scans" if data else None
    if folder is None or not folder.is_dir():
        print("skipped: SPINDOSE_DATA names no folder with beam_scans")
        return 0
    generic = load_machine("generic-6mv")
    started = time.monotonic()
    own = _fitted(folder, generic, BLUR)
    seconds = time.monotonic() - started
    sharp = _fitted(folder, generic, 0.0)
    second = commission(read_scans(folder / "ptw_6mv"), generic, "second", keep_out=["5x5"])
    kept_out = [*own.verdicts[KEPT_OUT], *own.verdicts[_OTHER]]
    side = 50.0
    report(
        "beam_model",
        {
            "fit_worst_percent": worst_percent(own.verdicts[FITTED]),
            "held_out_pass_percent": pass_percent(kept_out),
            "fit_s": seconds,
            "fitted_pass_percent": pass_percent(own.verdicts[FITTED]),
            "kept_out_field_pass_percent": pass_percent(own.verdicts[KEPT_OUT]),
            "kept_out_field_worst_percent": worst_percent(own.verdicts[KEPT_OUT]),
            "other_linac_pass_percent": pass_percent(own.verdicts[_OTHER]),
            "other_linac_to_300_mm_pass_percent": _shallow(own.verdicts[_OTHER], 300.0),
            "other_linac_output_factor_percent": _output(own.output, side),
            "point_detector_kept_out_field_pass_percent": pass_percent(sharp.verdicts[KEPT_OUT]),
            "point_detector_other_linac_pass_percent": pass_percent(sharp.verdicts[_OTHER]),
            "second_model_fitted_pass_percent": pass_percent(second.verdicts[FITTED]),
            "second_model_kept_out_field_pass_percent": pass_percent(second.verdicts[KEPT_OUT]),
            "second_model_output_factor_percent": _output(second.output, side),
            **_baseline(folder, generic),
        },
    )
    return 0


def _fitted(folder: Path, generic: Machine, blur: float) -> Commissioned:
    others = {_OTHER: read_scans(folder / "ptw_6mv")}
    return commission(
        read_scans(folder / "elekta_6mv", blur), generic, "measured-6mv", keep_out=["10x10"], others=others
    )


def _shallow(verdicts: Sequence[Verdict], deepest: float) -> float:
    """Share of points that pass without those of depth doses beyond the depth that was fitted (%)."""
    passed = judged = 0
    for verdict in verdicts:
        # Profiles are nowhere deeper; their positions run across.
        among = verdict.judged & ((verdict.scan.at <= deepest) | (verdict.scan.depth > 0))
        passed, judged = passed + int((verdict.passed & among).sum()), judged + int(among.sum())
    return 100 * passed / judged


def _output(output: Mapping[str, Mapping[float, tuple[float, float]]], side: float) -> float:
    """How far the model's output factor is from the measured one (%)."""
    measured, model = next(factors[side] for factors in output.values())
    return 100 * (model / measured - 1)


def _baseline(folder: Path, generic: Machine) -> dict[str, float]:
    sets: dict[str, Sequence[Scan]] = {
        "elekta": read_scans(folder / "elekta_6mv", BLUR).scans,
        "other_linac": read_scans(folder / "ptw_6mv").scans,
    }
    return {
        f"generic_{name}_pass_percent": pass_percent(verify(scans, generic)) for name, scans in sets.items()
    }


if __name__ == "__main__":
    sys.exit(main())
