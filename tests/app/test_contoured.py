"""The command that contours, with networks whose answers are known."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from app import contoured as command
from app.cli import app
from app.contour_nets import read_own
from app.contoured import Contourer, read_contourer
from app.contrasts import contrast_of, contrasts_of
from imaging.dicom.rtstruct_reader import read_rtstruct
from imaging.folder import read_case
from imaging.grid import Grid, axial
from imaging.nifti import read_nifti, write_nifti
from imaging.phantoms import sphere
from imaging.volume import Quantity, Volume
from models.unet import UNetConfig, unet
from models.weights import save_weights
from planning.contour.classes import CONTRASTS
from planning.contour.convert import Contoured
from planning.contour.margins import expand
from planning.contour.nets import HEAD_NET, ORGAN_NET
from planning.contour.quality import Quality

GRID = axial(np.full(3, -60.0), np.full(3, 60.0), (2.5, 2.5, 3.0))
EVEN = Quality({"all": [(0.0, 0.0), (1.0, 1.0)]}, 0.0, 3)


@dataclass(frozen=True, eq=False)
class Known(Contourer):
    """Says where bright voxels are, and which channels it was shown."""

    def __call__(self, mr: Volume) -> Contoured:
        seen = [name for name, channel in zip(CONTRASTS, mr.data, strict=True) if channel.any()]
        body = mr.data.amax(dim=0) > 0
        eye = sphere(mr.grid, np.array([20.0, -20.0, 0.0]), 9.0)
        tumour = sphere(mr.grid, np.array([-10.0, 10.0, 5.0]), 12.0)
        masks = {"Body": body, "Brain": body, "GTV": tumour, "Eye_L": eye}
        labels = Volume(3 * tumour[None].to(torch.uint8), mr.grid, Quantity.LABEL, mr.frame)
        agreement = {"Body": 1.0, "Brain": 0.99, "GTV": 0.6, "Eye_L": 0.95}
        return Contoured(masks, labels, agreement, {"Eye_R": "is not seen"}, {"Eye_L": f"saw {seen}"})


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes a ball of some contrast, by its file's name; the networks are those that are known."""
    nets = Known(torch.nn.Identity(), torch.nn.Identity(), HEAD_NET, ORGAN_NET, EVEN)
    monkeypatch.setattr(command, "contourer_of", lambda *_: nets)

    def written(name: str) -> Path:
        noise = torch.rand(GRID.shape, generator=torch.Generator().manual_seed(len(name)))
        data = sphere(GRID, np.zeros(3), 55.0) * (100 + 50 * noise)
        path = tmp_path / name
        write_nifti(Volume(data[None], GRID, Quantity.MR), path)
        return path

    return written


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["contour", *(str(w) for w in words)])
    return done.exit_code, " ".join(done.output.split())


def test_contours_go_out_in_every_form_and_come_back(scans: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said = run(scans("brats_t1c.nii.gz"), scans("x-flair.nii.gz"), "--out", out, "--json")
    assert code == 0, said
    told = json.loads((out / "contours.json").read_text())
    assert told["contrasts"] == ["t1c", "flair"]
    assert told["structures"]["Eye_L"]["why"] == ["saw ['t1c', 'flair']"]
    assert told["look_at"] == ["GTV", "Eye_L", "Eye_R"]
    words = [
        "--derive",
        "CTV = (GTV + 15) & Brain",
        "--derive",
        "PRV_Eye_L = Eye_L + 3",
        "--out",
        tmp_path / "more",
    ]
    assert run(scans("brats_t1c.nii.gz"), *words)[0] == 0
    more = read_case(tmp_path / "more" / "masks").structures
    assert more is not None
    assert torch.equal(more.mask("PRV_Eye_L"), expand(more.mask("Eye_L"), more.grid, 3.0))
    assert not bool((more.mask("CTV") & ~more.mask("Brain")).any())
    assert told["structures"]["GTV"]["expected_dice"] == 0.6
    assert "not a medical device" in told["note"]
    drawn = read_case(out / "masks")
    assert drawn.structures is not None
    assert list(drawn.structures.structures) == ["Body", "GTV", "Brain", "Eye_L"]  # the template's order
    back = read_rtstruct(out / "RTSTRUCT.dcm", drawn.structures.grid, drawn.source)
    for name, structure in drawn.structures.structures.items():
        assert torch.equal(back.mask(name), structure.mask), name
    assert len(list((out / "MR").iterdir())) == GRID.shape[2]
    layers = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "structures.seg.nrrd")))
    assert layers.shape[:3] == GRID.shape[::-1]
    tumour = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "tumour.nii.gz")))
    assert set(np.unique(tumour)) == {0, 3}


