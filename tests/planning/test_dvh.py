import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.dicom.rtdose import read_rtdose
from imaging.grid import Grid, axial, positions
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.check import dvh as d


def lattice(grid):
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    return positions(grid, index.astype(np.float64))


def gradient(grid, direction, at_origin=20.0):
    """A dose that rises linearly along a direction (Gy/mm), ``at_origin`` at 0."""
    values = at_origin + lattice(grid) @ np.asarray(direction)
    return Volume(torch.from_numpy(values.reshape(1, *grid.shape)).float(), grid, Quantity.DOSE)


def inside(grid, test):
    return torch.from_numpy(test(lattice(grid)).reshape(grid.shape))


def cube(half, spacing):
    return axial(np.full(3, -float(half)), np.full(3, float(half)), (spacing,) * 3)


def test_histogram_of_a_box_in_a_linear_gradient_is_a_straight_line():
    grid = cube(10, 1.0)
    got = d.histogram(gradient(cube(30, 3.0), (0.5, 0, 0)), torch.ones(grid.shape, dtype=torch.bool), grid)
    # Dose from 15 to 25 Gy over 20 mm.
    for percent in (2.0, 25.0, 50.0, 95.0, 98.0):
        assert d.dose_at_share(got, percent) == pytest.approx(25 - percent / 10, abs=0.02)
    assert d.mean(got) == pytest.approx(20, abs=0.01)
    assert d.share_at_dose(got, 18.0) == pytest.approx(70, abs=0.5)
    assert got.volume_cc == pytest.approx(8)
    assert got.share_inside == 1


@pytest.mark.parametrize("radius", [4.0, 12.0])
def test_histogram_of_a_sphere_in_a_linear_gradient_is_that_of_its_caps(radius):
    grid = cube(radius + 2, 0.5)
    mask = inside(grid, lambda p: np.linalg.norm(p, axis=1) <= radius)
    got = d.histogram(gradient(cube(40, 3.0), (0, 0.3, 0)), mask, grid)
    for t in (-0.8, -0.5, 0.0, 0.5, 0.8):  # share above the plane y = t r: a cap
        share = 100 * (1 - t) ** 2 * (2 + t) / 4
        assert d.share_at_dose(got, 20 + 0.3 * t * radius) == pytest.approx(share, abs=1.0)
        assert d.dose_at_share(got, share) == pytest.approx(
            20 + 0.3 * t * radius, abs=0.01 * 0.3 * 2 * radius
        )


def whole_voxels(mask, grid, direction, at_origin):
    """Doses of the voxels of a mask, each counted whole: eight points to an axis."""
    voxels = lattice(grid)[mask.numpy().ravel()] @ direction
    fine = np.linspace(-7 / 16, 7 / 16, 8)
    offsets = np.stack(np.meshgrid(fine, fine, fine), axis=-1).reshape(-1, 3) * grid.spacing @ direction
    return np.sort((at_origin + voxels[:, None] + offsets).ravel()).astype(np.float32)


@pytest.mark.parametrize(("radius", "rms_mm"), [(5.0, 0.2), (12.0, 0.1)])
def test_voxels_of_a_scan_leave_a_sphere_its_doses_in_a_coarser_dose(radius, rms_mm):
    """Voxels of 1 x 1 x 2 mm under a dose on 3 mm: half as far off as voxels that are counted whole."""
    grid = axial(np.full(3, -radius - 6), np.full(3, radius + 6), (1.0, 1.0, 2.0))
    levels = np.array([-0.95, -0.7, 0.0, 0.7, 0.95])
    shares = 100 * (1 - levels) ** 2 * (2 + levels) / 4
    off, whole = [], []
    for center in np.random.default_rng(3).uniform(-1, 1, (6, 3)):
        mask = inside(grid, lambda p, at=center: np.linalg.norm(p - at, axis=1) <= radius)
        for direction in np.array([[1.0, 0, 0], [0, 0, 1.0], [0.6, 0, -0.8]]):
            true = 50 + direction @ center + radius * levels
            got = d.histogram(gradient(cube(36, 3.0), direction, 50.0), mask, grid)
            voxels = d.Dvh(whole_voxels(mask, grid, direction, 50.0), got.volume_cc)
            off += list(true - [d.dose_at_share(got, x) for x in shares])
            whole += list(true - [d.dose_at_share(voxels, x) for x in shares])
    assert np.sqrt(np.mean(np.square(off))) < rms_mm
    assert np.sqrt(np.mean(np.square(off))) < 0.6 * np.sqrt(np.mean(np.square(whole)))


