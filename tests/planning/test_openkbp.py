"""OpenKBP's files keep every voxel, and its scores are those of cases that were built by hand."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.predict.openkbp import patients_of, read_dose, read_patient, write_prediction
from planning.predict.patient import Patient
from planning.predict.scores import metrics, pooled, scored

N = 128**3


def table(path: Path, numbers: np.ndarray, values: np.ndarray | None = None) -> None:
    told = ["" if values is None else f"{v:g}" for v in (numbers if values is None else values)]
    path.write_text(",data\n" + "".join(f"{n},{v}\n" for n, v in zip(numbers, told, strict=True)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A box in which dose may be, a target and an organ in it, water, 4 × 3 × 2 mm; dose 70 and 20 Gy."""
    made = tmp_path / "provided-data" / "train-pats" / "pt_7"
    made.mkdir(parents=True)
    box = np.zeros((128,) * 3, dtype=bool)
    box[50:70, 40:60, 30:50] = True
    target, organ = np.zeros_like(box), np.zeros_like(box)
    target[50:60, 40:50, 30:40] = True
    organ[65:70, 55:60, 45:50] = True
    dose = np.where(target, 70.0, np.where(box, 20.0, 0.0)).ravel()
    inside = np.flatnonzero(box)
    table(made / "ct.csv", inside, np.full(len(inside), 1024))
    table(made / "possible_dose_mask.csv", inside)
    table(made / "dose.csv", inside, dose[inside])
    table(made / "PTV70.csv", np.flatnonzero(target))
    table(made / "LeftParotid.csv", np.flatnonzero(organ))
    (made / "voxel_dimensions.csv").write_text("4.0\n3.0\n2.0\n")
    return made


def shifted(patient: Patient, gray: float) -> Volume:
    assert patient.dose is not None
    return Volume(patient.dose.data + gray * (patient.possible.data > 0), patient.ct.grid, Quantity.DOSE)


def test_a_patient_lies_as_its_axes_say_and_its_dose_comes_back(folder: Path) -> None:
    patient = read_patient(folder)
    assert np.allclose(patient.ct.grid.spacing, (3.0, 4.0, 2.0))  # left, back, up
    assert np.linalg.det(patient.ct.grid.affine) > 0
    where = torch.nonzero(patient.structures.mask("PTV70"))
    assert where.amin(dim=0).tolist() == [40, 50, 88]  # 30 to 39 from the top are 88 to 97 from below
    assert where.amax(dim=0).tolist() == [49, 59, 97]
    assert patient.structures.structures["PTV70"].prescription_gy == 70.0
    assert patient.structures.structures["LeftParotid"].kind is RoiType.ORGAN
    assert set(torch.unique(patient.ct.data).tolist()) == {-1024.0, 0.0}
    assert patient.dose is not None
    out = folder.parent / "pt_7.csv"
    write_prediction(patient.dose, patient, out)
    first = (folder / "possible_dose_mask.csv").read_text().splitlines()[1]
    assert out.read_text().splitlines()[1] == f"{first}70"
    assert torch.equal(read_dose(out, patient.ct.grid).data, patient.dose.data)


def test_patients_are_found_by_their_numbers_wherever_one_points(folder: Path) -> None:
    for n in (10, 2):
        other = folder.parent / f"pt_{n}"
        other.mkdir()
        (other / "ct.csv").write_text(",data\n1,1024\n")
    assert [p.name for p in patients_of(folder.parent)] == ["pt_2", "pt_7", "pt_10"]
    assert [p.name for p in patients_of(folder.parent.parent.parent)] == ["pt_2", "pt_7", "pt_10"]
    assert patients_of(folder) == [folder]
    with pytest.raises(ValueError, match=r"folders such as pt_1 with a ct\.csv"):
        patients_of(_empty(folder))


def _empty(folder: Path) -> Path:
    made = folder.parent / "nothing"
    made.mkdir()
    return made


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "given"
    root.mkdir()
    (root / "pt_1").symlink_to(folder, target_is_directory=True)
    with pytest.raises(ValueError, match="a link that leads out of it"):
        patients_of(root)


def test_scores_of_the_truth_are_0_and_of_1_5_gy_more_everywhere_1_5(folder: Path) -> None:
    patient = read_patient(folder)
    perfect, off = scored(shifted(patient, 0.0), patient), scored(shifted(patient, 1.5), patient)
    assert (perfect.dose_gy, perfect.histogram_gy) == (0.0, 0.0)
    assert off.dose_gy == pytest.approx(1.5)
    assert set(off.off_gy) == {"PTV70", "LeftParotid"}
    assert all(v == pytest.approx(1.5) for one in off.off_gy.values() for v in one.values())
    assert pooled([perfect, off]) == pytest.approx({"dose_gy": 0.75, "dvh_gy": 0.75})


def test_only_what_was_hit_counts_and_dose_where_none_may_be_counts_too(folder: Path) -> None:
    patient = read_patient(folder)
    organ = patient.structures.mask("LeftParotid")
    told = shifted(patient, 0.0)
    wrong = Volume(told.data + 8.0 * organ, told.grid, Quantity.DOSE)
    found = scored(wrong, patient)
    assert found.dose_gy == pytest.approx(8.0 * 125 / 8000)
    assert found.off_gy["LeftParotid"] == pytest.approx({"D0.1cc": 8.0, "Dmean": 8.0})
    assert set(found.off_gy["PTV70"].values()) == {0.0}
    assert found.histogram_gy == pytest.approx(16 / 5)
    beside = told.data.clone()
    beside[0, 0, 0, 0] = 80.0
    assert scored(Volume(beside, told.grid, Quantity.DOSE), patient).dose_gy == pytest.approx(80.0 / 8000)


