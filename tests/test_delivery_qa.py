import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bench(monkeypatch):
    """A module of the benchmarks, which are no installed package."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


DOSES = {"d95_gy": 50.0, "d10_gy": 53.5, "core_d5_gy": 13.0}
PARTS = {
    "imrt": {"imrt_objective_over_fluence": 1.04, "imrt_segments": 58, **DOSES, "mu": 700.0},
    "arc": {**DOSES, "vmat_seconds": 300.0},
    "gamma": {"gamma_pass_difference_points": 0.006, "gamma_time_ratio": 27.0},
    "dvh": {"nelms_worst_percent": 0.6},
    "beside": {},
    "recomputed": {"recomputed_plan_gamma_percent": 100.0, "dciodvfy_errors": 0.0},
    "demo": {"dciodvfy_errors": 0},
}


def all_targets(qa):
    return {name: target for part in qa.TARGETS.values() for name, target in part.items()}


def test_every_figure_has_a_target_and_comes_from_its_part(bench):
    qa = bench("delivery_qa")
    figures = qa.figures_of(PARTS)
    assert figures.keys() == all_targets(qa).keys()
    assert figures["tg119_vmat.core_d5_gy"] == 13.0
    assert bench("parts").missed(figures, all_targets(qa)) == []


@pytest.mark.parametrize("part", [name for name in PARTS if name != "beside"])
def test_figures_of_a_part_that_did_not_run_are_missed(bench, part):
    qa = bench("delivery_qa")
    figures = qa.figures_of({name: found for name, found in PARTS.items() if name != part})
    not_met = bench("parts").missed(figures, qa.TARGETS[part])
    # Files that a demo did not write may still have come from the plans that are recomputed.
    assert not_met == [name for name in qa.TARGETS[part] if name != "dciodvfy_errors"]


def test_errors_of_all_files_are_added_and_none_is_not_zero(bench):
    figures_of = bench("delivery_qa").figures_of
    two = {"recomputed": {"dciodvfy_errors": 2.0}, "demo": {"dciodvfy_errors": 1}}
    assert figures_of(two)["dciodvfy_errors"] == 3
    assert figures_of({**two, "demo": {"dciodvfy_errors": None}})["dciodvfy_errors"] is None


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [
        (50.0, (">=", 50.0), True),
        (49.99, (">=", 50.0), False),
        (60, ("<=", 60.0), True),
        (None, ("<=", 60.0), False),
        (float("nan"), ("<=", 60.0), False),
    ],
)
def test_what_is_not_on_the_right_side_of_its_target_is_missed(bench, value, target, met):
    assert bench("parts").meets(value, target) == met


def test_a_process_that_misses_its_targets_still_tells_its_figures_and_a_broken_one_does_not(bench):
    told = json.dumps({"figures": {"a": 1}})
    run = bench("parts").figures_of_process
    assert run([sys.executable, "-c", f"print('table'); print('{told}'); raise SystemExit(1)"]) == {"a": 1}
    for code in ("raise SystemExit(3)", "print('no figures')", "raise ValueError('broken')"):
        with pytest.raises(RuntimeError, match="to run, got"):
            run([sys.executable, "-c", code])


def test_files_that_dciodvfy_cannot_read_are_errors(bench, tmp_path, tool):
    tool("dciodvfy")
    (tmp_path / "none.dcm").write_bytes(b"not DICOM")
    assert bench("conformance").dciodvfy_errors(tmp_path) >= 1
    assert bench("conformance").dciodvfy_errors(tmp_path / "empty") == 0


def test_metrics_of_a_curve_are_those_of_its_doses(bench):
    # Doses from 10 to 30 Gy, as many of each.
    doses = np.linspace(0, 40, 801)
    voxels = 1000 * np.clip((30 - doses) / 20, 0, 1)
    got = bench("dvh_beside")._of_curve(doses, voxels, 0.002)
    assert got["volume"] == pytest.approx(2.0)
    assert got["Dmean"] == pytest.approx(20.0, abs=0.01)
    assert got["D95%"] == pytest.approx(11.0, abs=0.01)
    assert got["D1%"] == pytest.approx(29.8, abs=0.01)


def test_programs_are_as_far_apart_as_their_furthest_metric(bench):
    ours = {"PTV": {"volume": 10.0, "Dmean": 60.0, "D95%": 58.0}, "Body": {"volume": 5.0, "Dmean": 3.0}}
    theirs = {"PTV": {"volume": 9.0, "Dmean": 60.1, "D95%": 57.5}}
    assert bench("dvh_beside").away_from(ours, theirs) == {
        "PTV": {"dose_gy": pytest.approx(0.5), "volume_percent": pytest.approx(-10.0)}
    }
