import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.cells import N_LEVELS, by_tissue, clustered, deviations, textured
from synth.sampling import along, box_taps, interpolated, lattice_like, linear_taps, sampled, voxel_taps
from synth.slices import filled, slice_taps, stack, whole

LOW, HIGH = np.array([-12.0, -12.0, -12.0]), np.array([12.0, 12.0, 12.0])
FINE = axial(LOW, HIGH, (0.8, 0.8, 0.8))
COARSE = axial(LOW, HIGH, (2.0, 2.0, 2.0))


def halves(axis: int, at: float) -> torch.Tensor:
    """1 below a plane and 2 above it."""
    centers = FINE.affine[axis, 3] + FINE.spacing[axis] * np.arange(FINE.shape[axis])
    shape = [1, 1, 1]
    shape[axis] = -1
    codes = torch.from_numpy(np.where(centers < at, 1, 2)).reshape(shape)
    return codes.expand(FINE.shape).to(torch.uint8).contiguous()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_voxel_cut_by_a_border_holds_the_mean_of_both_signals_by_volume(axis: int) -> None:
    # The border lies 1.2 mm into a voxel of 2 mm.
    image = sampled(halves(axis, -4.8), torch.tensor([0.0, 10.0, 30.0]), voxel_taps(FINE, COARSE))
    row = image.movedim(axis, 0)[:, 5, 5]
    centers = COARSE.affine[axis, 3] + 2.0 * np.arange(COARSE.shape[axis])
    cut = int(np.flatnonzero(np.abs(centers + 4.8) < 1)[0])
    share = (-4.8 - (centers[cut] - 1)) / 2
    assert float(row[cut]) == pytest.approx(10 * share + 30 * (1 - share), abs=1e-4)
    assert float(row[cut - 1]) == pytest.approx(10, abs=1e-5)
    assert float(row[cut + 1]) == pytest.approx(30, abs=1e-5)


