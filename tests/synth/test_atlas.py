import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial
from imaging.organ import Organ
from imaging.tissue import BONE, BRAIN, Tissue
from imaging.volume import Quantity, Volume
from synth.atlas import varied
from synth.atlas_fit import fitted
from synth.atlas_head import given_head
from synth.heads import AnatomyRecipe
from synth.labelling import average_head
from synth.raster import drawn, straight
from synth.subject import Subject

SCALE = np.array([1.08, 1.05, 1.12])
SHIFT = np.array([12.0, -20.0, 31.0])
# The six tissues that label maps have, and outside.
SIX = {
    Tissue.OUTSIDE: (Tissue.OUTSIDE,),
    Tissue.SCALP: (Tissue.SCALP, Tissue.FAT, Tissue.EYE, Tissue.LENS, Tissue.GLAND, Tissue.FLUID),
    Tissue.SKULL: BONE,
    Tissue.CSF: (Tissue.CSF, Tissue.DURA),
    Tissue.GREY: (Tissue.GREY,),
    Tissue.WHITE: (Tissue.WHITE, Tissue.BRAINSTEM, Tissue.NERVE),
    Tissue.AIR: (Tissue.AIR,),
}
STILL = AnatomyRecipe(
    size_sd=0.0,
    shape_sd=0.0,
    skull_thickness_sd=0.0,
    atrophy_sd=0.0,
    deformation_mm=0.0,
    rotation=0.0,
    shift_mm=0.0,
    fluid=0.0,
    age_years=(50.0, 50.0),
)
COARSE = axial(np.array([-104.0, -116, -130]), np.array([104.0, 126, 110]), (5.0,) * 3)
GRID = axial(np.array([-104.0, -116, -130]), np.array([104.0, 126, 110]), (2.5,) * 3)


def six_tissues() -> dict[Tissue, Volume]:
    """The built-in head at another place and size, told as six tissues."""
    low, high = np.array([-100.0, -112, -136]), np.array([100.0, 124, 108])
    grid = axial(low, high, (2.5,) * 3)
    labels, _, _ = drawn(average_head(), straight(), grid)
    affine = grid.affine.copy()
    affine[:3, :3] = np.diag(SCALE) @ affine[:3, :3]
    affine[:3, 3] = SCALE * affine[:3, 3] + SHIFT
    there = Grid(grid.shape, affine)
    return {
        t: Volume(
            torch.isin(labels.data, torch.tensor(of, dtype=torch.uint8)).float(), there, Quantity.PROBABILITY
        )
        for t, of in SIX.items()
    }


@pytest.fixture(scope="module")
def given() -> Subject:
    return given_head(six_tissues(), "six", 2.5)


@pytest.fixture(scope="module")
def own() -> tuple[Volume, Volume]:
    labels, organs, _ = drawn(average_head(), straight(), GRID)
    return labels, organs


def mask(volume: Volume, *labels: int) -> np.ndarray:
    return torch.isin(volume.data[0], torch.tensor(labels, dtype=torch.uint8)).numpy()


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * int((a & b).sum()) / (int(a.sum()) + int(b.sum()))


def middle(volume: Volume, *labels: int) -> np.ndarray:
    index = np.argwhere(mask(volume, *labels)).mean(axis=0)
    return volume.grid.affine[:3, :3] @ index + volume.grid.affine[:3, 3]


def test_the_fit_finds_place_and_size_of_the_built_in_head() -> None:
    found = fitted(six_tissues())
    np.testing.assert_allclose(np.diag(found.to_given[:, :3]), SCALE, rtol=0.01)
    np.testing.assert_allclose(found.to_given[:, 3], SHIFT, atol=1.5)
    # Nothing is left to bend.
    assert float(found.bend.data.abs().mean()) < 1.0


def test_a_given_head_keeps_its_tissues_at_the_average_place_and_size(given: Subject) -> None:
    labels, _, _ = drawn(average_head(), straight(), given.labels.grid)
    for tissues, least in ((BRAIN, 0.93), (BONE, 0.8), ((Tissue.CSF, Tissue.DURA), 0.7)):
        assert dice(mask(given.labels, *tissues), mask(labels, *tissues)) > least
    assert dice(mask(given.labels, Tissue.OUTSIDE), mask(labels, Tissue.OUTSIDE)) > 0.98


def test_tissues_and_organs_that_a_map_lacks_are_carried_over_and_told(
    given: Subject, own: tuple[Volume, Volume]
) -> None:
    told = given.traits["anatomy"]
    assert set(told["carried"]) | set(told["left_out"]) > {"OpticChiasm", "Cochlea_L"}
    assert {"brainstem", "eye", "dura"} <= set(told["carried_tissues"])
    assert not told["left_out"]
    for organ in (Organ.CHIASM, Organ.COCHLEA_L, Organ.HIPPOCAMPUS_R, Organ.PITUITARY, Organ.EYE_L):
        np.testing.assert_allclose(middle(given.organs, organ), middle(own[1], organ), atol=3.0)
    for tissue in (Tissue.MARROW, Tissue.FAT):
        assert mask(given.labels, tissue).sum() > 0.5 * mask(own[0], tissue).sum()
    assert json.loads(json.dumps(given.traits)) == given.traits


