import hashlib
import json
import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from imaging.grid import axial
from imaging.organ import Organ
from imaging.tissue import BRAIN, TUMOUR, Tissue
from imaging.volume import Quantity, Volume
from synth import statistics as table
from synth.cranium import below_tentorium, cranium
from synth.heads import AnatomyRecipe, head
from synth.illness import Illness, drawn
from synth.lesions import TumourRecipe, with_tumour
from synth.statistics import Kind, Sizes
from synth.subject import Subject

SPACING = 3.0
KINDS = [kind for kind in Kind if kind is not Kind.NONE]


@cache
def subject(spacing: float = SPACING) -> Subject:
    grid = axial(np.array([-92.0, -108.0, -100.0]), np.array([92.0, 112.0, 92.0]), (spacing,) * 3)
    return head(AnatomyRecipe(), torch.Generator().manual_seed(4), grid)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(kind: Kind, **more: object) -> TumourRecipe:
    return TumourRecipe(**{"shares": {kind.value: 1.0}, "post_operative": 0.0, **more})  # type: ignore[arg-type]


@cache
def grown(kind: Kind, seed: int = 1, cc: float | None = None) -> Subject:
    return with_tumour(subject(), only(kind, volume_cc=cc), seeded(seed))


def tissue(one: Subject) -> np.ndarray:
    return one.labels.data[0].numpy()


def among(one: Subject, *tissues: Tissue) -> np.ndarray:
    return np.isin(tissue(one), tissues)


def cc(one: Subject, *tissues: Tissue) -> float:
    return float(among(one, *tissues).sum()) * one.labels.grid.voxel_volume / 1000


def digest(one: Subject) -> str:
    both = one.labels.data.numpy().tobytes() + one.organs.data.numpy().tobytes()
    return hashlib.sha256(both + json.dumps(dict(one.traits), sort_keys=True).encode()).hexdigest()


@cache
def many(kind: Kind, n: int = 1500) -> tuple[Illness, ...]:
    recipe, generator = only(kind, post_operative=0.25), seeded(11)
    return tuple(drawn(recipe, generator) for _ in range(n))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tumour_has_the_volume_that_was_asked_for(kind: Kind) -> None:
    one = grown(kind, cc=18.0)
    parts = {
        Kind.GLIOBLASTOMA: (Tissue.NECROSIS, Tissue.ENHANCING),
        Kind.LOW_GRADE: (Tissue.INFILTRATION, Tissue.ENHANCING),
        Kind.MENINGIOMA: (Tissue.ENHANCING,),
        Kind.METASTASES: (Tissue.NECROSIS, Tissue.ENHANCING),
    }[kind]
    assert cc(one, *parts) == pytest.approx(18.0, rel=0.02)
    told = one.traits["tumour"]
    assert sum(lesion["core_cc"] for lesion in told["lesions"]) == pytest.approx(18.0, rel=0.02)
    assert told["volumes_cc"]["enhancing"] == pytest.approx(cc(one, Tissue.ENHANCING), abs=1e-3)
    assert told["kind"] == kind.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_tumour_stays_within_the_skull_and_changes_nothing_outside_it(kind: Kind) -> None:
    before, after = tissue(subject()), tissue(grown(kind))
    moves = (*BRAIN, Tissue.CSF, Tissue.DURA, Tissue.NERVE)
    assert np.isin(before[np.isin(after, TUMOUR)], moves).all()
    still = ~np.isin(before, moves)
    assert (after[still] == before[still]).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_necrosis_is_enclosed_by_tumour(seed: int) -> None:
    one = grown(Kind.GLIOBLASTOMA, seed, 40.0)
    necrosis = among(one, Tissue.NECROSIS)
    assert necrosis.any()
    shell = binary_dilation(necrosis, np.ones((3, 3, 3), dtype=bool)) & ~necrosis
    assert among(one, Tissue.ENHANCING)[shell].all()


def test_a_glioblastoma_has_all_its_parts_and_oedema_in_what_was_white_matter() -> None:
    volumes = grown(Kind.GLIOBLASTOMA, 1, 40.0).traits["tumour"]["volumes_cc"]
    assert min(volumes[name] for name in ("necrosis", "oedema", "enhancing", "infiltration")) > 0.5
    assert volumes["cavity"] == 0


def test_oedema_does_not_cross_the_tentorium() -> None:
    one = grown(Kind.GLIOBLASTOMA, 22, 60.0)
    first = one.traits["tumour"]["lesions"][0]
    assert first["place"] != "deep"
    space = cranium(one.labels)
    below = below_tentorium(space, space.voxels).numpy()
    oedema = among(one, Tissue.OEDEMA)[space.box]
    assert oedema.any()
    assert not (oedema & below).any()


