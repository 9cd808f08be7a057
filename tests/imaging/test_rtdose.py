"""Doses out and in."""

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from pydicom.dataset import Dataset

from imaging.dicom.rtdose import read_rtdose, write_rtdose
from imaging.grid import Grid, close, indices
from imaging.resample import resample
from imaging.source import Source
from imaging.volume import Quantity, Volume

SOURCE = Source(
    patient_id="ID-4711",
    patient_name="Secret^Name",
    study_uid="1.2.3.4",
    study_date="20250304",
    study_time="101112",
    study_id="S7",
    frame="1.2.3.6",
)
SHAPE = (13, 11, 7)


def make_dose(grid: Grid, largest: float = 63.37) -> Volume:
    values = torch.rand((1, *grid.shape), generator=torch.Generator().manual_seed(1))
    values[0, 0, 0, 0], values[0, 1, 2, 3] = 0.0, 1.0
    return Volume(values / values.max() * largest, grid, Quantity.DOSE, SOURCE.frame)


def upright(step: float = 2.5) -> Grid:
    affine = np.diag([3.0, 2.0, step, 1.0])
    affine[:3, 3] = [-20.25, 11.5, -33.3]
    return Grid(SHAPE, affine)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_rtdose(make_dose(upright()), SOURCE, tmp_path / "RD.dcm", plan_uid="1.2.3.7")
    return tmp_path / "RD.dcm"


def changed(path: Path, change: Callable[[Dataset], None]) -> Path:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def put(path: Path, **attributes: object) -> Path:
    def change(dataset: Dataset) -> None:
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)

    return changed(path, change)


@pytest.mark.parametrize(("bits", "share"), [(16, 0.5 / 65535), (32, 2e-7)])
def test_dose_comes_back_within_half_a_step(tmp_path: Path, bits: int, share: float) -> None:
    dose = make_dose(upright())
    write_rtdose(dose, SOURCE, tmp_path / "RD.dcm", plan_uid="1.2.3.7", bits=bits)
    back, source = read_rtdose(tmp_path / "RD.dcm")
    assert float((back.data - dose.data).abs().max()) <= float(dose.data.max()) * share * 1.001
    assert close(back.grid, dose.grid, 1e-4)
    assert back.quantity is Quantity.DOSE
    assert (back.frame, source.patient_id, source.study_uid) == ("1.2.3.6", "ID-4711", "1.2.3.4")


@pytest.mark.parametrize("largest", [1e-3, 0.1, 1.0, 59.99, 60.0, 65.535, 72.123456, 1 / 3, 199.9])
def test_hottest_voxel_never_wraps(tmp_path: Path, largest: float) -> None:
    write_rtdose(make_dose(upright(), largest), SOURCE, tmp_path / "RD.dcm", plan_uid="1.2.3.7")
    dataset = pydicom.dcmread(tmp_path / "RD.dcm")
    assert len(dataset["DoseGridScaling"].value.original_string) <= 16
    assert float(dataset.DoseGridScaling) * 65535 >= np.float32(largest)
    assert float(read_rtdose(tmp_path / "RD.dcm")[0].data.max()) == pytest.approx(largest, rel=1e-5)


def test_oblique_dose_keeps_its_place(tmp_path: Path, oblique: Grid) -> None:
    dose = make_dose(Grid(SHAPE, oblique.affine))
    write_rtdose(dose, SOURCE, tmp_path / "RD.dcm", plan_uid="1.2.3.7")
    back, _ = read_rtdose(tmp_path / "RD.dcm")
    assert close(back.grid, dose.grid, 1e-4)
    assert torch.allclose(back.data, dose.data, atol=1e-3)


@pytest.mark.parametrize("axes", ["ijk", "jik", "kij", "kji"])
def test_dose_on_a_grid_of_any_handedness_keeps_its_place(tmp_path: Path, axes: str) -> None:
    """Sagittal, coronal and mirrored grids: the same dose at the same points of the patient."""
    order = ["ijk".index(a) for a in axes]
    grid = upright()
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, order]
    whole = make_dose(grid)
    dose = Volume(
        whole.data.permute(0, *(n + 1 for n in order)).contiguous(),
        Grid(tuple(grid.shape[n] for n in order), affine),
        Quantity.DOSE,
        SOURCE.frame,
    )
    write_rtdose(dose, SOURCE, tmp_path / "RD.dcm", plan_uid="1.2.3.7")
    back, _ = read_rtdose(tmp_path / "RD.dcm")
    assert np.linalg.det(back.grid.affine) > 0
    assert torch.allclose(resample(back, grid).data, whole.data, atol=2e-3)


