"""Plans out and in."""

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from imaging.source import Source
from planning.beams import Beam, ControlPoint
from planning.machine import Machine, Mlc, PencilBeam
from planning.plan import Plan, Prescription
from planning.rtplan import read_rtplan, write_rtplan

SOURCE = Source(
    patient_id="ID-4711",
    patient_name="Secret^Name",
    study_uid="1.2.3.4",
    study_date="20250304",
    study_time="101112",
    study_id="S7",
    frame="1.2.3.6",
)
N_PAIRS = 10
MACHINE = Machine(
    name="generic-6mv",
    energy_mv=6.0,
    sad=1000.0,
    max_jaw=200.0,
    mlc=Mlc(np.linspace(-50, 50, N_PAIRS + 1), 0.02, 5.0, 150.0, interdigitation=True),
    beam=PencilBeam(
        0.005,
        np.full(3, 0.1),
        np.array([900.0]),
        np.array([0.0, 1.0]),
        np.zeros((1, 3, 2)),
        penumbra_fwhm=np.full(2, 5.0),
    ),
    fluence_per_mu=0.01,
    calibration="made up",
)


def leaves(rng: np.random.Generator) -> np.ndarray:
    left = rng.uniform(-40, 0, N_PAIRS)
    return np.stack([left, left + rng.uniform(6, 40, N_PAIRS)])


def segments(rng: np.random.Generator, gantry: float, n: int) -> tuple[ControlPoint, ...]:
    """Step and shoot: each shape stands at two control points."""
    ends = np.concatenate([[0], np.sort(rng.uniform(0, 1, n - 1)), [1]])
    shapes = [leaves(rng) for _ in range(n)]
    return tuple(
        ControlPoint(float(share), gantry, (-41.5, 43.25), (-50.0, 50.0), shapes[s])
        for s in range(n)
        for share in ends[s : s + 2]
    )


def make_plan() -> Plan:
    rng = np.random.default_rng(5)
    isocenter = np.array([12.3456, -7.891, 101.5])
    beams = [
        Beam(g, c, k, isocenter, f"G{g:g} T{c:g}", float(rng.uniform(20, 200)), segments(rng, g, n))
        for g, c, k, n in [(0.0, 0.0, 0.0, 3), (72.0, 0.0, 30.0, 5), (310.5, 330.0, 358.75, 1)]
    ]
    return Plan(tuple(beams), Prescription(60.0, 30), "generic-6mv", "a plan with a long name")


def arc() -> Plan:
    rng = np.random.default_rng(6)
    points = tuple(
        ControlPoint(share, gantry % 360, (-30.0, 30.0 + n), (-40.0, 40.0), leaves(rng))
        for n, (share, gantry) in enumerate(
            zip(np.linspace(0, 1, 12), np.linspace(300, 410, 12), strict=True)
        )
    )
    beam = Beam(300.0, 0.0, 15.0, np.zeros(3), "arc", 321.5, points)
    return Plan((beam,), Prescription(50.0, 25), "generic-6mv")


def write(plan: Plan, path: Path, **how: object) -> Path:
    write_rtplan(plan, MACHINE, SOURCE, path, structure_set_uid="1.2.3.8", target="PTV", **how)
    return path


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write(make_plan(), tmp_path / "RP.dcm")


def changed(path: Path, change: Callable[[Dataset], None]) -> Path:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def assert_same(a: Plan, b: Plan) -> None:
    assert (a.prescription, a.machine, a.name) == (b.prescription, b.machine, b.name)
    assert len(a.beams) == len(b.beams)
    for x, y in zip(a.beams, b.beams, strict=True):
        assert x.name == y.name
        assert [x.gantry, x.couch, x.collimator, x.mu] == pytest.approx(
            [y.gantry, y.couch, y.collimator, y.mu], abs=1e-6
        )
        assert x.isocenter == pytest.approx(y.isocenter, abs=1e-6)
        assert len(x.control_points) == len(y.control_points)
        for p, q in zip(x.control_points, y.control_points, strict=True):
            assert [p.meterset, p.gantry, *p.jaws_x, *p.jaws_y] == pytest.approx(
                [q.meterset, q.gantry, *q.jaws_x, *q.jaws_y], abs=1e-6
            )
            assert np.abs(p.leaves - q.leaves).max() <= 1e-6


def test_step_and_shoot_comes_back(written: Path) -> None:
    assert_same(read_rtplan(written, machine=MACHINE), make_plan())