def test_a_scan_of_a_patient_who_moved_is_refused_or_brought_along(
    scans: Callable[[str], Path], tmp_path: Path
) -> None:
    first = scans("t1.nii.gz")
    still = read_nifti(scans("flair.nii.gz"), Quantity.MR)
    affine = still.grid.affine.copy()
    affine[:3, 3] += [30.0, -10.0, 5.0]
    moved = Volume(still.data, Grid(still.grid.shape, affine), Quantity.MR)
    write_nifti(moved, tmp_path / "flair.nii.gz")
    words = (first, tmp_path / "flair.nii.gz", "--out", tmp_path / "out")
    code, said = run(*words)
    assert code == 2
    assert "one head in one place" in said
    assert run(*words, "--register")[0] == 0


def test_a_person_is_told_where_to_look(scans: Callable[[str], Path], tmp_path: Path) -> None:
    code, said = run(scans("t1.nii.gz"), "--out", tmp_path / "out")
    assert code == 0, said
    assert "Look at GTV: it is expected to have a Dice of 0.60." in said
    assert "No Eye_R: it is not seen." in said


def test_what_cannot_be_contoured_gets_one_sentence(scans: Callable[[str], Path], tmp_path: Path) -> None:
    scan, other = scans("t1.nii.gz"), scans("scan.nii.gz")
    out = tmp_path / "out"
    for words, sentence in (
        ([scan, other], "expected scan 2 to tell its contrast"),
        ([scan, other, "--contrasts", "t1"], "a contrast for each of 2 scans, got 1"),
        ([scan, other, "--contrasts", "t1,pd"], "expected contrasts of t1, t1c, t2, flair, ct, got 'pd'"),
        ([scan, other, "--contrasts", "t1,t1"], "every contrast once, got t1 twice"),
        ([scan, other, "--aligned"], "one MRI alone with --aligned, got 2"),
        ([scan, "--derive", "PRV = Lung + 3"], "expected one of the structures"),
        ([scan, "--derive", "X = Eye_L - Brain"], "got X empty"),
        ([scan, "--template", tmp_path / "none.toml"], "got no such file"),
    ):
        code, said = run(*words, "--out", out)
        assert code == 2, words
        assert sentence in said
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert run(scan, "--out", out)[0] == 2
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("name", "contrast"),
    [
        ("BraTS-MET-00110-000-t1n.nii.gz", "t1"),
        ("BraTS-MET-00110-000-t1c.nii.gz", "t1c"),
        ("BraTS-MET-00110-000-t2w.nii", "t2"),
        ("BraTS-MET-00110-000-t2f.nii.gz", "flair"),
        ("BraTS20_001_t1ce.nii.gz", "t1c"),
        ("patient T1 post.nii.gz", "t1c"),
        ("sub-01_T2w-FLAIR.nii.gz", "flair"),
        ("brain.nii.gz", None),
    ],
)
def test_names_that_people_give_their_files_tell_the_contrast(name: str, contrast: str | None) -> None:
    assert contrast_of(Path(name)) == contrast
    if contrast:
        assert contrasts_of([Path(name)], ()) == (contrast,)


