import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import mlcroissant
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app import cohort, cohort_job
from app.cli import app
from app.cohort import Asked, read_recipe, recipes, walk_cohort
from app.cohort_job import Job, finished, keep
from app.cohort_local import run_local
from imaging.dicom.rtstruct_reader import read_rtstruct
from imaging.dicom.series import read_series
from imaging.folder import read_case
from imaging.grid import Grid
from imaging.nifti import read_nifti, write_nifti
from imaging.nifti_vectors import read_displacement, write_displacement
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.recipe import Recipe, parse

TINY = """
[grid]
shape = [40, 46, 40]
spacing = [5, 5, 5]
fine = 4
[tumour]
volume_cc = 40
shares = { glioblastoma = 1 }
post_operative = 0
[mri]
contrasts = ["t1", "t2"]
"""


def quiet(_: str, __: float) -> None:
    return


def here(job, numbers, out, workers):
    """Cases made by this process, which tests can watch."""
    for k in numbers:
        keep(job, k, out)
        yield k


def hashes(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and "SPD-" in str(p.relative_to(folder)))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def parts(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if ".part" in p.name or ".old" in p.name]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return parse(TINY)


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory) -> Path:
    """Three cases made by this process."""
    out = tmp_path_factory.mktemp("cohort") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort, "run_local", here)
        walk_cohort(Asked(Job(recipe, 1, "brats"), 3, out), quiet)
    return out


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(cohort, "run_local", here)


@pytest.mark.slow
def test_cases_of_two_processes_are_those_of_one(whole, recipe, tmp_path):
    out = tmp_path / "out"
    (out / ".cohort").mkdir(parents=True)
    assert sorted(run_local(Job(recipe, 1, "brats"), range(3), out, 2)) == [0, 1, 2]
    assert hashes(out) == hashes(whole)


@pytest.mark.slow
def test_a_killed_process_loses_and_doubles_nothing(whole, recipe, tmp_path):
    import signal
    import threading
    import time

    out = tmp_path / "out"
    (out / ".cohort").mkdir(parents=True)

    def kill_one() -> None:
        while True:
            mine = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            working = [int(p) for p in mine if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]
            if working and list(out.glob(".SPD-*.part")):
                os.kill(working[0], signal.SIGKILL)
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    made = list(run_local(Job(recipe, 1, "brats"), range(3), out, 1))
    killer.join()
    assert sorted(made) == [0, 1, 2]
    assert hashes(out) == hashes(whole)


def test_a_cohort_has_the_names_of_brats_and_labels_of_its_tumour(whole):
    names = {p.name for p in (whole / "SPD-00001-000").iterdir()}
    stem = "SPD-00001-000"
    assert names >= {f"{stem}-{x}.nii.gz" for x in ("t1n", "t2w", "seg", "ct", "labels", "organs")}
    seg = read_nifti(whole / stem / f"{stem}-seg.nii.gz", Quantity.LABEL).data
    labels = read_nifti(whole / stem / f"{stem}-labels.nii.gz", Quantity.LABEL).data
    assert set(seg.unique().tolist()) <= {0, 1, 2, 3, 4}
    assert ((seg == 3) == (labels == Tissue.ENHANCING)).all()
    assert ((seg == 2) == (labels == Tissue.OEDEMA)).all()