def test_an_arc_through_zero_comes_back(tmp_path: Path) -> None:
    path = write(arc(), tmp_path / "RP.dcm")
    assert_same(read_rtplan(path), arc())
    points = pydicom.dcmread(path).BeamSequence[0].ControlPointSequence
    assert points[0].GantryRotationDirection == "CW"
    assert points[-1].GantryRotationDirection == "NONE"


def test_step_and_shoot_is_static_and_an_arc_dynamic(written: Path, tmp_path: Path) -> None:
    """PS3.3 C.8.8.14: dynamic is what moves while monitor units run."""
    assert [b.BeamType for b in pydicom.dcmread(written).BeamSequence] == ["STATIC"] * 3
    path = write(arc(), tmp_path / "arc.dcm")
    assert pydicom.dcmread(path).BeamSequence[0].BeamType == "DYNAMIC"


def test_leaves_are_written_bank_a_first_and_jaws_once(written: Path) -> None:
    beam = pydicom.dcmread(written).BeamSequence[1]
    first, second, third = beam.ControlPointSequence[:3]
    point = make_plan().beams[1].control_points[0]
    kinds = [d.RTBeamLimitingDeviceType for d in first.BeamLimitingDevicePositionSequence]
    assert kinds == ["ASYMX", "ASYMY", "MLCX"]
    positions = first.BeamLimitingDevicePositionSequence[2].LeafJawPositions
    assert [float(v) for v in positions] == pytest.approx([*point.leaves[0], *point.leaves[1]])
    assert "BeamLimitingDevicePositionSequence" not in second
    assert [d.RTBeamLimitingDeviceType for d in third.BeamLimitingDevicePositionSequence] == ["MLCX"]
    assert len(beam.BeamLimitingDeviceSequence[2].LeafPositionBoundaries) == N_PAIRS + 1


def test_a_written_plan_is_unapproved_and_for_research(written: Path) -> None:
    dataset = pydicom.dcmread(written)
    assert (dataset.ApprovalStatus, dataset.PlanIntent) == ("UNAPPROVED", "RESEARCH")
    assert dataset.RTPlanGeometry == "PATIENT"
    assert dataset.SeriesDescription.startswith("RESEARCH ONLY")
    assert dataset.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == "1.2.3.8"
    assert float(dataset.DoseReferenceSequence[0].TargetPrescriptionDose) == 60
    group = dataset.FractionGroupSequence[0]
    assert [float(r.BeamMeterset) for r in group.ReferencedBeamSequence] == pytest.approx(
        [b.mu for b in make_plan().beams]
    )


def test_decimal_strings_hold_sixteen_characters(written: Path) -> None:
    def check(dataset: Dataset) -> None:
        for element in dataset:
            if element.VR == "SQ":
                for item in element.value:
                    check(item)
            elif element.VR == "DS" and element.value is not None:
                values = element.value if element.VM > 1 else [element.value]
                assert all(len(str(v.original_string)) <= 16 for v in values)

    check(pydicom.dcmread(written))


@pytest.mark.tools
@pytest.mark.parametrize("make", [make_plan, arc])
def test_dciodvfy_finds_no_error(
    tmp_path: Path, make: Callable[[], Plan], dciodvfy: Callable[[Path], list[str]]
) -> None:
    assert dciodvfy(write(make(), tmp_path / "a.dcm")) == []
    distances = {beam.name: 912.5 for beam in make().beams}
    path = write(make(), tmp_path / "b.dcm", target_roi=2, surface_distances=distances)
    assert dciodvfy(path) == []
    assert pydicom.dcmread(path).BeamSequence[0].ControlPointSequence[0].SourceToSurfaceDistance == 912.5


