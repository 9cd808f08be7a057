import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from app.cli import app
from app.filled import AskedFilled, complete
from app.painted import paint
from imaging.brats_folder import CONTRASTS, find_cases
from imaging.grid import Grid, positions
from imaging.nifti import read_nifti, write_nifti
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from models.generator import GeneratorConfig, build
from models.pipeline import GeneratorPipeline, fingerprint
from models.weights import CARD
from synth.conditions import ConditionClass

# The generator's box reaches 64 mm from the middle, in voxels of 8 mm; scans reach 80 mm, in voxels of 4 mm
# whose first axis runs from left to right. Heads and tumours are whole voxels of both.
BOX, MM = 64.0, 4.0
GRID = Grid((40, 40, 40), np.array([[-MM, 0, 0, 78], [0, MM, 0, -78], [0, 0, MM, -78], [0, 0, 0, 1.0]]))
CARD_OF = {"config": {"lattice": {"shape": [16] * 3, "spacing": 8.0}}}


def quiet(title: str, share: float) -> None:
    assert title
    assert 0 <= share <= 1


def saved(folder: Path, card: dict[str, Any], **how: float) -> Path:
    made = {"space": 3, "contrasts": 4, "classes": 12, **how}
    net = build(GeneratorConfig.from_json({"channels": [16, 16], "blocks": 1, **made}))
    nn.init.normal_(net.net.out[2].conv.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    pipeline = GeneratorPipeline(net.eval())
    pipeline.card = {**dict.fromkeys(CARD, "-"), "name": "toy", **card}
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("generator") / "pipeline", CARD_OF)


def block(half: float, middle: tuple[float, ...] = (0, 0, 0), grid: Grid = GRID) -> Tensor:
    """A cube of the patient, by its half side (mm)."""
    index = np.indices(grid.shape).reshape(3, -1).T.astype(np.float64)
    inside = (np.abs(positions(grid, index) - middle) < half).all(axis=1)
    return torch.from_numpy(inside.reshape(grid.shape))


def head(scalp: float = 72.0) -> Tensor:
    """Signal of 200 in a head and, in a brain of 80 mm, 400 and 800 by turns: 600 in voxels of 8 mm."""
    i, j, k = torch.meshgrid(*[torch.arange(40)] * 3, indexing="ij")
    brain = torch.where((i + j + k) % 2 == 0, 400.0, 800.0)
    return torch.where(block(40), brain, 200.0 * block(scalp))


def put(folder: Path, words: tuple[str, ...], seg: Tensor | None = None, labels: bool = False) -> Path:
    """A case of such heads; its labels tell scalp and white matter."""
    folder.mkdir(parents=True)
    for n, word in enumerate(words):
        signal = head() * (n + 1) + torch.rand(GRID.shape) * 1e-3  # bits of all kinds
        write_nifti(Volume(signal[None], GRID, Quantity.MR), folder / f"{folder.name}-{word}.nii.gz")
    if seg is not None:
        label(folder / f"{folder.name}-seg.nii.gz", seg)
    if labels:
        tissues = torch.where(block(40), int(Tissue.WHITE), block(72) * int(Tissue.SCALP))
        label(folder / f"{folder.name}-labels.nii.gz", tissues)
    return folder


def label(path: Path, numbers: Tensor, grid: Grid = GRID) -> Path:
    write_nifti(Volume(numbers.to(torch.uint8)[None], grid, Quantity.LABEL), path)
    return path


def read(path: Path, quantity: Quantity = Quantity.MR) -> Volume:
    return read_nifti(path, quantity)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def asked(case: Path, generator: Path, out: Path, **more: Any) -> AskedFilled:
    return AskedFilled(case, generator, out, n_steps=1, **more)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """What the generator was told of the case; it draws 1/3 everywhere, which is 1 of the scale."""
    seen = []

    def flat(self: GeneratorPipeline, condition: Tensor, *args: object, **more: Any) -> Tensor:
        if more["known"] is not None:
            seen.append({"condition": condition[0], "known": more["known"][0], "image": more["image"][0]})
        return torch.full((1, 4, *condition.shape[2:]), 1 / 3)

    monkeypatch.setattr(GeneratorPipeline, "__call__", flat)
    return seen


def within(tumour: Tensor, edge: float) -> Tensor:
    """All voxels that lie within the edge of a tumour, by brute force."""
    every = torch.nonzero(torch.ones(GRID.shape)).float() * MM
    nearest = torch.cdist(every, torch.nonzero(tumour).float() * MM).amin(dim=1)
    return (nearest <= edge).reshape(GRID.shape)