def test_cochleae_lie_in_bone_or_not_at_all() -> None:
    shares = six_tissues()
    # Bone of the base turned into muscle: nothing carries a cochlea.
    z = shares[Tissue.SKULL].grid.affine[2, 3] + shares[Tissue.SKULL].grid.spacing[2] * np.arange(
        shares[Tissue.SKULL].grid.shape[2]
    )
    low = torch.from_numpy(z < SHIFT[2] - 20.0)
    bone, scalp = shares[Tissue.SKULL].data.clone(), shares[Tissue.SCALP].data.clone()
    scalp[..., low] += bone[..., low]
    bone[..., low] = 0
    shares[Tissue.SKULL] = replace(shares[Tissue.SKULL], data=bone)
    shares[Tissue.SCALP] = replace(shares[Tissue.SCALP], data=scalp)
    subject = given_head(shares, "boneless", 4.0)
    assert {"Cochlea_L", "Cochlea_R"} <= set(subject.traits["anatomy"]["left_out"])
    assert not mask(subject.organs, Organ.COCHLEA_L).any()


def test_air_outside_is_outside_and_enclosed_air_is_air() -> None:
    shares = six_tissues()
    air = shares[Tissue.AIR].data + shares.pop(Tissue.OUTSIDE).data
    shares[Tissue.AIR] = replace(shares[Tissue.AIR], data=air)
    labels = given_head(shares, "airy", 4.0).labels
    data = labels.data[0]
    assert int((data[0] != Tissue.OUTSIDE).sum()) == 0
    assert int((data[:, :, -1] != Tissue.OUTSIDE).sum()) == 0
    cc = float((data == Tissue.AIR).sum()) * labels.grid.voxel_volume / 1000
    assert 30 < cc < 130


def test_a_given_head_varied_by_nothing_is_itself_in_size_and_place(given: Subject) -> None:
    recipe = replace(STILL, female=0.0)
    out = varied([given], recipe, torch.Generator().manual_seed(0), GRID)
    # Men's heads are larger than the mean by 1.9 %, the cord is cut lower or higher.
    assert float(mask(out.labels, *BRAIN).sum()) == pytest.approx(
        1.019**3 * float(mask(given.labels, *BRAIN).sum()), rel=0.04
    )
    np.testing.assert_allclose(middle(out.organs, Organ.CHIASM), middle(given.organs, Organ.CHIASM), atol=2.5)


def test_the_skull_becomes_as_thick_as_drawn(given: Subject) -> None:
    vault = axial(np.array([-104.0, -116, 30]), np.array([104.0, 126, 110]), (2.0,) * 3)
    recipe = replace(STILL, skull_thickness_sd=0.2, female=0.0)
    per_factor = []
    for seed in (1, 3, 6):
        out = varied([given], recipe, torch.Generator().manual_seed(seed), vault)
        factor = out.traits["anatomy"]["skull_thickness"]
        per_factor.append(int(mask(out.labels, *BONE).sum()) / factor)
    # Factors from 0.77 to 1.17; unevenness adds up to some per cent.
    np.testing.assert_allclose(per_factor, np.mean(per_factor), rtol=0.12)


def test_fluid_over_the_brain_widens_as_brain_is_lost(given: Subject) -> None:
    told = []
    for age in (25.0, 80.0):
        recipe = replace(STILL, age_years=(age, age))
        told.append(varied([given], recipe, torch.Generator().manual_seed(1), GRID).traits["anatomy"])
    assert told[1]["csf_cc"] > told[0]["csf_cc"] + 8
    assert told[1]["brain_cc"] < told[0]["brain_cc"] - 8


def test_heads_are_picked_and_varied_by_the_generator_alone(given: Subject) -> None:
    other = Subject(given.labels, given.organs, {"anatomy": {"head": "other"}})
    draws = [
        varied([given, other], AnatomyRecipe(), torch.Generator().manual_seed(s), COARSE)
        for s in (0, 0, 1, 2, 3)
    ]
    assert torch.equal(draws[0].labels.data, draws[1].labels.data)
    assert not torch.equal(draws[0].labels.data, draws[2].labels.data)
    assert {d.traits["anatomy"]["head"] for d in draws} == {"six", "other"}
    assert all(int(d.organs.data.max()) <= max(Organ) for d in draws)


def test_heads_without_skull_or_on_two_grids_and_no_heads_are_refused(given: Subject) -> None:
    shares = six_tissues()
    bare = dict(shares)
    del bare[Tissue.SKULL]
    with pytest.raises(ValueError, match="expected a head with skull, got none in bare"):
        given_head(bare, "bare")
    moved = replace(shares[Tissue.CSF], grid=Grid(shares[Tissue.CSF].grid.shape, np.eye(4)))
    with pytest.raises(ValueError, match="on one grid"):
        given_head({**shares, Tissue.CSF: moved}, "two")
    with pytest.raises(ValueError, match="one head or more to vary"):
        varied([], STILL, torch.Generator(), GRID)
