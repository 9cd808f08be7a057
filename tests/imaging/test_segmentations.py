"""Segmentations against ITK's reader of NRRD, and against the format that ITK-SNAP documents."""

import re
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from imaging.grid import Grid
from imaging.nifti import read_nifti
from imaging.phantoms import sphere
from imaging.segmentations import write_labels, write_seg_nrrd
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity

AFFINE = np.array([[0, 0, -2.0, 40], [1.5, 0, 0, -30], [0, -1.0, 0, 20], [0, 0, 0, 1]])
GRID = Grid((30, 40, 25), AFFINE)


def drawn() -> StructureSet:
    """A brain, a brainstem in it, and an eye beside it."""
    balls = {"Brain": ((15, -8, 0), 12.0), "Brainstem": ((15, -2, -4), 4.0), "Eye_L": ((33, -20, 0), 3.0)}
    colors = {"Brain": (255, 192, 203), "Brainstem": (128, 0, 128), "Eye_L": (0, 255, 255)}
    return StructureSet(
        GRID,
        {
            name: Structure(sphere(GRID, np.array(at, dtype=np.float64), r), RoiType.ORGAN, colors[name])
            for name, (at, r) in balls.items()
        },
    )


def test_every_segment_comes_back_where_it_was_also_where_two_overlap(tmp_path: Path) -> None:
    write_seg_nrrd(drawn(), tmp_path / "a.seg.nrrd")
    image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    layers = np.moveaxis(sitk.GetArrayFromImage(image), [0, 1, 2], [2, 1, 0])  # (i, j, k, layer)
    assert layers.shape == (*GRID.shape, 2)
    direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    assert np.allclose(direction, AFFINE[:3, :3])
    assert np.allclose(image.GetOrigin(), AFFINE[:3, 3])
    header = nrrd.read_header(str(tmp_path / "a.seg.nrrd"))
    for n, (name, s) in enumerate(drawn().structures.items()):
        assert header[f"Segment{n}_Name"] == name
        color = [float(c) * 255 for c in header[f"Segment{n}_Color"].split()]
        assert color == pytest.approx(s.color, abs=0.01)
        layer, value = int(header[f"Segment{n}_Layer"]), int(header[f"Segment{n}_LabelValue"])
        assert np.array_equal(layers[..., layer] == value, s.mask.numpy())
    assert "not a medical device" in header["Comment"]


def test_labels_have_a_description_in_the_columns_of_itk_snap(tmp_path: Path) -> None:
    write_labels(drawn(), tmp_path / "labels.nii.gz", tmp_path / "labels.txt")
    labels = read_nifti(tmp_path / "labels.nii.gz", Quantity.LABEL).data[0]
    row = re.compile(r'^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"(.*)"\s*$')
    lines = (tmp_path / "labels.txt").read_text().splitlines()
    told = [m.groups() for line in lines if not line.startswith("#") and (m := row.match(line))]
    assert len(told) == 4
    assert told[0][0] == "0"
    for n, *rgb, _, _, _, name in told[1:]:
        structure = drawn().structures[name]
        assert tuple(int(c) for c in rgb) == structure.color
        inside = labels == int(n)
        assert bool(inside.any())
        assert not bool((inside & ~structure.mask).any())
    # The smallest of two that overlap is what is seen.
    assert torch.equal(labels == 2, drawn().structures["Brainstem"].mask)


def test_nothing_to_write_and_other_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.seg\.nrrd"):
        write_seg_nrrd(drawn(), tmp_path / "a.nrrd")
    for write in (
        lambda: write_seg_nrrd(StructureSet(GRID, {}), tmp_path / "a.seg.nrrd"),
        lambda: write_labels(StructureSet(GRID, {}), tmp_path / "a.nii.gz", tmp_path / "a.txt"),
    ):
        with pytest.raises(ValueError, match="at least one structure"):
            write()
    assert not list(tmp_path.iterdir())
