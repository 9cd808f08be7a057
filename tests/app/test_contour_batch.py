"""A folder of patients contoured: each told of without a name, none stopped by another, gone on with."""

import csv
import gc
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app import contoured as command
from app.approved import MARK
from app.batch_folder import reason
from app.cli import app
from app.contour_batch import Batch, lines, walk_batch, way_of
from app.contour_models import HEAD, ORGANS, ContourModels
from app.contoured import Contourer
from app.spread import Died, Do, cluster, processes, spread
from imaging.grid import axial
from imaging.nifti import write_nifti
from imaging.phantoms import sphere
from imaging.volume import Quantity, Volume
from planning.contour.convert import Contoured
from planning.contour.nets import HEAD_NET, ORGAN_NET
from planning.contour.template import read_template

GRID = axial(np.full(3, -60.0), np.full(3, 60.0), (4.0, 4.0, 5.0))
GOOD, MOVED, BROKEN, EMPTY, NO_HEAD, ODD = (
    "Jansen^Piet",
    "Vries^An_19610203",
    "Bakker^Jan",
    "Visser^Ria",
    "Smit^Bo",
    "Mulder^Ko",
)


@dataclass(frozen=True, eq=False)
class Ball(Contourer):
    """The body where there is signal; a weak tumour; and a library's own error on what is too bright."""

    def __call__(self, mr: Volume) -> Contoured:
        if mr.data.max() > 1000:
            raise RuntimeError(f"kernel failed on /scans/{ODD}/t1.nii.gz")
        body = mr.data.amax(dim=0) > 0
        if not body.any():
            raise ValueError("expected a head, got none")
        labels = Volume(3 * body[None].to(torch.uint8), mr.grid, Quantity.LABEL, mr.frame)
        return Contoured(
            {"Body": body, "GTV": body}, labels, {"Body": 1.0, "GTV": 0.9}, {}, {"GTV": "is weak"}
        )


@dataclass
class Here:
    """One after another in this process; interrupted before a patient, if one is named."""

    do: Do
    stop_at: int = 0
    k: int = 0

    def room(self) -> int:
        return 1

    def start(self, k: int) -> None:
        self.k = k

    def ended(self) -> tuple[int, Any]:
        if self.k == self.stop_at:
            raise KeyboardInterrupt
        return self.k, self.do(self.k)


def here(stop_at: int = 0) -> Callable[[Do], Any]:
    @contextmanager
    def opened(do: Do) -> Iterator[Here]:
        yield Here(do, stop_at)

    return opened


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ContourModels:
    """Networks whose answers are known, in files of any content."""
    net = torch.nn.Identity()
    monkeypatch.setattr(command, "contourer_of", lambda *_: Ball(net, net, HEAD_NET, ORGAN_NET, None))
    files = {name: tmp_path / name for name in (HEAD, ORGANS)}
    for path in files.values():
        path.write_text(path.name)
    return ContourModels(
        files, ({"name": "x", "revision": "0", "state": "unapproved"},), MARK, read_template()
    )


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """Two good ones; one of each kind that is not."""
    folder = tmp_path / "patients"
    for name in (GOOD, MOVED, BROKEN, EMPTY, NO_HEAD, ODD):
        (folder / name).mkdir(parents=True)
    head = sphere(GRID, np.zeros(3), 55.0).float()
    noise = 50 * torch.rand(GRID.shape, generator=torch.Generator().manual_seed(1))
    for name, data in (
        (f"{GOOD}/{GOOD}-t1c", head * (100 + noise)),
        (f"{GOOD}/{GOOD}-t2f", head * (150 - noise)),
        (f"{GOOD}/{GOOD}-seg", head),
        (f"{MOVED}/t1", head * (120 + noise)),
        (f"{NO_HEAD}/t1", torch.zeros(GRID.shape)),
        (f"{ODD}/t1", head * (2000 + noise)),
    ):
        write_nifti(Volume(data[None], GRID, Quantity.MR), folder / f"{name}.nii.gz")
    (folder / BROKEN / f"{BROKEN}_t1.nii.gz").write_bytes(b"no scan")
    (folder / "readme.txt").write_text("of the study")
    return folder


def walk(batch: Batch, stop_at: int = 0) -> dict[str, Any]:
    return walk_batch(batch, here(stop_at), lambda *_: None)


