import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial
from imaging.organ import Organ
from imaging.tissue import BRAIN, Tissue
from synth.heads import AnatomyRecipe, draw, head, lost_by, ventricles_at
from synth.subject import Subject

STILL = replace(
    AnatomyRecipe(),
    size_sd=0.0,
    shape_sd=0.0,
    ventricle_sd=0.0,
    atrophy_sd=0.0,
    deformation_mm=0.0,
    rotation=0.0,
    shift_mm=0.0,
    fluid=0.0,
)


def grid(spacing: float) -> Grid:
    return axial(np.array([-100.0, -115, -120]), np.array([100.0, 125, 110]), (spacing,) * 3)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at(age: float, recipe: AnatomyRecipe = STILL) -> Subject:
    return head(replace(recipe, age_years=(age, age), female=0.0), seeded(3), grid(2.0))


def test_a_head_follows_from_recipe_and_seed_alone_on_any_number_of_threads() -> None:
    n = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        a = head(AnatomyRecipe(), seeded(4), grid(5.0))
        torch.set_num_threads(3)
        b = head(AnatomyRecipe(), seeded(4), grid(5.0))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(n)
    assert torch.equal(a.labels.data, b.labels.data)
    assert torch.equal(a.organs.data, b.organs.data)
    assert a.traits == b.traits
    assert not torch.equal(a.labels.data, head(AnatomyRecipe(), seeded(5), grid(5.0)).labels.data)


def test_a_head_is_the_same_on_a_part_of_the_grid() -> None:
    whole = grid(4.0)
    affine = whole.affine.copy()
    affine[:3, 3] += 4 * np.array([10, 12, 20])
    part = Grid((24, 25, 18), affine)
    a, b = (head(AnatomyRecipe(), seeded(1), g).labels.data[0] for g in (whole, part))
    cut = a[10:34, 12:37, 20:38]
    # Places are read linearly between a few that are worked out, so that borders differ by a hair.
    assert float((cut == b).float().mean()) > 0.98


def test_traits_are_json() -> None:
    traits = head(AnatomyRecipe(), seeded(0), grid(6.0)).traits
    assert json.loads(json.dumps(traits)) == traits
    assert {"age_years", "brain_cc", "ventricles_cc", "bone_density"} <= set(traits["anatomy"])


def test_adult_brains_have_the_published_mean_and_spread() -> None:
    # About 1200 cc with a standard deviation of 120: men 1260, women 1130 (Cosgrove et al., Biol. Psychiatry
    # 62, 847 (2007), from memory).
    recipe = replace(AnatomyRecipe(), age_years=(20.0, 60.0))
    cc = np.array([head(recipe, seeded(s), grid(6.0)).traits["anatomy"]["brain_cc"] for s in range(16)])
    assert 1120 < cc.mean() < 1280
    assert 70 < cc.std() < 170


def test_mens_heads_are_an_eighth_larger_than_womens() -> None:
    volumes = [math.prod(draw(replace(STILL, female=f), seeded(2)).traits["scale"]) for f in (0.0, 1.0)]
    assert volumes[0] / volumes[1] == pytest.approx(1.12, abs=0.02)


def test_the_brain_shrinks_and_its_ventricles_widen_with_age_as_published() -> None:
    young, old = (at(a).traits["anatomy"] for a in (30.0, 80.0))
    lost = 1 - old["brain_cc"] / young["brain_cc"]
    # Hedman et al. (2012): 0.2 % a year after 35, 0.5 % after 60.
    assert lost == pytest.approx(lost_by(80.0) - lost_by(30.0), abs=0.03)
    assert old["csf_cc"] > young["csf_cc"] + 60
    assert old["ventricles_cc"] / young["ventricles_cc"] == pytest.approx(
        ventricles_at(80.0) / ventricles_at(30.0), rel=0.15
    )


def test_loss_of_brain_follows_the_review() -> None:
    step = 1e-3
    rate = [(lost_by(a + step) - lost_by(a)) / step for a in (30.0, 35.0, 59.99, 61.0, 80.0)]
    assert rate == pytest.approx([0.0, 0.002, 0.005, 0.005, 0.005], abs=1e-4)