def test_averaging_keeps_the_sum() -> None:
    codes = torch.randint(0, 5, FINE.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    table = torch.tensor([0.0, 3.0, 1.0, 7.0, 2.0])
    image = sampled(codes, table, voxel_taps(FINE, COARSE)).double()
    assert float(image.sum() * 2.0**3) == pytest.approx(
        float(table[codes.long()].double().sum() * 0.8**3), rel=1e-5
    )


def test_what_lies_beyond_the_subject_counts_as_nothing() -> None:
    taps = box_taps(4, 1.0, np.array([-0.5, 1.0, 3.5, 9.0]), 2.0)
    assert taps.weight.sum(axis=0) == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_linear_interpolation_gives_a_ramp_back() -> None:
    lattice = lattice_like(COARSE, 5.0, 5.0)
    x, y, z = (lattice.affine[a, 3] + lattice.spacing[a] * np.arange(lattice.shape[a]) for a in range(3))
    ramp = torch.from_numpy(x[:, None, None] + 2 * y[None, :, None] - z[None, None, :]).float()
    out = interpolated(ramp, lattice, COARSE)
    x, y, z = (COARSE.affine[a, 3] + 2.0 * np.arange(COARSE.shape[a]) for a in range(3))
    expected = x[:, None, None] + 2 * y[None, :, None] - z[None, None, :]
    assert np.allclose(out.numpy(), expected, atol=1e-4)


def test_beyond_the_last_sample_its_value_holds() -> None:
    out = along(torch.tensor([1.0, 3.0]), 0, linear_taps(2, 1.0, np.array([-2.0, 0.5, 4.0])))
    assert out.tolist() == [1.0, 2.0, 3.0]


def test_a_turned_grid_is_refused() -> None:
    affine = np.array(COARSE.affine)
    affine[:3, :2] = affine[:3, [1, 0]]
    with pytest.raises(ValueError, match="parallel to the subject's"):
        voxel_taps(FINE, Grid(COARSE.shape, affine))


def labels(tissue: Tissue) -> Volume:
    return Volume(torch.full((1, *FINE.shape), int(tissue), dtype=torch.uint8), FINE, Quantity.LABEL)


def test_levels_of_a_texture_have_no_mean_and_nearly_unit_variance() -> None:
    grid = axial(4 * LOW, 4 * HIGH, (2.0, 2.0, 2.0))
    volume = Volume(torch.full((1, *grid.shape), 5, dtype=torch.uint8), grid, Quantity.LABEL)
    codes = textured(volume, 4.0, torch.Generator().manual_seed(0))
    assert bool((codes // N_LEVELS == 5).all())
    z = deviations()[(codes % N_LEVELS).long()]
    assert float(z.mean()) == pytest.approx(0, abs=0.05)
    assert float(z.std()) == pytest.approx(1, abs=0.1)


def test_clusters_split_a_tissue_smoothly_into_thirds() -> None:
    grid = axial(8 * LOW, 8 * HIGH, (3.0, 3.0, 3.0))
    volume = Volume(torch.full((1, *grid.shape), 5, dtype=torch.uint8), grid, Quantity.LABEL)
    codes = clustered(volume, 14.0, torch.Generator().manual_seed(0))
    cluster = (codes % N_LEVELS) // 3
    shares = torch.bincount(cluster.flatten().int(), minlength=3) / cluster.numel()
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.08)
    assert float((cluster[1:] == cluster[:-1]).float().mean()) > 0.7


def test_codes_need_tissues() -> None:
    wrong = Volume(torch.full((1, *FINE.shape), 99, dtype=torch.uint8), FINE, Quantity.LABEL)
    with pytest.raises(ValueError, match="tissues as uint8"):
        textured(wrong, 4.0, torch.Generator())


def test_a_table_by_tissue_reaches_every_level() -> None:
    assert by_tissue(torch.tensor([1.0, 2.0])).tolist() == [1.0] * N_LEVELS + [2.0] * N_LEVELS


def test_slices_lie_apart_by_thickness_and_gap_and_cover_the_grid() -> None:
    out = stack(COARSE, "axial", 4.0, 1.0)
    assert out.grid.spacing.tolist() == pytest.approx([2.0, 2.0, 5.0])
    assert out.grid.center == pytest.approx(COARSE.center)
    assert out.grid.shape[2] * 5.0 >= 24.0 - 1.0


@pytest.mark.parametrize(("orientation", "axis"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_slices_are_named_for_the_plane_they_lie_in(orientation: str, axis: int) -> None:
    assert int(np.argmax(stack(COARSE, orientation, 6.0, 0.0).grid.spacing)) == axis


def test_a_gap_is_not_measured() -> None:
    slices = stack(COARSE, "axial", 3.0, 3.0)
    taps = slice_taps(FINE, slices)
    z = FINE.affine[2, 3] + 0.8 * np.arange(FINE.shape[2])
    first = float(slices.grid.affine[2, 3])
    between = int(np.abs(z - (first + 3.0)).argmin())
    codes = torch.zeros(FINE.shape, dtype=torch.uint8)
    codes[:, :, between] = 1
    image = sampled(codes, torch.tensor([0.0, 1.0]), taps)
    assert float(image.max()) < 1e-3
    codes[:, :, int(np.abs(z - first).argmin())] = 1
    assert float(sampled(codes, torch.tensor([0.0, 1.0]), taps)[:, :, 0].mean()) == pytest.approx(
        0.8 / 3, abs=0.03
    )


def test_a_slice_is_as_thick_as_its_full_width_at_half_maximum() -> None:
    fine = axial(LOW, HIGH, (8.0, 8.0, 0.1))
    slices = stack(axial(LOW, HIGH, (8.0, 8.0, 1.0)), "axial", 5.0, 0.0)
    taps = slice_taps(fine, slices)[2]
    middle = slices.grid.shape[2] // 2
    profile = taps.weight[:, middle]
    assert float(profile.sum()) == pytest.approx(1, abs=1e-5)
    assert (profile > profile.max() / 2).sum() * 0.1 == pytest.approx(5.0, abs=0.15)


def test_slices_are_filled_linearly_and_keep_a_constant() -> None:
    slices = stack(COARSE, "coronal", 5.0, 1.0)
    image = torch.full(slices.grid.shape, 3.0)
    out = filled(image, slices, COARSE)
    assert tuple(out.shape) == COARSE.shape
    assert torch.allclose(out, torch.full_like(out, 3.0))


def test_a_volume_scan_has_the_grid_asked_for() -> None:
    assert whole(COARSE).grid == COARSE


@pytest.mark.parametrize(("orientation", "thickness"), [("oblique", 4.0), ("axial", 1.0)])
def test_slices_that_cannot_be_are_refused(orientation: str, thickness: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        stack(COARSE, orientation, thickness, 0.0)
