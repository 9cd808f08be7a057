import numpy as np
import pytest

from app.cautions import cut_off
from imaging.grid import Grid
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet

GRID = Grid((20, 20, 20), np.diag([10.0, 10.0, 10.0, 1.0]))


def body(x: float, y: float, z: float) -> StructureSet:
    mask = sphere(GRID, np.array([x, y, z]), 60.0)
    return StructureSet(GRID, {"Body": Structure(mask, RoiType.EXTERNAL, (0, 0, 0))})


def test_a_whole_head_needs_no_caution():
    assert cut_off(GRID, body(95.0, 95.0, 95.0)) == ()


def test_the_sides_are_the_patients_however_the_scan_is_turned():
    turned = np.array([[0.0, 0, -10, 190], [-10, 0, 0, 190], [0, -10, 0, 190], [0, 0, 0, 1]])
    (caution,) = cut_off(Grid((20, 20, 20), turned), body(95.0, 95.0, 150.0))
    assert "(top)" in caution


def test_a_nose_at_the_edge_changes_nothing():
    fine = Grid((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
    mask = sphere(fine, np.array([20.0, 20.0, 20.0]), 15.0)
    mask[8:12, 0:4, 8:12] = True  # 64 mm² on the front face
    assert cut_off(fine, StructureSet(fine, {"Body": Structure(mask, RoiType.EXTERNAL, (0, 0, 0))})) == ()


def test_a_scan_that_ends_in_the_neck_is_usual():
    assert cut_off(GRID, body(95.0, 95.0, 40.0)) == ()


@pytest.mark.parametrize(
    ("place", "where"),
    [
        ((40.0, 95.0, 95.0), "right"),
        ((150.0, 95.0, 95.0), "left"),
        ((95.0, 40.0, 95.0), "front"),
        ((95.0, 150.0, 95.0), "back"),
        ((95.0, 95.0, 150.0), "top"),
    ],
)
def test_a_scan_that_ends_inside_the_head_is_told(place, where):
    (caution,) = cut_off(GRID, body(*place))
    assert f"({where})" in caution
