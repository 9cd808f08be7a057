"""``spindose mr2ct`` with networks: files in, files out, and what is refused."""

import json
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from pydicom import dcmread
from torch import nn
from typer.testing import CliRunner

from app import ct_nets
from app.cli import app
from app.ct_nets import read_nets
from imaging.dicom.series import read_series
from imaging.dicom.writer import write_mr
from imaging.grid import Grid, axial, close
from imaging.nifti import read_nifti, write_nifti
from imaging.source import Source
from imaging.volume import Quantity, Volume
from models.unet import UNetConfig, unet
from models.weights import CARD, save_weights
from mr2ct.regression import LEVELS, N_OUTPUTS

NET = UNetConfig(inputs=2, outputs=N_OUTPUTS, features=(4, 4, 4, 4, 4, 4))
# A ball is no head: told so, the command goes on all the same.
ANYWAY = ("--anyway", "--no-bias-correction")


def saved(path: Path, name: str = "mr2ct", spacing: float = 6.0) -> Path:
    """A network that says 40 HU of everything and 10 more for each seed in the file's name."""
    net = unet(NET)
    torch.manual_seed(0)
    last = [m for m in net.modules() if isinstance(m, nn.Conv3d)][-1]
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    value = 40.0 + 10 * int(path.stem[-1])
    upper = int(np.searchsorted(LEVELS, value))
    part = (value - LEVELS[upper - 1]) / (LEVELS[upper] - LEVELS[upper - 1])
    share = torch.zeros(len(LEVELS))
    share[upper - 1 : upper + 1] = torch.tensor([1 - part, part])
    said = torch.cat([torch.tensor([-3.0]), share.clamp(min=1e-12).log()])  # the scale, then levels
    last.bias.data = said.repeat_interleave(8)
    config = asdict(NET) | {"spacing": spacing, "shape": (64, 64, 64), "window": (64, 64, 64)}
    save_weights(net.state_dict(), dict.fromkeys(CARD, "") | {"name": name, "config": config}, path)
    return path


def head(path: Path, shift: float = 0.0) -> Path:
    """A ball as large as a head."""
    grid = axial(np.full(3, -120.0), np.full(3, 120.0), (5.0, 5.0, 5.0))
    at = torch.from_numpy(np.moveaxis(np.indices(grid.shape), 0, -1) * 5.0 - 117.5).float()
    ball = (at - torch.tensor([shift, 0.0, 0.0])).norm(dim=-1) < 90
    signal = (300.0 + at[..., 2]) * ball  # a clipped scan alone has one value in all of a head
    write_nifti(Volume(signal[None], grid, Quantity.MR), path)
    return path


