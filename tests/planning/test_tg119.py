"""Dose and optimisation against pyRadPlan 0.5.0 on TG119 and in water (README of the reference doses)."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.grid import Grid, positions
from imaging.resample import resample
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.density import relative_electron_density
from planning.dose.bixel_dose import FULL_CUTOFF, blocks
from planning.dose.bixels import Bixels
from planning.dose.influence import influence
from planning.machine import load_machine
from planning.optimise.fluence import optimise_fluence
from planning.optimise.objectives import (
    SquaredDeviation,
    SquaredMean,
    SquaredOverdose,
    evaluate,
    resolve_overlaps,
)

DATA = os.environ.get("SPINDOSE_DATA")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(DATA is None, reason="needs the reference doses; set SPINDOSE_DATA to their folder"),
]
MACHINE = load_machine("generic-6mv")
OBJECTIVES = [
    SquaredOverdose("Core", 1.0, 10.0),
    SquaredDeviation("OuterTarget", 3.0, 100.0),
    SquaredMean("BODY", 0.0, 1.0),
    SquaredOverdose("BODY", 2.0, 10.0),
]
# The reference samples a bixel of 5 mm at ten points from -2.5 to 2.0 mm, which puts it a quarter of
# a millimetre off. We keep bixels where they belong and move them for the comparison alone.
REFERENCE_SHIFT = -0.25


def _stored(name):
    with np.load(Path(DATA) / "planning" / name, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


@cache
def _phantom():
    """Density on the dose grid, masks on it by nearest voxel, and the reference."""
    packed, reference = _stored("tg119.npz"), _stored("reference/tg119_5_beams.npz")
    shape = packed["hu"].shape
    affine = np.diag([3.0, 3.0, 2.5, 1.0])
    affine[:3, 3] = -250.0, -250.0, -160.0
    # Stored rows are y, columns x.
    hu = torch.from_numpy(np.ascontiguousarray(packed["hu"].transpose(1, 0, 2)))
    ct = Volume(hu[None], Grid((shape[1], shape[0], shape[2]), affine), Quantity.HU)
    masks = {
        name: np.unpackbits(packed[f"mask_{name}"])[: np.prod(shape)].reshape(shape).transpose(1, 0, 2)
        for name in ("Core", "OuterTarget", "BODY")
    }
    body = torch.from_numpy(np.logical_or.reduce(list(masks.values())))
    dose_affine = np.diag([3.0, 3.0, 3.0, 1.0])
    dose_affine[:3, 3] = reference["dose_grid_origin_xyz"]
    nx, ny, nz = (int(n) for n in reference["dose_grid_size_xyz"])
    grid = Grid((nx, ny, nz), dose_affine)
    nearest = np.clip(
        np.rint((np.arange(nz) * 3 + dose_affine[2, 3] + 160) / 2.5).astype(int), 0, shape[2] - 1
    )
    on_grid = {name: torch.from_numpy(mask[:, :, nearest].astype(bool)) for name, mask in masks.items()}
    return resample(relative_electron_density(ct, body), grid), on_grid, reference


def _beams(shift=0.0):
    reference = _phantom()[2]
    beams = [
        Beam(float(g), 0.0, 0.0, iso)
        for g, iso in zip(reference["gantry"], reference["iso_xyz"], strict=True)
    ]
    own = [reference["ray_pos_bev"][reference["bixel_beam"] == n][:, [0, 2]] for n in range(5)]
    return beams, [Bixels(positions_ + shift) for positions_ in own]


def _dose(points, fluence, shift=0.0):
    """Dose of a fluence at points, block by block."""
    dose, first = torch.zeros(len(points)), 0
    for beam, bixels in zip(*_beams(shift), strict=True):
        weights = fluence[first : first + len(bixels.positions)]
        for block in blocks(beam, bixels, _phantom()[0], points, MACHINE):
            dose[block.voxels] += block.dose @ weights[block.bixels]
        first += len(bixels.positions)
    return dose


def _reference_dose(name):
    reference = _phantom()[2]
    unit = float(reference[{"dose_opt": "dose_opt_gy_per_unit"}.get(name, "dose_unit_gy_per_unit")])
    return torch.from_numpy(reference[name].transpose(2, 1, 0).astype(np.float32) * np.float32(unit))


def _every(mask, step):
    return torch.nonzero(mask)[::step]


@pytest.mark.parametrize("name", ["dose_unit_fluence", "dose_opt"])
def test_dose_of_a_given_fluence_equals_the_reference(name):
    density, masks, reference = _phantom()
    fluence = torch.from_numpy(reference["fluence"]).float() if name == "dose_opt" else torch.ones(1567)
    expected = _reference_dose(name)
    # 9 mm and more under the skin: in the outermost voxels the reference takes the depth of a
    # neighbouring ray, ours is the voxel's own.
    inner = torch.nn.functional.avg_pool3d(masks["BODY"][None].float(), 7, 1, 3)[0] == 1
    index = _every(inner, 37)
    dose = _dose(positions(density.grid, index.numpy().astype(np.float64)), fluence, REFERENCE_SHIFT)
    theirs = expected[tuple(index.T)]
    high = theirs > 0.1 * expected.max()
    assert float((dose / theirs)[high].median()) == pytest.approx(1.0, abs=1e-3)
    rms = float((dose - theirs).square().mean().sqrt() / expected.max())
    assert rms <= 1e-3


@pytest.mark.slow
def test_our_optimisation_reaches_the_objective_of_the_reference():
    density, masks, reference = _phantom()
    flat = {name: torch.nonzero(mask.flatten())[:, 0] for name, mask in masks.items()}
    voxels = resolve_overlaps(flat, {"OuterTarget": 1, "Core": 2, "BODY": 3})
    order = torch.randperm(len(voxels["BODY"]), generator=torch.Generator().manual_seed(0))
    drawn = {**voxels, "BODY": voxels["BODY"][order[: len(order) // 8].sort().values]}
    rows = torch.cat(list(drawn.values()))
    ends = np.cumsum([len(inside) for inside in drawn.values()])
    regions = {
        name: torch.arange(end - len(inside), end)
        for (name, inside), end in zip(drawn.items(), ends.tolist(), strict=True)
    }
    points = positions(density.grid, torch.nonzero(torch.ones(density.grid.shape)).numpy().astype(np.float64))
    beams, bixels = _beams()
    matrix = influence(beams, bixels, density, points[rows.numpy()], MACHINE)
    found = optimise_fluence(matrix, OBJECTIVES, regions, start=torch.ones(1567), max_iterations=400)
    everywhere = torch.cat(list(voxels.values()))
    dose = torch.zeros(len(points))
    dose[everywhere] = _dose(points[everywhere.numpy()], found.weights)
    assert evaluate(OBJECTIVES, voxels, dose)[0] <= 1.01 * reference["objective_history"][-1]
    target = np.percentile(dose[voxels["OuterTarget"]].numpy(), [2, 5, 50, 98])
    np.testing.assert_allclose(target, [2.826, 2.878, 2.999, 3.144], atol=0.02)


def test_objective_of_the_reference_dose_is_the_one_it_reports():
    _, masks, reference = _phantom()
    flat = {name: torch.nonzero(mask.flatten())[:, 0] for name, mask in masks.items()}
    voxels = resolve_overlaps(flat, {"OuterTarget": 1, "Core": 2, "BODY": 3})
    value, _ = evaluate(OBJECTIVES, voxels, _reference_dose("dose_opt").flatten())
    assert value == pytest.approx(reference["objective_history"][-1], rel=5e-3)


@pytest.mark.parametrize(("field", "half"), [("f100", 50.0), ("f30", 15.0)])
def test_open_fields_in_water_equal_the_reference(field, half):
    stored = _stored("reference/water_box.npz")
    steps = float(stored["origin"]) + float(stored["spacing"]) * np.arange(int(stored["n"]))
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    affine[:3, 3] = stored["origin"]
    grid = Grid((len(steps),) * 3, affine)
    water = torch.ones((1, *grid.shape))
    water[:, :, torch.from_numpy(steps < float(stored["surface_y"]))] = 0
    density = Volume(water, grid, Quantity.DENSITY)
    beam = Beam(0.0, 0.0, 0.0, stored["iso"].astype(np.float64))
    edge = np.arange(-half + 2.5, half, 5.0)
    bixels = Bixels(np.stack([a.ravel() for a in np.meshgrid(edge, edge)], axis=1) + REFERENCE_SHIFT)

    def at(x, y, z):
        points = np.stack(np.broadcast_arrays(x, y, z), axis=1).astype(np.float64)
        dose = torch.zeros(len(points))
        for block in blocks(beam, bixels, density, points, MACHINE, cutoff=FULL_CUTOFF):
            dose[block.voxels] += block.dose.sum(dim=1)
        return dose.numpy()

    maximum = stored[f"{field}_cax"].max()
    # Behind its water the reference has no dose.
    inside = stored[f"{field}_cax"] > 0
    axis = at(0.0, stored["surface_y"] + stored[f"{field}_depth_mm"][inside], 0.0)
    np.testing.assert_allclose(axis, stored[f"{field}_cax"][inside], atol=1e-3 * maximum)
    assert inside.sum() > 115
    for d in (15, 50, 100, 200):
        y = steps[np.abs(steps - stored["surface_y"] - d).argmin()]
        for dose, side in ((at(steps, y, 0.0), "x"), (at(0.0, y, steps), "z")):
            # Beyond 100 mm from the axis the reference's bixels reach further than ours.
            near = np.abs(steps) < 100
            np.testing.assert_allclose(
                dose[near], stored[f"{field}_prof{side}_d{d}"][near], atol=5e-3 * maximum
            )
