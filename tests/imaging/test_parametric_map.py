"""Deviations as a Parametric Map: what other programs find in it."""

import subprocess
from datetime import UTC, datetime

import numpy as np
import pydicom
import pytest
import torch

from imaging.dicom.parametric_map import write_deviation
from imaging.dicom.series import read_series
from imaging.grid import Grid
from imaging.source import Source
from imaging.volume import Quantity, Volume


def deviation(grid: Grid, frame: str = "") -> Volume:
    values = 300 * torch.rand((1, *grid.shape), generator=torch.Generator().manual_seed(1))
    return Volume(values, grid, Quantity.HU_DEVIATION, frame)


def test_pydicom_finds_every_value_its_place_and_its_unit(make_mr, oblique, tmp_path, patient):
    mr, source, _ = make_mr(oblique)
    sd = deviation(oblique, mr.frame)
    uid = write_deviation(sd, source, tmp_path / "sd", derivation="Networks of a test")
    (file,) = (tmp_path / "sd").iterdir()
    found = pydicom.dcmread(file)
    assert found.SOPInstanceUID == uid
    assert found.SOPClassUID.name == "Parametric Map Storage"
    assert np.array_equal(found.pixel_array, sd.data[0].numpy().transpose(2, 1, 0))
    shared = found.SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    rows = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    for k, frame in enumerate(found.PerFrameFunctionalGroupsSequence):
        first = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        there = first + 3 * spacing[1] * rows[0] + 5 * spacing[0] * rows[1]  # column 3, row 5
        assert there == pytest.approx((oblique.affine @ [3, 5, k, 1])[:3], abs=1e-4)
    assert found.FrameOfReferenceUID == patient.frame
    assert found.StudyInstanceUID == patient.study_uid
    assert found.ContentQualification == "RESEARCH"
    derived = shared.DerivationImageSequence[0]
    assert derived.DerivationDescription == "Networks of a test; RESEARCH USE ONLY"
    assert tuple(i.ReferencedSOPInstanceUID for i in derived.SourceImageSequence) == source.instance_uids
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == source.series_uid


@pytest.mark.tools
def test_dciodvfy_and_dcmdump_find_nothing_wrong(make_mr, oblique, tmp_path, dciodvfy, tool):
    _, source, _ = make_mr(oblique)
    for name, whose in (("dicom", source), ("nifti", Source())):
        write_deviation(deviation(oblique), whose, tmp_path / name)
        (file,) = (tmp_path / name).iterdir()
        assert dciodvfy(file) == []
        done = subprocess.run([tool("dcmdump"), str(file)], capture_output=True, text=True, check=True)
        assert not done.stderr


def test_nobody_takes_it_for_a_scan(oblique, tmp_path):
    write_deviation(deviation(oblique), Source(), tmp_path / "sd")
    with pytest.raises(ValueError, match=r"MR or CT images, .* \(Parametric Map Storage\)"):
        read_series(tmp_path / "sd")


def test_one_seed_gives_the_same_bytes(oblique, tmp_path, patient):
    when = datetime(2026, 1, 2, tzinfo=UTC)
    for name in ("a", "b"):
        write_deviation(deviation(oblique), patient, tmp_path / name, seed=("x",), when=when)
    (a,), (b,) = (tmp_path / "a").iterdir(), (tmp_path / "b").iterdir()
    assert a.read_bytes() == b.read_bytes()


def test_what_is_no_deviation_of_the_source_is_refused(oblique, tmp_path, patient):
    sd = deviation(oblique)
    cases = {
        "standard deviation in HU, got HU": Volume(sd.data, oblique, Quantity.HU),
        "one channel": Volume(torch.cat([sd.data, sd.data]), oblique, Quantity.HU_DEVIATION),
        "frame of reference": deviation(oblique, "1.2.3"),
        "finite values": Volume(sd.data / 0, oblique, Quantity.HU_DEVIATION),
    }
    for sentence, volume in cases.items():
        with pytest.raises(ValueError, match=sentence):
            write_deviation(volume, patient, tmp_path / "sd")
    assert not list(tmp_path.iterdir())