def seen(out: Path) -> dict[str, tuple[int, bytes]]:
    files = sorted(p for p in out.rglob("*") if p.is_file() and p.parent != out and ".cohort" not in p.parts)
    return {str(p.relative_to(out)): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def test_one_that_fails_stops_no_other_and_nobody_is_named(
    patients: Path, models: ContourModels, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    told = walk(Batch(patients, out, models))
    index = json.loads((out / "index.json").read_text())
    assert (out / "index.json").stat().st_mode & 0o777 == 0o600
    states = {index[of["patient"]]: (of["state"], of["reason"]) for of in told["patients"]}
    assert {name for name, (state, _) in states.items() if state == "contoured"} == {GOOD, MOVED}
    for name, words in (
        (BROKEN, "expected"),
        (EMPTY, "expected scans in a patient's folder, got none"),
        (NO_HEAD, "expected"),
        (ODD, "got RuntimeError"),
    ):
        assert states[name][0] == "failed"
        assert words in states[name][1]
    assert told["counts"] == {"contoured": 2, "to_look_at": 2, "failed": 4}
    by_name = {index[of["patient"]]: of for of in told["patients"]}
    assert by_name[GOOD]["contrasts"] == ["t1c", "flair"]
    assert by_name[GOOD]["look_at"] == ["GTV"]
    folders = {path.name for path in out.iterdir() if path.is_dir() and path.name != ".cohort"}
    assert folders == {of["patient"] for of in told["patients"] if of["state"] == "contoured"}
    assert (out / by_name[GOOD]["patient"] / "RTSTRUCT.dcm").is_file()
    with (out / "batch.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == [of["state"] for of in told["patients"]]
    said = "".join(lines(told)) + "".join(
        path.read_text() for path in (*out.glob("batch.*"), *(out / ".cohort").iterdir())
    )
    parts = {part for name in index.values() for part in name.replace("_", "^").split("^")}
    assert [part for part in parts if part in said and len(part) > 2] == []
    walk(Batch(patients, out, models, index=False))
    assert not (out / "index.json").exists()


def test_what_is_whole_stays_and_halves_and_changed_scans_are_done_again(
    patients: Path, models: ContourModels, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    batch = Batch(patients, out, models)
    with pytest.raises(KeyboardInterrupt):
        walk(batch, stop_at=5)
    before = seen(out)
    n_before = len(json.loads((out / "batch.json").read_text())["patients"])
    assert n_before == 4  # told of while it runs
    half = out / ".17.part.patient-0006"
    (half / "MR").mkdir(parents=True)
    (out / "patient-0006").mkdir()  # written, and killed before it was entered
    (out / "patient-0006" / "RTSTRUCT.dcm").write_text("half")
    told = walk(batch)
    assert not half.exists()
    after = seen(out)
    assert {name: after[name] for name in before} == before
    assert told["counts"]["contoured"] == 2
    assert seen(out) == (walk(batch), seen(out))[1]
    numbers = {name: k for k, name in json.loads((out / "index.json").read_text()).items()}
    # One who comes later is counted last, whatever the name; one whose scan changed is contoured anew.
    (patients / GOOD).rename(patients / "Aalst^Eva")
    scan = patients / MOVED / "t1.nii.gz"
    scan.write_bytes(scan.read_bytes())
    told = walk(batch)
    later = {name: k for k, name in json.loads((out / "index.json").read_text()).items()}
    assert later == {name: k for name, k in numbers.items() if name != GOOD} | {"Aalst^Eva": "patient-0007"}
    again = seen(out)
    kept = [name for name in after if name.startswith(numbers[GOOD])]
    assert {name: again[name] for name in kept} == {name: after[name] for name in kept}
    anew = f"{numbers[MOVED]}/RTSTRUCT.dcm"
    assert again[anew] != after[anew]


def test_other_settings_other_folders_and_other_files_are_refused(
    patients: Path, models: ContourModels, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    walk(Batch(patients, out, models))
    with pytest.raises(ValueError, match="one of another mark; give another --out"):
        walk(Batch(patients, out, replace(models, mark="")))
    with pytest.raises(ValueError, match="one of another derived structures"):
        walk(Batch(patients, out, models, ("PRV = GTV + 3",)))
    patients.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="folder that the batch was begun with"):
        walk(Batch(tmp_path / "elsewhere", out, models))
    with pytest.raises(ValueError, match="one inside the other"):
        Batch(tmp_path / "elsewhere", tmp_path / "elsewhere" / "out", models)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with pytest.raises(ValueError, match="new or empty folder for the batch"):
        walk(Batch(tmp_path / "elsewhere", tmp_path / "mine", models))
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="a folder of scans for each patient, got none"):
        walk(Batch(tmp_path / "none", tmp_path / "new", models))
    with pytest.raises(ValueError, match="--workers or --cluster, got both"):
        way_of(2, "auto", "cpu")


def test_the_command_marks_and_ends_with_status_1_where_one_failed(
    patients: Path, models: ContourModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.contour_batch.processes", lambda do, _: here()(do))
    monkeypatch.setattr("app.contour_models.contour_models", lambda *_: models)
    done = CliRunner().invoke(app, ["contour-batch", str(patients), "--out", str(tmp_path / "out")])
    said = " ".join(done.output.split())
    assert done.exit_code == 1, said
    assert "2 of 6 patients contoured, 2 of them with structures to look at; 4 failed." in said
    assert MARK in said
    assert "Jansen" not in said


def test_reasons_name_nobody(tmp_path: Path) -> None:
    (tmp_path / GOOD / "flair").mkdir(parents=True)
    folder = tmp_path / GOOD
    assert reason(ValueError(f"expected x, got {folder}/1.dcm"), folder).startswith("expected other scans")
    assert reason(ValueError("expected no flair"), folder) == "expected no flair"
    assert reason(FileNotFoundError(2, "No such file", str(folder)), folder).endswith("got: No such file")
    assert "memory" in reason(RuntimeError("[enforce fail] can't allocate memory: 3 bytes"), folder)


def test_a_task_that_kills_its_process_twice_is_given_up_and_takes_no_other_with_it() -> None:
    # Signals as tasks: two that are ignored, and one that kills.
    numbers = [signal.SIGCONT, signal.SIGKILL, signal.SIGWINCH]
    with processes(signal.raise_signal, 1) as way:
        found = dict(spread(way, [int(n) for n in numbers]))
    assert {k: isinstance(result, Died) for k, result in found.items()} == {18: False, 9: True, 28: False}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_up_a_task_that_kills_its_worker_and_does_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with cluster(signal.raise_signal, "local", 0.1) as way:
        found = dict(spread(way, [18, 9, 28]))
    assert {k: isinstance(result, Died) for k, result in found.items()} == {18: False, 9: True, 28: False}
    with pytest.raises(ValueError, match="expected a machine with 1e"), cluster(abs, "local", 1e6):
        pass
    gc.collect()  # Ray leaves files open, which is nothing to warn later tests of