def test_networks_come_with_their_cards_and_others_are_refused(tmp_path: Path) -> None:
    for name, of in (("head", HEAD_NET), ("organs", ORGAN_NET)):
        config = UNetConfig(4, len(of.classes.names), (4, 4, 4, 4, 4, 4), deep=2)
        said = {"contrasts": CONTRASTS, "classes": of.classes.names, "spacing": 3.0}
        card = dict.fromkeys(("data", "licence", "split", "budget", "metrics", "limits", "does"), "")
        card |= {"name": name, "config": config.as_json() | said}
        save_weights(unet(config).state_dict(), card, tmp_path / f"contour-{name}.safetensors")
    nets = read_contourer(tmp_path)
    assert nets.head_config.spacing == 3.0
    assert nets.quality is None
    with pytest.raises(ValueError, match="--device such as cpu"):
        read_contourer(tmp_path, "abacus")
    (tmp_path / "contour-head.safetensors").replace(tmp_path / "contour-organs.safetensors")
    (tmp_path / "contour-head.json").replace(tmp_path / "contour-organs.json")
    with pytest.raises(ValueError, match=r"weights contour-head\.safetensors with a card"):
        read_contourer(tmp_path)


def test_a_ct_is_contoured_alone_with_the_body_that_its_numbers_show(
    scans: Callable[[str], Path], tmp_path: Path
) -> None:
    scans("t1.nii.gz")  # which networks there are
    ball = sphere(GRID, np.zeros(3), 50.0)
    ct = Volume(torch.where(ball, 35.0, -1000.0)[None], GRID, Quantity.HU)
    write_nifti(ct, tmp_path / "patient_ct.nii.gz")
    out = tmp_path / "out"
    code, said = run(tmp_path / "patient_ct.nii.gz", "--out", out)
    assert code == 0, said
    assert "look at each" in said
    told = json.loads((out / "contours.json").read_text())
    assert told["contrasts"] == ["ct"]
    assert "GTV" not in told["structures"]
    assert told["structures"]["Eye_L"]["expected_dice"] is None
    assert told["structures"]["Eye_L"]["why"] == ["saw ['t1']"]
    drawn = read_case(out / "masks").structures
    assert drawn is not None
    assert torch.equal(drawn.mask("Body"), ball)
    series = sorted((out / "CT").iterdir())
    assert len(series) == GRID.shape[2]
    assert contrast_of(out / "CT") == "ct"
    code, said = run(tmp_path / "patient_ct.nii.gz", tmp_path / "t1.nii.gz", "--out", tmp_path / "no")
    assert code == 2
    assert "MRI together, or a CT alone" in said


class Everywhere(torch.nn.Module):
    """All is a parotid."""

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros_like(x[:, 0]), self.level + torch.zeros_like(x[:, 0])], dim=1)


def test_networks_of_ones_own_add_structures_and_mark_every_file(
    scans: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = UNetConfig(len(CONTRASTS), 2, (4, 4, 4, 4, 4, 4), deep=2)
    card: dict[str, object] = dict.fromkeys(("data", "licence", "split", "budget", "metrics", "limits"), "")
    told = {"contrasts": list(CONTRASTS), "classes": ["none", "Parotid"], "spacing": 5.0}
    card |= {"name": "own", "does": "test", "config": config.as_json() | told}
    own, other = tmp_path / "own.safetensors", tmp_path / "other.safetensors"
    save_weights(unet(config).state_dict(), card, own)
    save_weights(unet(config).state_dict(), card | {"config": config.as_json()}, other)
    net, read = read_own(own, "cpu")
    assert read.classes.names == ("none", "Parotid")
    assert read.spacing == 5.0
    assert not net.training
    code, said = run(scans("t1.nii.gz"), "--own", other, "--out", tmp_path / "no")
    assert code == 2
    assert "expected weights of `spindose train contours own`" in said
    monkeypatch.setattr("app.own_contours.read_own", lambda *_: (Everywhere(), read))
    out = tmp_path / "out"
    code, said = run(scans("t1.nii.gz"), "--own", own, "--out", out)
    assert code == 0, said
    facts = json.loads((out / "contours.json").read_text())
    assert facts["mark"]
    assert facts["models"][-1]["name"] == "own weights"
    assert facts["structures"]["Parotid"]["agreement"] == 1.0
    drawn = read_case(out / "masks").structures
    assert drawn is not None
    assert float(drawn.mask("Parotid").float().mean()) > 0.9
