import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.cranium import Cranium, centers, cranium, midline
from synth.mass_effect import Push, jacobian, midline_shift, moved, pushed, sampled

CENTER = (0.0, 10.0, 10.0)


def ball_head(*, ventricle: bool = False, falx: bool = False, spacing: float = 2.5) -> Volume:
    """White matter of 62 mm in 5 mm of fluid and 6 mm of skull, about the anterior commissure."""
    n = round(170 / spacing)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = np.array(CENTER) - (n - 1) / 2 * spacing
    x, y, z = np.meshgrid(
        *(affine[a, 3] + spacing * np.arange(n) - CENTER[a] for a in range(3)), indexing="ij"
    )
    r = np.sqrt(x**2 + y**2 + z**2)
    label = np.full(r.shape, int(Tissue.OUTSIDE))
    label[r < 73] = Tissue.SKULL
    label[r < 67] = Tissue.CSF
    label[r < 62] = Tissue.WHITE
    if ventricle:
        label[(((np.abs(x) - 8) / 6) ** 2 + (y / 20) ** 2 + (z / 8) ** 2) < 1] = Tissue.CSF
    if falx:
        label[(np.abs(x) < 1.5) & (z > 12) & (r < 67)] = Tissue.DURA
    return Volume(torch.from_numpy(label.astype(np.uint8))[None], Grid((n, n, n), affine), Quantity.LABEL)


def without_falx(space: Cranium) -> Cranium:
    """The same, with a speck of dura: a head without any is taken to have its falx in the midline."""
    dura = space.dura.clone()
    dura[0, 0, 0] = 0.1
    return replace(space, dura=dura)


def ball(space: Cranium, center: tuple[float, float, float], cc: float) -> torch.Tensor:
    x, y, z = (a - c for a, c in zip(centers(space, space.cells), center, strict=True))
    r = (x[:, None, None] ** 2 + y[None, :, None] ** 2 + z**2).sqrt()
    return (((cc * 1000 * 0.75 / math.pi) ** (1 / 3) - r) / space.step[0] + 0.5).clamp(0, 1)


def size(cells: torch.Tensor, space: Cranium) -> float:
    return float(cells.double().sum()) * float(np.prod(space.size)) / cells.numel() / 1000


@pytest.fixture(scope="module")
def space() -> Cranium:
    return cranium(ball_head(ventricle=True))


def test_without_a_push_nothing_moves(space: Cranium) -> None:
    assert float(pushed(space, []).abs().max()) == 0.0


def test_a_central_ball_pushes_tissue_out_by_the_volume_that_it_gains() -> None:
    # Brain keeps its volume, so what was at r comes to (r³ + 3 ΔV / 4π)^(1/3).
    space = without_falx(cranium(ball_head()))
    u = pushed(space, [Push(ball(space, CENTER, 15.0), 25.0)])
    n = u.shape[1:]
    x, y, z = (a - c for a, c in zip(centers(space, (n[0], n[1], n[2])), CENTER, strict=True))
    r = (x[:, None, None] ** 2 + y[None, :, None] ** 2 + z**2).sqrt()
    ring = (r > 32) & (r < 44)
    back = u[:, ring].norm(dim=0).double().numpy().mean()
    at = r[ring].double().numpy()
    expected = (at - (at**3 - 3 * 25000 / (4 * math.pi)) ** (1 / 3)).mean()
    assert back == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("cc", [10.0, 60.0])
def test_the_map_can_be_inverted_and_is_still_in_bone(space: Cranium, cc: float) -> None:
    u = pushed(space, [Push(ball(space, (32.0, 10.0, 30.0), 0.4 * cc), 0.6 * cc)])
    assert float(jacobian(u, space).min()) > 0.1
    closed = (
        torch.nn.functional.interpolate(space.within[None, None], size=u.shape[1:], mode="area")[0, 0] == 0
    )
    assert bool(closed.any())
    assert float(u[:, closed].abs().max()) == 0.0


