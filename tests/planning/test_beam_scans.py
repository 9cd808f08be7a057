"""Measurements are read as they were taken, and what cannot be them is refused."""

import numpy as np
import pytest

from planning.commission.reader import read_scans
from planning.commission.scans import Kind


def _profile(side, depth, ssd=900.0):
    """Readings of a field whose edges diverge from the source (cm)."""
    at = np.arange(-25, 25.01, 0.1)
    half = side / 2 * (ssd + depth) / 1000 / 10
    return at, 1 / (1 + np.exp((np.abs(at) - half) / 0.15))


def _write(folder, name, at, dose):
    rows = "\n".join(f"{a:.2f},{d:.5f}" for a, d in zip(at, dose, strict=True))
    (folder / f"{name}.csv").write_text(f"Position (cm),Measured\n{rows}\n")


@pytest.fixture
def folder(tmp_path):
    for depth in (50, 200):
        _write(tmp_path, f"20x20m{depth // 10:02d}cm-xXlat", *_profile(200, depth))
    _write(tmp_path, "20x20m05cm-zYlng", *(2 * part for part in _profile(200, 50)))
    depths = np.arange(0, 30, 0.2)
    _write(tmp_path, "20x20mPDD-zZver", depths, np.exp(-0.05 * depths))
    return tmp_path


def test_names_tell_field_depth_and_direction(folder):
    scans = {scan.name: scan for scan in read_scans(folder).scans}
    deep = scans["20x20m20cm-xXlat"]
    assert (deep.kind, deep.opening.x, deep.depth) == (Kind.CROSSLINE, 200.0, 200.0)
    assert scans["20x20m05cm-zYlng"].kind is Kind.INLINE
    assert scans["20x20mPDD-zZver"].kind is Kind.DEPTH
    assert deep.at[0] == -250


def test_the_distance_follows_from_how_profiles_widen(folder):
    assert {scan.ssd for scan in read_scans(folder).scans} == {900.0}


def test_output_factors_and_absolute_dose_are_read(folder):
    (folder / "OutputFactors.csv").write_text(",05x05,10x10\n6 MV,0.906,1\n")
    (folder / "AbsoluteDose.csv").write_text("10 x 10 fields,d10 @ 90 SSD\n6 MV,0.812\n")
    found = read_scans(folder)
    assert found.output == {50.0: 0.906, 100.0: 1.0}
    assert found.gy_per_mu == pytest.approx(0.00812)


def test_scans_that_repeat_each_other_are_both_left_out_and_said(folder):
    text = (folder / "20x20m05cm-xXlat.csv").read_text()
    (folder / "10x10m05cm-xXlat.csv").write_text(text)
    (folder / "20x20m10cm-xXlat.csv").write_text(
        "\n".join(f"{a:.2f},{d:.5f}" for a, d in zip(*_profile(200, 100), strict=True))
    )
    found = read_scans(folder)
    assert not {"10x10m05cm-xXlat", "20x20m05cm-xXlat"} & {scan.name for scan in found.scans}
    assert any("hold the same readings" in note for note in found.notes)


def test_files_that_are_no_scans_are_counted(folder):
    (folder / "I100-5.0.csv").write_text("0,1\n")
    assert "1 files not named like scans of rectangular fields: left out" in read_scans(folder).notes


def test_a_ptw_file_says_everything_itself(tmp_path):
    at, dose = _profile(100, 100)
    readings = "\n".join(f"\t\t\t{10 * a:.2f}\t\t{d:.4E}" for a, d in zip(at, dose, strict=True))
    (tmp_path / "a.mcc").write_text(
        "BEGIN_SCAN_DATA\n\tBEGIN_SCAN  1\n\t\tSCAN_CURVETYPE=INPLANE_PROFILE\n\t\tFIELD_INPLANE=100.00\n"
        "\t\tFIELD_CROSSPLANE=50.00\n\t\tSSD=950.00\n\t\tSCAN_DEPTH=100.00\n\t\tDETECTOR_RADIUS=2.75\n"
        f"\t\tBEGIN_DATA\n{readings}\n\t\tEND_DATA\n\tEND_SCAN  1\nEND_SCAN_DATA\n"
    )
    (scan,) = read_scans(tmp_path).scans
    assert (scan.kind, scan.opening.x, scan.opening.y) == (Kind.INLINE, 50.0, 100.0)
    assert (scan.ssd, scan.depth, scan.blur) == (950.0, 100.0, 1.375)
    np.testing.assert_allclose(scan.at, 10 * at, atol=1e-6)


def test_a_ptw_file_that_is_not_whole_is_refused(tmp_path):
    (tmp_path / "a.mcc").write_text("\tBEGIN_SCAN  1\n\t\tSCAN_CURVETYPE=PDD\n\t\tSSD=900.00\n")
    with pytest.raises(ValueError, match="expected a whole scan in a, scan 1"):
        read_scans(tmp_path)


def test_a_folder_without_scans_and_no_folder_at_all_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected beam scans named like 10x10m05cm-xXlat\.csv"):
        read_scans(tmp_path)
    with pytest.raises(ValueError, match="expected a folder of beam scans"):
        read_scans(tmp_path / "missing")


def test_too_few_readings_are_refused(folder):
    _write(folder, "10x10m05cm-xXlat", [0.0, 1.0], [1.0, 0.5])
    with pytest.raises(ValueError, match=r"expected at least 20 readings in 10x10m05cm-xXlat\.csv, got 2"):
        read_scans(folder)


def test_fields_named_for_another_distance_are_refused(tmp_path):
    # Widths of a 20 cm field under the name of a 10 cm field.
    for depth in (50, 200):
        _write(tmp_path, f"10x10m{depth // 10:02d}cm-xXlat", *_profile(200, depth))
    with pytest.raises(
        ValueError, match="expected fields that have their size 1000 mm from the source, got 500"
    ):
        read_scans(tmp_path)


def test_one_profile_cannot_tell_the_distance(tmp_path):
    _write(tmp_path, "10x10m05cm-xXlat", *_profile(100, 50))
    with pytest.raises(ValueError, match="profiles of the largest field at two depths or more"):
        read_scans(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"), [("OutputFactors.csv", "a,b\n"), ("AbsoluteDose.csv", "x,y\n1,2\n")]
)
def test_tables_that_cannot_be_read_are_refused(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        read_scans(folder)