def test_an_earlier_run_is_gone_on_with_and_grows(whole, recipe, tmp_path, in_process, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "SPD-00001-000" / "SPD-00001-000-ct.nii.gz").write_bytes(b"damaged")
    shutil.rmtree(out / "SPD-00002-000")
    (out / ".SPD-00002-000.part").mkdir()
    stray = out / "SPD-00003-000"
    stray.mkdir()
    found = walk_cohort(Asked(Job(recipe, 1, "brats"), 3, out), quiet)
    assert (found["made"], found["kept"]) == (2, 1)
    assert hashes(out) == hashes(whole)
    assert not parts(out)
    assert not stray.exists()
    monkeypatch.setattr(cohort, "run_local", lambda *_: iter(()))
    assert walk_cohort(Asked(Job(recipe, 1, "brats"), 3, out), quiet)["kept"] == 3
    with pytest.raises(ValueError, match="--n of at least 3, as many as the folder holds already, got 2"):
        walk_cohort(Asked(Job(recipe, 1, "brats"), 2, out), quiet)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"seed": 2}, "seed"), ({"form": "case"}, "format"), ({"recipe": Recipe()}, "recipe")],
)
def test_a_folder_of_another_cohort_is_refused_untouched(whole, recipe, in_process, change, word):
    before = hashes(whole)
    job = Job(**{"recipe": recipe, "seed": 1, "form": "brats", **change})
    with pytest.raises(ValueError, match=f"one of another {word}; give another --out"):
        walk_cohort(Asked(job, 3, whole), quiet)
    assert hashes(whole) == before


def test_a_folder_that_holds_other_files_is_refused(recipe, tmp_path, in_process):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="got one that holds other files"):
        walk_cohort(Asked(Job(recipe, 1, "brats"), 1, tmp_path), quiet)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_two_runs_in_one_folder_do_not_mix(whole, recipe, monkeypatch):
    def second(*_):
        walk_cohort(Asked(Job(recipe, 1, "brats"), 3, whole), quiet)
        yield 0

    monkeypatch.setattr(cohort, "run_local", second)
    with pytest.raises(ValueError, match="got one that another run is making"):
        walk_cohort(Asked(Job(recipe, 1, "brats"), 3, whole), quiet)


def test_a_full_disk_stops_cleanly_and_more_room_goes_on(whole, recipe, tmp_path, in_process, monkeypatch):
    out, real = tmp_path / "out", cohort_job.write_made

    def full(made, folder, *rest):
        if made.name == "SPD-00001-000":
            (folder / "half.nii.gz").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / "half.nii.gz"))
        real(made, folder, *rest)

    monkeypatch.setattr(cohort_job, "write_made", full)
    with pytest.raises(ValueError, match="room for 3 cases, got a full disk after 1, which stay"):
        walk_cohort(Asked(Job(recipe, 1, "brats"), 3, out), quiet)
    assert finished(out, 0)
    assert not parts(out)
    assert [p.name for p in out.glob("SPD-*")] == ["SPD-00000-000"]
    monkeypatch.setattr(cohort_job, "write_made", real)
    assert walk_cohort(Asked(Job(recipe, 1, "brats"), 3, out), quiet)["kept"] == 1
    assert hashes(out) == hashes(whole)