@pytest.mark.tools
def test_dcmdump_opens_it(written: Path, tool: Callable[[str], str]) -> None:
    done = subprocess.run([tool("dcmdump"), str(written)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "RTPlanStorage" in done.stdout


# Plans of other systems


def test_beams_and_monitor_units_are_matched_by_number(written: Path) -> None:
    def shuffle(dataset: Dataset) -> None:
        setup = Dataset()
        setup.BeamNumber = 99
        setup.BeamName = "kV"
        setup.RadiationType = "PHOTON"
        setup.TreatmentDeliveryType = "SETUP"
        dataset.BeamSequence = [setup, *dataset.BeamSequence]
        group = dataset.FractionGroupSequence[0]
        reference = Dataset()
        reference.ReferencedBeamNumber = 99
        group.ReferencedBeamSequence = [*reversed(group.ReferencedBeamSequence), reference]

    assert_same(read_rtplan(changed(written, shuffle)), make_plan())


def test_metersets_are_shares_of_the_final_weight(written: Path) -> None:
    def percent(dataset: Dataset) -> None:
        for beam in dataset.BeamSequence:
            beam.FinalCumulativeMetersetWeight = 100
            for point in beam.ControlPointSequence:
                point.CumulativeMetersetWeight = f"{100 * float(point.CumulativeMetersetWeight):.10g}"

    assert_same(read_rtplan(changed(written, percent)), make_plan())


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n_beams", "n_points", "n_pairs", "mu"),
    [
        ("pymedphys_vmat_example.dcm", 2, 63, 80, 157.238693 + 158.782211),
        ("pymedphys_06MV_plan.dcm", 10, 20, 80, 10000.0),
        ("dicompyler_rtplan.dcm", 4, 384, 60, 97 + 87 + 89 + 94),
        ("conformant/RP.dcm", 1, 91, 60, 400.0),
    ],
)
def test_plans_of_several_systems_are_read(
    data: Path, name: str, n_beams: int, n_points: int, n_pairs: int, mu: float
) -> None:
    plan = read_rtplan(data / "dicom_rt" / name)
    assert len(plan.beams) == n_beams
    assert sum(len(b.control_points) for b in plan.beams) == n_points
    assert {p.leaves.shape for b in plan.beams for p in b.control_points} == {(2, n_pairs)}
    assert sum(b.mu for b in plan.beams) == pytest.approx(mu)
    assert all(b.control_points[-1].meterset == pytest.approx(1) for b in plan.beams)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore")
def test_pymedphys_reads_the_same_arc(data: Path) -> None:
    """It keeps bank B, then bank A with its sign turned, from the last leaf pair to the first."""
    import pymedphys

    path = data / "dicom_rt" / "pymedphys_vmat_example.dcm"
    theirs = pymedphys.Delivery.from_dicom(pydicom.dcmread(path, force=True), fraction_group_number=1)
    beams = read_rtplan(path).beams
    points = [p for b in beams for p in b.control_points]
    mlc = np.array([np.stack([p.leaves[1, ::-1], -p.leaves[0, ::-1]], axis=-1) for p in points])
    assert np.abs(mlc - np.array(theirs.mlc)).max() < 1e-6
    assert np.abs(np.array([(p.jaws_y[1], -p.jaws_y[0]) for p in points]) - np.array(theirs.jaw)).max() < 1e-6
    turned = np.array([p.gantry for p in points]) - np.array(theirs.gantry)
    assert np.abs(turned - 360 * np.rint(turned / 360)).max() < 1e-6
    delivered = [p.meterset * beams[0].mu for p in beams[0].control_points]
    delivered += [beams[0].mu + p.meterset * beams[1].mu for p in beams[1].control_points]
    assert np.abs(np.array(delivered) - np.array(theirs.monitor_units)).max() < 1e-3


@pytest.mark.data
def test_jaws_of_the_first_control_point_carry_on(data: Path) -> None:
    for beam in read_rtplan(data / "dicom_rt" / "dicompyler_rtplan.dcm").beams:
        assert beam.control_points[-1].jaws_x == beam.control_points[0].jaws_x
        assert beam.control_points[-1].jaws_x != (-200.0, 200.0)


@pytest.mark.data
def test_one_of_several_fraction_groups_is_read_by_number(data: Path) -> None:
    path = data / "dicom_rt" / "dvha_mlca_rtplan.dcm"
    with pytest.raises(ValueError, match="one fraction group"):
        read_rtplan(path)
    plans = [read_rtplan(path, prescription=Prescription(50.0, 25), fraction_group=n) for n in (1, 2, 3)]
    assert [len(p.beams) for p in plans] == [9, 9, 8]


# Refusals, one by one


def beam_of(dataset: Dataset) -> Dataset:
    return dataset.BeamSequence[0]


def turn_table(dataset: Dataset) -> None:
    beam_of(dataset).ControlPointSequence[1].PatientSupportAngle = 10


def tilt_table(dataset: Dataset) -> None:
    beam_of(dataset).ControlPointSequence[0].TableTopPitchAngle = 2.0


def lie_prone(dataset: Dataset) -> None:
    dataset.PatientSetupSequence[0].PatientPosition = "HFP"


def use_electrons(dataset: Dataset) -> None:
    beam_of(dataset).RadiationType = "ELECTRON"


def add_wedge(dataset: Dataset) -> None:
    beam_of(dataset).NumberOfWedges = 1


def move_leaves_along_y(dataset: Dataset) -> None:
    beam_of(dataset).BeamLimitingDeviceSequence[2].RTBeamLimitingDeviceType = "MLCY"


def forget_metersets(dataset: Dataset) -> None:
    del dataset.FractionGroupSequence[0].ReferencedBeamSequence[0].BeamMeterset


def forget_gantry(dataset: Dataset) -> None:
    del beam_of(dataset).ControlPointSequence[0].GantryAngle


def forget_dose(dataset: Dataset) -> None:
    del dataset.DoseReferenceSequence


def use_two_machines(dataset: Dataset) -> None:
    beam_of(dataset).TreatmentMachineName = "other"


def forget_numbers(dataset: Dataset) -> None:
    del beam_of(dataset).BeamNumber


def lose_a_leaf(dataset: Dataset) -> None:
    device = beam_of(dataset).ControlPointSequence[0].BeamLimitingDevicePositionSequence[2]
    device.LeafJawPositions = device.LeafJawPositions[:-1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (turn_table, "of beam 1 to rest"),
        (tilt_table, "no pitch"),
        (lie_prone, r"head first supine \(HFS\), got HFP"),
        (use_electrons, "RadiationType PHOTON, got ELECTRON"),
        (add_wedge, "NumberOfWedges 1"),
        (move_leaves_along_y, "MLCY"),
        (forget_metersets, "monitor units"),
        (forget_gantry, "GantryAngle"),
        (forget_dose, "one prescribed dose"),
        (use_two_machines, "one machine, got 2"),
        (forget_numbers, "without BeamNumber"),
        (lose_a_leaf, "positions"),
    ],
)
def test_what_a_plan_here_cannot_hold_is_refused(
    written: Path, change: Callable[[Dataset], None], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_rtplan(changed(written, change))


def test_a_plan_for_other_leaves_is_refused(written: Path) -> None:
    mlc = dataclasses.replace(MACHINE.mlc, boundaries=np.linspace(-100, 100, N_PAIRS + 1))
    with pytest.raises(ValueError, match="10 leaf pairs of generic-6mv"):
        read_rtplan(written, machine=dataclasses.replace(MACHINE, mlc=mlc))
    with pytest.raises(ValueError, match="source to axis distance of 800 mm, got 1000 mm"):
        read_rtplan(written, machine=dataclasses.replace(MACHINE, sad=800.0))


@pytest.mark.parametrize("share", [0.2, 0.7, 0.98])
def test_a_truncated_file_is_refused(written: Path, share: float) -> None:
    whole = written.read_bytes()
    written.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"ends early|broken"):
        read_rtplan(written)


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no DICOM at all\n" * 50)
    with pytest.raises(ValueError, match="expected a DICOM RT Plan"):
        read_rtplan(tmp_path / "text")


