"""Figures of a synthetic CT on phantoms whose figures are known."""

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.volume import Quantity, Volume
from mr2ct.quality import baselines, coverage, quality

SHAPE = (48, 48, 48)
GRID = axial(np.zeros(3), np.full(3, 96.0), (2.0, 2.0, 2.0))


def ct(hu: torch.Tensor) -> Volume:
    return Volume(hu[None].float(), GRID, Quantity.HU)


def head(bone_from: int = 12) -> tuple[Volume, torch.Tensor]:
    """A cube of soft tissue with a block of bone, one of fat and a cavity."""
    hu = torch.full(SHAPE, -1000.0)
    hu[8:40, 8:40, 8:40] = 40.0
    body = hu > -300
    hu[bone_from : bone_from + 8, 12:36, 12:36] = 1000.0
    hu[24:28, 12:36, 12:36] = -90.0
    hu[32:36, 16:32, 16:32] = -1000.0
    return ct(hu), body


def test_a_perfect_ct_has_perfect_figures() -> None:
    truth, body = head()
    found = quality(truth, truth, body)
    assert (found.mae, found.bias, found.air_dice, found.bone_surface_mm) == (0, 0, 1, 0)
    assert set(found.bone_dice.values()) == {1}
    assert found.ssim == pytest.approx(1)
    assert sum(one["share"] for one in found.tissues.values()) == pytest.approx(1)
    assert found.tissues["bone"]["share"] == 8 * 24 * 24 / 32**3


def test_bone_that_is_moved_by_a_voxel_is_two_millimetres_off() -> None:
    truth, body = head()
    moved, _ = head(13)
    found = quality(moved, truth, body)
    assert found.bone_dice["150 HU"] == pytest.approx(7 / 8)
    # The two great faces are 2 mm apart, the rims in between touch.
    assert 1 < (found.bone_surface_mm or 0) < 2
    assert found.bone_surface_95_mm == pytest.approx(2)
    # A layer of bone for soft tissue and one of soft tissue for bone.
    assert found.mae == pytest.approx(2 * 24 * 24 * 960 / 32**3, rel=1e-5)
    assert found.bias == pytest.approx(0, abs=1e-3)
    assert found.tissues["bone"]["bias"] == pytest.approx(-960 / 8, rel=1e-5)


def test_each_baseline_has_the_error_of_its_numbers() -> None:
    truth, body = head()
    made = baselines(truth, body)
    share = {name: one["share"] for name, one in quality(truth, truth, body).tissues.items()}
    errors = {name: quality(volume, truth, body).mae for name, volume in made.items()}
    bulk = share["soft tissue"] * 4 + share["bone"] * 2
    assert errors["all water"] == pytest.approx(
        share["air"] * 1000 + share["fat"] * 90 + share["soft tissue"] * 40 + share["bone"] * 1000, rel=1e-4
    )
    assert errors["3 classes of the true CT"] == pytest.approx(bulk + share["fat"] * 126, rel=1e-4)
    assert errors["4 classes of the true CT"] == pytest.approx(bulk + share["fat"] * 14, rel=1e-4)


def test_a_ct_without_bone_or_cavities_has_no_distance() -> None:
    truth, body = head()
    soft = ct(torch.where(body, 40.0, -1000.0))
    found = quality(soft, truth, body)
    assert found.bone_surface_mm is None
    assert found.bone_dice["150 HU"] == 0
    assert found.air_dice == 0
    assert quality(soft, soft, body).air_dice is None


def test_intervals_cover_what_lies_within_them() -> None:
    truth, body = head()
    off = ct(truth.data[0] + torch.where(torch.arange(48)[:, None, None] < 24, 10.0, 30.0))
    deviation = Volume(torch.full((1, *SHAPE), 10.0), GRID, Quantity.HU_DEVIATION)
    assert coverage(off, deviation, truth, body, 1.5) == 0.5
    assert coverage(off, deviation, truth, body, 3.5) == 1


def test_cts_of_two_grids_are_refused() -> None:
    truth, body = head()
    other = Volume(truth.data, axial(np.zeros(3), np.full(3, 48.0), (1.0,) * 3), Quantity.HU)
    with pytest.raises(ValueError, match="two CTs on one grid"):
        quality(other, truth, body)
