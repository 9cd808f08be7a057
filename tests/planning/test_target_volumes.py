"""GTV, CTV and PTV against closed forms, and what is refused."""

import math

import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.structures import RoiType, Structure, StructureSet
from planning.contour.targets import add_target, ctv_to_ptv, gtv_to_ctv, sphere

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
AFFINE[:3, 3] = [-50, -50, -50]
GRID = Grid((101, 101, 51), AFFINE)


def at(x: float, y: float, z: float) -> np.ndarray:
    return np.array([x, y, z], dtype=np.float64)


@pytest.fixture(scope="module")
def head() -> StructureSet:
    body, brain = sphere(GRID, at(0, 0, 0), 45.0), sphere(GRID, at(0, 0, 0), 35.0)
    return StructureSet(
        GRID,
        {
            "Body": Structure(body, RoiType.EXTERNAL, (0, 255, 0)),
            "Brain": Structure(brain, RoiType.ORGAN, (255, 0, 0)),
        },
        "1.2.3",
    )


def test_sphere_has_its_volume_and_its_place() -> None:
    mask = sphere(GRID, at(10, -5, 4), 12.0)
    assert int(mask.sum()) * GRID.voxel_volume == pytest.approx(4 / 3 * math.pi * 12**3, rel=0.02)
    middle = mask.nonzero().double().mean(dim=0).numpy() * [1, 1, 2] - 50
    assert middle == pytest.approx(at(10, -5, 4), abs=0.1)


def test_ctv_is_the_larger_sphere_and_ptv_larger_still(head: StructureSet) -> None:
    done = add_target(head, sphere(GRID, at(0, 0, 0), 10.0), 15.0, 3.0, 60.0)
    for name, radius in (("GTV", 10), ("CTV", 25), ("PTV", 28)):
        volume = int(done.mask(name).sum()) * GRID.voxel_volume
        assert (volume / (4 / 3 * math.pi)) ** (1 / 3) == pytest.approx(radius, abs=0.25), name


def test_ctv_stays_inside_the_brain_and_holds_the_whole_gtv(head: StructureSet) -> None:
    gtv = sphere(GRID, at(30, 0, 0), 8.0)
    ctv = gtv_to_ctv(gtv, head.mask("Brain"), GRID)
    assert not (ctv & ~head.mask("Brain") & ~gtv).any()
    assert not (gtv & ~ctv).any()
    assert not (ctv & ~ctv_to_ptv(ctv, GRID)).any()


def test_prescription_stands_on_the_ptv_alone_and_frame_is_kept(head: StructureSet) -> None:
    done = add_target(head, sphere(GRID, at(0, 0, 0), 10.0), prescription_gy=60.0)
    assert [s.prescription_gy for s in done.structures.values()] == [None, None, None, None, 60.0]
    assert [s.kind for s in done.structures.values()][2:] == [RoiType.GTV, RoiType.CTV, RoiType.PTV]
    assert done.frame == "1.2.3"
    assert "GTV" not in head.structures


def test_empty_target_is_refused(head: StructureSet) -> None:
    with pytest.raises(ValueError, match="expected a target with voxels inside, got an empty one"):
        add_target(head, torch.zeros(GRID.shape, dtype=torch.bool))


def test_target_outside_the_body_is_refused_with_its_volume(head: StructureSet) -> None:
    with pytest.raises(ValueError, match=r"expected a target inside the body, got 0\.\d\d of 0\.\d\d cm³"):
        add_target(head, sphere(GRID, at(45, 0, 0), 5.0))


def test_sphere_outside_the_scan_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a target inside the scan"):
        sphere(GRID, at(0, 0, 120), 5.0)


@pytest.mark.parametrize("radius", [0.0, -3.0, math.nan])
def test_sphere_without_a_positive_radius_is_refused(radius: float) -> None:
    with pytest.raises(ValueError, match="radius above 0"):
        sphere(GRID, at(0, 0, 0), radius)


def test_target_on_another_grid_and_negative_margin_are_refused(head: StructureSet) -> None:
    with pytest.raises(ValueError, match="resample it"):
        add_target(head, torch.ones((4, 4, 4), dtype=torch.bool))
    with pytest.raises(ValueError, match="at least 0 mm"):
        add_target(head, sphere(GRID, at(0, 0, 0), 5.0), ctv_margin_mm=-1.0)
