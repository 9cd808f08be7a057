"""Resampling against functions that trilinear interpolation reproduces exactly."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from imaging import resample as module
from imaging.grid import Grid, axial, positions
from imaging.resample import averaged, resample, resample_structures
from imaging.sitk import from_sitk, to_sitk
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume


def _turned(angles: tuple[float, float, float], shape: tuple[int, int, int], step: float) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * [step, 1.2 * step, step]
    grid = Grid(shape, affine)
    affine[:3, 3] = -grid.center
    return Grid(shape, affine)


def _linear(grid: Grid) -> torch.Tensor:
    """The function 100 + 2x - 3y + 5z at the voxels of a grid."""
    index = np.indices(grid.shape).reshape(3, -1).T.astype(np.float64)
    values = 100 + positions(grid, index) @ np.array([2.0, -3.0, 5.0])
    return torch.from_numpy(values.astype(np.float32)).reshape(1, *grid.shape)


@pytest.mark.parametrize("quantity", [Quantity.HU, Quantity.MR, Quantity.DOSE])
@pytest.mark.parametrize("angles", [(0, 0, 0), (10, -25, 40), (90, 0, 0), (170, 80, -95)])
def test_a_linear_function_is_reproduced_on_any_grid_inside(angles, quantity):
    source = _turned((5, 15, -30), (40, 36, 44), 2.0)
    target = _turned(angles, (15, 14, 16), 1.3)
    moved = resample(Volume(_linear(source), source, quantity), target)
    assert float((moved.data - _linear(target)).abs().max()) < 2e-3
    assert moved.grid == target


def test_its_own_grid_gives_back_the_very_volume():
    grid = _turned((5, 15, -30), (4, 5, 6), 2.0)
    volume = Volume(_linear(grid), grid, Quantity.MR)
    assert resample(volume, grid) is volume


def test_a_whole_shift_moves_values_without_changing_them():
    grid = Grid((8, 8, 8), np.eye(4))
    moved = np.eye(4)
    moved[:3, 3] = [1, 2, -3]
    values = torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    out = resample(Volume(values, grid, Quantity.MR), Grid((8, 8, 8), moved)).data
    assert torch.allclose(out[0, :7, :6, 3:], values[0, 1:, 2:, :5], atol=2e-6)


@pytest.mark.parametrize(
    ("quantity", "outside"), [(Quantity.HU, -1000.0), (Quantity.MR, 0.0), (Quantity.DOSE, 0.0)]
)
def test_beyond_the_outer_faces_there_is_air_or_nothing(quantity, outside):
    grid = axial(np.zeros(3), np.full(3, 10.0), (1.0, 1.0, 1.0))
    wide = axial(np.full(3, -5.0), np.full(3, 15.0), (1.0, 1.0, 1.0))
    out = resample(Volume(torch.full((1, 10, 10, 10), 7.0), grid, quantity), wide).data[0]
    assert torch.allclose(out[5:15, 5:15, 5:15], torch.tensor(7.0), atol=1e-5)
    out[5:15, 5:15, 5:15] = outside
    assert (out == outside).all()


def test_the_outer_half_voxel_belongs_to_the_volume():
    grid = Grid((4, 4, 4), np.diag([4.0, 4.0, 4.0, 1.0]))
    edge = np.eye(4)
    edge[:3, 3] = [-1.9, 0.0, 0.0]
    beyond = edge.copy()
    beyond[0, 3] = -2.1
    volume = Volume(torch.full((1, 4, 4, 4), 7.0), grid, Quantity.HU)
    assert float(resample(volume, Grid((1, 1, 1), edge)).data) == 7
    assert float(resample(volume, Grid((1, 1, 1), beyond)).data) == -1000


def test_labels_take_their_nearest_voxel_and_keep_their_type():
    grid = Grid((6, 6, 6), np.diag([3.0, 3.0, 3.0, 1.0]))
    labels = torch.randint(0, 14, (1, 6, 6, 6), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    fine = np.eye(4)
    fine[:3, 3] = -1.0
    out = resample(Volume(labels, grid, Quantity.LABEL), Grid((18, 18, 18), fine)).data
    # Voxels of 1 mm nest in threes, centred, in voxels of 3 mm.
    threefold = labels.repeat_interleave(3, 1).repeat_interleave(3, 2).repeat_interleave(3, 3)
    assert out.dtype == torch.uint8
    assert torch.equal(out, threefold)


def test_large_labels_keep_every_digit():
    grid = Grid((2, 2, 2), np.eye(4))
    labels = torch.full((1, 2, 2, 2), 16_777_217, dtype=torch.int32)
    moved = np.eye(4)
    moved[0, 3] = 0.2
    assert (
        int(resample(Volume(labels, grid, Quantity.LABEL), Grid((1, 2, 2), moved)).data.max()) == 16_777_217
    )


def test_simpleitk_agrees_on_an_oblique_pair_of_grids():
    source = _turned((5, 15, -30), (20, 22, 24), 2.0)
    target = _turned((40, -10, 20), (12, 14, 13), 1.7)
    noise = torch.rand(1, *source.shape, generator=torch.Generator().manual_seed(3))
    volume = Volume(noise, source, Quantity.MR)
    like = to_sitk(Volume(torch.zeros(1, *target.shape), target, Quantity.MR))
    theirs = from_sitk(sitk.Resample(to_sitk(volume), like), Quantity.MR)
    assert float((resample(volume, target).data - theirs.data).abs().max()) < 1e-4


def test_every_channel_moves_alike():
    source, target = _turned((5, 15, -30), (20, 20, 20), 2.0), _turned((0, 0, 0), (6, 7, 8), 1.5)
    data = torch.cat([_linear(source), -_linear(source)])
    out = resample(Volume(data, source, Quantity.DISPLACEMENT), target).data
    assert torch.equal(out[0], -out[1])


def test_one_slice_has_a_value_throughout_its_thickness():
    grid = Grid((5, 5, 1), np.diag([1.0, 1.0, 4.0, 1.0]))
    up = np.eye(4)
    up[2, 3] = -1.5
    out = resample(Volume(torch.full((1, 5, 5, 1), 3.0), grid, Quantity.MR), Grid((5, 5, 4), up)).data
    assert torch.allclose(out, torch.tensor(3.0), atol=1e-6)


def test_the_result_does_not_depend_on_how_much_is_done_at_once(monkeypatch):
    source, target = _turned((5, 15, -30), (20, 20, 20), 2.0), _turned((9, 8, 7), (11, 12, 13), 1.5)
    volume = Volume(_linear(source), source, Quantity.MR)
    whole = resample(volume, target)
    monkeypatch.setattr(module, "_VOXELS_AT_ONCE", 400)
    assert torch.equal(resample(volume, target).data, whole.data)


def test_the_frame_of_reference_stays():
    grid = Grid((2, 2, 2), np.eye(4))
    volume = Volume(torch.zeros(1, 2, 2, 2), grid, Quantity.MR, "1.2.3")
    assert resample(volume, Grid((3, 3, 3), np.eye(4))).frame == "1.2.3"


def test_a_sphere_keeps_its_volume_on_a_turned_and_coarser_grid():
    fine = _turned((0, 0, 0), (70, 60, 70), 1.0)
    coarse = _turned((20, 30, 40), (40, 34, 40), 2.0)
    index = np.indices(fine.shape).reshape(3, -1).T.astype(np.float64)
    inside = np.linalg.norm(positions(fine, index), axis=1).reshape(fine.shape) <= 25
    mask = torch.from_numpy(inside)
    structures = StructureSet(fine, {"ball": Structure(mask, RoiType.GTV, (1, 2, 3), 60.0)}, "1.2.3")
    moved = resample_structures(structures, coarse)
    volume = int(moved.mask("ball").sum()) * coarse.voxel_volume
    assert volume == pytest.approx(4 / 3 * np.pi * 25**3, rel=0.01)
    assert moved.structures["ball"].prescription_gy == 60.0
    assert moved.frame == "1.2.3"
    assert resample_structures(structures, fine) is structures
    # Read where it may lie alone, it is what reading it everywhere gives.
    share = resample(Volume(mask[None].float(), fine, Quantity.PROBABILITY), coarse)
    assert torch.equal(moved.mask("ball"), share.data[0] >= 0.5)


def test_thick_slices_are_the_mean_of_what_lies_in_them():
    # A step at 11.5 mm along z: the slice of 7..13 mm lies before it with four and a half of its six mm.
    fine = Grid((4, 4, 40), np.diag([2.0, 2.0, 1.0, 1.0]))
    data = torch.zeros(1, 4, 4, 40)
    data[..., :12] = 100.0
    affine = np.diag([2.0, 2.0, 6.0, 1.0])
    affine[2, 3] = 4.0  # slices about 4, 10, 16, 22, 28 and 34 mm
    thick = averaged(Volume(data, fine, Quantity.HU, "1.2.3"), Grid((4, 4, 6), affine), 0.5)
    assert thick.data[0, 1, 1].tolist() == pytest.approx([100, 75, 0, 0, 0, 0], abs=1e-4)
    assert (thick.quantity, thick.frame) == (Quantity.HU, "1.2.3")


def test_a_linear_function_keeps_its_mean_in_voxels_that_lie_turned():
    source = _turned((5, 15, -30), (40, 36, 44), 2.0)
    target = _turned((10, -25, 40), (5, 4, 6), 5.0)
    moved = averaged(Volume(_linear(source), source, Quantity.MR), target, 1.0)
    assert float((moved.data - _linear(target)).abs().max()) < 2e-3
    finer = _turned((10, -25, 40), (5, 4, 6), 1.0)
    whole = Volume(_linear(source), source, Quantity.MR)
    assert torch.equal(averaged(whole, finer, 1.5).data, resample(whole, finer).data)
