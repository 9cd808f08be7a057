"""A whole set of files, and what is said once one thing in it is broken."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from imaging.dicom.header import complete
from imaging.dicom.rtdose import write_rtdose
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_ct
from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.check.incoming import Finding, Severity, check_set
from planning.machine import load_machine
from planning.plan import Plan, Prescription
from planning.rtplan import read_rtplan, write_rtplan

MACHINE = load_machine("generic-6mv")
SECRETS = ("Secret", "ID-4711", "19700101")
Change = Callable[[Dataset], None]


def write_set(folder: Path) -> Path:
    """CT, structures, plan and dose of one phantom, as Spindose writes them."""
    grid = axial(np.full(3, -40.0), np.full(3, 40.0), (10.0, 10.0, 10.0))
    body, target = sphere(grid, np.zeros(3), 35.0), sphere(grid, np.zeros(3), 15.0)
    of = complete(
        Source(patient_id="ID-4711", patient_name="Secret^Name", birth_date="19700101", study_date="20250304")
    )
    ct = Volume(torch.where(body, 0.0, -1000.0)[None], grid, Quantity.HU, of.frame)
    source = write_ct(ct, of, folder / "CT")
    structures = {
        "BODY": Structure(body, RoiType.EXTERNAL, (0, 255, 0)),
        "PTV": Structure(target, RoiType.PTV, (255, 0, 0)),
    }
    made_on = write_rtstruct(
        StructureSet(grid, structures, source.frame), source, grid, folder / "RTSTRUCT.dcm"
    )
    leaves = np.stack([np.full(80, -20.0), np.full(80, 20.0)])
    points = tuple(
        ControlPoint(float(s), float(g), (-20.0, 20.0), (-20.0, 20.0), leaves)
        for s, g in zip((0, 0.4, 1), (0, 4, 8), strict=True)
    )
    beams = tuple(Beam(0.0, 0.0, 0.0, np.zeros(3), name, 100.0, points) for name in ("1", "2"))
    plan = write_rtplan(
        Plan(beams, Prescription(60.0, 30), MACHINE.name),
        MACHINE,
        source,
        folder / "RTPLAN.dcm",
        structure_set_uid=made_on,
        target_roi=2,
        beam_doses={"1": 1.0, "2": 1.0},
    )
    dose = 62.0 * target + 20.0 * (body & ~target)
    write_rtdose(
        Volume(dose[None].float(), grid, Quantity.DOSE, source.frame),
        source,
        folder / "RTDOSE.dcm",
        plan_uid=plan,
    )
    return folder


def check(folder: Path, *, structures: bool = True) -> list[Finding]:
    return check_set(
        folder / "RTPLAN.dcm",
        folder / "RTSTRUCT.dcm" if structures else None,
        [folder / "RTDOSE.dcm"],
        sorted((folder / "CT").iterdir()),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole, tmp_path / "set"))


def change(path: Path, how: Change) -> None:
    dataset = pydicom.dcmread(path)
    how(dataset)
    dataset.save_as(path)


def test_nothing_is_said_of_a_whole_set(folder):
    assert check(folder) == []


def another_patient(dataset: Dataset) -> None:
    dataset.PatientID = "OTHER"


def another_name(dataset: Dataset) -> None:
    dataset.PatientName = "Secret^Other"


def no_patient(dataset: Dataset) -> None:
    dataset.PatientID = ""


def another_frame(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = "1.2.3.99"


def no_frame(dataset: Dataset) -> None:
    del dataset.FrameOfReferenceUID


def another_frame_of_rois(dataset: Dataset) -> None:
    for roi in dataset.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = "1.2.3.99"


def another_plan(dataset: Dataset) -> None:
    dataset.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID = "1.2.3.99"


def no_plan(dataset: Dataset) -> None:
    del dataset.ReferencedRTPlanSequence


def another_structure_set(dataset: Dataset) -> None:
    dataset.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID = "1.2.3.99"


def zero_units(dataset: Dataset) -> None:
    dataset.FractionGroupSequence[0].ReferencedBeamSequence[1].BeamMeterset = 0


def no_units(dataset: Dataset) -> None:
    del dataset.FractionGroupSequence[0].ReferencedBeamSequence[1].BeamMeterset


def forgotten_beam(dataset: Dataset) -> None:
    del dataset.FractionGroupSequence[0].ReferencedBeamSequence[1]


def lost_beam(dataset: Dataset) -> None:
    del dataset.BeamSequence[1]


def positions(dataset: Dataset, beam: int = 0, device: int = 2) -> Dataset:
    return dataset.BeamSequence[beam].ControlPointSequence[0].BeamLimitingDevicePositionSequence[device]


def overlapping_leaves(dataset: Dataset) -> None:
    place = positions(dataset).LeafJawPositions
    place[7], place[87] = 21.5, 20.0


def overlapping_jaws(dataset: Dataset) -> None:
    positions(dataset, device=1).LeafJawPositions = [5, -5]


def lost_leaf(dataset: Dataset) -> None:
    positions(dataset).LeafJawPositions = positions(dataset).LeafJawPositions[:-1]


def lost_edge(dataset: Dataset) -> None:
    device = dataset.BeamSequence[0].BeamLimitingDeviceSequence[2]
    device.LeafPositionBoundaries = device.LeafPositionBoundaries[:-1]


def short_of_one(dataset: Dataset) -> None:
    dataset.BeamSequence[1].ControlPointSequence[-1].CumulativeMetersetWeight = 0.9


def falling(dataset: Dataset) -> None:
    dataset.BeamSequence[1].ControlPointSequence[1].CumulativeMetersetWeight = -0.3


def lost_point(dataset: Dataset) -> None:
    del dataset.BeamSequence[0].ControlPointSequence[1]


def two_machines(dataset: Dataset) -> None:
    dataset.BeamSequence[0].TreatmentMachineName = "OTHER"


def other_leaves(dataset: Dataset) -> None:
    for beam in dataset.BeamSequence:
        beam.TreatmentMachineName = "OTHER"
        beam.BeamLimitingDeviceSequence[2].LeafPositionBoundaries = [
            str(v) for v in np.arange(-100.0, 100.1, 2.5)
        ]


def no_fractions(dataset: Dataset) -> None:
    dataset.FractionGroupSequence[0].NumberOfFractionsPlanned = 0


def other_fractions(dataset: Dataset) -> None:
    dataset.FractionGroupSequence[0].NumberOfFractionsPlanned = 5


def no_prescription(dataset: Dataset) -> None:
    for reference in dataset.DoseReferenceSequence:
        if "TargetPrescriptionDose" in reference:
            del reference.TargetPrescriptionDose


def turned_table(dataset: Dataset) -> None:
    dataset.BeamSequence[0].ControlPointSequence[1].PatientSupportAngle = 10


def lost_roi(dataset: Dataset) -> None:
    del dataset.StructureSetROISequence[1]
    del dataset.ROIContourSequence[1]


def empty_roi(dataset: Dataset) -> None:
    del dataset.ROIContourSequence[1].ContourSequence


def empty_body(dataset: Dataset) -> None:
    del dataset.ROIContourSequence[0].ContourSequence


def no_scaling(dataset: Dataset) -> None:
    del dataset.DoseGridScaling


def zero_scaling(dataset: Dataset) -> None:
    dataset.DoseGridScaling = 0


def scaled(factor: float) -> Change:
    def change(dataset: Dataset) -> None:
        dataset.DoseGridScaling = f"{float(dataset.DoseGridScaling) * factor:.8e}"

    return change


def no_dose(dataset: Dataset) -> None:
    dataset.PixelData = bytes(len(dataset.PixelData))


def relative(dataset: Dataset) -> None:
    dataset.DoseUnits = "RELATIVE"


def of_a_beam(dataset: Dataset) -> None:
    dataset.DoseSummationType = "BEAM"


def far_away(dataset: Dataset) -> None:
    for beam in dataset.BeamSequence:
        beam.ControlPointSequence[0].IsocenterPosition = [300, 0, 0]


PLAN, STRUCTURES, DOSE = "RTPLAN.dcm", "RTSTRUCT.dcm", "RTDOSE.dcm"
REFUSED, FLAGGED = Severity.REFUSED, Severity.FLAGGED
BROKEN: list[tuple[str, Change, Severity, str]] = [
    (STRUCTURES, another_patient, REFUSED, "expected the structures of the plan's patient, got another"),
    (DOSE, another_patient, REFUSED, "expected the dose of the plan's patient, got another"),
    (DOSE, another_name, FLAGGED, "the same ID with another name"),
    (DOSE, another_frame, REFUSED, "expected the dose in the plan's frame of reference, got another"),
    (STRUCTURES, another_frame_of_rois, REFUSED, "expected the structures in the plan's frame of reference"),
    (PLAN, no_frame, FLAGGED, "expected a plan with a frame of reference, got none"),
    (DOSE, no_frame, FLAGGED, "expected the dose in a frame of reference, got none"),
    (DOSE, another_plan, REFUSED, "got the dose of another plan"),
    (DOSE, no_plan, FLAGGED, "got one that names none"),
    (PLAN, another_structure_set, REFUSED, "expected the structures that the plan was made on, got another"),
    (PLAN, zero_units, REFUSED, "expected monitor units above 0 in beam 2, got 0"),
    (PLAN, no_units, REFUSED, "expected monitor units above 0 in beam 2, got none"),
    (PLAN, forgotten_beam, REFUSED, "got beam 2 in none"),
    (PLAN, lost_beam, REFUSED, "expected beam 2 of the fractions in the plan, got none"),
    (
        PLAN,
        overlapping_leaves,
        REFUSED,
        "got 1 pairs that do, by up to 1.5 mm at control point 0 of beam 1",
    ),
    (PLAN, overlapping_jaws, REFUSED, "expected jaws that do not overlap"),
    (PLAN, lost_leaf, REFUSED, "expected a position for each of 80 pairs of leaves"),
    (PLAN, lost_edge, REFUSED, "expected 81 edges for the 80 leaf pairs of beam 1, got 80"),
    (
        PLAN,
        short_of_one,
        REFUSED,
        "deliver from 0 to 1 of its monitor units, got 0 to 0.9",
    ),
    (PLAN, falling, REFUSED, "expected meterset weights of beam 2 that rise"),
    (PLAN, lost_point, REFUSED, "expected 3 control points in beam 1, got 2"),
    (PLAN, two_machines, REFUSED, "expected all beams on one machine, got 2 machines"),
    (PLAN, other_leaves, FLAGGED, "expected a machine with the plan's 80 leaf pairs"),
    (PLAN, no_fractions, REFUSED, "expected a number of fractions, got none"),
    (PLAN, other_fractions, FLAGGED, "in 5 fractions come to the prescribed 60 Gy, got 10 Gy"),
    (PLAN, no_prescription, FLAGGED, "expected a dose prescribed to a target, got none"),
    (PLAN, turned_table, REFUSED, "couch, collimator and isocentre of beam 1 to rest"),
    (PLAN, far_away, FLAGGED, "expected the isocentre of beam 1 inside the dose, got one outside it"),
    (STRUCTURES, lost_roi, REFUSED, "got one which the structure set lacks"),
    (STRUCTURES, empty_roi, REFUSED, "got one which has no contours"),
    (STRUCTURES, empty_body, FLAGGED, "expected a body outline among the structures"),
    (DOSE, no_scaling, REFUSED, "expected a dose grid scaling above 0, got none"),
    (DOSE, zero_scaling, REFUSED, "expected a dose grid scaling above 0, got none"),
    (DOSE, scaled(100), REFUSED, "near the prescribed 60 Gy, got 6.2e+03 Gy"),
    (
        DOSE,
        scaled(1 / 30),
        REFUSED,
        "the dose of all 30 fractions, about 60 Gy, got one of at most 2.07",
    ),
    (DOSE, no_dose, REFUSED, "expected a dose above 0 Gy somewhere"),
    (DOSE, relative, REFUSED, "DoseUnits GY"),
    (DOSE, of_a_beam, REFUSED, "(DoseSummationType PLAN), got BEAM"),
]


@pytest.mark.parametrize(
    ("file", "how", "severity", "words"),
    BROKEN,
    ids=[f"{b[0]}-{b[1].__name__}-{n}" for n, b in enumerate(BROKEN)],
)
def test_what_is_broken_is_told_in_one_sentence_without_the_patient(folder, file, how, severity, words):
    change(folder / file, how)
    findings = check(folder)
    (finding,) = [f for f in findings if words in f.sentence]
    assert finding.severity is severity
    assert finding.sentence.startswith("expected ")
    assert not any(secret in f.sentence for secret in SECRETS for f in findings)
    # What follows from the same break may be told as well, but nothing else is.
    assert len(findings) <= 2


def test_a_plan_without_patient_is_flagged_and_nothing_fits_it(folder):
    change(folder / PLAN, no_patient)
    sentences = [f.sentence for f in check(folder)]
    assert "expected a plan with a patient ID, got none; ask whose it is" in sentences
    assert len(sentences) == 4


def test_another_patient_s_image_is_refused(folder):
    change(min((folder / "CT").iterdir()), another_patient)
    assert [f.severity for f in check(folder)] == [REFUSED]


def test_an_image_of_another_frame_is_refused(folder):
    change(min((folder / "CT").iterdir()), another_frame)
    (finding,) = check(folder)
    assert "expected the CT in the plan's frame of reference, got another" in finding.sentence


def test_images_that_are_missing_are_counted(folder):
    for image in sorted((folder / "CT").iterdir())[:2]:
        image.unlink()
    (finding,) = check(folder)
    assert finding.severity is REFUSED
    assert "a CT without 2 of them" in finding.sentence


def test_a_plan_without_its_structures_is_flagged(folder):
    (finding,) = check(folder, structures=False)
    assert finding == Finding(
        FLAGGED, "expected the structures that the plan was made on, got none; ask for them"
    )


def test_a_second_fraction_group_is_flagged(folder):
    def add(dataset: Dataset) -> None:
        second = Dataset()
        second.update(dataset.FractionGroupSequence[0])
        second.FractionGroupNumber = 2
        dataset.FractionGroupSequence.append(second)

    change(folder / PLAN, add)
    assert [f.severity for f in check(folder)] == [FLAGGED]


@pytest.mark.parametrize("keyword", ["NumberOfFractionsPlanned", "NominalBeamEnergy", "IsocenterPosition"])
def test_a_value_that_is_none_is_not_quoted(folder, keyword):
    """What libraries say of it would quote it, and it could be a name."""

    def spoil(dataset: Dataset) -> None:
        item = dataset.FractionGroupSequence[0]
        if keyword not in item:
            item = dataset.BeamSequence[0].ControlPointSequence[0]
        tag = Tag(keyword)
        item[tag] = RawDataElement(
            tag, item[tag].VR, 4, b"Xy Z", 0, is_implicit_VR=False, is_little_endian=True
        )

    change(folder / PLAN, spoil)
    findings = check(folder)
    assert REFUSED in {f.severity for f in findings}
    assert not any("Xy" in f.sentence for f in findings)
    assert all(f.sentence.startswith("expected ") for f in findings)
    with pytest.raises(ValueError, match="unreadable values"):
        read_rtplan(folder / PLAN)


@pytest.mark.parametrize("file", [PLAN, STRUCTURES, DOSE])
def test_a_file_that_ends_early_is_refused(folder, file):
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: int(0.7 * len(whole))])
    (finding,) = check(folder)
    assert finding.severity is REFUSED
    assert "ends early" in finding.sentence


@pytest.mark.data
def test_a_conformant_set_of_others_has_one_thing_to_look_at(data):
    """Its machine is not described here; all else fits."""
    folder = data / "dicom_rt" / "conformant"
    (finding,) = check_set(
        folder / "RP.dcm", folder / "RS.dcm", [folder / "RD16.dcm"], sorted(folder.glob("CT*.dcm"))
    )
    assert finding.severity is FLAGGED
    assert "millennium-6mv" in finding.sentence
