"""What an RTPLAN says of how it is delivered: turns of the gantry, dose rates, layers of leaves, doses."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset

from imaging.grid import axial
from imaging.source import Source
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.machine import Machine, load_machine
from planning.motion import schedule
from planning.plan import Plan, Prescription
from planning.rtplan import Tolerances, read_rtplan, write_rtplan
from planning.rtplan_distances import surface_distances

MACHINE = load_machine("generic-6mv")
SOURCE = Source(patient_id="1", patient_name="A^B", study_uid="1.2.3.4", frame="1.2.3.6")


def leaves(n: int, machine: Machine = MACHINE) -> np.ndarray:
    rng = np.random.default_rng(n)
    left = rng.uniform(-40, 0, machine.mlc.n_pairs)
    return np.stack([left, left + rng.uniform(2, 40, machine.mlc.n_pairs)])


def arc(angles: np.ndarray, machine: Machine = MACHINE) -> Plan:
    """An arc with leaves that move and monitor units that differ from span to span."""
    shares = np.linspace(0, 1, len(angles)) ** 1.5
    beyond = (-machine.max_jaw, machine.max_jaw)
    points = tuple(
        ControlPoint(
            float(share),
            float(gantry % 360),
            (-42.0, 42.0 + n / 10) if "x" in machine.jaws else beyond,
            (-50.0, 50.0) if "y" in machine.jaws else beyond,
            leaves(n, machine),
        )
        for n, (share, gantry) in enumerate(zip(shares, angles, strict=True))
    )
    beam = Beam(points[0].gantry, 0.0, 15.0, np.array([1.5, -2.25, 3.0]), "arc", 321.5, points)
    return Plan((beam,), Prescription(50.0, 25), machine.name)


def write(plan: Plan, path: Path, machine: Machine = MACHINE, **how: object) -> Path:
    write_rtplan(plan, machine, SOURCE, path, structure_set_uid="1.2.3.8", **how)
    return path


def items(path: Path) -> list[Dataset]:
    return list(pydicom.dcmread(path).BeamSequence[0].ControlPointSequence)


def changed(path: Path, change: Callable[[Dataset], None]) -> Path:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def assert_same(a: Plan, b: Plan) -> None:
    for x, y in zip(a.beams, b.beams, strict=True):
        for p, q in zip(x.control_points, y.control_points, strict=True):
            ours, theirs = ([c.meterset, c.gantry, *c.jaws_x, *c.jaws_y] for c in (p, q))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
            # A decimal string holds 16 characters.
            np.testing.assert_allclose(p.leaves, q.leaves, rtol=0, atol=1e-11)


# Turns


@pytest.mark.parametrize(
    ("first", "last", "way"), [(181, 539, "CW"), (179, -179, "CC"), (150, 210, "CW"), (210, 150, "CC")]
)
def test_full_arcs_and_arcs_past_180_come_back_with_their_direction(tmp_path, first, last, way):
    plan = arc(np.linspace(first, last, 61))
    path = write(plan, tmp_path / "RP.dcm")
    points = items(path)
    assert [p.get("GantryRotationDirection") for p in points if "GantryRotationDirection" in p] == [
        way,
        "NONE",
    ]
    assert "GantryRotationDirection" in points[0]
    assert "GantryRotationDirection" in points[-1]
    assert_same(read_rtplan(path, machine=MACHINE), plan)


def test_an_arc_that_turns_back_tells_so_at_the_control_point_where_it_does(tmp_path):
    path = write(arc(np.array([350.0, 355.0, 360.0, 357.0, 354.0])), tmp_path / "RP.dcm")
    assert [p.get("GantryRotationDirection") for p in items(path)] == ["CW", None, "CC", None, "NONE"]


@pytest.mark.parametrize(("first", "last", "way"), [(181.0, 179.0, 1), (179.0, 181.0, -1), (90.0, 300.0, 1)])
def test_two_control_points_turn_the_way_that_the_file_says(tmp_path, first, last, way):
    """A conformal arc of two control points: leaves, gantry and monitor units move evenly between."""
    path = write(arc(np.array([first, last])), tmp_path / "RP.dcm")

    def turn(dataset: Dataset) -> None:
        dataset.BeamSequence[0].ControlPointSequence[0].GantryRotationDirection = "CW" if way > 0 else "CC"

    beam = read_rtplan(changed(path, turn)).beams[0]
    angles = np.array([p.gantry for p in beam.control_points])
    steps = (np.diff(angles) + 180) % 360 - 180
    total = way * ((way * (last - first)) % 360)
    assert steps.sum() == pytest.approx(total)
    assert np.abs(steps).max() <= 10.001
    np.testing.assert_allclose(steps, total / len(steps))
    shares = [p.meterset for p in beam.control_points]
    np.testing.assert_allclose(shares, np.linspace(0, 1, len(shares)))
    middle = beam.control_points[len(shares) // 2]
    ends = beam.control_points[0].leaves, beam.control_points[-1].leaves
    np.testing.assert_allclose(middle.leaves, ends[0] + middle.meterset * (ends[1] - ends[0]), atol=1e-9)


def test_directions_that_contradict_the_angles_are_refused(tmp_path):
    path = write(arc(np.linspace(0, 60, 16)), tmp_path / "RP.dcm")

    def reverse(dataset: Dataset) -> None:
        dataset.BeamSequence[0].ControlPointSequence[0].GantryRotationDirection = "CC"

    with pytest.raises(ValueError, match="within one circle, got directions that contradict its angles"):
        read_rtplan(changed(path, reverse))


def test_half_a_turn_without_a_direction_is_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="less than half a turn of the gantry"):
        write(arc(np.array([0.0, 180.0])), tmp_path / "RP.dcm")
    path = write(arc(np.array([0.0, 90.0])), tmp_path / "RP.dcm")

    def turn_half(dataset: Dataset) -> None:
        first, last = dataset.BeamSequence[0].ControlPointSequence
        first.GantryRotationDirection, last.GantryAngle = "NONE", 180

    with pytest.raises(ValueError, match="direction for half a turn of the gantry in beam 1, got none"):
        read_rtplan(changed(path, turn_half))


# Rates and distances


def test_dose_rates_are_those_of_the_fastest_delivery(tmp_path):
    plan = arc(np.linspace(181, 539, 61))
    rates, held = [], None
    for point in items(write(plan, tmp_path / "RP.dcm"))[:-1]:
        held = float(point.DoseRateSet) if "DoseRateSet" in point else held
        rates.append(held)
    expected = schedule(plan.beams[0], MACHINE).dose_rate
    np.testing.assert_allclose(rates, expected, atol=0.005)
    assert max(rates) <= MACHINE.limits.max_dose_rate
    assert len(set(rates)) > 10


def test_each_control_point_has_its_surface_distance_where_it_is_given(tmp_path):
    plan = arc(np.linspace(20, 60, 5))
    distances = [900.5, 901.0, 902.0, 903.0, 904.0]
    path = write(plan, tmp_path / "RP.dcm", surface_distances={"arc": distances})
    assert [float(p.SourceToSurfaceDistance) for p in items(path)] == distances
    path = write(plan, tmp_path / "RP.dcm", surface_distances={"arc": 912.0})
    assert [p.get("SourceToSurfaceDistance") for p in items(path)] == [912.0, None, None, None, None]
    with pytest.raises(ValueError, match="each of the 5 control points of beam arc, got 2"):
        write(plan, tmp_path / "RP.dcm", surface_distances={"arc": [900.0, 901.0]})


def test_surface_distances_of_an_arc_follow_a_cylinder_beside_the_axis():
    """A cylinder of radius 60 mm whose axis lies 20 mm to the patient's left of the isocentre: the ray from
    gantry angle g meets it where the distance t to the isocentre solves |t u - c| = r."""
    grid = axial(np.array([-100.0, -100.0, -10.0]), np.array([100.0, 100.0, 10.0]), (1.0, 1.0, 5.0))
    x, y = (grid.affine[n, 3] + grid.spacing[n] * np.arange(grid.shape[n]) for n in (0, 1))
    inside = np.hypot(x[:, None] - 20.0, y[None, :]) <= 60.0
    matter = torch.from_numpy(inside).float()[None, :, :, None].repeat(1, 1, 1, grid.shape[2])
    density = Volume(matter, grid, Quantity.DENSITY)
    plan = arc(np.linspace(0, 350, 36))
    plan = dataclasses.replace(plan, beams=(dataclasses.replace(plan.beams[0], isocenter=np.zeros(3)),))
    found = surface_distances(plan, density, MACHINE)["arc"]
    g = np.deg2rad([p.gantry for p in plan.beams[0].control_points])
    along = 20.0 * np.sin(g)  # of the cylinder's axis along the ray to the source, x to the left
    expected = 1000.0 - (along + np.sqrt(60.0**2 - (20.0 * np.cos(g)) ** 2))
    np.testing.assert_allclose(found, expected, atol=1.0)


def test_a_standing_field_has_one_surface_distance_and_a_beam_that_misses_none():
    grid = axial(np.full(3, -20.0), np.full(3, 20.0), (5.0, 5.0, 5.0))
    density = Volume(torch.ones((1, *grid.shape)), grid, Quantity.DENSITY)
    here = dataclasses.replace(arc(np.array([0.0, 0.0, 0.0])).beams[0], isocenter=np.zeros(3), name="here")
    there = dataclasses.replace(here, isocenter=np.array([100.0, 0.0, 0.0]), name="there")
    plan = Plan((here, there), Prescription(50.0, 25), MACHINE.name)
    assert surface_distances(plan, density, MACHINE) == {"here": pytest.approx(980.0)}


# References


def test_doses_of_beams_stand_beside_the_point_that_they_are_of(tmp_path):
    plan = arc(np.linspace(20, 60, 5))
    dataset = pydicom.dcmread(write(plan, tmp_path / "RP.dcm", target_roi=3, beam_doses={"arc": 1.95}))
    volume, point = dataset.DoseReferenceSequence
    assert (volume.DoseReferenceStructureType, volume.ReferencedROINumber) == ("VOLUME", 3)
    assert point.DoseReferenceStructureType == "COORDINATES"
    assert point.DoseReferencePointCoordinates == [1.5, -2.25, 3.0]
    told = dataset.FractionGroupSequence[0].ReferencedBeamSequence[0]
    assert (told.BeamDose, told.BeamDoseSpecificationPoint) == (1.95, [1.5, -2.25, 3.0])
    assert told.ReferencedDoseReferenceUID == point.DoseReferenceUID


def test_beams_with_several_isocentres_have_no_common_dose_point(tmp_path):
    one = arc(np.linspace(20, 60, 5))
    other = dataclasses.replace(one.beams[0], isocenter=np.zeros(3), name="other")
    plan = dataclasses.replace(one, beams=(*one.beams, other))
    assert len(pydicom.dcmread(write(plan, tmp_path / "RP.dcm")).DoseReferenceSequence) == 1
    with pytest.raises(ValueError, match="point for the doses of beams"):
        write(plan, tmp_path / "RP.dcm", beam_doses={"arc": 1.0})
    path = write(plan, tmp_path / "RP.dcm", beam_doses={"arc": 1.0}, dose_point=np.array([7.0, 8.0, 9.0]))
    assert pydicom.dcmread(path).DoseReferenceSequence[1].DoseReferencePointCoordinates == [7, 8, 9]


def test_a_plan_names_its_dose_its_structures_and_the_plan_before_it(tmp_path):
    path = write(arc(np.linspace(20, 60, 5)), tmp_path / "RP.dcm", dose_uid="1.2.9", predecessor_uid="1.2.7")
    dataset = pydicom.dcmread(path)
    assert dataset.ReferencedDoseSequence[0].ReferencedSOPInstanceUID == "1.2.9"
    assert dataset.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == "1.2.3.8"
    before = dataset.ReferencedRTPlanSequence[0]
    assert (before.ReferencedSOPInstanceUID, before.RTPlanRelationship) == ("1.2.7", "PREDECESSOR")


def test_the_tolerance_table_holds_for_every_device(tmp_path):
    path = write(arc(np.linspace(20, 60, 5)), tmp_path / "RP.dcm", tolerances=Tolerances(gantry=0.5))
    dataset = pydicom.dcmread(path)
    table = dataset.ToleranceTableSequence[0]
    assert table.GantryAngleTolerance == 0.5
    devices = {
        d.RTBeamLimitingDeviceType: float(d.BeamLimitingDevicePositionTolerance)
        for d in table.BeamLimitingDeviceToleranceSequence
    }
    assert devices == {"ASYMX": 2.0, "ASYMY": 2.0, "MLCX": 1.0}
    assert dataset.BeamSequence[0].ReferencedToleranceTableNumber == table.ToleranceTableNumber


# Other heads


def with_two_layers() -> Machine:
    mlc = dataclasses.replace(
        MACHINE.mlc, boundaries=np.linspace(-145, 145, 30), lower=np.linspace(-140, 140, 29)
    )
    return dataclasses.replace(MACHINE, mlc=mlc, jaws=(), max_jaw=140.0)


@pytest.mark.tools
def test_dciodvfy_knows_no_names_for_two_layers_and_finds_nothing_else(tmp_path, dciodvfy):
    """PS3.3 has one MLCX; MLCX1 and MLCX2 are what plans for such machines call them."""
    machine = with_two_layers()
    errors = dciodvfy(write(arc(np.linspace(20, 60, 5), machine), tmp_path / "RP.dcm", machine))
    assert errors
    assert {e for e in errors if "Unrecognized enumerated value <MLCX" not in e} == set()


def test_two_layers_of_leaves_come_back_and_jaws_that_are_not_there_are_not_written(tmp_path):
    machine = with_two_layers()
    plan = arc(np.linspace(20, 60, 5), machine)
    path = write(plan, tmp_path / "RP.dcm", machine)
    devices = pydicom.dcmread(path).BeamSequence[0].BeamLimitingDeviceSequence
    assert [(d.RTBeamLimitingDeviceType, d.NumberOfLeafJawPairs) for d in devices] == [
        ("MLCX1", 28),
        ("MLCX2", 29),
    ]
    assert_same(read_rtplan(path, machine=machine), plan)
    # Without a machine as well, beyond whose window there is nothing then.
    bare = read_rtplan(path).beams[0].control_points[0]
    np.testing.assert_allclose(bare.leaves, plan.beams[0].control_points[0].leaves, atol=1e-11)


def test_layers_are_told_apart_by_their_edges_where_another_system_counts_them_from_above(tmp_path):
    machine = with_two_layers()
    plan = arc(np.linspace(20, 60, 5), machine)
    other = {"MLCX1": "MLCX2", "MLCX2": "MLCX1"}

    def rename(dataset: Dataset) -> None:
        beam = dataset.BeamSequence[0]
        for device in beam.BeamLimitingDeviceSequence:
            device.RTBeamLimitingDeviceType = other[device.RTBeamLimitingDeviceType]
        for point in beam.ControlPointSequence:
            for device in point.BeamLimitingDevicePositionSequence:
                device.RTBeamLimitingDeviceType = other[device.RTBeamLimitingDeviceType]

    path = changed(write(plan, tmp_path / "RP.dcm", machine), rename)
    assert_same(read_rtplan(path, machine=machine), plan)


def test_leaves_alone_bound_the_field_where_there_are_no_jaws_along_x(tmp_path):
    machine = dataclasses.replace(MACHINE, jaws=("y",))
    plan = arc(np.linspace(20, 60, 5), machine)
    path = write(plan, tmp_path / "RP.dcm", machine)
    devices = pydicom.dcmread(path).BeamSequence[0].BeamLimitingDeviceSequence
    assert [d.RTBeamLimitingDeviceType for d in devices] == ["ASYMY", "MLCX"]
    assert_same(read_rtplan(path, machine=machine), plan)


def test_leaves_that_a_field_of_jaws_does_not_use_stand_open(tmp_path):
    path = write(arc(np.linspace(20, 60, 5)), tmp_path / "RP.dcm")

    def forget_leaves(dataset: Dataset) -> None:
        beam = dataset.BeamSequence[0]
        del beam.BeamLimitingDeviceSequence[2]
        for point in beam.ControlPointSequence:
            kept = [
                p for p in point.BeamLimitingDevicePositionSequence if p.RTBeamLimitingDeviceType != "MLCX"
            ]
            point.BeamLimitingDevicePositionSequence = kept

    points = read_rtplan(changed(path, forget_leaves), machine=MACHINE).beams[0].control_points
    assert {tuple(np.unique(bank)) for p in points for bank in p.leaves} == {(-200.0,), (200.0,)}
    assert points[0].jaws_y == (-50.0, 50.0)


def test_leaves_without_positions_are_refused(tmp_path):
    path = write(arc(np.linspace(20, 60, 5)), tmp_path / "RP.dcm")

    def forget(dataset: Dataset) -> None:
        del dataset.BeamSequence[0].ControlPointSequence[0].BeamLimitingDevicePositionSequence[2]

    with pytest.raises(ValueError, match=r"positions of \['MLCX'\] at the start of each beam, got none"):
        read_rtplan(changed(path, forget))


def test_a_beam_without_flattening_filter_says_so(tmp_path):
    beam = dataclasses.replace(
        MACHINE.beam,
        off_axis_radius=np.array([0.0, 100.0]),
        off_axis_fluence=np.array([1.0, 0.78]),
        off_axis_depth=np.ones(2),
    )
    machine = dataclasses.replace(MACHINE, beam=beam)
    path = write(arc(np.linspace(20, 60, 5)), tmp_path / "RP.dcm", machine)
    mode = pydicom.dcmread(path).BeamSequence[0].PrimaryFluenceModeSequence[0]
    assert (mode.FluenceMode, mode.FluenceModeID) == ("NON_STANDARD", "FFF")
    read_rtplan(path, machine=machine)
    with pytest.raises(ValueError, match="6 MV with flattening filter of generic-6mv in beam 1"):
        read_rtplan(path, machine=MACHINE)


def test_a_beam_of_another_energy_is_refused_unless_that_is_meant(tmp_path):
    def to_ten(dataset: Dataset) -> None:
        dataset.BeamSequence[0].ControlPointSequence[0].NominalBeamEnergy = 10

    path = changed(write(arc(np.linspace(20, 60, 5)), tmp_path / "RP.dcm"), to_ten)
    with pytest.raises(ValueError, match=r"expected 6 MV .* of generic-6mv in beam 1, got 10 MV"):
        read_rtplan(path, machine=MACHINE)
    assert len(read_rtplan(path, machine=MACHINE, any_energy=True).beams) == 1


@pytest.mark.tools
@pytest.mark.parametrize("machine", [MACHINE, dataclasses.replace(MACHINE, jaws=("y",))], ids=["xy", "y"])
def test_dciodvfy_finds_no_error_in_a_full_arc(tmp_path, machine, dciodvfy):
    plan = arc(np.linspace(181, 539, 31), machine)
    how = {
        "target_roi": 2,
        "surface_distances": {"arc": [900.0 + n for n in range(31)]},
        "beam_doses": {"arc": 1.98},
        "dose_uid": "1.2.9",
        "predecessor_uid": "1.2.7",
    }
    assert dciodvfy(write(plan, tmp_path / "RP.dcm", machine, **how)) == []


@pytest.mark.filterwarnings("ignore")
def test_pymedphys_reads_the_same_arc_from_our_file(tmp_path):
    """It keeps bank B, then bank A with its sign turned, from the last leaf pair to the first."""
    import pymedphys

    machine = load_machine("agility-6mv")
    plan = arc(np.linspace(181, 539, 31), machine)
    # It wants every device at every control point: all of them move. The machine keeps 3.5 mm between leaves.
    points = tuple(
        dataclasses.replace(p, leaves=p.leaves + np.array([[-2.0], [2.0]]), jaws_y=(-50.0, 50.0 + n / 8))
        for n, p in enumerate(plan.beams[0].control_points)
    )
    beam = dataclasses.replace(plan.beams[0], control_points=points)
    path = write(dataclasses.replace(plan, beams=(beam,)), tmp_path / "RP.dcm", machine)
    theirs = pymedphys.Delivery.from_dicom(pydicom.dcmread(path), fraction_group_number=1)
    np.testing.assert_allclose(theirs.monitor_units, [p.meterset * beam.mu for p in points], atol=1e-9)
    turned = np.array(theirs.gantry) - [p.gantry for p in points]
    np.testing.assert_allclose(turned, 360 * np.rint(turned / 360), atol=1e-6)
    mlc = np.array([np.stack([p.leaves[1, ::-1], -p.leaves[0, ::-1]], axis=-1) for p in points])
    np.testing.assert_allclose(np.array(theirs.mlc), mlc, atol=1e-9)
    np.testing.assert_allclose(theirs.jaw, [(p.jaws_y[1], -p.jaws_y[0]) for p in points], atol=1e-9)