def test_voxels_count_whole_only_in_a_box_of_voxels():
    grid = cube(12, 1.0)
    box = inside(grid, lambda p: (np.abs(p) <= [8, 6, 4]).all(axis=1))
    assert d.histogram(gradient(cube(30, 3.0), (1, 0, 0)), box, grid).volume_cc == pytest.approx(
        16 * 12 * 8 / 1000
    )


def test_one_voxel_and_a_line_of_voxels_keep_their_volume():
    grid = cube(6, 2.0)
    dose = gradient(cube(30, 3.0), (1.0, 0, 0))
    for n in (1, 4):
        mask = torch.zeros(grid.shape, dtype=torch.bool)
        mask[1 : 1 + n, 3, 3] = True
        got = d.histogram(dose, mask, grid)
        assert got.volume_cc == pytest.approx(0.008 * n)
        assert d.mean(got) == pytest.approx(20 - 6 + 1 + 2 + (n - 1), abs=0.05)
        assert d.maximum(got) - d.minimum(got) == pytest.approx(2 * n, abs=0.7)


def test_parts_are_made_once_for_many_doses():
    grid = cube(8, 1.0)
    ball = inside(grid, lambda p: np.linalg.norm(p, axis=1) <= 6)
    drawn = StructureSet(grid, {"PTV": Structure(ball, RoiType.PTV, (255, 0, 0))})
    parts = d.parts_of(drawn)
    for direction in ((0.5, 0, 0), (0, 0, 1.0)):
        dose = gradient(cube(30, 3.0), direction)
        assert np.array_equal(
            d.histograms_at(dose, parts)["PTV"].doses, d.histograms(dose, drawn)["PTV"].doses
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_dose_that_is_not_finite_has_no_histogram(bad):
    grid = cube(4, 1.0)
    dose = gradient(cube(10, 2.0), (1, 0, 0))
    dose.data[0, 2, 3, 4] = bad
    with pytest.raises(ValueError, match="expected finite values, got 1 NaN"):
        d.histogram(dose, torch.ones(grid.shape, dtype=torch.bool), grid)


def test_histogram_does_not_depend_on_how_the_structure_lies_in_the_dose_grid():
    grid = cube(6, 1.0)
    turned = Grid(grid.shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine)
    mask = torch.ones(grid.shape, dtype=torch.bool)
    dose = gradient(cube(30, 2.5), (0.2, 0.1, -0.3))
    ours, theirs = d.histogram(dose, mask, grid), d.histogram(dose, mask, turned)
    assert np.abs(ours.doses - theirs.doses).max() < 0.1


def test_dose_to_a_small_volume_is_that_of_the_hottest_slab():
    grid = cube(10, 1.0)
    got = d.histogram(gradient(cube(30, 3.0), (0.5, 0, 0)), torch.ones(grid.shape, dtype=torch.bool), grid)
    # 0.03 cc of a 20 x 20 mm face is 0.075 mm thick; its cold side has 25 - 0.0375 Gy.
    assert d.dose_at_cc(got, 0.03) == pytest.approx(25 - 0.0375, abs=0.02)
    assert d.dose_at_cc(got, 4.0) == pytest.approx(20, abs=0.02)
    assert d.dose_at_cc(got, 9.0) == d.maximum(got)


def test_quantiles_are_those_of_numpy_by_hazen():
    got = d.Dvh(np.array([1, 2, 4, 8], dtype=np.float32), 1.0)
    # Parts at 87.5, 62.5, 37.5 and 12.5 % of the volume, from the coldest.
    assert d.dose_at_share(got, 62.5) == 2
    assert d.dose_at_share(got, 50.0) == 3
    assert d.dose_at_share(got, 100.0) == 1
    assert d.dose_at_share(got, 0.0) == 8


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 80, width=32), min_size=1, max_size=40), st.floats(0.0, 90.0))
def test_cumulative_histogram_falls_from_everything_to_nothing(doses, level):
    got = d.Dvh(np.sort(np.array(doses, dtype=np.float32)), 1.0)
    levels = np.linspace(0, 90, 19)
    curve = d.curve(got, levels)
    assert curve[0] == 100
    assert curve[-1] == 0
    assert (np.diff(curve) <= 0).all()
    assert 0 <= d.share_at_dose(got, level) <= 100
    assert d.dose_at_share(got, 98.0) <= d.dose_at_share(got, 95.0) <= d.dose_at_share(got, 2.0)