def run(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["mr2ct", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def test_an_ensemble_converts_two_contrasts_and_says_where_it_disagrees(tmp_path: Path) -> None:
    scan, other = head(tmp_path / "t1.nii.gz"), head(tmp_path / "t2.nii.gz")
    nets = [saved(tmp_path / f"net-{n}.safetensors") for n in (0, 4)]
    ct, sd = tmp_path / "ct.nii.gz", tmp_path / "sd.nii.gz"
    words = [scan, other, "--out", ct, "--uncertainty", sd, "--json", *ANYWAY]
    for net in nets:
        words += ["--weights", net]
    code, out, err = run(*words)
    assert code == 0, err
    told = json.loads(out)
    assert (told["contrasts"], told["method"]) == (2, "2 networks")
    assert "not a medical device" in told["note"]
    assert any("without a brain's space" in said for said in told["cautions"])  # tissue everywhere
    made, given = read_nifti(ct, Quantity.HU), read_nifti(scan, Quantity.MR)
    assert made.grid == given.grid
    middle = (0, 24, 24, 24)
    assert float(made.data[middle]) == pytest.approx(60, abs=1)  # the mean of 40 and 80
    deviation = float(read_nifti(sd, Quantity.HU_DEVIATION).data[middle])
    scale = 1000 * float(np.log1p(np.exp(-3))) + 2
    assert deviation == pytest.approx(np.hypot(20, np.sqrt(2) * scale), rel=0.02)


def test_heads_that_lie_apart_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    scan, away = head(tmp_path / "t1.nii.gz"), head(tmp_path / "t2.nii.gz", shift=45.0)
    net = saved(tmp_path / "net-0.safetensors")
    code, _, err = run(scan, away, "--out", tmp_path / "ct.nii.gz", "--weights", net, *ANYWAY)
    assert code == 2
    assert "one head in one place, got MRI 2" in " ".join(err.split())
    assert not (tmp_path / "ct.nii.gz").exists()


def test_what_does_not_go_together_gets_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ct_nets, "ZOO", tmp_path / "zoo")
    scan = head(tmp_path / "t1.nii.gz")
    net, other = saved(tmp_path / "net-0.safetensors"), saved(tmp_path / "net-1.safetensors", spacing=4.0)
    strange = saved(tmp_path / "net-2.safetensors", name="tissues")
    out = ["--out", tmp_path / "ct.nii.gz"]
    for words, sentence in (
        ([scan, *out, "--weights", net, "--weights", other], "networks of one configuration"),
        ([scan, *out, "--weights", strange], "weights of `spindose train mr2ct`"),
        ([scan, *out, "--weights", net, "--bulk"], "one MRI alone with --bulk"),
        ([scan, *out, "--weights", net, "--uncertainty", tmp_path], "that holds something"),
        ([scan, *out, "--weights", net, "--uncertainty", out[1]], "another place than --out"),
        ([scan, scan, scan, *out, "--weights", net, *ANYWAY], "1 to 2 contrasts"),
        ([scan, *out, "--weights", net, "--device", "abacus"], "--device such as cpu"),
        ([scan, scan, *out], "--weights for several contrasts"),
    ):
        code, _, err = run(*words)
        assert code == 2, words
        assert sentence in " ".join(err.split()), err
    assert not (tmp_path / "ct.nii.gz").exists()
    with pytest.raises(ValueError, match=r"weights none\.safetensors with a card"):
        read_nets([tmp_path / "none.safetensors"])


def test_a_ball_is_no_head_and_nothing_is_written_until_told(tmp_path: Path) -> None:
    scan, net = head(tmp_path / "t1.nii.gz"), saved(tmp_path / "net-0.safetensors")
    for words in (("--weights", net, "--no-bias-correction"), ("--bulk",)):
        code, _, err = run(scan, "--out", tmp_path / "ct.nii.gz", *words)
        assert code == 2
        assert "an MRI of an adult's head, got one" in " ".join(err.split())
        assert "--anyway" in err
    assert not (tmp_path / "ct.nii.gz").exists()


def series(folder: Path, tmp_path: Path) -> Source:
    """The ball as a DICOM series of sagittal slices that leave gaps."""
    ball = read_nifti(head(tmp_path / "ball.nii.gz"), Quantity.MR)
    grid = Grid(ball.grid.shape, ball.grid.affine[:, [1, 2, 0, 3]])
    mr = Volume(ball.data.permute(0, 2, 3, 1), grid, Quantity.MR)
    source = write_mr(mr, Source(patient_id="ID-4711", patient_name="Nobody^Known"), folder)
    for file in folder.iterdir():
        dataset = dcmread(file)
        dataset.SliceThickness = "3"
        dataset.save_as(file)
    return source


def test_dicom_in_gives_dicom_out_in_one_frame_and_says_what_slices_leave_out(tmp_path: Path) -> None:
    source = series(tmp_path / "mr", tmp_path)
    words = ["--out", tmp_path / "ct", "--uncertainty", tmp_path / "sd", "--anyway", "--json"]
    code, out, err = run(tmp_path / "mr", *words, "--weights", saved(tmp_path / "net-0.safetensors"))
    assert code == 0, err
    told = json.loads(out)
    assert told["bias_correction"]
    assert any("3.0 mm thick and leave gaps of 2.0 mm" in said for said in told["cautions"])
    assert "4711" not in out + err
    made, theirs = read_series(tmp_path / "ct", Quantity.HU)
    given = read_series(tmp_path / "mr", Quantity.MR)[0]
    assert close(made.grid, given.grid)
    assert float(made.data[0, 24, 24, 24]) == pytest.approx(40, abs=1)
    assert (theirs.frame, theirs.study_uid, theirs.patient_id) == (
        source.frame,
        source.study_uid,
        source.patient_id,
    )
    (file,) = (tmp_path / "sd").iterdir()
    deviation = dcmread(file)
    assert deviation.FrameOfReferenceUID == source.frame
    assert deviation.ReferencedSeriesSequence[0].SeriesInstanceUID == source.series_uid
    scale = 1000 * float(np.log1p(np.exp(-3))) + 2
    assert deviation.pixel_array[24, 24, 24] == pytest.approx(np.sqrt(2) * scale, rel=0.02)
    first = dcmread(min((tmp_path / "ct").iterdir()))
    assert "by 1 network; RESEARCH USE ONLY" in first.DerivationDescription


def test_headers_that_place_a_scan_twice_or_nowhere_get_one_sentence(tmp_path: Path) -> None:
    series(tmp_path / "mr", tmp_path)
    file = sorted((tmp_path / "mr").iterdir())[3]
    dataset = dcmread(file)
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.save_as(file)
    scan = nib.load(head(tmp_path / "two.nii.gz"))
    scan.set_qform(np.diag([-5.0, 5.0, 5.0, 1.0]), code=1)
    nib.save(scan, tmp_path / "two.nii.gz")
    sheared = scan.affine.copy()
    sheared[0, 1] = 2.0
    nib.save(nib.Nifti1Image(scan.get_fdata(), sheared), tmp_path / "sheared.nii.gz")
    net = saved(tmp_path / "net-0.safetensors")
    for name, sentence in (
        ("mr", "one orientation, got several"),
        ("two.nii.gz", "agree on left and right"),
        ("sheared.nii.gz", "got a sheared affine"),
    ):
        code, _, err = run(tmp_path / name, "--out", tmp_path / "ct.nii.gz", "--weights", net, "--anyway")
        assert code == 2, name
        assert sentence in " ".join(err.split()), err
    assert not (tmp_path / "ct.nii.gz").exists()
