import numpy as np
import pytest
import torch

from imaging.grid import axial, positions
from imaging.phantoms import sphere
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from imaging.warp import lattice as places
from planning.displacement import displaced, expect_displacement
from synth.distortion import (
    STEEPEST,
    compression,
    displaced_codes,
    gradient_displacement,
    kept_signal,
    on_grid,
    steepness,
    susceptibility_displacement,
    undone,
    unfolded,
)
from synth.field_map import dipole_field, field_map, in_tissue, shimmed
from synth.sampling import sampled, voxel_taps

ONE = (1.0, 1.0, 1.0)


def ball(n: int, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball's share of each voxel by subsampling, the distance from its centre, and the cosine to k."""
    at = np.arange(4 * n) / 4 - (n / 2 - 1 / 8)
    fine = (at[:, None, None] ** 2 + at[None, :, None] ** 2 + at[None, None, :] ** 2) < radius**2
    share = fine.reshape(n, 4, n, 4, n, 4).mean(axis=(1, 3, 5))
    c = np.arange(n) - (n - 1) / 2
    r = np.sqrt(c[:, None, None] ** 2 + c[None, :, None] ** 2 + c[None, None, :] ** 2)
    return share.astype(np.float32), r, np.broadcast_to(c / np.maximum(r, 1e-9), r.shape)


def test_outside_a_ball_the_field_is_that_of_a_dipole() -> None:
    # χ/3 (a/r)³ (3 cos²θ − 1).
    share, r, cos = ball(64, 8.0)
    field = dipole_field(9.0 * share, ONE)
    shell = (r > 10) & (r < 18)
    expected = 9.0 / 3 * (8.0 / r[shell]) ** 3 * (3 * cos[shell] ** 2 - 1)
    error = field[shell] - expected
    assert np.abs(error - error.mean()).max() < 0.08
    assert np.corrcoef(field[shell], expected)[0, 1] > 0.998


def test_inside_a_ball_nuclei_see_no_shift() -> None:
    share, r, _ = ball(64, 10.0)
    field = dipole_field(9.0 * share, ONE)
    far = field[r > 29].mean()
    assert np.abs(field[r < 6] - far).max() < 0.1


def test_fields_along_three_directions_cancel() -> None:
    # The dipole is traceless: 1/3 − kx²/k², and so on, add up to nothing.
    chi = np.zeros((24, 24, 24), dtype=np.float32)
    chi[9:14, 8:15, 10:12] = 1.0
    total = sum(np.moveaxis(dipole_field(np.moveaxis(chi, axis, 2), ONE), 2, axis) for axis in range(3))
    assert np.abs(total).max() < 1e-5


def test_shims_take_every_field_of_second_order_away() -> None:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (9, 8, 7)), indexing="ij")
    field = (1 + x - 2 * y + x * y + 2 * z * z - x * x - y * y).astype(np.float32)
    assert np.abs(shimmed(field, np.ones(field.shape, dtype=bool))).max() < 1e-5


def test_air_takes_the_field_of_the_tissue_next_to_it() -> None:
    inside = np.zeros((12, 4, 4), dtype=bool)
    inside[:6] = True
    field = np.where(inside, 2.0, -50.0).astype(np.float32)
    assert in_tissue(field, inside) == pytest.approx(np.full((12, 4, 4), 2.0), abs=1e-5)


def head_with_a_sinus() -> Volume:
    grid = axial(np.full(3, -40.0), np.full(3, 40.0), (2.0, 2.0, 2.0))
    at = np.linalg.norm(positions(grid, np.indices(grid.shape).reshape(3, -1).T.astype(np.float64)), axis=1)
    data = np.where(at < 9, int(Tissue.AIR), np.where(at < 36, int(Tissue.GREY), int(Tissue.OUTSIDE)))
    return Volume(torch.from_numpy(data.reshape(1, *grid.shape).astype(np.uint8)), grid, Quantity.LABEL)


def test_off_resonance_doubles_from_1_5_to_3_tesla_and_is_hundreds_of_hertz_at_a_sinus() -> None:
    low, lattice = field_map(head_with_a_sinus(), 1.5, metal=False)
    high, _ = field_map(head_with_a_sinus(), 3.0, metal=False)
    assert torch.allclose(high, 2 * low, rtol=1e-4, atol=1e-3)
    # At the pole of a ball of air in tissue: 2/3 of 9.41 ppm, 800 Hz at 3 T; less a few mm away.
    assert 250 < float(high.abs().max()) < 800
    assert tuple(high.shape) == lattice.shape


def test_metal_bends_the_field_further_than_air() -> None:
    labels = head_with_a_sinus()
    labels.data[labels.data == Tissue.AIR] = int(Tissue.METAL)
    without, _ = field_map(labels, 3.0, metal=False)
    metal, _ = field_map(labels, 3.0, metal=True)
    assert float(metal.abs().max()) > 10 * float(without.abs().max())


def test_readout_displaces_by_off_resonance_over_bandwidth() -> None:
    u = susceptibility_displacement(torch.full((3, 4, 5), 120.0), 1, 60.0)
    assert float(u[1].min()) == float(u[1].max()) == 2.0
    assert not bool(u[0].any() or u[2].any())


GRID = axial(np.full(3, -60.0), np.full(3, 60.0), (4.0, 4.0, 4.0))


def test_gradient_displacement_is_harmonic_and_none_at_the_isocentre() -> None:
    u = gradient_displacement(GRID, np.zeros(3), 2.0).double()
    for axis in range(3):
        v = u[axis]
        laplacian = sum(v.diff(n=2, dim=d).movedim(d, 0)[:, 1:-1, 1:-1].movedim(0, d) for d in range(3))
        assert float(laplacian.abs().max()) < 1e-4
    middle = u[:, 14:16, 14:16, 14:16].mean(dim=(1, 2, 3))
    assert float(middle.abs().max()) < 1e-6
    assert torch.allclose(u, -u.flip(1, 2, 3), atol=1e-5)