def test_outside_the_region_every_bit_stays_and_within_it_signal_changes(
    generator: Path, tmp_path: Path
) -> None:
    case = put(tmp_path / "somebody", ("t1n", "t2f"))
    tumour = block(12, (-16, 8, 4))
    facts = paint(
        asked(case, generator, tmp_path / "p1"), label(tmp_path / "t.nii.gz", 3 * tumour), quiet, edge=6.0
    )
    region = within(tumour, 6.0)
    (found,) = find_cases(tmp_path / "p1")
    assert list(found.contrasts) == facts["painted"] == ["t1n", "t2f"]
    for name, path in found.contrasts.items():
        before, after = read(case / f"somebody-{name}.nii.gz"), read(path)
        assert after.grid == before.grid
        assert torch.equal(after.data[0][~region], before.data[0][~region])
        assert bool((after.data[0][region] != before.data[0][region]).all())
    assert found.seg is not None
    seg = read(found.seg, Quantity.LABEL)
    assert seg.grid == GRID
    assert torch.equal(seg.data[0], 3 * tumour.to(torch.uint8))
    assert facts["volumes_cc"] == {"NCR": 0, "ED": 0, "ET": 13.824, "RC": 0}  # 24 mm cubed
    assert facts["centroid_mm"] == [-16, 8, 4]
    parameters = json.loads((tmp_path / "p1" / "parameters.json").read_text())
    assert parameters["generator"]["weights"] == fingerprint(generator)
    assert (parameters["seed"], parameters["edge_mm"]) == (0, 6.0)
    assert parameters["lattice"]["spacing_mm"] == 8
    assert "Research use only" in parameters["note"]
    assert "somebody" not in json.dumps(parameters) + " ".join(hashes(tmp_path / "p1"))


def test_given_contrasts_keep_their_bytes_and_the_others_come_on_their_grid(
    generator: Path, tmp_path: Path
) -> None:
    case = put(tmp_path / "somebody", ("t1ce", "flair"), seg=4 * block(12))  # ET before 2023
    complete(asked(case, generator, tmp_path / "c1"), quiet)
    (found,) = find_cases(tmp_path / "c1")
    assert set(found.contrasts) == set(CONTRASTS)
    for name, word in (("t1c", "t1ce"), ("t2f", "flair")):
        assert found.contrasts[name].read_bytes() == (case / f"somebody-{word}.nii.gz").read_bytes()
    inside = block(BOX)
    for name in ("t1n", "t2w"):
        drawn = read(found.contrasts[name])
        assert drawn.grid == GRID
        assert not bool(drawn.data[0][~inside].any())
        assert float((drawn.data[0][inside] > 0).float().mean()) > 0.5
        assert float(drawn.data.max()) <= 1500
    assert not found.old
    assert found.seg is not None
    assert torch.equal(read(found.seg, Quantity.LABEL).data[0], 3 * block(12).to(torch.uint8))
    parameters = json.loads((tmp_path / "c1" / "parameters.json").read_text())
    assert (parameters["given"], parameters["drawn"]) == (["t1c", "t2f"], ["t1n", "t2w"])
    assert "somebody" not in json.dumps(parameters) + " ".join(hashes(tmp_path / "c1"))


def test_the_same_seed_gives_the_same_bytes(generator: Path, tmp_path: Path) -> None:
    case = put(tmp_path / "case", ("t1n",))
    tumour = label(tmp_path / "t.nii.gz", 2 * block(12))

    def filled(asked_: AskedFilled) -> None:
        complete(asked_, quiet)

    def painted(asked_: AskedFilled) -> None:
        paint(asked_, tumour, quiet)

    runs: tuple[Callable[[AskedFilled], None], ...] = (filled, painted)
    for n, run in enumerate(runs):
        out = [tmp_path / f"{n}{seed}{k}" / "same" for seed, k in ((7, 0), (7, 1), (8, 0))]
        for one, seed in zip(out, (7, 7, 8), strict=True):
            run(asked(case, generator, one, seed=seed))
        first, again, other = map(hashes, out)
        assert first == again
        drawn = "same-t1n.nii.gz" if run is painted else "same-t2w.nii.gz"
        assert first[drawn] != other[drawn]


