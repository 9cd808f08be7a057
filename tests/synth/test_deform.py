import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial
from imaging.volume import Quantity, Volume
from imaging.warp import lattice
from synth.deform import STEEPEST, deformed, moved, random_field, steepest, undone
from synth.subject import Subject


def box(half: float, spacing: float) -> Grid:
    return axial(np.full(3, -half), np.full(3, half), (spacing,) * 3)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def jacobian(field: Volume, grid: Grid) -> np.ndarray:
    """Determinant of x + u(x) by differences between neighbouring voxels."""
    places = moved(field, lattice(grid)).double().numpy().reshape(*grid.shape, 3)
    corner = places[:-1, :-1, :-1]
    columns = [places[1:, :-1, :-1] - corner, places[:-1, 1:, :-1] - corner, places[:-1, :-1, 1:] - corner]
    return np.linalg.det(np.stack(columns, axis=-1)) / grid.voxel_volume


@pytest.mark.parametrize("seed", range(8))
def test_no_random_field_folds_however_strong(seed: int) -> None:
    grid = box(60.0, 2.0)
    for amplitude in (2.0, 40.0):
        determinant = jacobian(random_field(seeded(seed), grid, amplitude), grid)
        assert determinant.min() > 0
        assert determinant.max() < (1 + STEEPEST) ** 3


def test_a_strong_field_uses_its_whole_steepness_and_a_weak_one_keeps_its_amplitude() -> None:
    grid = box(90.0, 6.0)
    assert steepest(random_field(seeded(1), grid, 100.0)) == pytest.approx(STEEPEST, rel=1e-5)
    spread = np.std([random_field(seeded(s), grid, 1.0).data.numpy() for s in range(20)])
    assert spread == pytest.approx(1.0, rel=0.1)


def test_every_place_is_found_again() -> None:
    grid = box(50.0, 10.0)
    field = random_field(seeded(2), grid, 40.0)
    # Also beyond the lattice, where its edge goes on.
    places = 1.4 * lattice(grid).double()
    np.testing.assert_allclose(moved(field, undone(field, places)), places, atol=1e-4)
    np.testing.assert_allclose(undone(field, moved(field, places)), places, atol=1e-4)


def test_a_linear_field_changes_by_its_gradient_everywhere() -> None:
    grid = box(20.0, 2.0)
    matrix = np.array([[0.1, 0.0, 0.0], [0.0, 0.2, 0.0], [0.3, 0.0, -0.1]])
    u = (lattice(grid).numpy() @ matrix.T).T.reshape(3, *grid.shape)
    field = Volume(torch.from_numpy(u.astype(np.float32)), grid, Quantity.DISPLACEMENT)
    # Columns of the gradient have lengths sqrt(0.1), 0.2 and 0.1.
    assert steepest(field) == pytest.approx(np.sqrt(0.1 + 0.04 + 0.01), rel=1e-4)
    inner = Grid((8, 8, 8), np.diag([2.0, 2, 2, 1]))
    np.testing.assert_allclose(jacobian(field, inner), np.linalg.det(np.eye(3) + matrix), rtol=1e-3)


def test_a_constant_displacement_shifts_labels() -> None:
    grid = box(10.0, 1.0)
    labels = torch.randint(0, 6, (1, *grid.shape), generator=seeded(0), dtype=torch.uint8)
    subject = Subject(Volume(labels, grid, Quantity.LABEL), Volume(labels // 2, grid, Quantity.LABEL))
    u = torch.zeros(3, *grid.shape)
    u[0], u[2] = 2.0, -1.0
    out = deformed(subject, Volume(u, grid, Quantity.DISPLACEMENT), grid)
    # What was at x + 2 is now at x; below the lowest plane that plane goes on.
    assert torch.equal(out.labels.data[0, :-2, :, 1:], labels[0, 2:, :, :-1])
    assert torch.equal(out.organs.data[0, :-2, :, 0], labels[0, 2:, :, 0] // 2)
    assert int(out.labels.data[0, -2:].max()) == 0


def test_volume_follows_the_jacobian() -> None:
    grid = box(40.0, 1.0)
    radius = lattice(grid).norm(dim=1).reshape(1, *grid.shape)
    ball = Volume((radius < 22).to(torch.uint8), grid, Quantity.LABEL)
    field = random_field(seeded(5), grid, 3.0)
    out = deformed(Subject(ball, ball), field, grid).labels.data
    # The ball's volume is the integral of the Jacobian over the places that read from it.
    inside = out[0, :-1, :-1, :-1].numpy() > 0
    assert jacobian(field, grid)[inside].sum() == pytest.approx(int(ball.data.sum()), rel=0.01)


def test_a_field_that_may_fold_has_no_inverse() -> None:
    grid = box(10.0, 2.0)
    u = torch.zeros(3, *grid.shape)
    u[0, 5:] = 3.0
    with pytest.raises(ValueError, match="changes by less than 1 mm in a mm"):
        undone(Volume(u, grid, Quantity.DISPLACEMENT), torch.zeros(1, 3))


@pytest.mark.parametrize(("amplitude", "knots"), [(-1.0, 30.0), (float("nan"), 30.0), (1.0, 0.0)])
def test_sizes_that_make_no_field_are_refused(amplitude: float, knots: float) -> None:
    with pytest.raises(ValueError, match="expected an amplitude"):
        random_field(seeded(0), box(10.0, 2.0), amplitude, knots)
