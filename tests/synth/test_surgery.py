from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, label

from imaging.grid import Grid
from imaging.tissue import BONE, Tissue
from synth.surgery import Operation, draw_operation, operated

SPACING = 1.25
OPERATION = Operation(0.9, 0.8, 24.0, 2.5, 0.4, 3, 3, 2, 0)
WHERE = (slice(80, 120), slice(40, 80), slice(80, 120))


@cache
def shell() -> tuple[torch.Tensor, Grid]:
    """A ball of brain with ventricles, in fluid, skull and scalp."""
    n = 160
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = np.array([0.0, 18.0, 14.0]) - (n - 1) / 2 * SPACING
    x, y, z = np.meshgrid(*(affine[a, 3] + SPACING * np.arange(n) for a in range(3)), indexing="ij")
    r = np.sqrt(x**2 + (y - 18) ** 2 + (z - 14) ** 2)
    data = np.full(r.shape, int(Tissue.OUTSIDE), dtype=np.uint8)
    for radius, tissue in ((88, "SCALP"), (80, "SKULL"), (73, "CSF"), (70, "GREY"), (66, "WHITE")):
        data[r < radius] = Tissue[tissue]
    data[((np.abs(x) - 9) ** 2 + (z - 14) ** 2 < 25) & (np.abs(y - 8) < 25)] = Tissue.CSF
    return torch.from_numpy(data), Grid((n, n, n), affine)


def core() -> torch.Tensor:
    i, j, k = torch.meshgrid(*(torch.arange(40) for _ in range(3)), indexing="ij")
    return (i - 20) ** 2 + (j - 20) ** 2 + (k - 20) ** 2 < 11**2


@cache
def done(operation: Operation = OPERATION) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    tissue, grid = shell()
    before = tissue.clone()
    before[WHERE][core()] = Tissue.ENHANCING
    out, told = operated(before, core(), WHERE, grid, operation, torch.Generator().manual_seed(0))
    return before.numpy(), out.numpy(), told


def test_what_was_resected_is_a_cavity_and_the_rest_stays_on_its_wall() -> None:
    _, out, _ = done()
    left = (out[WHERE] == Tissue.ENHANCING) & core().numpy()
    assert left.sum() / int(core().sum()) == pytest.approx(0.1, abs=0.02)
    _, complete, _ = done(replace(OPERATION, extent=1.0))
    assert not (complete == Tissue.ENHANCING).any()
    assert (complete[WHERE][core().numpy()] == Tissue.CAVITY).mean() > 0.98


def test_the_flap_is_cut_free_of_the_skull_by_its_kerf_and_holes() -> None:
    before, out, told = done(replace(OPERATION, kerf=2.6))
    pieces, n = label(np.isin(out, BONE))
    sizes = np.sort(np.bincount(pieces.ravel())[1:])[::-1]
    assert n >= 2
    # The flap's face is a disc of the radius told; its bone is that times the skull's 7 mm.
    flap = sizes[1] * SPACING**3
    assert flap == pytest.approx(np.pi * (told["flap_radius_mm"] - 2) ** 2 * 7, rel=0.3)
    lost = np.isin(before, BONE) & ~np.isin(out, BONE)
    assert 0.5 < lost.sum() * SPACING**3 / 1000 < 8


def test_burr_holes_take_more_bone() -> None:
    def bone(n_holes: int) -> int:
        return int(np.isin(done(replace(OPERATION, n_holes=n_holes))[1], BONE).sum())

    assert bone(1) > bone(2) > bone(4)


def test_plates_lie_on_bone_beneath_the_scalp() -> None:
    before, out, _ = done(replace(OPERATION, n_clips=0))
    metal = out == Tissue.METAL
    _, n = label(metal, np.ones((3, 3, 3)))
    assert n == 3
    assert (before[metal] == Tissue.SCALP).all()
    assert binary_dilation(np.isin(before, BONE))[metal].all()
    # 16 by 4 mm, about 1 mm thick.
    assert 0.05 < metal.sum() * SPACING**3 / 1000 / 3 < 0.15


def test_clips_are_a_few_millimetres_of_metal_at_the_cavity() -> None:
    _, without, _ = done(replace(OPERATION, n_clips=0))
    _, out, told = done(replace(OPERATION, n_clips=4))
    assert told["clips"] == 4
    clips = (out == Tissue.METAL) & (without != Tissue.METAL)
    assert 0 < clips.sum() * SPACING**3 / 4 < 40
    near = binary_dilation(out == Tissue.CAVITY, iterations=5)
    assert near[clips].all()


@pytest.mark.parametrize("side", [1, -1])
def test_a_shunt_runs_from_under_the_scalp_through_bone_into_the_ventricle_of_its_side(side: int) -> None:
    before, out, told = done(replace(OPERATION, shunt=side))
    grid = shell()[1]
    tube = out == Tissue.SHUNT
    assert label(tube, np.ones((3, 3, 3)))[1] == 1
    passed = set(before[tube].tolist())
    assert {Tissue.SCALP, Tissue.SKULL, Tissue.GREY, Tissue.WHITE, Tissue.CSF} <= passed
    x = grid.affine[0, 3] + SPACING * np.nonzero(tube)[0]
    assert (side * x > 0).all()
    assert told["shunt"] == ("left" if side > 0 else "right")


def test_a_tumour_of_the_posterior_fossa_is_reached_from_the_back_of_the_head() -> None:
    tissue, grid = shell()
    low = np.round((np.array([12.0, 48.0, -34.0]) - grid.affine[:3, 3]) / SPACING).astype(int)
    where = (slice(low[0], low[0] + 40), slice(low[1], low[1] + 40), slice(low[2], low[2] + 40))
    _, told = operated(tissue, core(), where, grid, OPERATION, torch.Generator().manual_seed(0))
    x, y, z = told["entry_mm"]
    assert x > 0
    assert y > 58
    assert z < 10


def test_a_corridor_joins_the_cavity_with_the_flap() -> None:
    before, out, _ = done()
    cavity, n = label(out == Tissue.CAVITY)
    assert n == 1
    assert (before[cavity > 0] == Tissue.GREY).any()


def test_drawn_operations_stay_within_their_bounds() -> None:
    generator = torch.Generator().manual_seed(1)
    many = [draw_operation(0.3, generator) for _ in range(600)]
    assert np.mean([o.extent == 1 for o in many]) == pytest.approx(0.35, abs=0.08)
    assert np.mean([o.shunt != 0 for o in many]) == pytest.approx(0.3, abs=0.08)
    assert {o.n_holes for o in many} == {1, 2, 3, 4}
    assert all(2 <= o.kerf <= 3 and 0.7 <= o.extent <= 1 for o in many)


def test_a_head_without_a_vault_cannot_be_opened() -> None:
    tissue, grid = shell()
    bare = torch.where(tissue == Tissue.SKULL, int(Tissue.SCALP), tissue.int()).to(torch.uint8)
    with pytest.raises(ValueError, match="skull to open"):
        operated(bare, core(), WHERE, grid, OPERATION, torch.Generator().manual_seed(0))
