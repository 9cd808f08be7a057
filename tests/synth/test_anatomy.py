import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import synth.surfaces
from imaging.tissue import BONE, BRAIN, SIMPLER, Tissue
from imaging.volume import Quantity, Volume
from synth.anatomy import anatomy
from synth.surfaces import mean_shape


@pytest.fixture(scope="module")
def mean() -> Volume:
    return anatomy(2.0)


def mask(volume: Volume, *tissues: Tissue) -> torch.Tensor:
    return torch.isin(volume.data[0], torch.tensor(tissues, dtype=torch.uint8))


def cc(volume: Volume, *tissues: Tissue) -> float:
    return int(mask(volume, *tissues).sum()) * volume.grid.voxel_volume / 1000


def middle(volume: Volume, inside: torch.Tensor) -> np.ndarray:
    index = torch.nonzero(inside).double().mean(dim=0).numpy()
    return volume.grid.affine[:3, :3] @ index + volume.grid.affine[:3, 3]


def test_labels_lie_upright_in_lps(mean: Volume) -> None:
    assert mean.quantity is Quantity.LABEL
    assert mean.data.dtype is torch.uint8
    np.testing.assert_allclose(mean.grid.affine[:3, :3], 2 * np.eye(3))


def test_the_brain_has_an_adult_volume(mean: Volume) -> None:
    assert 1100 < cc(mean, *BRAIN) < 1500


def test_each_eye_holds_seven_to_eight_cc(mean: Volume) -> None:
    # A globe of 24 mm holds 7.2 cc.
    assert 13 < cc(mean, Tissue.EYE) < 16


def test_intracranial_fluid_is_a_fifth_of_the_cranial_content(mean: Volume) -> None:
    fluid = cc(mean, Tissue.CSF)
    assert 0.12 < fluid / (fluid + cc(mean, *BRAIN)) < 0.28


def test_the_vault_is_as_thick_as_measured_skulls() -> None:
    # 6 to 8 mm over the parietal bone: Lynnerup 2001.
    top = mean_shape().thickness[:90]
    assert 4.5 < float(top.mean()) < 8
    assert float(top.min()) > 2


def test_eyes_lie_in_front_of_the_brainstem_and_left_is_plus_x(mean: Volume) -> None:
    eyes = torch.nonzero(mask(mean, Tissue.EYE)).double().numpy() @ np.diag(mean.grid.spacing)
    x = eyes[:, 0] + mean.grid.affine[0, 3]
    assert 28 < x[x > 0].mean() < 36
    assert -36 < x[x < 0].mean() < -28
    assert middle(mean, mask(mean, Tissue.EYE))[1] < middle(mean, mask(mean, Tissue.BRAINSTEM))[1] - 60


def test_the_average_head_mirrors_itself_outside_the_brain(mean: Volume) -> None:
    bone = mask(mean, *BONE)
    both = int((bone & bone.flip(0)).sum())
    assert both / int(bone.sum()) > 0.97


def test_air_surrounds_the_head_but_not_the_neck(mean: Volume) -> None:
    body = mean.data[0] != Tissue.OUTSIDE
    places = torch.nonzero(body)
    low, high = places.amin(dim=0) * 2, (torch.tensor(body.shape) - 1 - places.amax(dim=0)) * 2
    assert min(low[0], low[1], *high) >= 10
    assert bool(body[:, :, 0].any())


def test_bone_covers_the_brain_on_every_way_up(mean: Volume) -> None:
    # Above every voxel of brain there is bone before there is air.
    data = mean.data[0]
    brain_top = mask(mean, *BRAIN)
    above = mask(mean, *BONE).flip(2).cumsum(2).flip(2) > 0
    upper = torch.arange(data.shape[2]) * 2 + mean.grid.affine[2, 3] > 0
    assert bool(above[brain_top & upper].all())


def test_brain_and_brainstem_lie_within_the_skin_and_face_holds_air(mean: Volume) -> None:
    stem = middle(mean, mask(mean, Tissue.BRAINSTEM))
    assert abs(stem[0]) < 1
    assert -45 < stem[2] < -10
    sinus = mask(mean, Tissue.AIR)
    assert 40 < cc(mean, Tissue.AIR) < 120
    assert middle(mean, sinus)[1] < 0


def test_two_heads_of_one_seed_are_equal_and_of_two_seeds_differ() -> None:
    a, b, c = (anatomy(8.0, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert a.grid == b.grid
    assert torch.equal(a.data, b.data)
    assert a.grid != c.grid or not torch.equal(a.data, c.data)


def test_random_heads_vary_in_size_about_the_average() -> None:
    volumes = [cc(anatomy(6.0, torch.Generator().manual_seed(s)), *BRAIN) for s in range(8)]
    assert np.std(volumes) > 20
    assert abs(np.mean(volumes) - cc(anatomy(6.0), *BRAIN)) < 100
    assert min(volumes) > 900
    assert max(volumes) < 1700


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    anatomy(10.0, torch.Generator().manual_seed(0))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("spacing", [0.0, -1.0, math.nan, math.inf])
def test_a_spacing_that_is_not_positive_is_refused(spacing: float) -> None:
    with pytest.raises(ValueError, match="spacing > 0 mm"):
        anatomy(spacing)


def test_the_shape_file_says_what_it_is_and_holds_no_map() -> None:
    card = json.loads(Path(synth.surfaces.__file__).with_name("head_shape.json").read_text(encoding="utf-8"))
    assert {"what", "for", "data", "licence", "method"} <= set(card["card"])
    assert (
        sum(len(v["coefficients"]) for v in card.values() if isinstance(v, dict) and "coefficients" in v)
        < 1000
    )


def test_the_prior_of_the_walk_holds_what_it_held_before_organs_were_told_apart(mean: Volume) -> None:
    # cc of each tissue of the average head at 2 mm as the first walk had it.
    before = {
        Tissue.SCALP: 1545.5,
        Tissue.SKULL: 379.3,
        Tissue.CSF: 312.8,
        Tissue.GREY: 635.9,
        Tissue.WHITE: 526.9,
        Tissue.AIR: 59.8,
        Tissue.EYE: 14.1,
        Tissue.BRAINSTEM: 27.0,
        Tissue.MARROW: 144.9,
        Tissue.FAT: 525.0,
    }
    for tissue, volume in before.items():
        same = [t for t in Tissue if SIMPLER.get(t, t) == tissue]
        assert cc(mean, *same) == pytest.approx(volume, rel=0.006, abs=1.5)