def test_part_of_a_structure_off_the_dose_grid_is_counted():
    grid = cube(10, 1.0)
    half = axial(np.array([0.0, -10, -10]), np.array([20.0, 10, 10]), (2.0, 2.0, 2.0))
    dose = Volume(torch.full((1, *half.shape), 5.0), half, Quantity.DOSE)
    got = d.histogram(dose, torch.ones(grid.shape, dtype=torch.bool), grid)
    assert got.share_inside == pytest.approx(0.5, abs=0.01)
    assert d.mean(got) == pytest.approx(2.5, abs=0.05)


def test_an_empty_structure_has_no_histogram():
    grid = cube(4, 1.0)
    dose = gradient(cube(10, 2.0), (1, 0, 0))
    empty = torch.zeros(grid.shape, dtype=torch.bool)
    with pytest.raises(ValueError, match="at least one voxel"):
        d.histogram(dose, empty, grid)
    drawn = StructureSet(grid, {"nothing": Structure(empty, RoiType.ORGAN, (0, 0, 0))})
    assert d.histograms(dose, drawn) == {}


def test_structures_of_another_frame_of_reference_have_no_histogram():
    grid = cube(4, 1.0)
    whole = Structure(torch.ones(grid.shape, dtype=torch.bool), RoiType.ORGAN, (0, 0, 0))
    dose = gradient(cube(10, 2.0), (1, 0, 0))
    framed = Volume(dose.data, dose.grid, Quantity.DOSE, "1.2")
    with pytest.raises(ValueError, match="in the dose's frame of reference, got another"):
        d.histograms(framed, StructureSet(grid, {"Brain": whole}, "1.3"))
    assert list(d.histograms(framed, StructureSet(grid, {"Brain": whole}, "1.2"))) == ["Brain"]


def test_a_histogram_needs_a_dose():
    grid = cube(4, 1.0)
    ct = Volume(torch.zeros((1, *grid.shape)), grid, Quantity.HU)
    with pytest.raises(ValueError, match="expected a volume in Gy"):
        d.histogram(ct, torch.ones(grid.shape, dtype=torch.bool), grid)


@pytest.mark.data
@pytest.mark.parametrize("spacing", [1, 2, 3])
@pytest.mark.parametrize("direction", ["AntPost", "SupInf"])
def test_a_sphere_in_the_dose_grids_of_nelms_has_its_analytic_histogram(data, direction, spacing):
    # Nelms et al., Med. Phys. 42, 4435 (2015): gradients of 1 Gy/mm; a sphere of 24 mm at (0, -6, 6).
    path = data / "dvh/nelms/DOSE GRIDS" / f"Linear_{direction}_{spacing}mm_Aligned.dcm"
    dose, _ = read_rtdose(path, summation="FRACTION")
    center = np.array([0.0, -6.0, 6.0])
    grid = axial(center - 13, center + 13, (1.0, 1.0, 1.0))
    got = d.histogram(dose, inside(grid, lambda p: np.linalg.norm(p - center, axis=1) <= 12), grid)
    assert d.mean(got) == pytest.approx(16, abs=0.02)
    for t in (-0.8, -0.5, 0.0, 0.5, 0.8):
        assert d.dose_at_share(got, 100 * (1 - t) ** 2 * (2 + t) / 4) == pytest.approx(16 + 12 * t, abs=0.15)