def spoiled(point: ControlPoint, **values: object) -> Plan:
    plan = make_plan()
    beam = plan.beams[0]
    points = (dataclasses.replace(point, **values), *beam.control_points[1:])
    return dataclasses.replace(plan, beams=(dataclasses.replace(beam, control_points=points),))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"leaves": np.stack([np.full(N_PAIRS, 5.0), np.zeros(N_PAIRS)])}, "do not cross"),
        ({"leaves": np.zeros((2, 3))}, "10 leaf pairs in beam G0 T0, got 3"),
        ({"leaves": np.full((2, N_PAIRS), 180.0)}, "leaves within 150 mm"),
        ({"leaves": np.full((2, N_PAIRS), np.nan)}, "finite"),
        ({"jaws_x": (-250.0, 0.0)}, "jaws within 200 mm"),
        ({"meterset": 0.3}, "from 0 up to 1"),
    ],
)
def test_what_the_machine_cannot_do_is_not_written(
    tmp_path: Path, values: dict[str, object], sentence: str
) -> None:
    plan = spoiled(make_plan().beams[0].control_points[0], **values)
    with pytest.raises(ValueError, match=sentence):
        write(plan, tmp_path / "RP.dcm")
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_was_not_sequenced_is_not_written(tmp_path: Path) -> None:
    plan = make_plan()
    bare = dataclasses.replace(plan, beams=(dataclasses.replace(plan.beams[0], mu=0.0, control_points=()),))
    with pytest.raises(ValueError, match="sequence it first"):
        write(bare, tmp_path / "RP.dcm")
    with pytest.raises(ValueError, match="for machine generic-6mv, got one for other"):
        write(dataclasses.replace(plan, machine="other"), tmp_path / "RP.dcm")
    with pytest.raises(ValueError, match="at least one beam"):
        write(dataclasses.replace(plan, beams=()), tmp_path / "RP.dcm")
    with pytest.raises(ValueError, match=r"\(HFS\), got FFS"):
        write_rtplan(
            plan,
            MACHINE,
            dataclasses.replace(SOURCE, position="FFS"),
            tmp_path / "RP.dcm",
            structure_set_uid="1.2.3.8",
        )