def test_the_pool_is_of_all_metrics_and_not_of_patients_means(folder: Path) -> None:
    patient = read_patient(folder)
    target = {"PTV70": patient.structures.structures["PTV70"]}
    alone = replace(patient, structures=StructureSet(patient.ct.grid, target))
    one, other = scored(shifted(alone, 2.0), alone), scored(shifted(patient, 0.0), patient)
    assert pooled([one, other])["dvh_gy"] == pytest.approx(3 * 2.0 / 8)  # 3 metrics of 2 Gy, 5 of 0


def test_the_hottest_tenth_of_a_cubic_centimetre_is_counted_in_voxels() -> None:
    rising = np.arange(100.0)
    # 24 mm³: 4 voxels, the percentile 96 of 0..99; 1000 mm³: one voxel, percentile 99.
    assert metrics(rising, 24.0, target=False)["D0.1cc"] == pytest.approx(0.96 * 99)
    assert metrics(rising, 1000.0, target=False)["D0.1cc"] == pytest.approx(0.99 * 99)
    assert metrics(np.array([3.0, 5.0]), 10.0, target=False)["D0.1cc"] == 3.0  # smaller than 0.1 cm³
    assert metrics(rising, 24.0, target=False)["Dmean"] == 49.5
    assert metrics(rising, 24.0, target=True) == pytest.approx(
        {"D99": 0.01 * 99, "D95": 0.05 * 99, "D1": 0.99 * 99}
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("ct.csv", ",data\n1,high\n", r"numbers of voxels with their values in ct\.csv"),
        ("ct.csv", f",data\n{N},5\n", f"voxels 0 to {N - 1} in ct"),
        ("ct.csv", ",data\n1.5,5\n", "a whole number and a value a line"),
        ("ct.csv", ",data\n7,5\n7,6\n", "each voxel once in ct"),
        ("possible_dose_mask.csv", None, r"expected possible_dose_mask\.csv in a patient's folder"),
        ("voxel_dimensions.csv", "4\n3\n", "three sizes of a voxel"),
        ("dose.csv", ",data\n1,-3\n", "doses of 0 to 1000 Gy"),
        ("dose.csv", ",data\n1,nan\n", "doses of 0 to 1000 Gy"),
    ],
)
def test_damaged_files_are_told_by_their_names(
    folder: Path, name: str, text: str | None, message: str
) -> None:
    path = folder / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_patient(folder)


def test_a_structure_without_voxels_is_none_and_a_table_elsewhere_is_not_read(folder: Path) -> None:
    (folder / "Larynx.csv").write_text(",data\n")
    assert "Larynx" not in read_patient(folder).structures.structures
    elsewhere = folder.parent / "ct.csv"
    (folder / "ct.csv").rename(elsewhere)
    (folder / "ct.csv").symlink_to(elsewhere)
    with pytest.raises(ValueError, match=r"expected ct\.csv in a patient's folder"):
        read_patient(folder)


def test_predictions_that_are_none_are_refused(folder: Path) -> None:
    patient = read_patient(folder)
    with pytest.raises(ValueError, match="0 Gy or more"):
        scored(shifted(patient, -30.0), patient)
    with pytest.raises(ValueError, match="0 Gy or more"):
        write_prediction(shifted(patient, -30.0), patient, folder / "x.csv")
    with pytest.raises(ValueError, match="the accepted dose of a patient"):
        scored(shifted(patient, 0.0), replace(patient, dose=None))
    grid = Grid((4, 4, 4), np.eye(4))
    with pytest.raises(ValueError, match="on the patient's grid"):
        scored(Volume(torch.zeros(1, 4, 4, 4), grid, Quantity.DOSE), patient)
    with pytest.raises(ValueError, match="on the grid of an OpenKBP patient"):
        write_prediction(Volume(torch.zeros(1, 4, 4, 4), grid, Quantity.DOSE), patient, folder / "x.csv")


@pytest.mark.data
def test_organs_of_real_patients_lie_where_their_names_say(data: Path, tmp_path: Path) -> None:
    script = data / "openkbp" / "unpack.py"
    subprocess.run([sys.executable, str(script), str(tmp_path), "--limit", "1"], check=True)
    folders = patients_of(tmp_path)
    assert len(folders) == 2
    for folder in folders:
        patient = read_patient(folder)
        assert patient.dose is not None
        assert 60 < float(patient.dose.data.max()) < 90
        middle = {
            name: torch.nonzero(s.mask).double().mean(dim=0)
            for name, s in patient.structures.structures.items()
        }
        assert middle["LeftParotid"][0] > middle["RightParotid"][0]
        assert middle["SpinalCord"][2] < middle["Brainstem"][2]
        assert isinstance(patient.structures.structures["PTV70"], Structure)
        target = patient.dose.data[0][patient.structures.mask("PTV70")]
        assert 66 < float(target.median()) < 77
