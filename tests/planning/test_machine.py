import json
from dataclasses import replace

import numpy as np
import pytest

from planning.beams import Beam
from planning.dose.calibration import fluence_per_mu, reference_dose
from planning.machine import Machine, expect_in_range, load_machine, machines, read_machine, save_machine

SHIPPED = ("generic-6mv", "millennium-6mv", "agility-6mv", "stacked-6mv")


def test_every_machine_that_is_listed_loads_under_its_name():
    assert machines()
    for name in machines():
        assert load_machine(name).name == name


def test_an_unknown_machine_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"expected one of the machines .*generic-6mv"):
        load_machine("../generic-6mv")


def test_generic_leaves_are_eighty_pairs_of_five_millimetres():
    boundaries = load_machine("generic-6mv").mlc.boundaries
    np.testing.assert_array_equal(boundaries, np.arange(-200, 201, 5))


@pytest.mark.parametrize(
    ("name", "widths", "jaws"),
    [
        ("millennium-6mv", [[10.0] * 10 + [5.0] * 40 + [10.0] * 10], ("x", "y")),
        ("agility-6mv", [[5.0] * 80], ("y",)),
        ("stacked-6mv", [[10.0] * 29, [10.0] * 28], ()),
    ],
)
def test_leaves_and_jaws_are_as_published(name, widths, jaws):
    machine = load_machine(name)
    assert [np.diff(edges).tolist() for edges in machine.mlc.layers] == widths
    assert [float(edges.sum()) for edges in machine.mlc.layers] == [0.0] * len(widths)
    assert machine.jaws == jaws
    assert machine.mlc.n_pairs == sum(map(len, widths))
    # RTPLAN holds no longer names.
    assert len(name) <= 16


def test_stacked_layers_are_shifted_by_half_a_leaf():
    upper, lower = load_machine("stacked-6mv").mlc.layers
    np.testing.assert_array_equal(upper[:-1] + 5.0, lower)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_machine_is_saved_as_it_was(name, tmp_path):
    machine = replace(load_machine(name), name="copy")
    (tmp_path / "copy").mkdir()
    save_machine(machine, tmp_path / "copy")
    # Other programs read no infinity.
    json.loads((tmp_path / "copy" / "machine.json").read_text(), parse_constant=pytest.fail)
    back = read_machine(tmp_path / "copy")
    assert _plain(back) == _plain(machine)


def _plain(machine: Machine) -> dict[str, object]:
    mlc = {key: np.asarray(value).tolist() for key, value in vars(machine.mlc).items()}
    beam = {key: np.float32(value).tolist() for key, value in vars(machine.beam).items()}
    return {**vars(machine), "mlc": mlc, "beam": beam}


@pytest.mark.parametrize(
    "change", [{"mlc": {"boundaries": [5.0, 0.0]}}, {"jaws": ["z"]}, {"mlc": {"lower": [1.0]}}]
)
def test_leaves_and_jaws_that_cannot_be_are_refused(change, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    save_machine(replace(load_machine("generic-6mv"), name="copy"), folder)
    described = json.loads((folder / "machine.json").read_text())
    for key, value in change.items():
        described[key] = {**described[key], **value} if key == "mlc" else value
    (folder / "machine.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="expected a whole description of the machine copy"):
        read_machine(folder)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_monitor_unit_follows_from_its_calibration(name):
    machine = load_machine(name)
    assert machine.fluence_per_mu == pytest.approx(fluence_per_mu(machine), rel=1e-5)


def test_small_to_reference_field_at_ten_centimetres_is_as_published_for_the_model():
    # Same kernels in pyRadPlan 0.5.0: 0.831.
    machine = load_machine("generic-6mv")
    assert reference_dose(machine, 30.0) / reference_dose(machine) == pytest.approx(0.831, abs=1e-3)


@pytest.mark.parametrize("angles", [(0.0, 180.0, 0.0), (0.0, 100.0, 0.0), (400.0, 0.0, 0.0)])
def test_angles_that_the_machine_cannot_turn_to_are_refused(angles):
    with pytest.raises(ValueError, match="angle"):
        expect_in_range(Beam(*angles, np.zeros(3)), load_machine("generic-6mv"))


@pytest.mark.parametrize("angles", [(180.0, 0.0, 0.0), (360.0, 270.0, 180.0), (0.0, 90.0, 359.0)])
def test_angles_within_the_range_pass_however_they_are_counted(angles):
    beam = Beam(*angles, np.zeros(3))
    assert expect_in_range(beam, load_machine("generic-6mv")) is beam