def test_a_tumour_is_moved_to_the_point_and_painted_with_the_brightness_of_its_surroundings(
    generator: Path, told: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    case = put(tmp_path / "case", ("t2f",))
    fine = Grid((30, 30, 30), np.diag([2.0, 2.0, 2.0, 1.0]))
    file = label(tmp_path / "t.nii.gz", 3 * block(16, (30, 31, 29), fine), fine)
    words = ["synth", "inpaint", str(case), "--tumour", str(file), "--generator", str(generator)]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "p"), "--at", "-20,12.5,-7", "--json"])
    assert done.exit_code == 0, done.output
    seg = read(tmp_path / "p" / "p-seg.nii.gz", Quantity.LABEL)
    centroid = positions(GRID, torch.nonzero(seg.data[0]).double().numpy()).mean(axis=0)
    assert centroid == pytest.approx([-20, 12.5, -7], abs=MM)
    assert json.loads(done.stdout)["centroid_mm"] == pytest.approx(centroid, abs=0.1)
    # Drawn as bright as the brightest hundredth of the generator's voxels, which see the mean of 400 and 800.
    after = read(tmp_path / "p" / "p-t2f.nii.gz").data[0]
    assert float(after[seg.data[0] > 0].min()) == pytest.approx(600, rel=1e-4)
    assert float(after[seg.data[0] > 0].max()) == pytest.approx(600, rel=1e-4)
    assert len(told) == 1


