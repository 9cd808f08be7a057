"""``spindose mr2ct`` with networks: files in, files out, and what is refused."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from app import converted
from app.cli import app
from app.converted import read_nets
from imaging.grid import axial
from imaging.nifti import read_nifti, write_nifti
from imaging.volume import Quantity, Volume
from models.unet import UNetConfig, unet
from models.weights import CARD, save_weights

NET = UNetConfig(inputs=2, outputs=2, features=(4, 4, 4, 4, 4, 4))


def saved(path: Path, name: str = "mr2ct", spacing: float = 6.0) -> Path:
    """A network that says 40 HU of everything and 10 more for each seed in the file's name."""
    net = unet(NET)
    torch.manual_seed(0)
    last = [m for m in net.modules() if isinstance(m, nn.Conv3d)][-1]
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    last.bias.data = torch.cat([torch.full((8,), 0.04 + 0.01 * int(path.stem[-1])), torch.full((8,), -3.0)])
    config = asdict(NET) | {"spacing": spacing, "shape": (64, 64, 64)}
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
    words = [
        scan,
        other,
        "--out",
        ct,
        "--uncertainty",
        sd,
        "--json",
        "--weights",
        nets[0],
        "--weights",
        nets[1],
    ]
    code, out, err = run(*words)
    assert code == 0, err
    told = json.loads(out)
    assert (told["contrasts"], told["method"]) == (2, "2 networks")
    assert "not a medical device" in told["note"]
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
    code, _, err = run(scan, away, "--out", tmp_path / "ct.nii.gz", "--weights", net)
    assert code == 2
    assert "one head in one place, got MRI 2" in " ".join(err.split())
    assert not (tmp_path / "ct.nii.gz").exists()


def test_what_does_not_go_together_gets_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converted, "_ZOO", tmp_path / "zoo")
    scan = head(tmp_path / "t1.nii.gz")
    net, other = saved(tmp_path / "net-0.safetensors"), saved(tmp_path / "net-1.safetensors", spacing=4.0)
    strange = saved(tmp_path / "net-2.safetensors", name="tissues")
    out = ["--out", tmp_path / "ct.nii.gz"]
    for words, sentence in (
        ([scan, *out, "--weights", net, "--weights", other], "networks of one configuration"),
        ([scan, *out, "--weights", strange], "weights of `spindose train mr2ct`"),
        ([scan, *out, "--weights", net, "--bulk"], "one MRI alone with --bulk"),
        ([scan, *out, "--weights", net, "--uncertainty", tmp_path / "sd"], "end in .nii or .nii.gz"),
        ([scan, scan, scan, *out, "--weights", net], "1 to 2 contrasts"),
        ([scan, *out, "--weights", net, "--device", "abacus"], "--device such as cpu"),
        ([scan, scan, *out], "--weights for several contrasts"),
    ):
        code, _, err = run(*words)
        assert code == 2, words
        assert sentence in " ".join(err.split()), err
    assert not (tmp_path / "ct.nii.gz").exists()
    with pytest.raises(ValueError, match=r"weights none\.safetensors with a card"):
        read_nets([tmp_path / "none.safetensors"])