def test_a_low_grade_glioma_neither_necrotises_nor_enhances_much() -> None:
    for seed in range(3):
        volumes = grown(Kind.LOW_GRADE, seed, 30.0).traits["tumour"]["volumes_cc"]
        assert volumes["necrosis"] == 0
        assert volumes["enhancing"] < 0.1 * 30
        assert volumes["infiltration"] > 0.9 * 30


@pytest.mark.parametrize("seed", range(4))
def test_a_meningioma_is_one_even_mass_at_the_dura_that_replaces_little_brain(seed: int) -> None:
    one = grown(Kind.MENINGIOMA, seed, 15.0)
    mass = among(one, Tissue.ENHANCING)
    edge = binary_dilation(mass) & ~mass
    held = among(one, Tissue.SKULL, Tissue.MARROW, Tissue.DURA)[edge]
    assert held.mean() > 0.03
    brain = (Tissue.GREY, Tissue.WHITE, Tissue.BRAINSTEM, Tissue.OEDEMA)
    assert cc(subject(), *brain) - cc(one, *brain) < 0.8 * 15


def test_a_large_metastasis_is_a_ring_and_a_small_one_is_solid() -> None:
    recipe = only(Kind.METASTASES, counts=(1.0,), volume_cc=8.0)
    large = with_tumour(subject(), recipe, seeded(0)).traits["tumour"]
    small = with_tumour(subject(), only(Kind.METASTASES, counts=(1.0,), volume_cc=0.3), seeded(0)).traits[
        "tumour"
    ]
    assert large["volumes_cc"]["necrosis"] > 0
    assert small["volumes_cc"]["necrosis"] == 0


def test_metastases_lie_apart_and_each_has_its_volume() -> None:
    recipe = only(Kind.METASTASES, counts=(0.0, 0.0, 0.0, 1.0))
    told = with_tumour(subject(), recipe, seeded(5)).traits["tumour"]
    lesions = told["lesions"]
    assert told["count"] == len(lesions) >= 4
    for n, one in enumerate(lesions):
        for other in lesions[:n]:
            assert math.dist(one["center_mm"], other["center_mm"]) > 4
        voxel = SPACING**3 / 1000
        assert one["core_cc"] == pytest.approx(one["asked_cc"], rel=0.02, abs=0.51 * voxel)


def test_a_larger_tumour_shifts_the_midline_further() -> None:
    shifts = [
        abs(grown(Kind.GLIOBLASTOMA, 1, c).traits["tumour"]["midline_shift_mm"]) for c in (6.0, 20.0, 60.0)
    ]
    assert 0 < shifts[0] < shifts[1] < shifts[2] < 15


def test_without_mass_effect_nothing_moves_but_what_the_tumour_takes() -> None:
    still = with_tumour(subject(), only(Kind.GLIOBLASTOMA, mass_effect=0.0), seeded(1))
    changed = tissue(still) != tissue(subject())
    assert np.isin(tissue(still)[changed], TUMOUR).all()
    assert still.traits["tumour"]["midline_shift_mm"] == 0
    assert bool((still.organs.data == subject().organs.data).all())


def test_organs_move_with_the_tissues() -> None:
    one = subject()
    marked = torch.where(one.labels.data == Tissue.BRAINSTEM, int(Organ.MANDIBLE), 0).to(torch.uint8)
    own = Subject(one.labels, Volume(marked, one.labels.grid, Quantity.LABEL), one.traits)
    out = with_tumour(own, only(Kind.GLIOBLASTOMA, volume_cc=60.0), seeded(1))
    stem, organ = out.labels.data == Tissue.BRAINSTEM, out.organs.data == Organ.MANDIBLE
    assert bool((stem != (one.labels.data == Tissue.BRAINSTEM)).any())
    assert bool((organ | ~stem).all())


def test_one_seed_gives_one_tumour_whatever_the_number_of_threads() -> None:
    n = torch.get_num_threads()
    recipe = TumourRecipe(post_operative=1.0, shunt=1.0)
    try:
        out = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out.append(digest(with_tumour(subject(), recipe, seeded(8))))
    finally:
        torch.set_num_threads(n)
    assert out[0] == out[1]
    assert out[0] != digest(with_tumour(subject(), recipe, seeded(9)))


def test_a_head_may_have_no_tumour() -> None:
    one = with_tumour(subject(), only(Kind.NONE), seeded(0))
    assert one.labels is subject().labels
    assert one.traits["tumour"]["kind"] == "none"
    assert one.traits["surgery"] == {}
    assert "anatomy" in one.traits


@pytest.mark.parametrize("kind", KINDS)
def test_an_operated_head_has_a_cavity_and_still_tells_it_as_json(kind: Kind) -> None:
    recipe = only(kind, post_operative=1.0, volume_cc=20.0, shunt=1.0)
    one = with_tumour(subject(), recipe, seeded(3))
    assert one.traits["tumour"]["volumes_cc"]["cavity"] > 1
    first = one.traits["tumour"]["lesions"][0]
    assert first["asked_cc"] <= first["drawn_cc"]
    assert among(one, Tissue.METAL).any()
    assert among(one, Tissue.SHUNT).any()
    assert one.traits["surgery"]["shunt"] in {"left", "right"}
    assert not one.organs.data[0].numpy()[among(one, Tissue.CAVITY, Tissue.METAL, Tissue.SHUNT)].any()
    json.dumps(dict(one.traits))