def test_absolute_frame_offsets_mean_patient_z(written: Path) -> None:
    put(written, GridFrameOffsetVector=[-33.3 + 2.5 * k for k in range(7)])
    back, _ = read_rtdose(written)
    assert close(back.grid, upright(), 1e-4)


def test_descending_frames_are_put_in_order(written: Path) -> None:
    def turn(dataset: Dataset) -> None:
        frames = dataset.pixel_array[::-1]
        dataset.PixelData = frames.tobytes()
        dataset.ImagePositionPatient = [-20.25, 11.5, -33.3 + 15.0]
        dataset.GridFrameOffsetVector = [-2.5 * k for k in range(7)]

    before, _ = read_rtdose(written)
    after, _ = read_rtdose(changed(written, turn))
    assert close(after.grid, before.grid, 1e-4)
    assert torch.equal(after.data, before.data)
    put(written, GridFrameOffsetVector=[-18.3 - 2.5 * k for k in range(7)])
    absolute, _ = read_rtdose(written)
    assert close(absolute.grid, before.grid, 1e-4)
    assert torch.equal(absolute.data, before.data)


def test_feet_first_planes_run_along_their_normal(written: Path) -> None:
    """Rows to the left-right mirror, columns kept: the normal points to the feet."""
    put(written, ImageOrientationPatient=[-1, 0, 0, 0, 1, 0], ImagePositionPatient=[15.75, 11.5, -18.3])
    back, _ = read_rtdose(written)
    assert back.grid.affine[:3, 2] == pytest.approx([0, 0, -2.5])
    put(written, GridFrameOffsetVector=[-18.3 - 2.5 * k for k in range(7)])
    assert close(read_rtdose(written)[0].grid, back.grid, 1e-4)


def test_compressed_dose_is_the_same_dose(written: Path) -> None:
    before, _ = read_rtdose(written)
    after, _ = read_rtdose(changed(written, lambda dataset: dataset.compress(pydicom.uid.RLELossless)))
    assert torch.equal(after.data, before.data)


def test_a_written_dose_says_what_it_is(written: Path) -> None:
    dataset = pydicom.dcmread(written)
    assert (dataset.DoseUnits, dataset.DoseType, dataset.DoseSummationType) == ("GY", "PHYSICAL", "PLAN")
    assert dataset.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == "1.2.3.7"
    assert dataset.SeriesDescription.startswith("RESEARCH ONLY")
    assert dataset.FrameOfReferenceUID == "1.2.3.6"


@pytest.mark.tools
def test_dciodvfy_finds_no_error(written: Path, dciodvfy: Callable[[Path], list[str]]) -> None:
    assert dciodvfy(written) == []


@pytest.mark.tools
def test_dcmdump_opens_it(written: Path, tool: Callable[[str], str]) -> None:
    done = subprocess.run([tool("dcmdump"), str(written)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "RTDoseStorage" in done.stdout


@pytest.mark.tools
def test_plastimatch_reads_the_same_dose_at_the_same_place(
    written: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    out = tmp_path / "dose.nrrd"
    command = [tool("plastimatch"), "convert", "--input", str(written), "--output-dose-img", str(out)]
    subprocess.run(command, capture_output=True, check=True)
    image = SimpleITK.ReadImage(str(out))
    dose = make_dose(upright())
    assert image.GetOrigin() == pytest.approx(tuple(dose.grid.affine[:3, 3]), abs=1e-4)
    assert image.GetSpacing() == pytest.approx(tuple(dose.grid.spacing), abs=1e-4)
    seen = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    assert np.allclose(seen, dose.data[0].numpy(), atol=1e-3)


# Refusals, one by one


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"DoseUnits": "RELATIVE"}, "DoseUnits GY.*got RELATIVE"),
        ({"DoseType": "EFFECTIVE"}, "DoseType PHYSICAL.*got EFFECTIVE"),
        ({"DoseSummationType": "BEAM"}, "DoseSummationType PLAN.*got BEAM"),
        ({"DoseGridScaling": "0"}, "scaling above 0"),
        ({"DoseGridScaling": None}, "scaling above 0"),
        ({"NumberOfFrames": 9, "GridFrameOffsetVector": [2.5 * k for k in range(9)]}, "bytes of dose"),
        ({"GridFrameOffsetVector": [0, 2.5]}, "7 numbers in GridFrameOffsetVector, got 2"),
        ({"GridFrameOffsetVector": [0, 2.5, 5, 7.5, 10.5, 12.5, 15]}, "evenly spaced"),
        ({"GridFrameOffsetVector": [0.0] * 7}, "evenly spaced"),
        ({"GridFrameOffsetVector": [5 + 2.5 * k for k in range(7)]}, "begin with 0"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.3, 1, 0]}, "right angles"),
        ({"ImagePositionPatient": None}, "3 numbers in ImagePositionPatient"),
        ({"PixelRepresentation": 1}, "unsigned"),
    ],
)
def test_a_dose_that_could_land_wrong_is_refused(
    written: Path, attributes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_rtdose(put(written, **attributes))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_truncated_file_is_refused(written: Path, share: float) -> None:
    whole = written.read_bytes()
    written.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"ends early|bytes of dose|broken"):
        read_rtdose(written)


