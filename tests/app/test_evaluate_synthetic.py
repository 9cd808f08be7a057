import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from app.cli_evaluate_synthetic import evaluate as command
from app.evaluate_synthetic import Asked, classes_of_neighbours, evaluate
from app.evaluated_sets import Where, read_sets
from app.extractors import at_spacing, slice_extractor, volume_extractor
from app.train_encoder import EncoderRun, train_encoder
from app.volume_examples import Lattice
from imaging.grid import Grid
from imaging.nifti import write_nifti
from imaging.volume import Quantity, Volume
from models.encoder import Encoder, EncoderConfig, load_encoder, save_encoder
from models.fit import Fit
from models.unet import UNetConfig, unet
from models.weights import CARD, save_weights
from synth.contrastive import Contrastive
from synth.fidelity.measures import FidelityConfig

SIDE = 32
TINY = EncoderConfig(channels=(8, 8, 8, 16), blocks=(1, 1, 1, 1))
QUICK = FidelityConfig(n_resamples=20, n_splits=5, n_pairs=20)


def quiet(title: str, share: float) -> None:
    assert title
    assert 0 <= share <= 1


def draw(folder: Path, numbers: list[int], seed: int) -> None:
    """Slices of two classes: a head of blobs, and a bright disc on the left or on the right."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    for kind, name in enumerate(("left", "right")):
        (folder / name).mkdir(parents=True)
        for number in numbers:
            cx, cy, r = 8 + 16 * kind + noise.integers(-2, 3), noise.integers(12, 21), noise.integers(3, 6)
            blobs = np.kron(noise.integers(40, 160, (8, 8)), np.ones((4, 4)))
            disc = (x - cx) ** 2 + (y - cy) ** 2 < r**2
            Image.fromarray(np.where(disc, 230, blobs).astype(np.uint8)).save(folder / name / f"{number}.png")
            line = f"{kind} {(cx + 0.5) / SIDE} {(cy + 0.5) / SIDE} {2 * r / SIDE} {2 * r / SIDE}"
            (folder / name / f"{number}.txt").write_text(line)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty real patients of each class, twelve fresh ones, copies of those trained on, and an encoder."""
    root = tmp_path_factory.mktemp("evaluate")
    draw(root / "real", [60 * n for n in range(40)], 0)
    draw(root / "fresh", list(range(12)), 1)
    torch.manual_seed(0)
    save_encoder(
        Encoder(TINY), dict.fromkeys(CARD, "") | {"name": "tiny"}, root / "encoder-slices.safetensors"
    )
    train = read_sets(where(root, "fresh"), quiet).train
    for n, name in enumerate(train.names[::5]):
        kind, number = name.split()
        (root / "copies" / kind).mkdir(parents=True, exist_ok=True)
        for end in ("png", "txt"):
            shutil.copy(root / "real" / kind / f"{number}.{end}", root / "copies" / kind / f"{n}.{end}")
    return root


def where(root: Path, synthetic: str, **more: object) -> Where:
    return Where(root / "real", root / synthetic, side=SIDE, **more)  # type: ignore[arg-type]


def asked(root: Path, synthetic: str) -> Asked:
    return Asked(where(root, synthetic), root, QUICK, n_copies=20, n_pairs=3)


def test_copies_of_the_training_set_are_flagged(folders: Path, tmp_path: Path) -> None:
    facts = evaluate(asked(folders, "copies"), tmp_path / "out", quiet)
    assert "distance" in facts["flagged"]
    assert "correlation" in facts["flagged"]
    assert facts["privacy"]["memorised_share"] == 1
    assert facts["verdicts"]["privacy"].startswith("Training images leak")
    first = facts["pairs"]["by_distance"][0]
    assert first["value"] == pytest.approx(0, abs=1e-5)
    assert first["train"].split()[0] in ("left", "right")
    assert facts["pairs"]["by_correlation"][0]["value"] == pytest.approx(1, abs=1e-3)


