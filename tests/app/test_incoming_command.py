"""``spindose check``."""

import json
import shutil
from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner

from app.cli import app

pytestmark = pytest.mark.data


def run(*arguments: object):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_a_folder_is_sorted_by_what_its_files_are(data):
    result = run(data / "dicom_rt" / "conformant", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["checked"] == {"RTPLAN": 1, "RTSTRUCT": 1, "RTDOSE": 1, "CT": 40}
    assert not found["refused"]
    assert [f["severity"] for f in found["findings"]] == ["flagged"]


def test_what_is_refused_ends_with_exit_status_1(data, tmp_path):
    """The dose of this set is of another plan than the one that is put beside it."""
    for name in ("RS.dcm", "RD16.dcm"):
        shutil.copy(data / "dicom_rt" / "conformant" / name, tmp_path)
    result = run(data / "dicom_rt" / "dicompyler_rtplan.dcm", tmp_path)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "Checked 1 RTPLAN, 1 RTSTRUCT, 1 RTDOSE, 0 CT."
    assert any(line.startswith("refused: ") and "dose of another plan" in line for line in lines)
    assert any(line.startswith("refused: ") and "another patient's" in line for line in lines)
    assert not any(word in result.stdout for word in ("SYNTH", "boost", "123456"))


def test_files_of_two_plans_or_none_are_refused_in_one_sentence(data, tmp_path):
    plans = sorted((data / "dicom_rt").glob("*rtplan.dcm"))
    result = run(*plans)
    assert result.exit_code == 2
    assert f"expected one RTPLAN among the files, got {len(plans)}" in result.stderr
    assert "got none" in run(tmp_path).stderr
    assert run(Path(tmp_path / "nowhere")).exit_code == 2


def test_of_several_series_and_structure_sets_those_of_the_plan_are_taken(data, tmp_path):
    """A second scan of the patient in another frame, and structures drawn on it, lie beside the plan's."""
    shutil.copytree(data / "dicom_rt" / "conformant", tmp_path / "set")
    for name in ("CT000.dcm", "CT001.dcm", "RS.dcm"):
        other = pydicom.dcmread(tmp_path / "set" / name)
        other.SeriesInstanceUID, other.FrameOfReferenceUID = "1.2.3.1", "1.2.3.3"
        other.SOPInstanceUID = f"{other.SOPInstanceUID[:50]}.9"
        other.save_as(tmp_path / "set" / f"other_{name}")
    found = json.loads(run(tmp_path / "set", "--json").stdout)
    assert found["checked"] == {"RTPLAN": 1, "RTSTRUCT": 1, "RTDOSE": 1, "CT": 40}
    assert [f["severity"] for f in found["findings"]] == ["flagged"]
