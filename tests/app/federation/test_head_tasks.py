"""Contours and synthetic CT as tasks of a federation, on heads of a few voxels."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.catalogue import Spec, import_files
from app.contour_nets import read_own
from app.ct_nets import read_nets
from app.federation.approvals import approve
from app.federation.client import replied
from app.federation.contour_task import ContourTask
from app.federation.gate import answers_of
from app.federation.in_process import InProcessGrid
from app.federation.keys import lead_keys
from app.federation.learning import Budget, Task, learn, score
from app.federation.mr2ct_task import Mr2ctTask
from app.federation.node_file import read_node
from app.federation.result import weights_at, write_result
from app.federation.rounds import trained
from app.federation.study import Study, signed
from app.federation.tasks import cells_of, network_of, task_of
from app.report.sign import private_key
from imaging.grid import Grid
from imaging.nifti import write_nifti
from imaging.phantoms import sphere
from imaging.segmentations import write_seg_nrrd
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from models.fit import Fit

SMALL = {
    "net": {"features": [4, 4, 4, 4, 4, 4], "sharp": 4},
    "shape": [64, 32, 32],
    "window": [64, 32, 32],
    "spacing": 4.0,
}
CONTOURS = Study(
    "blobs", "contours", {**SMALL, "network": "own", "names": {"Blob": ["my blob"]}}, rounds=2, steps=2
)
MR2CT = Study("numbers", "mr2ct", SMALL, rounds=2, steps=2)
STUDIES = {"contours": CONTOURS, "mr2ct": MR2CT}
GRID = Grid((24, 24, 24), np.diag([4.0, 4.0, 4.0, 1.0]))


def put(folder: Path, n: int) -> None:
    """A head of water with a bright ball of bone, drawn, elsewhere in every patient; its CT beside it."""
    generator = np.random.default_rng(n)
    blob, head = sphere(GRID, generator.uniform(36, 56, 3), 13.0), sphere(GRID, np.full(3, 46.0), 40.0)
    mr = 60.0 * head + 60.0 * blob + torch.from_numpy(generator.uniform(0, 4, GRID.shape))
    ct = torch.where(head, 0.0, -1000.0) + 800.0 * blob
    mri, drawn, pair = folder / "drawn" / str(n), folder / "drawn" / str(n) / "a.seg.nrrd", folder / "pairs"
    mri.mkdir(parents=True)
    write_nifti(Volume(mr[None].float(), GRID, Quantity.MR), mri / "t1.nii.gz")
    blobs = StructureSet(GRID, {"my blob": Structure(blob, RoiType.ORGAN, (1, 2, 3))})
    write_seg_nrrd(blobs, drawn)
    here = pair / f"1BA00{n}"
    here.mkdir(parents=True)
    write_nifti(Volume(mr[None].float(), GRID, Quantity.MR), here / "mr.nii.gz")
    write_nifti(Volume(ct[None].float(), GRID, Quantity.HU), here / "ct.nii.gz")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two sites of two patients each."""
    folder = tmp_path_factory.mktemp("sites")
    for n in range(4):
        put(folder / ("north" if n < 2 else "south"), n)
    return {name: folder / name for name in ("north", "south")}


@pytest.fixture(scope="module")
def task(sites: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Task]:
    """The task of the north, made ready once."""
    ready = tmp_path_factory.mktemp("ready")
    return lambda kind: task_of(STUDIES[kind], (data_of(sites["north"], kind),), ready, 0.5, quiet)