def test_what_is_drawn_of_a_plane_slope_comes_back_where_it_was(
    generator: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Means over voxels and values between them are exact on a slope, so a generator that draws the scan
    # itself must leave the scan as it is, and draw another contrast that is the same share of it everywhere.
    def same(self: GeneratorPipeline, condition: Tensor, *args: object, **more: Any) -> Tensor:
        image = more["image"]
        return torch.zeros(1, 4, *condition.shape[2:]) if image is None else image[:, :1].expand(image.shape)

    monkeypatch.setattr(GeneratorPipeline, "__call__", same)
    at = torch.from_numpy(positions(GRID, np.indices(GRID.shape).reshape(3, -1).T.astype(float))).float()
    slope = (600 + at @ torch.tensor([3.0, -1.5, 0.5])).reshape(GRID.shape)
    case = put(tmp_path / "case", ())
    write_nifti(Volume(slope[None], GRID, Quantity.MR), case / "case-t1n.nii.gz")
    paint(asked(case, generator, tmp_path / "p"), label(tmp_path / "t.nii.gz", block(16)), quiet)
    after = read(tmp_path / "p" / "p-t1n.nii.gz").data[0]
    assert torch.allclose(after, slope, rtol=1e-4)
    complete(asked(case, generator, tmp_path / "c"), quiet)
    inner = block(60)
    ratio = read(tmp_path / "c" / "c-t2w.nii.gz").data[0][inner] / slope[inner]
    assert float(ratio.max() / ratio.min()) == pytest.approx(1, abs=5e-3)  # signal is rounded


@pytest.mark.parametrize("labels", [True, False])
def test_the_generator_is_told_the_tumour_and_all_but_the_region(
    generator: Path, told: list[dict[str, Tensor]], labels: bool, tmp_path: Path
) -> None:
    case = put(tmp_path / "case", ("t1n", "t2w"), seg=2 * block(8, (24, 0, 0)), labels=labels)
    file = label(tmp_path / "t.nii.gz", 3 * block(8, (-16, 8, 0)))
    facts = paint(asked(case, generator, tmp_path / "p"), file, quiet, edge=MM)
    (seen,) = told
    # The condition's first axis runs from right to left, so -16 ± 8 mm are its voxels 5 and 6.
    classes = seen["condition"].argmax(0)
    assert torch.equal(torch.nonzero(classes == ConditionClass.ET).amin(0), torch.tensor([5, 8, 7]))
    assert int((classes == ConditionClass.ET).sum()) == 8
    assert int((classes == ConditionClass.ED).sum()) == 8  # the tumour that was there
    assert facts["told_cc"] == {"NCR": 0, "ED": 0, "ET": 4.096, "RC": 0}
    around = int(ConditionClass.WHITE if labels else ConditionClass.BRAIN)
    assert int(classes[8, 8, 8]) == around
    # 16 mm cubed grow by a voxel of the scan through each face: 2x2 of the generator's there, and no corner.
    unknown = seen["known"] == 0
    assert bool(unknown[[1, 3]].all())
    assert torch.equal(unknown[0], unknown[2])
    assert int(unknown[0].sum()) == 8 + 6 * 4
    assert bool(unknown[0][classes == ConditionClass.ET].all())
    assert torch.allclose(seen["image"][[0, 2], 8, 8, 8], torch.tensor(1 / 3), atol=1e-4)
    seg = read(tmp_path / "p" / "p-seg.nii.gz", Quantity.LABEL).data[0]
    assert torch.equal(seg, (2 * block(8, (24, 0, 0)) + 3 * block(8, (-16, 8, 0))).to(torch.uint8))


def test_the_generator_is_told_whole_contrasts_and_the_classes_that_there_are(
    generator: Path, told: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    for name, more in (("bare", {}), ("seg", {"seg": block(8)}), ("labels", {"labels": True})):
        case = put(tmp_path / "in" / name, ("t1n", "t2w"), **more)
        complete(asked(case, generator, tmp_path / name), quiet)
        drawn = read(tmp_path / name / f"{name}-t1c.nii.gz").data[0]
        assert torch.equal(drawn, 1000.0 * block(BOX))
    bare, seg, labels = told
    assert not bool(bare["condition"].any())
    assert int(seg["condition"][ConditionClass.NCR].sum()) == 8
    assert int(seg["condition"][ConditionClass.BRAIN].sum()) == 16**3 - 8
    assert int(labels["condition"][ConditionClass.WHITE].sum()) == 10**3
    for seen in told:
        assert bool((seen["known"] == torch.tensor([1, 0, 1, 0])[:, None, None, None]).all())
        assert torch.allclose(seen["image"][[0, 2], 8, 8, 8], torch.tensor(1 / 3), atol=1e-4)


def test_labels_in_a_cohorts_numbers_go_out_in_the_projects(
    generator: Path, told: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    case = put(tmp_path / "cohort" / "a", ("t1n",), labels=True)
    path = case / "a-labels.nii.gz"
    tissues = read(path, Quantity.LABEL).data[0]
    label(path, torch.where(tissues == Tissue.WHITE, 200, tissues))
    (tmp_path / "cohort" / "recipe.toml").write_text("[labels]\nnumbers = { white = 200 }\n")
    complete(asked(case, generator, tmp_path / "c"), quiet)
    assert torch.equal(read(tmp_path / "c" / "c-labels.nii.gz", Quantity.LABEL).data[0], tissues)
    assert int(told[0]["condition"][ConditionClass.WHITE].sum()) == 10**3


def test_bad_requests_get_one_sentence_and_begin_no_folder(generator: Path, tmp_path: Path) -> None:
    whole, one = put(tmp_path / "in" / "a", CONTRASTS), put(tmp_path / "in" / "b", ("t1n",))
    apart = put(tmp_path / "two", ("t1n",))
    moved = Grid(GRID.shape, np.diag([MM, MM, MM, 1.0]))
    write_nifti(Volume(head()[None], moved, Quantity.MR), apart / "two-t2w.nii.gz")
    of_labels = saved(tmp_path / "of labels", CARD_OF, classes=0)
    rendering = saved(tmp_path / "rendering", CARD_OF, render_share=0.5)
    tumour, empty, strange, tiny = (
        label(tmp_path / f"{n}.nii.gz", numbers)
        for n, numbers in enumerate((3 * block(8), 0 * block(8), 5 * block(8), block(2, (2, 2, 2))))
    )
    holds = put(tmp_path / "holds", ("t1n",))
    out = tmp_path / "out"
    for words, sentence in (
        (["complete", whole], "got all four"),
        (["complete", tmp_path / "in"], "one case, got one of 2"),
        (["complete", tmp_path / "none"], "got none"),
        (["complete", apart], "one grid, got several"),
        (["complete", one, "--generator", of_labels], "4 contrasts from 12 classes, got 3 axes"),
        (
            ["complete", one, "--generator", rendering],
            "labels or seg for a generator that starts from a render",
        ),
        (["complete", one, "--generator", tmp_path], "folder of a pipeline"),
        (["complete", one, "--seed", "-1"], "--seed of 0 or more"),
        (["complete", one, "--out", holds], "new or empty folder"),
        (["inpaint", apart, "--tumour", tumour], "one grid, got several"),
        (["inpaint", one, "--tumour", tmp_path / "none.nii.gz"], "a NIfTI file"),
        (["inpaint", one, "--tumour", empty], "got an empty one"),
        (["inpaint", one, "--tumour", strange], "got numbers from 0 to 5"),
        (["inpaint", one, "--tumour", tiny], "voxels of 8 mm can show"),
        (["inpaint", one, "--tumour", tumour, "--at", "1,2"], "three numbers in mm"),
        (["inpaint", one, "--tumour", tumour, "--at", "500,0,0"], "the scan shows, got one beyond it"),
        (["inpaint", one, "--tumour", tumour, "--at", "68,0,0"], "inside the head, got one with 25%"),
        (["inpaint", one, "--tumour", tumour, "--at", "54,0,0"], "box of 128 x 128 x 128 mm"),
        (["inpaint", one, "--tumour", tumour, "--edge", "-1"], "--edge of 0 to 50 mm"),
        (["inpaint", one, "--tumour", tumour, "--generator", of_labels], "got 3 axes"),
    ):
        usual = ["--generator", str(generator), "--out", str(out), "--steps", "1"]
        done = CliRunner().invoke(app, ["synth", str(words[0]), *usual, *map(str, words[1:])])
        assert done.exit_code == 2, words
        assert sentence in " ".join(done.output.split()), (words, done.output)
        assert not out.exists()
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []
