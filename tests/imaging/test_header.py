"""What every object that we write has in common."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from imaging.dicom.header import complete, decimal, new_object, save
from imaging.source import Source

RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6))
def test_decimal_strings_hold_sixteen_characters_and_the_number(value: float) -> None:
    text = decimal(value)
    assert len(text) <= 16
    assert not text.startswith("-0.0") or float(text) != 0
    assert math.isclose(float(text), value, rel_tol=1e-8, abs_tol=1e-13)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_has_no_decimal_string(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        decimal(value)


def test_a_scan_without_header_gets_the_same_study_from_the_same_words() -> None:
    assert complete(Source(), "demo", 7).study_uid == complete(Source(), "demo", 7).study_uid
    assert complete(Source(), "demo", 7).frame != complete(Source(), "demo", 8).frame
    assert complete(Source()).frame != complete(Source()).frame
    assert complete(Source(study_uid="1.2", frame="1.3"), "demo").study_uid == "1.2"


def test_an_object_without_a_study_is_refused() -> None:
    with pytest.raises(ValueError, match="study and a frame of reference"):
        new_object(
            Source(),
            sop_class=RT_DOSE,
            modality="RTDOSE",
            description="dose",
            series_uid="1.2",
            instance_uid="1.3",
        )


@pytest.fixture
def dose_header() -> Dataset:
    return new_object(
        complete(Source(patient_id="x" * 70, birth_date="2 Jan 1970", sex="unknown sex")),
        sop_class=RT_DOSE,
        modality="RTDOSE",
        description="dose",
        series_uid="1.2",
        instance_uid="1.3",
    )


def test_an_odd_identity_is_copied_without_a_word(dose_header: Dataset, tmp_path: Path) -> None:
    save(dose_header, tmp_path / "odd.dcm")
    assert dose_header.PatientBirthDate == "2 Jan 1970"


def test_a_file_that_cannot_be_written_whole_leaves_nothing(
    dose_header: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        save(dose_header, tmp_path / "whole.dcm")
    assert list(tmp_path.iterdir()) == []