def test_a_mass_takes_its_room_from_fluid_and_brain_keeps_its_own(space: Cranium) -> None:
    region = ball(space, (32.0, 10.0, 30.0), 16.0)
    u = pushed(space, [Push(region, 24.0)])
    everywhere = tuple(slice(0, n) for n in space.voxels)
    mass, white, wet = sampled(torch.stack([region, space.white, space.csf]), u, space, everywhere)
    assert 35 < size(mass, space) <= 40.5
    before = size(space.white, space) - 16.0
    assert size(white, space) - size(mass, space) == pytest.approx(before, rel=0.01)
    assert size(wet, space) < size(space.csf, space) - 8.0


def test_ventricles_on_the_side_of_a_mass_are_pressed_most() -> None:
    space = without_falx(cranium(ball_head(ventricle=True)))
    u = pushed(space, [Push(ball(space, (36.0, 10.0, 12.0), 20.0), 30.0)])
    x, y, z = centers(space, space.cells)
    deep = (x.abs() < 20)[:, None, None] & ((y - 10).abs() < 25)[:, None] & ((z - 10).abs() < 14)
    kept = []
    for side in (1, -1):
        ventricle = space.csf * (deep & (x * side > 0)[:, None, None])
        carried = sampled(ventricle[None], u, space, tuple(slice(0, n) for n in space.voxels))[0]
        kept.append(size(carried, space) / size(ventricle, space))
    assert kept[0] < 0.9
    assert kept[0] < kept[1] < 1


def test_a_larger_mass_shifts_the_midline_further_and_away_from_itself(space: Cranium) -> None:
    shifts = [
        midline_shift(pushed(space, [Push(ball(space, (32.0, 5.0, 12.0), 0.4 * cc), 0.6 * cc)]), space)
        for cc in (5.0, 20.0, 60.0)
    ]
    assert 0 > shifts[0] > shifts[1] > shifts[2]
    assert -15 < shifts[2] < -2
    assert midline_shift(pushed(space, [Push(ball(space, (-32.0, 5.0, 12.0), 8.0), 12.0)]), space) > 0


def test_the_falx_resists() -> None:
    shifts = []
    for space in (without_falx(cranium(ball_head())), cranium(ball_head(falx=True))):
        u = pushed(space, [Push(ball(space, (28.0, 10.0, 40.0), 12.0), 18.0)])
        n = u.shape[1:]
        x, y, z = centers(space, (n[0], n[1], n[2]))
        i, j, k = (int((a - c).abs().argmin()) for a, c in ((x, 0.0), (y, 10.0), (z, 40.0)))
        shifts.append(float(u[0, i, j, k]))
    assert 0 < shifts[1] < 0.7 * shifts[0]


def test_the_midline_is_found_by_the_falx() -> None:
    head = ball_head(falx=True)
    shifted = head.grid.affine.copy()
    shifted[0, 3] += 6.0
    space = cranium(Volume(head.data, Grid(head.grid.shape, shifted), Quantity.LABEL))
    at = midline(space, torch.tensor([0.0, 30.0]), torch.tensor([30.0, 50.0]))
    assert at.tolist() == pytest.approx([6.0, 6.0], abs=0.6)


def test_labels_that_are_fixed_stay(space: Cranium) -> None:
    head = ball_head(ventricle=True)
    part = head.data[0][space.box]
    u = pushed(space, [Push(ball(space, (45.0, 10.0, 10.0), 10.0), 20.0)])
    out = moved(part, u, space, part == Tissue.SKULL)
    assert bool(((out == Tissue.SKULL) == (part == Tissue.SKULL)).all())
    assert bool((out != part).any())


def test_a_head_without_a_brain_is_refused() -> None:
    head = ball_head()
    with pytest.raises(ValueError, match="head with a brain"):
        cranium(Volume(torch.zeros_like(head.data), head.grid, Quantity.LABEL))


def test_a_turned_grid_is_refused() -> None:
    head = ball_head(spacing=10.0)
    turned = head.grid.affine.copy()
    turned[:, :2] = turned[:, 1::-1]
    with pytest.raises(ValueError, match="upright grid"):
        cranium(Volume(head.data, Grid(head.grid.shape, turned), Quantity.LABEL))
