from pathlib import Path

import numpy as np
import pytest
import torch

from app.slice_examples import SliceExamples
from app.volume_examples import LabelExamples, Lattice, VolumeExamples, prepare_volumes
from imaging.grid import Grid
from imaging.nifti import write_nifti
from imaging.slices import Slices
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.conditions import ConditionClass, from_bits

LATTICE = Lattice((16, 16, 16), 4.0)


def quiet(title: str, share: float) -> None:
    assert title
    assert 0 <= share <= 1


def put(folder: Path, name: str, labels: bool = True, old: bool = False) -> None:
    """A head of 60 mm with a brain of 40 mm far from the middle of its scan, and a tumour of 26 mm in it."""
    case = folder / name
    case.mkdir(parents=True)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    grid = Grid((40, 40, 40), affine)
    at = torch.stack(torch.meshgrid(*[torch.arange(40.0)] * 3, indexing="ij"))
    far = (at - torch.tensor([24.0, 16.0, 18.0])[:, None, None, None]).abs().amax(0)
    head, brain, core = far <= 15, far <= 10, far <= 6
    tissue = head * int(Tissue.SCALP)
    tissue[brain], tissue[core] = int(Tissue.WHITE), int(Tissue.ENHANCING)
    signal = 300.0 * head + 300.0 * brain + 300.0 * core if labels else 600.0 * brain + 300.0 * core
    seg = torch.where(core, 4 if old else 3, 0).to(torch.uint8)
    words = ("t1", "flair") if old else ("t1n", "t2f")
    for word in words:
        write_nifti(Volume(signal[None], grid, Quantity.MR), case / f"{name}-{word}.nii.gz")
    write_nifti(Volume(seg[None], grid, Quantity.LABEL), case / f"{name}-seg.nii.gz")
    if labels:
        tissues = Volume(tissue[None].to(torch.uint8), grid, Quantity.LABEL)
        write_nifti(tissues, case / f"{name}-labels.nii.gz")


def test_a_case_lies_about_its_brain_with_tissues_and_tumour(tmp_path: Path) -> None:
    put(tmp_path / "in", "a")
    (path,) = prepare_volumes([tmp_path / "in"], LATTICE, tmp_path / "out", quiet)
    found = VolumeExamples([path], 0, shift=0)[0]
    classes = found["condition"].argmax(0)
    brain = (classes == ConditionClass.WHITE) | (classes == ConditionClass.ET)
    middle = torch.nonzero(brain).float().mean(0)
    assert torch.allclose(middle, torch.full((3,), 7.5), atol=0.3)
    assert float(brain.sum()) * 64 == pytest.approx(42.0**3, rel=0.15)
    assert float((classes == ConditionClass.ET).sum()) * 64 == pytest.approx(26.0**3, rel=0.25)
    assert found["present"].tolist() == [1, 0, 0, 1]
    image = found["image"]
    assert float(image[1].max()) == -1  # a contrast that is not there
    assert float(image[0][classes == ConditionClass.ET].mean()) > float(
        image[0][classes == ConditionClass.WHITE].mean()
    )


def test_a_stripped_case_of_before_2023_is_brain_with_enhancing_tumour(tmp_path: Path) -> None:
    put(tmp_path / "in", "a", labels=False, old=True)
    (path,) = prepare_volumes([tmp_path / "in"], LATTICE, tmp_path / "out", quiet)
    found = VolumeExamples([path], 0, shift=0)[0]
    kinds = set(found["condition"].argmax(0).unique().tolist())
    assert kinds == {ConditionClass.OUTSIDE, ConditionClass.BRAIN, ConditionClass.ET}


def test_preparing_goes_on_and_does_not_mix(tmp_path: Path) -> None:
    put(tmp_path / "in", "a")
    put(tmp_path / "in", "b")
    first, second = prepare_volumes([tmp_path / "in"], LATTICE, tmp_path / "out", quiet)
    second.unlink()
    before = first.stat().st_mtime_ns
    assert prepare_volumes([tmp_path / "in"], LATTICE, tmp_path / "out", quiet) == [first, second]
    assert first.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="others'"):
        prepare_volumes([tmp_path / "in"], Lattice((16, 16, 16), 5.0), tmp_path / "out", quiet)


def test_unknown_labels_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "in", "a")
    grid = Grid((8, 8, 8), np.eye(4))
    labels = Volume(torch.full((1, 8, 8, 8), 200, dtype=torch.uint8), grid, Quantity.LABEL)
    write_nifti(labels, tmp_path / "in" / "a" / "a-labels.nii.gz")
    with pytest.raises(ValueError, match="another label"):
        prepare_volumes([tmp_path / "in"], LATTICE, tmp_path / "out", quiet)


def test_images_move_with_their_conditions(tmp_path: Path) -> None:
    put(tmp_path / "in", "a")
    paths = prepare_volumes([tmp_path / "in"], LATTICE, tmp_path / "out", quiet)
    stream = VolumeExamples(paths, 3)
    for n in range(6):
        found = stream[n]
        tumour = found["condition"][ConditionClass.ET] > 0
        assert float(found["image"][0][tumour].min()) > 0.1  # the brightest part, wherever it went
    assert torch.equal(stream[4]["image"], VolumeExamples(paths, 3)[4]["image"])
    assert not torch.equal(stream[4]["image"], stream[5]["image"])


def test_slices_move_with_their_boxes() -> None:
    picture = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    picture[0, 0, 10:26, 36:44] = 255
    slices = Slices(
        picture,
        torch.tensor([1]),
        torch.tensor([[40 / 64, 18 / 64, 8 / 64, 16 / 64]]),
        torch.tensor([0]),
        ("a", "b"),
    )
    stream = SliceExamples(slices, 0)
    for n in range(8):
        found = stream[n]
        assert torch.allclose(found["image"][0], 2 * found["condition"][1] - 1, atol=1e-5)
        assert float(found["condition"][0].max()) == 0
        assert float(found["condition"][1].sum()) == pytest.approx(128, rel=0.25)
    assert len({float(stream[n]["condition"].sum()) for n in range(8)}) > 4


def test_label_maps_come_as_bits_of_their_classes(tmp_path: Path) -> None:
    put(tmp_path / "in", "a")
    paths = prepare_volumes([tmp_path / "in"], LATTICE, tmp_path / "out", quiet)
    volumes = VolumeExamples(paths, 1)
    found = LabelExamples(volumes)[2]
    assert found["condition"].shape == (0, 16, 16, 16)
    assert set(found["image"].unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(from_bits(found["image"][None])[0], volumes[2]["condition"].argmax(0).to(torch.uint8))