def test_gradient_displacement_is_told_at_a_hundred_millimetres() -> None:
    point = axial(np.array([-1.0, -1.0, 99.0]), np.array([1.0, 1.0, 101.0]), (2.0, 2.0, 2.0))
    u = gradient_displacement(point, np.zeros(3), 1.5)
    assert abs(float(u[2, 0, 0, 0])) == pytest.approx(1.5, rel=1e-5)


def wavy(amplitude: float) -> torch.Tensor:
    at = places(GRID).double()
    u = [amplitude * torch.sin(at[:, (a + 1) % 3] / 9 + at[:, a] / 15 + a) for a in range(3)]
    return torch.stack(u).reshape(3, *GRID.shape).float()


def test_a_field_too_steep_is_made_one_that_planning_accepts() -> None:
    u, factor = unfolded(wavy(12.0), 4.0)
    assert factor < 1
    assert steepness(u, 4.0) == pytest.approx(STEEPEST, rel=1e-4)
    expect_displacement(Volume(u, GRID, Quantity.DISPLACEMENT))
    gentle, one = unfolded(wavy(0.5), 4.0)
    assert one == 1.0
    assert torch.equal(gentle, wavy(0.5))


def test_the_inverse_brings_every_point_back() -> None:
    from imaging.warp import sample

    u = wavy(2.0)
    v = undone(u, GRID)
    drawn = places(GRID)
    true = drawn + v.reshape(3, -1).T
    assert float((true + sample(u, GRID, true).T - drawn).abs().max()) < 0.03


def test_tissue_squeezed_to_half_is_twice_as_bright() -> None:
    at = places(GRID).reshape(*GRID.shape, 3)
    v = torch.zeros(3, *GRID.shape)
    v[1] = at[..., 1]  # what appears at y lies at 2y
    assert torch.allclose(compression(v, 4.0)[:, 1:-1], torch.full((30, 28, 30), 2.0), atol=1e-4)


def test_brightness_keeps_the_sum_of_a_distorted_signal() -> None:
    u = wavy(1.5)
    at = places(GRID)
    v = undone(u, GRID)
    hill = torch.exp(-((at + v.reshape(3, -1).T).double().square().sum(dim=1)) / 300).reshape(GRID.shape)
    true = torch.exp(-at.double().square().sum(dim=1) / 300).sum()
    assert float((hill * compression(v, 4.0)).sum() / true) == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_tissue_appears_where_the_displacement_takes_it(axis: int) -> None:
    # Everything 2.4 mm towards higher coordinates, three voxels of 0.8 mm.
    fine = axial(np.full(3, -12.0), np.full(3, 12.0), (0.8, 0.8, 0.8))
    codes = torch.randint(0, 200, fine.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    v = torch.zeros(3, *GRID.shape)
    v[axis] = -2.4
    out = displaced_codes(codes, fine, v, GRID)
    assert torch.equal(out.narrow(axis, 3, 27), codes.narrow(axis, 0, 27))


def test_a_distorted_image_brought_back_by_its_saved_displacement_is_the_true_one() -> None:
    fine = axial(np.full(3, -40.0), np.full(3, 40.0), (1.0, 1.0, 1.0))
    grid = axial(np.full(3, -40.0), np.full(3, 40.0), (2.0, 2.0, 2.0))
    codes = torch.zeros(fine.shape, dtype=torch.uint8)
    for place in np.random.default_rng(0).uniform(-35, 35, (80, 3)):
        codes[sphere(fine, place, 6.0)] = 1
    table, taps = torch.tensor([0.0, 1.0]), voxel_taps(fine, grid)
    true = sampled(codes, table, taps)
    u, factor = unfolded(wavy(3.0), 4.0)
    assert factor == 1.0
    drawn = sampled(displaced_codes(codes, fine, undone(u, GRID), GRID), table, taps)
    saved = Volume(on_grid(u, GRID, grid), grid, Quantity.DISPLACEMENT)
    back = displaced(Volume(drawn[None], grid, Quantity.MR), saved).data[0]
    inner = slice(4, -4)
    error = {
        n: float((im - true)[inner, inner, inner].abs().mean())
        for n, im in (("drawn", drawn), ("back", back))
    }
    # What is left is blur by two interpolations.
    assert error["back"] < 0.35 * error["drawn"]


def test_one_turn_of_phase_across_a_voxel_leaves_nothing() -> None:
    z = torch.arange(8.0).reshape(1, 1, 8).expand(4, 4, 8)
    # 25 Hz a mm over 2 mm for 20 ms: one turn.
    assert float(kept_signal(25 * z, 1.0, (1.0, 1.0, 2.0), 20.0).max()) < 1e-5
    half = kept_signal(12.5 * z, 1.0, (1.0, 1.0, 2.0), 20.0)
    assert float(half[2, 2, 4]) == pytest.approx(2 / np.pi, rel=1e-4)
    assert float(kept_signal(25 * z, 1.0, (1.0, 1.0, 2.0), 0.0).min()) == pytest.approx(1, abs=1e-4)


def test_far_off_resonance_no_spin_is_excited() -> None:
    hertz = torch.tensor([0.0, 900.0, 1000.0, 3000.0]).reshape(1, 1, 4).expand(2, 2, 4).contiguous()
    kept = kept_signal(hertz, 2.0, (1.0, 1.0, 1.0), 0.0)[0, 0]
    assert float(kept[0]) == pytest.approx(1, abs=1e-4)
    assert float(kept[2]) == pytest.approx(0.5, abs=1e-4)
    assert float(kept[3]) < 1e-6