def test_independent_draws_are_not_flagged_and_page_and_file_say_the_same(
    folders: Path, tmp_path: Path
) -> None:
    facts = evaluate(asked(folders, "fresh"), tmp_path / "out", quiet)
    assert facts["flagged"] == []
    # The control is 20 disguised copies, and the correlation undoes their shift and mirroring.
    assert facts["privacy"]["positive_control_caught"] is True
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["evaluation.html", "evaluation.json"]
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert "esearch" in kept["note"]
    assert kept["verdicts"] == facts["verdicts"]
    assert kept["sets"]["train"]["images"] == 60
    assert kept["sets"]["held_out"]["images"] == 20
    assert (kept["extractor"]["name"], len(kept["extractor"]["sha256"])) == ("tiny", 64)
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "Research use only" in page
    assert kept["extractor"]["sha256"] in page
    assert page.count("data:image/png;base64,") == 4 + 6
    assert "<script" not in page
    for beyond in ("http://", "https://", "url("):
        assert beyond not in page
    for row in kept["figures"]:
        assert row["value"] in page
        assert row["verdict"] in page


def test_the_same_seed_holds_out_what_training_held_out(folders: Path) -> None:
    from app.generator_material import slice_material

    told = slice_material(folders / "real", SIDE, 0.25, 3).told["held-out numbers"]
    found = read_sets(where(folders, "fresh", seed=3), quiet).held_out
    assert sorted(found.names) == sorted(f"{c} {n}" for c, ns in told.items() for n in ns)


def test_boxes_and_labels_of_slices_lie_where_the_disc_is(folders: Path) -> None:
    sets = read_sets(where(folders, "fresh"), quiet)
    train = sets.train
    assert train.boxes is not None
    assert sets.labels == ("outside the box", "box of left", "box of right")
    for n in range(len(train)):
        inside = train.labels[n] > 0
        assert float(train.images[n, 0][inside].mean()) > float(train.images[n, 0][~inside].mean()) + 0.5
        (top, bottom), (left, right) = train.boxes[n].round().int().tolist()
        assert int(inside.sum()) == pytest.approx((bottom - top) * (right - left), rel=0.5)


def test_a_folder_of_its_own_may_be_held_out(folders: Path) -> None:
    found = read_sets(where(folders, "copies", held_out=folders / "fresh"), quiet)
    assert (len(found.train), len(found.held_out)) == (80, 24)


def test_nothing_is_left_behind_by_an_evaluation_that_fails(folders: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    draw(few, [1], 5)
    with pytest.raises(ValueError, match="8 training, held-out and synthetic"):
        evaluate(Asked(Where(folders / "real", few, side=SIDE), folders, QUICK), tmp_path / "out", quiet)
    assert [p.name for p in tmp_path.iterdir()] == ["few"]


def test_bad_folders_get_one_sentence(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "scan.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    real, fresh = str(folders / "real"), str(folders / "fresh")
    new = str(tmp_path / "new")
    spindose = Typer()
    spindose.command()(command)
    for words, sentence in (
        ([real, str(tmp_path / "none"), new], "--synthetic to name a folder"),
        ([real, str(tmp_path / "empty"), new], "CLASS/NUMBER.jpg"),
        ([str(tmp_path / "empty"), fresh, new], "folder of cases"),
        ([real, fresh, str(tmp_path / "full")], "new or empty folder"),
        ([real, fresh, new, "--held-out-share", "1.5"], "share between 0 and 1"),
        ([real, fresh, new, "--extractor", str(tmp_path)], "encoder-slices.safetensors"),
    ):
        options = ["--real", words[0], "--synthetic", words[1], "--out", words[2], *words[3:]]
        done = CliRunner().invoke(spindose, options)
        assert done.exit_code == 2
        assert sentence in " ".join(done.output.split())
    assert not (tmp_path / "new").exists()
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["scan.txt"]


def test_the_class_is_that_of_most_neighbours() -> None:
    references = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1]])
    classes = torch.tensor([0, 0, 1, 1, 1])
    found = classes_of_neighbours(torch.tensor([[0.05], [5.0]]), references, classes, k=3)
    assert found.tolist() == [0, 1]


