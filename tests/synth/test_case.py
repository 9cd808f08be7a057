import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.organ import NAMES, Organ
from imaging.structures import RoiType
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth import case as module
from synth.case import closed, make, stage_generator, structures
from synth.recipe import Recipe, parse
from synth.subject import Subject

COARSE = """
[grid]
shape = [40, 46, 40]
spacing = [5, 5, 5]
fine = 4
[tumour]
volume_cc = 40
[mri]
contrasts = ["t1", "flair"]
"""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return parse(COARSE)


@pytest.fixture(scope="module")
def made(recipe):
    return make(recipe, 3, 5)


def digest(made) -> str:
    out = hashlib.sha256(repr(made.traits).encode())
    for name, volume in made.case.volumes.items():
        out.update(name.encode() + volume.data.numpy().tobytes())
    return out.hexdigest()


def test_a_case_is_the_same_whatever_was_made_before_and_on_however_many_threads(recipe, made):
    n_threads = torch.get_num_threads()
    try:
        make(recipe, 3, 4)
        torch.manual_seed(0)
        torch.set_num_threads(2)
        assert digest(make(recipe, 3, 5)) == digest(made)
    finally:
        torch.set_num_threads(n_threads)


def test_seed_number_and_recipe_each_change_a_case(recipe, made):
    other = parse(COARSE + "[ct]\nnoise = [3, 8]\n")
    assert (
        len({digest(one) for one in (made, make(recipe, 4, 5), make(recipe, 3, 6), make(other, 3, 5))}) == 4
    )


def test_stages_draw_from_unrelated_streams():
    words = [
        ("r", 1, 2, "mri"),
        ("r", 1, 2, "ct"),
        ("r", 2, 1, "mri"),
        ("q", 1, 2, "mri"),
        ("r", 12, 0, "mri"),
    ]
    draws = {tuple(torch.rand(3, generator=stage_generator(*w)).tolist()) for w in words}
    assert len(draws) == len(words)


def test_everything_lies_on_the_recipes_grid_in_one_frame(recipe, made):
    volumes = made.case.volumes
    assert set(volumes) >= {
        "t1",
        "flair",
        "ct",
        "electron_density",
        "mass_density",
        "labels",
        "organs",
    }
    assert {v.grid for v in volumes.values()} == {recipe.grid.scan}
    assert (
        len({v.frame for v in volumes.values()} | {made.case.structures.frame, made.case.source.frame}) == 1
    )
    assert made.name == "SPD-00005-000"


def test_signal_and_hu_are_whole_numbers_of_sixteen_bits(made):
    for name in ("t1", "ct"):
        data = made.case.volumes[name].data
        assert torch.equal(data, data.round())
        assert data.abs().max() <= 32768


def test_densities_of_a_case_are_those_of_water_in_the_brain(made):
    brain = made.case.structures.mask("Brain")
    density = made.case.volumes["electron_density"].data[0][brain]
    assert 1.0 < float(density.median()) < 1.06


def test_traits_tell_every_stage_and_are_json_values(made):
    import json

    told = json.loads(json.dumps(made.traits))
    assert set(told) >= {
        "id",
        "number",
        "seed",
        "recipe",
        "anatomy",
        "tumour",
        "surgery",
        "mri",
        "ct",
        "structures_cc",
    }
    assert told == made.traits


def test_a_head_without_room_is_followed_by_another_with_the_same_tumour(recipe, monkeypatch):
    seen = []
    real = module.with_tumour

    def picky(subject, recipe, generator):
        seen.append((subject.traits["anatomy"]["age_years"], float(torch.rand(1, generator=generator))))
        if len(seen) < 3:
            raise ValueError("expected room")
        return real(subject, recipe, generator)

    monkeypatch.setattr(module, "with_tumour", picky)
    assert make(recipe, 0, 0).traits["tries"] == 3
    assert len({age for age, _ in seen}) == 3
    assert len({drawn for _, drawn in seen}) == 1


def test_a_tumour_that_never_finds_room_ends_in_a_sentence_that_names_the_case(recipe, monkeypatch):
    def never(*_):
        raise ValueError("expected room for a tumour, got none")

    monkeypatch.setattr(module, "with_tumour", never)
    monkeypatch.setattr(module, "head", lambda *_: None)
    with pytest.raises(ValueError, match="case 7: expected room for a tumour, got none"):
        make(recipe, 0, 7)