@pytest.fixture(autouse=True)
def fitting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Balls of water are no heads that a registration could be judged by."""
    monkeypatch.setattr("app.paired_material.unfit", lambda *_: "")


def data_of(site: Path, kind: str) -> Path:
    return site / ("drawn" if kind == "contours" else "pairs")


def quiet(_: str, __: float) -> None: ...


@pytest.mark.parametrize("kind", STUDIES)
def test_the_same_arguments_give_the_same_bits_and_leave_what_came(task: Callable[[str], Task], kind: str):
    one = task(kind)
    assert (one.n_training, one.n_held_out) == (1, 1)
    start = dict(one.network().state_dict())
    kept = {name: t.clone() for name, t in start.items()}
    budget = Budget(Fit(steps=2, warmup=1))
    state = torch.random.get_rng_state()
    first = learn(start, one, budget, seed=3).weights
    torch.rand(5)
    again = learn(start, one, budget, seed=3).weights
    other = learn(start, one, budget, seed=4).weights
    torch.random.set_rng_state(state)
    assert score(first, one).errors == score(again, one).errors
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[k], again[k]) and torch.equal(start[k], kept[k]) for k in start)
    assert any(not torch.equal(first[k], start[k]) for k in start)
    assert any(not torch.equal(first[k], other[k]) for k in start)


@pytest.mark.parametrize("kind", STUDIES)
def test_weights_of_another_network_are_refused(task: Callable[[str], Task], kind: str):
    other = STUDIES["mr2ct" if kind == "contours" else "contours"]
    with pytest.raises(ValueError, match="expected the weights of the network that was agreed on"):
        score(network_of(other).state_dict(), task(kind))


class Always(torch.nn.Module):
    """Answers the same of every voxel."""

    def __init__(self, said: list[float]) -> None:
        super().__init__()
        self.said = torch.nn.Parameter(torch.tensor(said))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.said.view(1, -1, 1, 1, 1).repeat(len(x), 1, *x.shape[2:])


def test_dice_of_a_structure_found_everywhere_follows_from_its_share_of_what_is_known(
    task: Callable[[str], Task],
):
    one = task("contours")
    assert isinstance(one, ContourTask)
    allowed = load_file(one.held_out[0].path)["allowed"]
    inside, n = int((allowed == 2).sum()), int((allowed > 0).sum())
    # Dice of a set with all voxels is 2 m / (m + n).
    assert one.score(Always([0.0, 9.0]))["dice"] == pytest.approx(2 * inside / (inside + n), abs=1e-3)
    assert one.score(Always([9.0, 0.0]))["dice"] == 0.0


def test_error_of_water_everywhere_is_the_mean_distance_of_numbers_from_water(
    task: Callable[[str], Task], tmp_path: Path
):
    one = task("mr2ct")
    assert isinstance(one, Mr2ctTask)
    pair = load_file(one.held_out[0].path)
    # The fourth level is that of water.
    water = Always([0.0] * 4 + [60.0] + [0.0] * 6)
    mean = float(pair["ct"].float()[pair["body"] > 0].abs().mean())
    assert one.score(water)["mae_hu"] == pytest.approx(mean, rel=1e-3)
    # A second pair of the same patient, all of water, halves it: patients count, whose pairs are averaged.
    path = tmp_path / "water.safetensors"
    save_file({**pair, "ct": torch.zeros_like(pair["ct"])}, path)
    both = replace(one, held_out=[*one.held_out, replace(one.held_out[0], path=path)])
    assert (both.n_held_out, both.score(water)["mae_hu"]) == (1, pytest.approx(mean / 2, rel=1e-3))


@pytest.mark.parametrize("kind", STUDIES)
def test_counts_have_the_cells_that_were_agreed_on_and_each_patient_once(
    task: Callable[[str], Task], kind: str
):
    counts = task(kind).counts()
    assert {name: tuple(cells) for name, cells in counts.items()} == cells_of(STUDIES[kind])
    assert all(sum(cells.values()) == 2 for cells in counts.values())


def test_figures_are_named_by_the_task():
    assert answers_of("evaluate", CONTOURS) == ("patients", "dice")
    assert answers_of("evaluate", MR2CT) == ("patients", "mae_hu")


@pytest.mark.parametrize("kind", STUDIES)
def test_two_sites_train_together_and_what_they_leave_is_read_as_what_one_trains(
    sites: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setenv("SPINDOSE_MODELS", str(tmp_path / "models"))
    study, (key, public) = STUDIES[kind], lead_keys(tmp_path, "lead")
    nodes = {}
    for n, (name, folder) in enumerate(sites.items(), start=1):
        (tmp_path / name).mkdir()
        (tmp_path / name / "node.toml").write_text(
            f'name = "{name}"\n[data]\n{kind} = ["{data_of(folder, kind)}"]\nheld_out = 0.5\n'
            f'[askers]\nlead = "{public}"\n[limits]\npatients = 1\n'
        )
        node = read_node(tmp_path / name / "node.toml")
        approve(node, study, "Ada", "trial")
        nodes[n] = lambda message, node=node: replied(message, node)
    found = trained(InProcessGrid(nodes), study, signed(study, private_key(key)), tmp_path, quiet)
    assert [r.sites for r in found.rounds] == [(1, 2)] * 2
    errors = found.rounds[-1].errors
    assert set(errors) == set(answers_of("evaluate", study))
    assert errors["patients"] == 2
    assert all(math.isfinite(e) for e in errors.values())
    write_result(found, study, {1: "north", 2: "south"}, tmp_path)
    path = weights_at(tmp_path, study)
    if kind == "contours":
        assert read_own(path, "cpu")[1].classes.names == ("none", "Blob")
    else:
        assert read_nets([path])[1].spacing == 4.0
    files = sorted(path.parent.iterdir())
    model = import_files(Spec("together", "consortium", "Trial", "head", "MR"), files, "Ada", "trial")
    assert model is not None
    assert model.card["federation"][path.name]["sites"] == ["north", "south"]


@pytest.mark.parametrize(
    ("study", "model", "why"),
    [
        (CONTOURS, {"network": "liver"}, "expected a network of head, organs, or own"),
        (CONTOURS, {"names": {"Blob": "my blob"}}, "expected names of structures"),
        (CONTOURS, {"network": "own"}, "expected 1 to 30 structures"),
        (CONTOURS, {"folder": "/etc"}, "under .model. of this task's study, got others"),
        (MR2CT, {"shape": [65, 32, 32]}, "whole times 32"),
        (MR2CT, {"shape": [32, 32, 32]}, "one of them twice or more"),
        (MR2CT, {"spacing": True}, "expected another kind of value"),
        (MR2CT, {"spacing": 0.01}, "expected a spacing of 0.5 to 8.0 mm"),
        (MR2CT, {"net": {"features": [9999] * 6}}, "at most 1024 channels"),
        (MR2CT, {"net": {"outputs": 3}}, "of a network in a study, got others"),
    ],
)
def test_settings_that_no_network_has_are_refused(study: Study, model: dict, why: str):
    with pytest.raises(ValueError, match=why):
        network_of(replace(study, model=model))
