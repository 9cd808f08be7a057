"""Plans of the reference planner: gone on with when killed, the same whoever makes them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from app.cli import app
from app.reference_plan import Planner, way_to_plan
from app.reference_plans import Asked, walk_plans
from app.spread import Do, Way, processes
from planning.optimise.settings import Settings
from planning.predict.plans import read_planned

RECIPE = """
[grid]
shape = [48, 56, 48]
spacing = [4.0, 4.0, 4.0]
fine = 3.2
[about]
name = "Very coarse"
"""
SETTINGS = Settings(n_segments=9, leaf_iterations=8, n_rounds=0, max_iterations=4)


class _Here:
    """Tasks by this process, the last one first; it stops after so many as if it was killed."""

    def __init__(self, do: Do, most: int) -> None:
        self.do, self.most, self.begun = do, most, list[int]()

    def room(self) -> int:
        return 2

    def start(self, k: int) -> None:
        self.begun.append(k)

    def ended(self) -> tuple[int, Any]:
        if self.most == 0:
            raise KeyboardInterrupt
        self.most -= 1
        k = self.begun.pop()
        return k, self.do(k)


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    recipe = tmp_path / "coarse.toml"
    recipe.write_text(RECIPE)
    return Planner(3, str(recipe), 5.0, 3, settings=SETTINGS)


def _facts(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    del told["seconds"]
    return told


def test_a_killed_run_goes_on_and_gives_what_other_processes_give(planner: Planner, tmp_path: Path) -> None:
    torch.set_num_threads(1)

    @contextmanager
    def killed(do: Do) -> Iterator[Way]:
        yield _Here(do, 1)

    @contextmanager
    def here(do: Do) -> Iterator[Way]:
        yield _Here(do, 9)

    one, two = tmp_path / "one", tmp_path / "two"
    with pytest.raises(KeyboardInterrupt):
        walk_plans(Asked(planner, 2, one), killed, lambda *_: None)
    whole = [p.name for p in sorted(one.glob("patient-*"))]
    assert whole == ["patient-0001"]
    written = (one / whole[0] / "plan.json").stat().st_mtime_ns
    told = walk_plans(Asked(planner, 2, one), here, lambda *_: None)
    assert (told["n"], told["failed"]) == (2, {})
    assert (one / whole[0] / "plan.json").stat().st_mtime_ns == written
    walk_plans(Asked(planner, 1, two), lambda do: processes(do, 1), lambda *_: None)
    assert _facts(one / "patient-0000") == _facts(two / "patient-0000")
    first, again = (read_planned(folder / "patient-0000").patient for folder in (one, two))
    assert first.dose is not None
    assert again.dose is not None
    assert torch.equal(first.dose.data, again.dose.data)
    assert float(first.dose.data[0][first.structures.mask("PTV")].mean()) == pytest.approx(60.0, rel=0.1)
    with pytest.raises(ValueError, match="same settings"):
        walk_plans(Asked(Planner(4), 1, two), here, lambda *_: None)


def test_every_style_is_planned_with_fields_and_with_arcs() -> None:
    ways = [way_to_plan(Planner(), k) for k in range(36)]
    pairs = {(style.name, request.technique.value, request.n_arcs) for style, request in ways}
    assert {(style, technique) for style, technique, _ in pairs} == {
        (style, technique) for style in ("balanced", "sparing", "conformal") for technique in ("imrt", "vmat")
    }
    assert {n for _, technique, n in pairs if technique == "vmat"} == {1, 2}


@pytest.mark.parametrize(
    "words",
    [["--n", "0"], ["--n", "1", "--seed", "-1"], ["--n", "1", "--dose-spacing", "9"],
     ["--n", "1", "--recipe", "none"]],
)  # fmt: skip
def test_bad_input_is_refused_and_leaves_nothing(words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "plans"
    result = CliRunner().invoke(app, ["synth", "plans", *words, "--out", str(out)])
    assert result.exit_code == 2
    assert not out.exists()