def test_a_case_whose_seal_finds_no_room_is_not_kept(whole, recipe, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cohort_job, "whole_file", full)
    with pytest.raises(OSError, match="No space left"):
        keep(Job(recipe, 1, "brats"), 0, tmp_path)
    assert not list(tmp_path.glob("SPD-*"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_croissant_reads_the_manifest_and_every_hash_is_right(whole):
    dataset = mlcroissant.Dataset(jsonld=str(whole / "croissant.json"))
    assert not dataset.metadata.issues.errors
    assert not dataset.metadata.issues.warnings
    listed = {one.content_url: one.sha256 for one in dataset.metadata.distribution}
    files = {str(p.relative_to(whole)): p for p in whole.rglob("*") if p.is_file()}
    there = {n for n in files if not n.startswith(".cohort") and n != "croissant.json"}
    assert set(listed) == there
    assert all(hashlib.sha256(files[n].read_bytes()).hexdigest() == sha for n, sha in listed.items())
    records = list(dataset.records("cases"))
    assert [r["cases/id"].decode() for r in records] == [f"SPD-0000{k}-000" for k in range(3)]
    told = [json.loads(line) for line in (whole / "parameters.jsonl").read_text().splitlines()]
    assert [r["cases/age_years"] for r in records] == [t["anatomy"]["age_years"] for t in told]
    assert "not a medical device" in dataset.metadata.description


def test_the_kept_recipe_makes_the_same_cohort(whole, recipe):
    assert parse((whole / "recipe.toml").read_text()) == recipe


def test_contact_sheet_shows_a_row_for_each_case(whole):
    from matplotlib.image import imread

    assert (
        imread(whole / "contact_sheet_01.png").shape[0]
        == 3 * imread(whole / "SPD-00000-000" / "preview.png").shape[0]
    )
    assert not (whole / "contact_sheet_02.png").exists()


def test_a_case_folder_reads_back_with_structures_and_displacement(tmp_path):
    recipe = parse(TINY + "distortion = 1.0\n[labels]\nnumbers = { grey = 50 }")
    keep(Job(recipe, 1, "case"), 0, tmp_path)
    case = read_case(tmp_path / "SPD-00000-000")
    assert set(case.volumes) == {"t1", "t2", "ct", "electron_density", "mass_density", "labels", "organs"}
    assert {"GTV", "Brain", "External"} <= set(case.structures.structures)
    assert 50 in case.volumes["labels"].data.unique()
    assert Tissue.GREY not in case.volumes["labels"].data.unique()
    field = read_displacement(tmp_path / "SPD-00000-000" / "displacement.nii.gz")
    np.testing.assert_allclose(field.grid.affine, case.volumes["ct"].grid.affine, atol=1e-4)


def test_a_dicom_study_reads_back_and_is_the_same_bytes_again(tmp_path):
    recipe = parse(TINY)
    for name in ("a", "b"):
        keep(Job(recipe, 1, "dicom"), 0, tmp_path / name)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    study = tmp_path / "a" / "SPD-00000-000"
    ct, source = read_series(study / "CT")
    mr, of = read_series(study / "T1")
    assert ct.grid == mr.grid
    assert (source.study_uid, source.patient_id, source.frame) == (of.study_uid, of.patient_id, of.frame)
    structures = read_rtstruct(study / "RTSTRUCT.dcm", ct.grid, source)
    labels = read_nifti(study / "maps" / "labels.nii.gz", Quantity.LABEL).data[0]
    tumour = (labels == Tissue.ENHANCING) | (labels == Tissue.NECROSIS) | (labels == Tissue.INFILTRATION)
    assert int((structures.mask("GTV") ^ tumour).sum()) <= 0.02 * int(tumour.sum())


def test_default_recipe_is_the_default_and_every_named_one_reads():
    assert read_recipe(None) == read_recipe("default") == Recipe()
    assert set(recipes()) == {"brats-like", "default", "fast", "postoperative", "randomised", "small"}
    assert len({repr(read_recipe(name)) for name in recipes()}) == len(recipes())


def run(*arguments: str):
    return CliRunner().invoke(app, ["synth", "cohort", *arguments])


def test_the_command_prints_json_and_a_table(tmp_path, in_process):
    recipe = tmp_path / "r.toml"
    recipe.write_text(TINY)
    arguments = ["--n", "1", "--recipe", str(recipe), "--out", str(tmp_path / "out")]
    first = run(*arguments, "--json")
    assert first.exit_code == 0
    told = json.loads(first.stdout)
    assert told["made"] == 1
    assert told["summary"]["n"] == 1
    second = run(*arguments)
    assert "(0 made, 1 kept)" in second.stdout
    assert "Research use only" in second.stdout


BAD = [
    ("[grid]\nspacing = [1, 1, -1]", "[grid] of the recipe: expected a spacing of 0.2 to 8 mm"),
    ("[tumour]\nvolume_cc = -4", "[tumour] of the recipe: expected a tumour of more than 0 cc"),
    ("[tumour]\nvolume_cc = 9000", "less than a brain"),
    ("[tumour]\nshares = { sarcoma = 1 }", "got sarcoma"),
    ("[mri]\ncontrasts = ['t7']", "[mri] of the recipe: expected contrasts of"),
    ("[labels]\nnumbers = { skull = 3 }", "got 3 for both"),
    ("[labels]\nnumbers = { bone = 30 }", "unknown tissue 'bone'"),
    ("[anatomy]\nsize_sd = 'big'", "size_sd in [anatomy] of the recipe: expected a finite number"),
    ("[anatomi]\n", "got 'anatomi'"),
    ("no toml", "expected a recipe in TOML"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_a_bad_recipe_ends_with_status_2_one_sentence_and_no_file(tmp_path, text, sentence):
    recipe = tmp_path / "r.toml"
    recipe.write_text(text)
    expect_refused(tmp_path, sentence, "--recipe", str(recipe))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--recipe", "nowhere.toml"], "got no such file"),
        (["--format", "analyze"], "expected --format brats, case, dicom, got 'analyze'"),
        (["--seed", "-1"], "expected --seed of 0 or more"),
        (["--n", "0"], "expected --n of 1 to 100000 cases, got 0"),
        (["--workers", "0"], "expected --workers of 1 to 1024, got 0"),
        (["--workers", "2", "--cluster", "a:1"], "a cluster has workers of its own"),
        (["--anatomy", "nowhere"], "expected"),
    ],
)
def test_bad_options_end_with_status_2_one_sentence_and_no_file(tmp_path, wrong, sentence):
    expect_refused(tmp_path, sentence, *wrong)


def label_map(folder: Path, *tissues: int) -> None:
    grid = Grid((12, 12, 12), np.diag([8.0, 8.0, 8.0, 1.0]))
    data = torch.zeros(1, 12, 12, 12, dtype=torch.uint8)
    for depth, tissue in enumerate(tissues, start=1):
        data[:, depth:-depth, depth:-depth, depth:-depth] = tissue
    write_nifti(Volume(data, grid, Quantity.LABEL), folder / "head.nii.gz")


@pytest.mark.parametrize(
    ("text", "tissues", "sentence"),
    [
        ("", (), "expected"),
        ('map = { 1 = "scalp", 4 = "grey" }', (1, 4), "skull"),
        ('map = { 1 = "scalp", 2 = "skull", 2 = "csf", 4 = "grey" }', (1, 2, 4), "every key once"),
        ('map = { 1 = "scalp", 2 = "skull", 02 = "csf", 4 = "grey" }', (1, 2, 4), "2"),
        ('map = { 1 = "scalp", 2 = "bones", 4 = "grey" }', (1, 2, 4), "bones"),
    ],
    ids=["empty folder", "no skull", "a number twice", "a number twice in two spellings", "unknown tissue"],
)
def test_bad_anatomy_ends_with_status_2_one_sentence_and_no_file(tmp_path, text, tissues, sentence):
    folder = tmp_path / "heads"
    folder.mkdir()
    if text:
        label_map(folder, *tissues)
        (folder / "anatomy.toml").write_text(f'[[head]]\nname = "a"\nlabels = "head.nii.gz"\n{text}\n')
    expect_refused(tmp_path, sentence, "--anatomy", str(folder))


def test_a_displacement_reads_back_as_it_was_written(tmp_path):
    grid = Grid((4, 5, 6), np.diag([1.0, 2.0, 3.0, 1.0]))
    data = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    write_displacement(Volume(data, grid, Quantity.DISPLACEMENT), tmp_path / "u.nii.gz")
    found = read_displacement(tmp_path / "u.nii.gz")
    assert torch.equal(found.data, data)
    assert found.grid == grid


def expect_refused(tmp_path: Path, sentence: str, *wrong: str) -> None:
    out = tmp_path / "out"
    number = [] if "--n" in wrong else ["--n", "1"]
    result = run(*number, "--out", str(out), *wrong)
    assert result.exit_code == 2
    *bars, said = result.stderr.strip().splitlines()
    assert said.startswith("spindose: ")
    assert not any("spindose" in bar for bar in bars)
    assert sentence in said
    assert result.stdout == ""
    assert not out.exists()