def test_an_encoder_is_trained_into_what_evaluate_takes(folders: Path, tmp_path: Path) -> None:
    recipe = Contrastive(TINY, projection=8, fit=Fit(steps=2, batch=8, warmup=1))
    run = EncoderRun(recipe, side=SIDE, held_out=0.3)
    took = train_encoder(run, folders / "real", tmp_path / "encoder", quiet)
    assert took["steps"] == 2
    assert slice_extractor(tmp_path / "encoder").sha256 == took["weights_sha256"]
    _, card = load_encoder(tmp_path / "encoder" / "encoder-slices.safetensors")
    assert set(CARD) <= set(card)
    assert 0 <= card["metrics"]["copies_found"] <= 1
    assert card["data"]["training slices"] + card["data"]["held-out slices"] == 80


def put_case(folder: Path, name: str, seed: int) -> None:
    """A head of 48 mm with a brain and a tumour in it, whose brightness and place are drawn."""
    noise = np.random.default_rng(seed)
    case = folder / name
    case.mkdir(parents=True)
    grid = Grid((24, 24, 24), np.diag([3.0, 3.0, 3.0, 1.0]))
    at = torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij"))
    brain = (at - 11.5).abs().amax(0) <= 9
    middle = torch.from_numpy(noise.integers(8, 15, 3)).float()
    core = (at - middle[:, None, None, None]).abs().amax(0) <= 3
    blobs = torch.from_numpy(np.kron(noise.uniform(200, 500, (6, 6, 6)), np.ones((4, 4, 4)))).float()
    for word, bright in (("t1n", 200.0), ("t2f", 500.0)):
        signal = (blobs + bright * core) * brain
        write_nifti(Volume(signal[None], grid, Quantity.MR), case / f"{name}-{word}.nii.gz")
    seg = (3 * core).to(torch.uint8)
    write_nifti(Volume(seg[None], grid, Quantity.LABEL), case / f"{name}-seg.nii.gz")


def test_volumes_are_judged_by_the_tissue_network(tmp_path: Path) -> None:
    for n in range(16):
        put_case(tmp_path / "real", f"Doe_{n:02d}", n)
    for n in range(8):
        put_case(tmp_path / "fresh", f"Drawn_{n:02d}", 100 + n)
    config = UNetConfig(outputs=2, features=(4, 4, 4, 4, 8, 4))
    card = dict.fromkeys(CARD, "") | {"name": "tiny", "config": {**config.as_json(), "spacing": 2.0}}
    torch.manual_seed(0)
    save_weights(unet(config).state_dict(), card, tmp_path / "tissues.safetensors")
    place = Where(tmp_path / "real", tmp_path / "fresh", share=0.5, lattice=Lattice((16, 16, 16), 4.0))
    out = tmp_path / "out"
    facts = evaluate(Asked(place, tmp_path, QUICK, n_copies=8, n_pairs=2), out, quiet)
    assert facts["kind"] == "volumes"
    assert facts["contrasts"] == ["t1n", "t2f"]
    assert facts["fidelity"]["n_dimensions"] == 2 * 8
    assert facts["privacy"]["n_train"] == facts["privacy"]["n_held_out"] == 8
    # Nothing on the page names a patient's folder.
    assert "Doe_" not in (out / "evaluation.html").read_text() + (out / "evaluation.json").read_text()


def test_volumes_go_to_the_networks_voxels_and_scale() -> None:
    image = torch.full((1, 1, 16, 16, 16), 1 / 3)
    signal = at_spacing(image, 4.0, 2.0)
    assert signal.shape == (1, 1, 64, 64, 64)
    # A third is signal 1 of a scale of 0 to 1.5; beyond the 64 mm of the lattice is air.
    assert torch.allclose(signal[0, 0, :32, :32, :32], torch.ones(32, 32, 32))
    assert float(signal[0, 0, 32:].max()) == 0


def test_weights_of_other_networks_are_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tissue network of one contrast"):
        volume_extractor(3.0, folders / "encoder-slices.safetensors")
    with pytest.raises(ValueError, match=r"tissues\.safetensors"):
        volume_extractor(3.0, tmp_path)
