import math

import pytest
import torch

from synth.growth import conductances, divergence, spread, time_step

STEP = (1.0, 1.0, 1.0)


def front(u: torch.Tensor) -> float:
    """Where a falling density along the first axis passes one half (cells)."""
    line = u[:, u.shape[1] // 2, u.shape[2] // 2]
    n = int(torch.nonzero(line > 0.5)[-1])
    return n + float((line[n] - 0.5) / (line[n] - line[n + 1]))


def speed(diffusion: float, shape: tuple[int, int, int], stretch: float = 1.0) -> float:
    """Cells per 1/ρ at which a front moves late in its course."""
    faces = conductances(torch.full(shape, diffusion), STEP, (stretch, 1.0, 1.0))
    u = torch.zeros(shape)
    u[:3] = 1.0
    dt, places = 0.02, []
    for n in range(1200):
        u = u + dt * (divergence(u, faces) + u * (1 - u))
        if n in (600, 1199):
            places.append(front(u))
    return (places[1] - places[0]) / (599 * dt)


@pytest.mark.parametrize("diffusion", [2.0, 5.0])
def test_a_front_in_one_dimension_moves_at_fishers_speed(diffusion: float) -> None:
    # Bramson, Mem. AMS 285 (1983): the front lags behind 2 sqrt(D rho) t by 3/2 sqrt(D/rho) ln t.
    lag = 1.5 * math.sqrt(diffusion) * math.log(24.0 / 12.02) / 11.98
    expected = 2 * math.sqrt(diffusion) - lag
    assert speed(diffusion, (200, 1, 1)) == pytest.approx(expected, rel=0.02)


def test_a_plane_front_in_three_dimensions_moves_as_in_one() -> None:
    assert speed(3.0, (150, 3, 3)) == pytest.approx(speed(3.0, (150, 1, 1)), rel=1e-4)


def test_speed_grows_with_the_root_of_diffusion_along_an_axis() -> None:
    assert speed(2.0, (160, 1, 1), stretch=2.0) == pytest.approx(speed(4.0, (160, 1, 1)), rel=1e-4)


def test_diffusion_makes_no_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(9, 8, 7, generator=generator)
    faces = conductances(torch.rand(9, 8, 7, generator=generator), (1.0, 2.0, 3.0))
    assert float(divergence(u, faces).double().sum()) == pytest.approx(0, abs=1e-5)


def test_nothing_crosses_ground_that_cells_cannot_enter() -> None:
    ground = torch.full((21, 9, 9), 5.0)
    ground[10] = 0.0
    u = torch.zeros(21, 9, 9)
    u[3, 4, 4] = 1.0
    u, reached = spread(u, conductances(ground, STEP), time_step(STEP), 10 * 81 + 1.0)
    assert reached == 10 * 81
    assert float(u[10:].max()) == 0.0


def test_growth_in_even_ground_is_the_same_on_every_side() -> None:
    u = torch.zeros(31, 31, 31)
    u[15, 15, 15] = 1.0
    u, reached = spread(u, conductances(torch.full((31, 31, 31), 4.0), STEP), time_step(STEP), 500.0)
    assert reached >= 500
    torch.testing.assert_close(u, u.flip(0), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(u, u.permute(2, 1, 0), rtol=1e-3, atol=1e-6)