@pytest.mark.parametrize("kind", [Kind.GLIOBLASTOMA, Kind.MENINGIOMA])
def test_drawn_places_follow_the_published_table(kind: Kind) -> None:
    places = table.GLIOMA_PLACES if kind is Kind.GLIOBLASTOMA else table.MENINGIOMA_PLACES
    drawn_ = many(kind)
    counts = Counter(illness.lesions[0].place.name for illness in drawn_)
    for place in places:
        sd = math.sqrt(place.share * (1 - place.share) / len(drawn_))
        assert counts[place.name] / len(drawn_) == pytest.approx(place.share, abs=4 * sd)


@pytest.mark.parametrize("kind", [Kind.GLIOBLASTOMA, Kind.LOW_GRADE, Kind.MENINGIOMA])
def test_drawn_volumes_have_the_published_median(kind: Kind) -> None:
    sizes = table.VOLUMES[kind]
    logs = np.log([illness.lesions[0].volume_cc for illness in many(kind)])
    # The median's standard error is 1.25 sigma / sqrt(n); the cut tails shift it a little.
    error = 1.25 * sizes.spread / math.sqrt(len(logs))
    low, high = (math.log(v / sizes.median) / sizes.spread for v in (sizes.low, sizes.high))
    phi = [0.5 * (1 + math.erf(v / math.sqrt(2))) for v in (low, high)]
    at = sizes.spread * math.sqrt(2 * math.pi) * ((phi[0] + phi[1]) / 2 - 0.5)
    assert np.median(logs) == pytest.approx(math.log(sizes.median) + at, abs=4 * error)
    assert logs.std() == pytest.approx(sizes.spread, rel=0.2)


def test_drawn_counts_of_metastases_follow_delattre() -> None:
    counts = np.array([len(illness.lesions) for illness in many(Kind.METASTASES)])
    for n, share in enumerate(table.METASTASIS_COUNTS, start=1):
        got = (counts == n).mean() if n < len(table.METASTASIS_COUNTS) else (counts >= n).mean()
        assert got == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / len(counts)))


def test_drawn_kinds_and_operations_have_their_shares() -> None:
    recipe = TumourRecipe(shares={"glioblastoma": 0.7, "meningioma": 0.3}, post_operative=0.4)
    generator = seeded(2)
    all_ = [drawn(recipe, generator) for _ in range(1500)]
    assert np.mean([i.kind is Kind.MENINGIOMA for i in all_]) == pytest.approx(0.3, abs=0.05)
    assert np.mean([i.operation is not None for i in all_]) == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("places", [table.GLIOMA_PLACES, table.MENINGIOMA_PLACES, table.METASTASIS_PLACES])
def test_shares_of_a_table_of_places_sum_to_one(places: tuple[table.Place, ...]) -> None:
    assert sum(place.share for place in places) == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"shares": {"glioma": 1.0}}, "kinds of tumour among"),
        ({"shares": {"glioblastoma": 0.7}}, "sum to 1, got 0.7"),
        ({"shares": {"glioblastoma": 1.5, "none": -0.5}}, "sum to 1"),
        ({"counts": ()}, "shares of counts"),
        ({"volume_cc": -3.0}, "more than 0 cc"),
        ({"volume_cc": 4000.0}, "less than a brain"),
        ({"post_operative": 1.2}, "share from 0 to 1"),
        ({"mass_effect": -0.1}, "from 0 to 1.5"),
        ({"volumes": {"glioblastoma": Sizes(30.0, 1.0, 1.0, 5000.0)}}, "smaller than a brain"),
    ],
)
def test_a_bad_recipe_is_refused_in_one_sentence(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TumourRecipe(**values)  # type: ignore[arg-type]


def test_sizes_that_are_negative_or_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="positive sizes"):
        Sizes(30.0, 1.0, -1.0, 50.0)
    with pytest.raises(ValueError, match="low <= median <= high"):
        Sizes(30.0, 1.0, 40.0, 50.0)


def test_a_tumour_larger_than_this_brain_is_refused_before_it_grows() -> None:
    with pytest.raises(ValueError, match="smaller than the brain"):
        with_tumour(subject(), only(Kind.GLIOBLASTOMA, volume_cc=1490.0), seeded(0))


@pytest.mark.parametrize("kind", [Kind.GLIOBLASTOMA, Kind.METASTASES])
def test_a_tumour_without_room_is_refused(kind: Kind) -> None:
    with pytest.raises(ValueError, match="room for"):
        with_tumour(subject(), only(kind, volume_cc=900.0, counts=(*(0.0,) * 8, 1.0)), seeded(0))
