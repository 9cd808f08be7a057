"""Structure sets as they were drawn."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.rtstruct_reader import read_contours
from imaging.grid import Grid
from imaging.roi_contours import plane_grid, planes_on, slice_distance
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet

CONTOUR_DATA = Tag("ContourData")
GRID = Grid((12, 12, 4), np.diag([2.0, 2.0, 4.0, 1.0]))
SOURCE = Source(
    patient_id="ID-4711",
    patient_name="Secret^Name",
    study_uid="1.2.3.4",
    series_uid="1.2.3.5",
    instance_uids=tuple(f"1.2.3.5.{k}" for k in range(4)),
    sop_class="1.2.840.10008.5.1.4.1.1.2",
    frame="1.2.3.6",
    modality="CT",
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A PTV and an organ, written by our own writer, for a test to spoil."""
    path = tmp_path / "RS.dcm"
    mask = torch.zeros(GRID.shape, dtype=torch.bool)
    mask[3:9, 3:9, 1:3] = True
    kinds = {"PTV": RoiType.PTV, "Organ": RoiType.ORGAN}
    drawn = {name: Structure(mask, kind, (255, 0, 0)) for name, kind in kinds.items()}
    write_rtstruct(StructureSet(GRID, drawn, SOURCE.frame), SOURCE, GRID, path)
    return path


def changed(path: Path, change: Callable[[Dataset], None]) -> Path:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def circle(radius: float, z: float, at: float = 0.0) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    return np.column_stack([at + radius * np.cos(angle), at + radius * np.sin(angle), np.full_like(angle, z)])


def drawn(path: Path, contours: list[np.ndarray]) -> Path:
    """The set with these contours of the PTV alone."""

    def change(dataset: Dataset) -> None:
        dataset.StructureSetROISequence = dataset.StructureSetROISequence[:1]
        dataset.ROIContourSequence = dataset.ROIContourSequence[:1]
        items = []
        for points in contours:
            item = Dataset()
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(points)
            item.ContourData = [f"{v:.3f}" for v in points.ravel()]
            items.append(item)
        dataset.ROIContourSequence[0].ContourSequence = items

    return changed(path, change)


def shoelace(x: np.ndarray, y: np.ndarray) -> float:
    return abs(float(x @ np.roll(y, -1) - np.roll(x, -1) @ y)) / 2


def test_contours_are_read_where_they_were_drawn(written: Path) -> None:
    rings = [circle(radius, z, at=0.5) for z in (-3.0, 0.0, 3.0) for radius in (20.0, 10.0)]
    read = read_contours(drawn(written, rings))
    (roi,) = read.rois.values()
    assert read.frame == "1.2.3.6"
    assert roi.kind is RoiType.PTV
    for polygon, ring in zip(roi.polygons, rings, strict=True):
        assert polygon == pytest.approx(ring, abs=6e-4)
    assert slice_distance(read) == pytest.approx(3.0)


COS, SIN = np.cos(0.3), np.sin(0.3)
CORONAL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
ASKEW = np.array([[1.0, 0, 0], [0, COS, -SIN], [0, SIN, COS]]) @ np.array(
    [[COS, 0, SIN], [0, 1, 0], [-SIN, 0, COS]]
)


@pytest.mark.parametrize("turn", [np.eye(3), CORONAL, ASKEW])
def test_planes_of_contours_keep_areas_and_distances_however_they_lie(
    written: Path, turn: np.ndarray
) -> None:
    path = drawn(written, [circle(20.0, z) @ turn.T for z in (-4.0, 0.0, 4.0, 8.0)])
    (roi,) = read_contours(path).rois.values()
    grid = plane_grid(roi.polygons, 2.0)
    planes = planes_on(roi.polygons, grid)
    assert np.diff(sorted(planes)) == pytest.approx([2.0] * 3, abs=2e-3)
    assert grid.spacing == pytest.approx([1, 1, 2])
    for (polygon,) in planes.values():
        assert shoelace(*polygon.T) == pytest.approx(180 / 2 * 20**2 * np.sin(np.pi / 90), rel=1e-4)
    # Every contour lies inside the lattice, and axial ones on an upright one.
    assert all((p >= 0).all() and (p <= np.array(grid.shape[:2]) - 1).all() for (p,) in planes.values())
    if np.array_equal(turn, np.eye(3)):
        assert np.array_equal(grid.affine[:3, :3], np.diag([1.0, 1.0, 2.0]))


@pytest.mark.parametrize(
    ("value", "to", "sentence"),
    [
        (5, "9.0", "each in one plane"),
        (3, "20000", "within 10 m"),
        (4, "nan", "finite points"),
        (4, "", "contours of x, y, z"),
    ],
)
def test_contours_that_no_slice_can_hold_are_refused(
    written: Path, value: int, to: str, sentence: str
) -> None:
    def spoil(dataset: Dataset) -> None:
        item = dataset.ROIContourSequence[0].ContourSequence[0]
        values = [str(v) for v in item.ContourData]
        values[value] = to
        data = "\\".join(values).encode()
        item[CONTOUR_DATA] = RawDataElement(CONTOUR_DATA, "DS", None, data, 0, True, True)

    path = drawn(written, [circle(20.0, z) for z in (-3.0, 0.0, 3.0)])
    with pytest.raises(ValueError, match=sentence):
        read_contours(changed(path, spoil))


def test_contours_in_two_frames_of_reference_are_refused(written: Path) -> None:
    def other(dataset: Dataset) -> None:
        dataset.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3.7"

    with pytest.raises(ValueError, match="one frame of reference, got 2"):
        read_contours(changed(written, other))


def test_contours_belong_to_the_scan_that_is_given(written: Path) -> None:
    assert list(read_contours(written, SOURCE).rois) == ["PTV", "Organ"]
    assert list(read_contours(written, SOURCE, ["Organ"]).rois) == ["Organ"]
    with pytest.raises(ValueError, match="another patient"):
        read_contours(written, Source(patient_id="ID-1", frame=SOURCE.frame))


def test_flipped_bytes_end_in_contours_or_in_one_sentence_that_names_nobody(written: Path) -> None:
    whole = drawn(written, [circle(20.0, z) for z in (-3.0, 0.0, 3.0)]).read_bytes()
    chance = np.random.default_rng(0)
    said = []
    for n in range(150):
        broken = bytearray(whole)
        for at in chance.integers(132, len(whole), size=1 + n % 3):
            # The lowest bit leaves most digits digits.
            broken[at] ^= 1 if n % 2 else int(chance.integers(1, 256))
        written.write_bytes(bytes(broken))
        try:
            read = read_contours(written)
            assert all(np.isfinite(p).all() for roi in read.rois.values() for p in roi.polygons)
        except ValueError as refusal:
            said.append(str(refusal))
    assert 20 < len(said) < 140
    assert all(sentence.startswith("expected ") for sentence in said)
    assert not any("Secret" in sentence or "4711" in sentence for sentence in said)