@pytest.mark.parametrize(("seed", "k"), [(-1, 0), (0, -1)])
def test_negative_seeds_and_numbers_are_refused(recipe, seed, k):
    with pytest.raises(ValueError, match="seed and a number of 0 or more"):
        make(recipe, seed, k)


def grid(n: int = 24, spacing: float = 1.0) -> Grid:
    return Grid((n, n, n), np.diag([spacing, spacing, spacing, 1.0]))


def test_closing_fills_gaps_narrower_than_its_box_and_leaves_the_rest():
    mask = torch.zeros(24, 24, 24, dtype=torch.bool)
    mask[6:18, 6:18, 6:18] = True
    mask[:, 11:14] = False  # 3 mm
    assert torch.equal(closed(mask, 1.0, grid()), mask)
    filled = closed(mask, 2.0, grid())
    assert filled[6:18, 6:18, 6:18].all()
    assert int(filled.sum()) == 12**3


def test_closing_agrees_with_scipy():
    from scipy.ndimage import binary_closing

    mask = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(0)) > 0.98
    inner = slice(7, 13)
    ours = closed(mask, 3.0, grid(20))
    theirs = binary_closing(mask.numpy(), np.ones((7, 7, 7)))
    assert np.array_equal(ours.numpy()[inner, inner, inner], theirs[inner, inner, inner])


def test_contours_are_the_tissues_and_organs_they_are_named_for():
    labels, organs = torch.zeros(2, 1, 24, 24, 24, dtype=torch.uint8).unbind(0)
    labels[0, 2:22, 2:22, 2:22] = Tissue.SCALP
    labels[0, 4:20, 4:20, 4:20] = Tissue.SKULL
    labels[0, 6:18, 6:18, 6:18] = Tissue.GREY
    labels[0, 8:10, 8:10, 8:10] = Tissue.ENHANCING
    labels[0, 10, 10, 10] = Tissue.CAVITY
    labels[0, 12, 12, 12] = Tissue.OEDEMA
    organs[0, 3, 3, 5] = Organ.EYE_L
    organs[0, 3, 4, 5] = Organ.LENS_L
    organs[0, 4:6, 4:6, 4:6] = Organ.MANDIBLE
    found = structures(Volume(labels, grid(), Quantity.LABEL), Volume(organs, grid(), Quantity.LABEL))
    volumes = {name: int(s.mask.sum()) for name, s in found.structures.items()}
    assert volumes["GTV"] == 9
    assert volumes["Oedema"] == 1
    assert volumes["External"] == 20**3
    assert volumes["Brain"] == 12**3
    assert volumes["Skull"] == 16**3 - 12**3 - 8
    assert volumes["Eye_L"] == 2
    assert volumes["Lens_L"] == 1
    assert not bool(found.mask("Scalp")[:, :, :6].any())
    assert "Eye_R" not in volumes
    assert {n for n, s in found.structures.items() if s.kind is RoiType.GTV} == {"GTV"}


def test_most_organs_of_a_head_are_contoured_at_two_millimetres():
    fine = parse(
        "[grid]\nshape = [96, 112, 96]\nspacing = [2, 2, 2]\nfine = 2\n[tumour]\nshares = { none = 1 }"
    )
    fine = dataclasses.replace(fine, mri=dataclasses.replace(fine.mri, contrasts=("t1",)))
    found = make(fine, 0, 0).case.structures
    assert set(found.structures) >= {"External", "Brain", "Brainstem", "Skull", "Scalp", "AirCavities"} | set(
        NAMES
    )
    assert "GTV" not in found.structures


def test_given_heads_take_the_place_of_heads_made_by_code(recipe, monkeypatch):
    head = make(recipe, 0, 0)
    given = Subject(head.case.volumes["labels"], head.case.volumes["organs"], {"anatomy": {"name": "a"}})
    seen = []

    def varied(heads, anatomy, generator, lattice):
        seen.append((heads, lattice))
        return module.head(anatomy, generator, lattice)

    monkeypatch.setattr(module, "varied", varied)
    make(recipe, 0, 0, (given,))
    assert seen == [((given,), recipe.grid.lattice)]
