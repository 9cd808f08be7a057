"""Bias field, head mask and alignment on a head drawn with ellipsoids."""

import dataclasses

import numpy as np
import pytest
import torch

from imaging.agreement import dice
from imaging.grid import Grid, axial
from imaging.intensity import correct_bias, head_mask, normalise
from imaging.phantoms import ellipsoid, sphere
from imaging.register import Deformation, align, fit
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from imaging.warp import lattice

# Signal of outside, scalp, skull, fluid, grey, white, air and eye, roughly T1 and T2.
T1 = torch.tensor([5.0, 900, 90, 200, 450, 650, 20, 220, 600])
T2 = torch.tensor([5.0, 500, 60, 1000, 450, 350, 20, 950, 380])
COARSE = Deformation(knots_mm=(30.0,), voxels_mm=(6.0,), n_steps=(10,))


def at(x: float, y: float, z: float) -> np.ndarray:
    return np.array([x, y, z], dtype=np.float64)


def head(grid: Grid, move: np.ndarray, scale: float) -> Volume:
    """Labels of an egg with brain, ventricle, eyes and a neck."""
    labels = torch.zeros(grid.shape, dtype=torch.uint8)

    def put(center: np.ndarray, radii: np.ndarray, tissue: Tissue) -> None:
        labels[ellipsoid(grid, center * scale + move, radii * scale)] = tissue

    put(at(0, 10, -80), at(55, 60, 90), Tissue.SCALP)
    for radii, tissue in (
        (at(78, 98, 88), Tissue.SCALP),
        (at(72, 92, 82), Tissue.SKULL),
        (at(66, 86, 76), Tissue.CSF),
        (at(63, 83, 73), Tissue.GREY),
        (at(55, 75, 65), Tissue.WHITE),
        (at(20, 35, 12), Tissue.CSF),
    ):
        put(at(0, 0, 0), radii, tissue)
    for x in (-32.0, 32.0):
        put(at(x, -84, -30), at(12, 12, 12), Tissue.EYE)
    return Volume(labels[None], grid, Quantity.LABEL)


def scan(labels: Volume, signal: torch.Tensor) -> Volume:
    generator = torch.Generator().manual_seed(3)
    data = signal[labels.data.long()]
    return Volume(data + 8 * torch.randn(data.shape, generator=generator), labels.grid, Quantity.MR, "1.2.3")


PRIOR_GRID = axial(at(-100, -120, -130), at(100, 120, 110), (4.0, 4.0, 4.0))
SCAN_GRID = axial(at(-95, -125, -85), at(110, 115, 100), (3.0, 3.0, 5.0))
MOVE, SCALE = at(6, -8, 5), 0.94


@pytest.fixture(scope="module")
def labels() -> Volume:
    return head(SCAN_GRID, MOVE, SCALE)


@pytest.mark.parametrize("signal", [T1, T2])
def test_head_mask_is_the_head_in_any_contrast(labels: Volume, signal: torch.Tensor) -> None:
    mask = head_mask(scan(labels, signal))
    assert dice(mask.data[0] > 0, labels.data[0] > 0) > 0.96
    assert mask.frame == "1.2.3"


def test_head_mask_does_not_depend_on_the_scale_of_the_signal(labels: Volume) -> None:
    mr = scan(labels, T1)
    louder = dataclasses.replace(mr, data=mr.data * 1000)
    assert torch.equal(head_mask(mr).data, head_mask(louder).data)


def test_skull_stripped_scan_is_refused_in_one_sentence(labels: Volume) -> None:
    mr = scan(labels, T1)
    brain = torch.isin(labels.data, torch.tensor([3, 4, 5], dtype=torch.uint8))
    with pytest.raises(ValueError, match="expected an MRI of a whole head with skull and skin"):
        head_mask(dataclasses.replace(mr, data=mr.data * brain))


def test_ct_and_nan_are_refused(labels: Volume) -> None:
    mr = scan(labels, T1)
    with pytest.raises(ValueError, match="expected a volume in MR signal"):
        head_mask(dataclasses.replace(mr, quantity=Quantity.HU))
    broken = mr.data.clone()
    broken[0, 30, 30, 20] = float("nan")
    with pytest.raises(ValueError, match="expected finite values, got 1"):
        head_mask(dataclasses.replace(mr, data=broken))


def test_bias_field_of_two_to_one_is_removed(labels: Volume) -> None:
    mr = scan(labels, T1)
    x = lattice(SCAN_GRID)[:, 0].reshape(mr.data.shape)
    shaded = dataclasses.replace(mr, data=mr.data * torch.exp(0.6 * x / 90))
    mask = head_mask(shaded)
    white = labels.data == Tissue.WHITE

    def spread(v: Volume) -> float:
        return float(v.data[white].std() / v.data[white].mean())

    corrected = correct_bias(shaded, mask)
    assert spread(shaded) > 0.1
    assert spread(corrected) < 0.3 * spread(shaded)
    assert torch.equal(corrected.data, correct_bias(shaded, mask).data)


def test_normalised_signal_runs_from_nought_to_one(labels: Volume) -> None:
    mr = scan(labels, T1)
    values = normalise(mr, head_mask(mr)).data[labels.data > 0]
    assert float(values.quantile(0.02)) < 0.1
    assert float(values.quantile(0.98)) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("signal", [T1, T2])
def test_a_shifted_and_smaller_head_is_found_in_any_contrast(labels: Volume, signal: torch.Tensor) -> None:
    mr = scan(labels, signal)
    field = align(head(PRIOR_GRID, at(0, 0, 0), 1.0), mr, head_mask(mr), COARSE)
    inside = (ellipsoid(field.grid, MOVE, at(60, 80, 70) * SCALE)).reshape(-1)
    x = lattice(field.grid)[inside]
    expected = (x - torch.from_numpy(MOVE).float()) / SCALE
    found = x + field.data.reshape(3, -1).T[inside]
    assert float((found - expected).norm(dim=1).mean()) < 2.5
    assert field.quantity is Quantity.DISPLACEMENT


def test_the_same_scan_gives_the_same_field_to_the_bit(labels: Volume) -> None:
    mr = scan(labels, T1)
    prior, mask = head(PRIOR_GRID, at(0, 0, 0), 1.0), head_mask(mr)
    quick = Deformation(knots_mm=(40.0,), voxels_mm=(8.0,), n_steps=(3,))
    assert torch.equal(align(prior, mr, mask, quick).data, align(prior, mr, mask, quick).data)


def test_fitted_prior_finds_bone_and_eyes(labels: Volume) -> None:
    mr = scan(labels, T2)
    prior = head(PRIOR_GRID, at(0, 0, 0), 1.0)
    maps = fit(prior, mr, head_mask(mr), COARSE)
    truth = head(maps.grid, MOVE, SCALE).data[0]
    for tissue, least in ((Tissue.SKULL, 0.55), (Tissue.EYE, 0.7), (Tissue.WHITE, 0.9)):
        assert dice(maps.data.argmax(dim=0) == tissue, truth == tissue) > least, tissue
    assert not sphere(maps.grid, MOVE, 5.0).logical_and(maps.data[0] > 0.1).any()