def test_skulls_are_as_thick_as_a_recipe_says() -> None:
    factors = np.array(
        [draw(AnatomyRecipe(deformation_mm=0.0), seeded(s)).traits["skull_thickness"] for s in range(40)]
    )
    assert factors.mean() == pytest.approx(1.0, abs=3 * 0.15 / math.sqrt(40))
    # Three standard errors of a standard deviation.
    assert factors.std() == pytest.approx(0.15, abs=3 * 0.15 / math.sqrt(2 * 40))


def test_a_thicker_skull_holds_more_bone_and_as_much_brain() -> None:
    base = draw(STILL, seeded(0))
    thick = draw(replace(STILL, skull_thickness_sd=0.3), seeded(0))
    ratio = thick.traits["skull_thickness"]
    mean = (thick.head.shape.thickness / base.head.shape.thickness).mean()
    assert float(mean) == pytest.approx(ratio / base.traits["skull_thickness"], rel=1e-4)
    assert torch.equal(thick.head.shape.inner, base.head.shape.inner)


def test_fluid_lies_in_sinuses_behind_a_level_and_displaces_air() -> None:
    clear = head(STILL, seeded(7), grid(2.0))
    wet = head(replace(STILL, fluid=1.0), seeded(7), grid(2.0))
    fluid = wet.labels.data == Tissue.FLUID
    assert float(wet.traits["anatomy"]["fluid_cc"]) > 5
    was = clear.labels.data[fluid]
    assert float(((was == Tissue.AIR) | (was == Tissue.FLUID)).float().mean()) > 0.999
    assert len(wet.traits["anatomy"]["fluid"]) == 10


def test_a_turned_head_keeps_its_volume() -> None:
    a = head(STILL, seeded(1), grid(3.0)).traits["anatomy"]["brain_cc"]
    b = head(replace(STILL, rotation=15.0, shift_mm=8.0), seeded(1), grid(3.0)).traits["anatomy"]
    assert b["brain_cc"] == pytest.approx(a, rel=0.01)
    assert max(abs(v) for v in b["shift_mm"]) <= 8.0


def test_a_shift_moves_the_head_by_as_much() -> None:
    one = replace(STILL, shift_mm=20.0)
    here, there = head(STILL, seeded(9), grid(4.0)), head(one, seeded(9), grid(4.0))
    centres = []
    for subject in (here, there):
        brain = torch.isin(subject.labels.data[0], torch.tensor(BRAIN, dtype=torch.uint8))
        centres.append(torch.nonzero(brain).double().mean(dim=0).numpy() * 4.0)
    np.testing.assert_allclose(centres[1] - centres[0], there.traits["anatomy"]["shift_mm"], atol=1.0)


def test_every_organ_is_in_every_head() -> None:
    for seed in range(2):
        organs = head(AnatomyRecipe(), seeded(seed), grid(1.6)).organs
        counts = torch.bincount(organs.data.reshape(-1).long(), minlength=len(Organ))
        assert int(counts[1:].min()) > 0, [o.name for o in Organ if not counts[o]]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"age_years": (70.0, 30.0)}, "rising ages"),
        ({"age_years": (5.0, 30.0)}, "rising ages"),
        ({"size_sd": -0.1}, r"anatomy size_sd in 0\.\.0\.3, got -0\.1"),
        ({"female": 1.5}, r"anatomy female in 0\.\.1, got 1\.5"),
        ({"deformation_mm": math.nan}, "anatomy deformation_mm"),
        ({"rotation": -3.0}, "anatomy rotation"),
    ],
)
def test_a_recipe_no_head_can_follow_is_refused(changed: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        AnatomyRecipe(**changed)  # type: ignore[arg-type]


def test_a_turned_grid_is_refused() -> None:
    affine = np.array([[0.0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    with pytest.raises(ValueError, match="upright grid"):
        head(AnatomyRecipe(), seeded(0), Grid((8, 8, 8), affine))
