"""Contours from tissue labels of a head drawn with ellipsoids."""

import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.phantoms import ellipsoid, sphere
from imaging.structures import RoiType
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from planning.contour.prior import contours


def at(x: float, y: float, z: float) -> np.ndarray:
    return np.array([x, y, z], dtype=np.float64)


def head(affine: np.ndarray, shape: tuple[int, int, int]) -> Volume:
    """Scalp, skull, fluid, brain with a ventricle, brainstem and two eyes."""
    grid = Grid(shape, affine)
    labels = torch.zeros(shape, dtype=torch.uint8)
    for radii, tissue in (
        (at(78, 98, 88), Tissue.SCALP),
        (at(72, 92, 82), Tissue.SKULL),
        (at(66, 86, 76), Tissue.CSF),
        (at(63, 83, 73), Tissue.GREY),
        (at(55, 75, 65), Tissue.WHITE),
        (at(10, 25, 10), Tissue.CSF),
    ):
        labels[ellipsoid(grid, at(0, 0, 0), radii)] = tissue
    labels[sphere(grid, at(0, 20, -40), 12.0)] = Tissue.BRAINSTEM
    for x in (-32.0, 32.0):
        labels[sphere(grid, at(x, -84, -30), 12.0)] = Tissue.EYE
    labels[sphere(grid, at(0, -88, -20), 6.0)] = Tissue.AIR
    return Volume(labels[None], grid, Quantity.LABEL, "1.2.3")


def upright() -> Volume:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-90, -110, -100]
    return head(affine, (91, 111, 67))


def sagittal() -> Volume:
    """The same head as slices from left to right, rows from top to bottom."""
    affine = np.array(
        [[0, 0, -3, 90.0], [2, 0, 0, -110.0], [0, -2, 0, 100.0], [0, 0, 0, 1]], dtype=np.float64
    )
    return head(affine, (111, 101, 61))


@pytest.mark.parametrize("make", [upright, sagittal])
def test_left_eye_is_at_positive_x_on_any_grid(make) -> None:
    drawn = contours(make())
    grid = drawn.grid
    for name, x in (("Eye_L", 32.0), ("Eye_R", -32.0)):
        middle = drawn.mask(name).nonzero().double().mean(dim=0).numpy()
        assert (grid.affine[:3, :3] @ middle + grid.affine[:3, 3])[0] == pytest.approx(x, abs=1.5)


def test_brain_holds_ventricle_and_brainstem_but_not_the_fluid_around_it() -> None:
    tissues = upright()
    brain = contours(tissues).mask("Brain")
    assert brain[ellipsoid(tissues.grid, at(0, 0, 0), at(9, 22, 8))].all()
    assert brain[tissues.data[0] == Tissue.BRAINSTEM].all()
    volume_cc = int(brain.sum()) * tissues.grid.voxel_volume / 1000
    assert volume_cc == pytest.approx(4 / 3 * np.pi * 6.3 * 8.3 * 7.3, rel=0.04)


def test_body_has_no_holes_where_air_is_enclosed() -> None:
    tissues = upright()
    body = contours(tissues).mask("Body")
    assert torch.equal(body, tissues.data[0] != Tissue.OUTSIDE)


def test_types_colors_and_order_are_fixed() -> None:
    drawn = contours(upright())
    assert list(drawn.structures) == ["Body", "Brain", "Skull", "Brainstem", "Eye_L", "Eye_R"]
    assert [s.kind for s in drawn.structures.values()] == [RoiType.EXTERNAL] + [RoiType.ORGAN] * 5
    assert len({s.color for s in drawn.structures.values()}) == 6
    assert drawn.frame == "1.2.3"


def test_organs_share_no_voxel_but_brain_and_brainstem() -> None:
    drawn = contours(upright())
    total = sum(drawn.mask(n).int() for n in ("Brain", "Skull", "Eye_L", "Eye_R"))
    assert int(total.max()) == 1


def test_what_the_scan_does_not_show_is_left_out() -> None:
    tissues = upright()
    labels = tissues.data.clone()
    labels[labels == Tissue.EYE] = Tissue.SCALP
    drawn = contours(Volume(labels, tissues.grid, Quantity.LABEL))
    assert "Eye_L" not in drawn.structures
    assert "Brain" in drawn.structures


def test_labels_without_brain_are_refused() -> None:
    tissues = upright()
    with pytest.raises(ValueError, match="expected tissues that show a brain"):
        contours(Volume((tissues.data > 0).to(torch.uint8), tissues.grid, Quantity.LABEL))
