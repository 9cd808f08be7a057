"""Segmentations read back as they were written, and refused where they lead astray."""

from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from imaging.grid import Grid, close
from imaging.segmentations import write_labels, write_seg_nrrd
from imaging.segmentations_reader import label_names, read_labels, read_seg_nrrd
from imaging.structures import RoiType, Structure, StructureSet


@pytest.fixture
def drawn(oblique: Grid) -> StructureSet:
    masks = torch.zeros((3, *oblique.shape), dtype=torch.bool)
    masks[0, 1:5, 2:6, 1:4], masks[1, 2:4, 3:5, 2:3], masks[2, 5:7, 7:9, 4:6] = True, True, True
    names = ("Brain", "Brainstem", "Eye_L")
    return StructureSet(
        oblique,
        {n: Structure(m, RoiType.ORGAN, (200, 10, 51)) for n, m in zip(names, masks, strict=True)},
    )


def test_segments_come_back_voxel_by_voxel_with_names_and_colours(
    drawn: StructureSet, tmp_path: Path
) -> None:
    write_seg_nrrd(drawn, tmp_path / "a.seg.nrrd")
    back = read_seg_nrrd(tmp_path / "a.seg.nrrd")
    assert close(back.grid, drawn.grid)
    assert list(back.structures) == list(drawn.structures)
    for name, one in drawn.structures.items():
        assert torch.equal(back.mask(name), one.mask)
        assert back.structures[name].color == one.color


def test_ras_is_turned_into_lps(tmp_path: Path) -> None:
    # A voxel at i = 1 lies 1 mm to the right and 2 mm to the front of the patient in RAS: -1, -2 in LPS.
    data = np.zeros((3, 3, 3), dtype=np.uint8)
    data[1] = 1
    header = {
        "space": "right-anterior-superior",
        "space directions": np.diag([1.0, 1.0, 1.0]),
        "space origin": np.array([0.0, 2.0, 5.0]),
        "Segment0_ID": "Segment_1",
        "Segment0_Name": "Eye",
    }
    nrrd.write(str(tmp_path / "a.seg.nrrd"), data, header)
    back = read_seg_nrrd(tmp_path / "a.seg.nrrd")
    assert (back.grid.affine @ [1, 0, 0, 1])[:3].tolist() == [-1, -2, 5]
    assert back.mask("Eye")[1].all()


def test_files_that_lead_elsewhere_or_are_damaged_are_refused(drawn: StructureSet, tmp_path: Path) -> None:
    write_seg_nrrd(drawn, tmp_path / "a.seg.nrrd")
    whole = (tmp_path / "a.seg.nrrd").read_bytes()
    header, _, voxels = whole.partition(b"\n\n")
    for name, content, said in (
        ("elsewhere", header + b"\ndata file: /etc/hostname\n\n" + voxels, "another file"),
        ("cut", whole[:-30], "damaged"),
        ("words", b"no header at all", "does not read as NRRD"),
        (
            "nowhere",
            header.replace(b"left-posterior-superior", b"scanner-xyz") + b"\n\n" + voxels,
            "where it lies",
        ),
    ):
        path = tmp_path / f"{name}.seg.nrrd"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            read_seg_nrrd(path)


def test_label_map_and_description_come_back(drawn: StructureSet, tmp_path: Path) -> None:
    apart = StructureSet(drawn.grid, {n: drawn.structures[n] for n in ("Brain", "Eye_L")})
    write_labels(apart, tmp_path / "a.nii.gz", tmp_path / "a.txt")
    names = label_names(tmp_path / "a.txt")
    assert names == {1: "Brain", 2: "Eye_L"}
    back = read_labels(tmp_path / "a.nii.gz", names)
    assert all(torch.equal(back.mask(n), apart.mask(n)) for n in apart.structures)
    assert set(read_labels(tmp_path / "a.nii.gz", {1: "Brain", 5: "Lens"}).structures) == {
        "Brain",
        "label 2",
        "Lens",
    }
    (tmp_path / "a.txt").write_text("Brain 1\n")
    with pytest.raises(ValueError, match="expected lines such as"):
        label_names(tmp_path / "a.txt")


def test_names_come_from_toml_too_and_each_stands_once(tmp_path: Path) -> None:
    path = tmp_path / "names.toml"
    path.write_text('Stem = 2\n"N. opticus" = 9\nBackground = 0\n')
    assert label_names(path) == {2: "Stem", 9: "N. opticus"}
    for text, said in (("A = 'b'", "whole numbers"), ("A = 1\nB = 1", "once, got 1 twice"), ("A =", "TOML")):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            label_names(path)


def test_a_file_of_itk_lies_where_itk_says(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.ones((4, 5, 6), dtype=np.uint8))
    image.SetOrigin((3.0, -7.0, 11.0))
    image.SetSpacing((1.0, 2.0, 3.0))
    for key, value in (("ID", "S1"), ("Name", "Ball"), ("LabelValue", "1")):
        image.SetMetaData(f"Segment0_{key}", value)
    sitk.WriteImage(image, str(tmp_path / "itk.seg.nrrd"))
    at = read_seg_nrrd(tmp_path / "itk.seg.nrrd").grid.affine
    assert np.allclose(at, [[1, 0, 0, 3], [0, 2, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])
