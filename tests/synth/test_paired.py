"""Training pairs: the CT is of the head that the MRI shows."""

from dataclasses import replace

import pytest
import torch

from imaging.tissue import Tissue
from synth.anatomy import anatomy
from synth.composition import mean_hu
from synth.ct import CtRecipe
from synth.on_the_fly import Library, generator_of, sample
from synth.paired import Pairs, quick_ct
from synth.randomisation import ANY, Randomisation

HOW = Randomisation((32, 32, 32), 6.0, randomised=0.0, contrasts=(ANY,) * 4, missing=0.6)
SAME = CtRecipe(cortical=(1.0, 1.0), trabecular=(1.0, 1.0), texture=0.0, variation=0.0)


@pytest.fixture(scope="module")
def heads() -> Library:
    return Library(anatomy(4.0).data, 4.0)


def test_a_pair_depends_on_seed_and_index_alone(heads: Library) -> None:
    one, other = Pairs(heads, HOW, 3)[5], Pairs(heads, HOW, 3)[5]
    assert all(torch.equal(one[name], other[name]) for name in ("image", "ct", "body"))
    assert not torch.equal(one["ct"], Pairs(heads, HOW, 3)[6]["ct"])
    with pytest.raises(IndexError):
        Pairs(heads, HOW, 3, length=2)[2]


def test_contrasts_that_are_missing_stand_last(heads: Library) -> None:
    counts = set()
    for n in range(12):
        there = (Pairs(heads, HOW, 0)[n]["image"].flatten(1).amax(dim=1) > 0).tolist()
        assert there == sorted(there, reverse=True)
        counts.add(sum(there))
    assert {1, 2} <= counts


def test_a_block_has_the_ct_number_of_its_tissue_and_its_border_half_of_both() -> None:
    labels = torch.zeros(24, 24, 24, dtype=torch.uint8)
    labels[12:] = int(Tissue.WHITE)
    labels[18:] = int(Tissue.SKULL)
    bone = []
    for seed in range(40):
        ct = quick_ct(labels, 1.2, SAME, torch.Generator().manual_seed(seed))
        assert float(ct[4].mean()) == pytest.approx(-1000, abs=0.1)
        assert float(ct[15].mean()) == pytest.approx(float(mean_hu()[Tissue.WHITE]), abs=1.0)
        # Either side of a border: how far from the middle both lie is one number.
        assert float(ct[11].mean() + ct[12].mean()) == pytest.approx(-1000 + float(ct[15].mean()), abs=2.0)
        bone.append(float(ct[22].mean()))
    expected = float(mean_hu()[Tissue.SKULL])
    assert sum(bone) / 40 == pytest.approx(expected, rel=0.05)
    assert 0.05 < torch.tensor(bone).std() / expected < 0.15  # as dense as a subject's bone is: a tenth


def test_the_body_is_what_is_not_outside_and_its_cavities_are_air(heads: Library) -> None:
    how = replace(HOW, cut=0.0)
    pair = Pairs(heads, how, 1)[0]
    _, labels = sample(heads, how, generator_of(1, 0))
    assert torch.equal(pair["body"][0] > 0, labels != Tissue.OUTSIDE)
    assert float(pair["ct"][0][labels == Tissue.WHITE].median()) == pytest.approx(32, abs=25)
    assert pair["ct"].min() >= -1024