def test_a_file_that_is_no_dose_is_refused(data_free_ct: Path) -> None:
    with pytest.raises(ValueError, match="expected a DICOM RT Dose file, got CT Image Storage"):
        read_rtdose(data_free_ct)


@pytest.fixture
def data_free_ct(make_ct: Callable[..., tuple]) -> Path:
    _, _, folder = make_ct(upright())
    return next(iter(folder.iterdir()))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda d: dataclasses.replace(d, quantity=Quantity.HU), "expected a volume in Gy, got HU"),
        (lambda d: dataclasses.replace(d, data=d.data - 1), "from 0 Gy"),
        (lambda d: dataclasses.replace(d, data=d.data * 0), "above 0 Gy"),
        (lambda d: dataclasses.replace(d, data=d.data / 0), "NaN or infinite"),
        (lambda d: dataclasses.replace(d, frame="1.2.99"), "another frame"),
        (lambda d: dataclasses.replace(d, data=d.data.repeat(2, 1, 1, 1)), "one dose channel"),
    ],
)
def test_a_wrong_dose_is_not_written_and_nothing_is_left(
    tmp_path: Path, spoil: Callable[[Volume], Volume], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        write_rtdose(spoil(make_dose(upright())), SOURCE, tmp_path / "RD.dcm", plan_uid="1.2.3.7")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.data
def test_the_dose_of_another_system_is_read(data: Path) -> None:
    dose, source = read_rtdose(data / "dicom_rt" / "conformant" / "RD16.dcm")
    assert float(dose.data.max()) == pytest.approx(60.0, abs=1e-3)
    assert dose.grid.shape == (64, 64, 40)
    assert dose.grid.affine[:3, 3] == pytest.approx([-94.5, -94.5, -60.0])
    assert repr(source) == "Source(hidden)"


@pytest.mark.data
@pytest.mark.parametrize(("name", "axis"), [("AntPost", 1), ("SupInf", 2)])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_doses_that_grow_along_an_axis_do_so_here(data: Path, name: str, axis: int, step: int) -> None:
    path = data / "dvh" / "nelms" / "DOSE GRIDS" / f"Linear_{name}_{step}mm_Aligned.dcm"
    with pytest.raises(ValueError, match="got FRACTION"):
        read_rtdose(path)
    dose, _ = read_rtdose(path, summation="FRACTION")
    assert dose.grid.spacing == pytest.approx([step] * 3)
    first = np.ceil(indices(dose.grid, np.full((1, 3), -10.0)))[0].astype(int)
    inner = dose.data[0, first[0] : first[0] + 5, first[1] : first[1] + 5, first[2] : first[2] + 5]
    across = [n for n in range(3) if n != axis]
    profile = inner.mean(dim=across)
    assert float((inner.amax(dim=across) - inner.amin(dim=across)).max()) < 1e-4
    assert torch.diff(profile).abs().numpy() == pytest.approx(abs(float(torch.diff(profile)[0])), abs=1e-4)
    assert abs(float(torch.diff(profile)[0])) > 0.5 * step
