"""Structure sets out and in."""

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from pydicom.dataset import Dataset

from imaging.dicom.rtstruct import read_rtstruct, write_rtstruct
from imaging.dicom.series import read_series
from imaging.grid import Grid, positions
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.uids import seeded_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
SHAPE = (24, 20, 12)


def upright(shape: tuple[int, int, int] = SHAPE) -> Grid:
    affine = np.diag([1.5, 1.25, 3.0, 1.0])
    affine[:3, 3] = [-20.25, 11.5, -33.3]
    return Grid(shape, affine)


def scan(grid: Grid) -> Source:
    return Source(
        patient_id="ID-4711",
        patient_name="Secret^Name",
        study_uid="1.2.3.4",
        study_date="20250304",
        study_time="101112",
        study_id="S7",
        series_uid="1.2.3.5",
        instance_uids=tuple(f"1.2.3.5.{k}" for k in range(grid.shape[2])),
        sop_class=CT,
        frame="1.2.3.6",
        modality="CT",
    )


def ball(grid: Grid, at: tuple[float, float, float], radius: float) -> torch.Tensor:
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in grid.shape], indexing="ij")
    return sum((a - c) ** 2 for a, c in zip(axes, at, strict=True)) < radius**2


def head(grid: Grid) -> StructureSet:
    """A shell, two balls in one structure, a line, a voxel, a random one."""
    shell = ball(grid, (11, 10, 6), 8.6) & ~ball(grid, (12, 9.5, 6), 4.3)
    pair = ball(grid, (4, 4, 5), 2.4) | ball(grid, (18, 15, 6), 3.1)
    line = torch.zeros(grid.shape, dtype=torch.bool)
    line[3:15, 7, 4] = True
    voxel = torch.zeros(grid.shape, dtype=torch.bool)
    voxel[0, 0, 0] = True
    noise = torch.rand(grid.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    return StructureSet(
        grid,
        {
            "Body": Structure(shell, RoiType.EXTERNAL, (0, 255, 0)),
            "PTV": Structure(pair, RoiType.PTV, (255, 0, 0)),
            "Chiasm": Structure(line, RoiType.ORGAN, (0, 0, 255)),
            "Lens": Structure(voxel, RoiType.ORGAN, (1, 2, 3)),
            "Noise": Structure(noise, RoiType.AVOIDANCE, (9, 9, 9)),
        },
        "1.2.3.6",
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    grid = upright()
    path = tmp_path_factory.mktemp("rtstruct") / "RS.dcm"
    write_rtstruct(head(grid), scan(grid), grid, path)
    return path


@pytest.fixture
def written(original: Path, tmp_path: Path) -> Path:
    """A structure set that a test may spoil."""
    return Path(shutil.copy(original, tmp_path))


def changed(path: Path, change: Callable[[Dataset], None]) -> Path:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def same(a: StructureSet, b: StructureSet) -> bool:
    return list(a.structures) == list(b.structures) and all(
        torch.equal(x.mask, y.mask) and x.kind is y.kind and x.color == y.color
        for x, y in zip(a.structures.values(), b.structures.values(), strict=True)
    )


def test_structures_come_back_voxel_by_voxel(written: Path) -> None:
    grid = upright()
    assert same(read_rtstruct(written, grid, scan(grid)), head(grid))


def test_structures_on_an_oblique_series_come_back_voxel_by_voxel(tmp_path: Path, oblique: Grid) -> None:
    grid = Grid(SHAPE, oblique.affine)
    write_rtstruct(head(grid), scan(grid), grid, tmp_path / "RS.dcm")
    assert same(read_rtstruct(tmp_path / "RS.dcm", grid, scan(grid)), head(grid))


def test_only_the_wanted_structures_are_read(written: Path) -> None:
    grid = upright()
    assert list(read_rtstruct(written, grid, scan(grid), ["Lens", "PTV"]).structures) == ["PTV", "Lens"]


def test_each_contour_names_the_image_it_lies_on(written: Path) -> None:
    grid, dataset = upright(), pydicom.dcmread(written)
    for roi in dataset.ROIContourSequence:
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            k = int(contour.ContourImageSequence[0].ReferencedSOPInstanceUID.rsplit(".", 1)[1])
            assert len(points) == contour.NumberOfContourPoints
            assert points[:, 2] == pytest.approx(grid.affine[2, 3] + 3.0 * k, abs=1e-4)


def test_a_written_set_is_unapproved_and_for_research(written: Path) -> None:
    dataset = pydicom.dcmread(written)
    assert dataset.ApprovalStatus == "UNAPPROVED"
    assert dataset.SeriesDescription.startswith("RESEARCH ONLY")
    assert dataset.PatientID == "ID-4711"
    assert dataset.StudyInstanceUID == "1.2.3.4"
    assert dataset.FrameOfReferenceUID == "1.2.3.6"


def test_the_same_identity_and_time_give_the_same_bytes(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    grid = upright()
    how = {
        "series_uid": seeded_uid("s"),
        "instance_uid": seeded_uid("i"),
        "when": datetime(2026, 1, 2, tzinfo=UTC),
    }
    for name in ("a", "b"):
        write_rtstruct(head(grid), scan(grid), grid, tmp_path / name, **how)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.tools
def test_dciodvfy_finds_no_error(written: Path, dciodvfy: Callable[[Path], list[str]]) -> None:
    assert dciodvfy(written) == []


@pytest.mark.tools
def test_dcmdump_opens_it(written: Path, tool: Callable[[str], str]) -> None:
    done = subprocess.run([tool("dcmdump"), str(written)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "RTStructureSetStorage" in done.stdout


@pytest.mark.tools
def test_plastimatch_reads_the_same_voxels(
    tmp_path: Path, make_ct: Callable[..., tuple], tool: Callable[[str], str]
) -> None:
    _, source, folder = make_ct(upright())
    structures = dataclasses.replace(head(upright()), frame=source.frame)
    write_rtstruct(structures, source, upright(), tmp_path / "RS.dcm")
    command = [tool("plastimatch"), "convert", "--input", str(tmp_path / "RS.dcm")]
    command += ["--referenced-ct", str(folder), "--output-prefix", str(tmp_path / "pm")]
    subprocess.run([*command, "--prefix-format", "nrrd"], capture_output=True, check=True)
    for name, structure in structures.structures.items():
        seen = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "pm" / f"{name}.nrrd")))
        assert np.array_equal(seen.transpose(2, 1, 0) > 0, structure.mask.numpy()), name


# Contours from elsewhere


def ring_set(
    written: Path, planes: list[float], radii: tuple[float, ...], kind: str = "PTV", at: float = 0.0
) -> Path:
    """The written set with one structure: circles around one axis on planes at these z."""

    def change(dataset: Dataset) -> None:
        dataset.StructureSetROISequence = dataset.StructureSetROISequence[1:2]
        dataset.RTROIObservationsSequence = dataset.RTROIObservationsSequence[1:2]
        dataset.RTROIObservationsSequence[0].RTROIInterpretedType = kind
        dataset.ROIContourSequence = dataset.ROIContourSequence[1:2]
        contours = []
        angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
        for z in planes:
            for radius in radii:
                item = Dataset()
                item.ContourGeometricType = "CLOSED_PLANAR"
                x, y = at + radius * np.cos(angle), at + radius * np.sin(angle)
                points = np.column_stack([x, y, np.full_like(x, z)]).ravel()
                item.ContourData = [f"{v:.3f}" for v in points]
                item.NumberOfContourPoints = len(x)
                contours.append(item)
        dataset.ROIContourSequence[0].ContourSequence = contours

    return changed(written, change)


def fine(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
    return Grid(shape, affine)


def volume_cc(structures: StructureSet, name: str = "PTV") -> float:
    return float(structures.mask(name).sum()) * structures.grid.voxel_volume / 1000


def test_ring_of_two_contours_has_its_analytic_volume(written: Path) -> None:
    """Nine planes of 3 mm, radii 20 and 10 mm: 25.45 cm³; readers that lose holes find 33.9."""
    grid = fine((0.5, 0.5, 3.0), (90, 90, 15))
    path = ring_set(written, [float(z) for z in np.arange(-12, 13, 3)], (20.0, 10.0))
    read = read_rtstruct(path, grid, dataclasses.replace(scan(grid), instance_uids=()))
    assert volume_cc(read) == pytest.approx(9 * 3 * np.pi * (20**2 - 10**2) / 1000, rel=5e-3)


def test_contours_of_a_coarser_series_fill_the_slices_between(written: Path) -> None:
    grid = fine((0.5, 0.5, 1.0), (90, 90, 41))
    path = ring_set(written, [-9.2, -6.2, -3.2, -0.2, 2.8, 5.8], (15.0,))
    read = read_rtstruct(path, grid, dataclasses.replace(scan(grid), instance_uids=()))
    assert volume_cc(read) == pytest.approx(6 * 3 * np.pi * 15**2 / 1000, rel=5e-3)


def test_slices_midway_between_contours_are_filled_once(written: Path) -> None:
    """Contours on every second slice: eleven planes of 2 mm, whichever neighbour they take."""
    grid = fine((0.5, 0.5, 1.0), (90, 90, 41))
    path = ring_set(written, [float(z) for z in np.arange(-10, 11, 2)], (15.0,))
    read = read_rtstruct(path, grid, dataclasses.replace(scan(grid), instance_uids=()))
    assert volume_cc(read) == pytest.approx(11 * 2 * np.pi * 15**2 / 1000, rel=5e-3)


def test_contours_of_a_finer_series_are_taken_where_slices_lie(written: Path) -> None:
    grid = fine((0.5, 0.5, 2.0), (90, 90, 21))
    path = ring_set(written, [float(z) for z in np.arange(-10, 10.1, 0.5)], (15.0,))
    read = read_rtstruct(path, grid, dataclasses.replace(scan(grid), instance_uids=()))
    filled = [k for k in range(21) if read.mask("PTV")[:, :, k].any()]
    assert filled == list(range(5, 16))
    assert volume_cc(read) == pytest.approx(11 * 2 * np.pi * 15**2 / 1000, rel=5e-3)


def test_slices_without_contours_between_two_parts_stay_empty(written: Path) -> None:
    grid = fine((0.5, 0.5, 3.0), (90, 90, 15))
    path = ring_set(written, [-12.0, -9.0, 9.0, 12.0], (10.0,))
    read = read_rtstruct(path, grid, dataclasses.replace(scan(grid), instance_uids=()))
    filled = [k for k in range(15) if read.mask("PTV")[:, :, k].any()]
    assert filled == [3, 4, 10, 11]


def test_a_target_between_finer_voxels_stays_within_half_a_voxel(written: Path) -> None:
    grid = fine((1.0, 1.0, 3.0), (61, 61, 15))
    path = ring_set(written, [-3.0, 0.0, 3.0], (20.3,), at=0.37)
    mask = read_rtstruct(path, grid, dataclasses.replace(scan(grid), instance_uids=())).mask("PTV")
    points = positions(grid, torch.nonzero(mask).numpy().astype(float))
    assert np.hypot(points[:, 0] - 0.37, points[:, 1] - 0.37).max() <= 20.3
    missed = positions(grid, torch.nonzero(~mask[:, :, 6:9]).numpy().astype(float))
    assert np.hypot(missed[:, 0] - 0.37, missed[:, 1] - 0.37).min() >= 20.3 - 0.01


# Refusals, one by one


def test_a_set_of_another_patient_is_refused_without_naming_them(written: Path) -> None:
    grid = upright()
    with pytest.raises(ValueError, match="another patient") as error:
        read_rtstruct(written, grid, dataclasses.replace(scan(grid), patient_id="OTHER-1"))
    assert "4711" not in str(error.value)
    assert "OTHER" not in str(error.value)


def test_a_set_in_another_frame_of_reference_is_refused(written: Path) -> None:
    grid = upright()
    with pytest.raises(ValueError, match="frame of reference, got another"):
        read_rtstruct(written, grid, dataclasses.replace(scan(grid), frame="1.2.99"))


def test_a_set_drawn_on_another_series_is_refused_unless_allowed(written: Path) -> None:
    grid = upright()
    other = dataclasses.replace(scan(grid), series_uid="1.2.98")
    with pytest.raises(ValueError, match="drawn on another"):
        read_rtstruct(written, grid, other)
    assert same(read_rtstruct(written, grid, other, other_series=True), head(grid))


def test_a_set_that_names_no_series_is_refused(written: Path) -> None:
    def forget(dataset: Dataset) -> None:
        del dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence

    with pytest.raises(ValueError, match="names the series it was drawn on, got one without"):
        read_rtstruct(changed(written, forget), upright(), scan(upright()))


def test_a_set_drawn_on_more_images_than_there_are_is_refused(written: Path) -> None:
    grid = upright()
    fewer = dataclasses.replace(scan(grid), instance_uids=scan(grid).instance_uids[:-2])
    with pytest.raises(ValueError, match="2 of 12 are not in the series"):
        read_rtstruct(written, grid, fewer)


def test_an_empty_target_is_refused(written: Path) -> None:
    def empty(dataset: Dataset) -> None:
        del dataset.ROIContourSequence[1].ContourSequence

    with pytest.raises(ValueError, match="contours for PTV, got an empty structure"):
        read_rtstruct(changed(written, empty), upright(), scan(upright()))


def test_an_empty_organ_is_left_out_unless_asked_for(written: Path) -> None:
    def empty(dataset: Dataset) -> None:
        del dataset.ROIContourSequence[3].ContourSequence

    changed(written, empty)
    assert "Lens" not in read_rtstruct(written, upright(), scan(upright())).structures
    with pytest.raises(ValueError, match="contours for Lens, got an empty structure"):
        read_rtstruct(written, upright(), scan(upright()), ["Lens"])


def test_a_target_beyond_the_scan_is_refused(written: Path) -> None:
    grid = fine((1.0, 1.0, 3.0), (30, 30, 15))
    path = ring_set(written, [-3.0, 0.0, 3.0], (20.0,))
    with pytest.raises(ValueError, match="reaches beyond"):
        read_rtstruct(path, grid, dataclasses.replace(scan(grid), instance_uids=()))


def test_a_target_smaller_than_a_voxel_is_refused(written: Path) -> None:
    grid = fine((4.0, 4.0, 3.0), (20, 20, 15))
    path = ring_set(written, [0.0], (1.0,))
    with pytest.raises(ValueError, match="at least one voxel"):
        read_rtstruct(path, grid, dataclasses.replace(scan(grid), instance_uids=()))


def test_contours_across_the_slices_are_refused(written: Path) -> None:
    grid = upright()
    tilted = Grid(grid.shape, grid.affine @ np.diag([1, 1, 1, 1.0]))
    turn = np.eye(4)
    turn[:3, :3] = [[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]]
    with pytest.raises(ValueError, match="parallel to the slices"):
        read_rtstruct(written, Grid(grid.shape, turn @ tilted.affine), scan(grid))


def test_points_and_open_lines_are_no_target(written: Path) -> None:
    def mark(dataset: Dataset) -> None:
        for contour in dataset.ROIContourSequence[1].ContourSequence:
            contour.ContourGeometricType = "OPEN_NONPLANAR"

    with pytest.raises(ValueError, match="closed planar contours for PTV, got OPEN_NONPLANAR"):
        read_rtstruct(changed(written, mark), upright(), scan(upright()))


def test_a_missing_structure_is_reported_with_those_that_are_there(written: Path) -> None:
    with pytest.raises(ValueError, match="expected ROI GTV in the structure set, got Body, PTV"):
        read_rtstruct(written, upright(), scan(upright()), ["GTV"])


def test_two_structures_of_one_name_are_refused(written: Path) -> None:
    def rename(dataset: Dataset) -> None:
        dataset.StructureSetROISequence[0].ROIName = "PTV"

    with pytest.raises(ValueError, match="same name twice"):
        read_rtstruct(changed(written, rename), upright(), scan(upright()))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(written: Path, share: float) -> None:
    whole = written.read_bytes()
    written.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"ends early|broken"):
        read_rtstruct(written, upright(), scan(upright()))


@pytest.mark.tools
def test_a_truncated_file_of_undefined_lengths_is_refused(written: Path, tool: Callable[[str], str]) -> None:
    endless = written.with_name("endless.dcm")
    subprocess.run([tool("dcmconv"), "-e", str(written), str(endless)], check=True)
    assert same(read_rtstruct(endless, upright(), scan(upright())), head(upright()))
    whole = endless.read_bytes()
    for share in (0.3, 0.6, 0.95):
        endless.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match=r"ends early|broken|not DICOM|without|empty"):
            read_rtstruct(endless, upright(), scan(upright()))


def test_a_file_that_is_no_structure_set_is_refused(tmp_path: Path, make_ct: Callable[..., tuple]) -> None:
    _, source, folder = make_ct(upright())
    with pytest.raises(ValueError, match="expected a DICOM RT Structure Set file, got CT Image Storage"):
        read_rtstruct(next(iter(folder.iterdir())), upright(), source)
    (tmp_path / "text").write_text("no DICOM at all\n" * 50)
    with pytest.raises(ValueError, match="not DICOM"):
        read_rtstruct(tmp_path / "text", upright(), source)


def test_structures_on_another_grid_are_not_written(tmp_path: Path) -> None:
    grid = upright()
    moved = grid.affine.copy()
    moved[0, 3] += 0.5
    with pytest.raises(ValueError, match="another grid"):
        write_rtstruct(head(grid), scan(grid), Grid(SHAPE, moved), tmp_path / "RS.dcm")


def test_structures_are_not_written_on_a_series_without_images(tmp_path: Path) -> None:
    grid = upright()
    with pytest.raises(ValueError, match="one image for each of the 12 slices, got 0"):
        write_rtstruct(
            head(grid), dataclasses.replace(scan(grid), instance_uids=()), grid, tmp_path / "RS.dcm"
        )


def test_an_empty_target_is_not_written_and_nothing_is_left(tmp_path: Path) -> None:
    grid = upright()
    nothing = torch.zeros(grid.shape, dtype=torch.bool)
    empty = StructureSet(grid, {"PTV": Structure(nothing, RoiType.PTV, (1, 1, 1))}, "1.2.3.6")
    with pytest.raises(ValueError, match="target PTV"):
        write_rtstruct(empty, scan(grid), grid, tmp_path / "RS.dcm")
    assert list(tmp_path.iterdir()) == []


# Files of other systems


@pytest.mark.data
def test_ring_by_keyhole_and_ring_by_two_contours_hold_the_same_voxels(data: Path, tmp_path: Path) -> None:
    folder = data / "dicom_rt" / "conformant"
    for file in folder.glob("CT*.dcm"):
        shutil.copy(file, tmp_path)
    ct, source = read_series(tmp_path)
    read = read_rtstruct(folder / "RS.dcm", ct.grid, source)
    assert torch.equal(read.mask("RingXOR"), read.mask("RingKeyhole"))
    assert volume_cc(read, "RingXOR") == pytest.approx(25.45, rel=0.02)


@pytest.mark.data
def test_a_clinical_set_is_read_whole(data: Path) -> None:
    folder = data / "dicom_rt"
    image = pydicom.dcmread(folder / "dicompyler_ct.0.dcm")
    affine = np.diag([*(float(v) for v in image.PixelSpacing), 3.0, 1.0])
    affine[:3, 3] = [*(float(v) for v in image.ImagePositionPatient[:2]), -122.4407]
    grid = Grid((512, 512, 98), affine)
    source = Source(
        patient_id=str(image.PatientID), frame=image.FrameOfReferenceUID, series_uid=image.SeriesInstanceUID
    )
    read = read_rtstruct(folder / "dicompyler_rtss.dcm", grid, source, ["Heart"])
    areas = 0.0
    dataset = pydicom.dcmread(folder / "dicompyler_rtss.dcm")
    for contour in dataset.ROIContourSequence[4].ContourSequence:
        x, y = np.array(contour.ContourData, dtype=float).reshape(-1, 3)[:, :2].T
        areas += abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2
    assert volume_cc(read, "Heart") == pytest.approx(areas * 3 / 1000, rel=2e-3)


@pytest.mark.data
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("shift", ["0", "X"])
def test_a_sphere_drawn_elsewhere_has_its_volume(data: Path, step: int, shift: str) -> None:
    """Radius 12 mm, drawn on slices of 1, 2 and 3 mm, on and off the voxel centres."""
    name = f"Sphere_{step}0_{shift}" + (f"{5 * step:02d}" if shift == "X" else "")
    path = data / "dvh" / "nelms" / "STRUCTURES" / f"{name}.dcm"
    dataset = pydicom.dcmread(path)
    z = [float(c.ContourData[2]) for c in dataset.ROIContourSequence[0].ContourSequence]
    n = round((max(z) - min(z)) / step) + 3
    affine = np.diag([0.25, 0.25, step, 1.0])
    affine[:3, 3] = [-20, -20, min(z) - step]
    grid = Grid((161, 161, n), affine)
    frame = str(dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID)
    source = Source(patient_id=str(dataset.PatientID), frame=frame)
    read = read_rtstruct(path, grid, source, other_series=True)
    (only,) = read.structures
    assert volume_cc(read, only) == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.02)


@pytest.mark.parametrize("name", ["", "a\\b", " PTV", "x" * 65])
def test_a_name_that_dicom_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    grid = upright()
    spoiled = StructureSet(grid, {name: head(grid).structures["PTV"]}, "1.2.3.6")
    with pytest.raises(ValueError, match="names of 1 to 64 characters"):
        write_rtstruct(spoiled, scan(grid), grid, tmp_path / "RS.dcm")
