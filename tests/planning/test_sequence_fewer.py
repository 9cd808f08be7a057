"""Reduced sequences: what they lose is what they say, and what they may not hold they do not."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.optimize import nnls

from planning.dose.bixels import Bixels
from planning.machine import load_machine
from planning.optimise.engel import engel
from planning.optimise.fewer import Bound, fewest, reduced
from planning.optimise.openings import clash
from planning.optimise.raster import area
from planning.optimise.segments import Field
from planning.optimise.sequence import sequence
from planning.optimise.xia_verhey import xia_verhey

MLC = load_machine("generic-6mv").mlc
SIDE = np.arange(-27.5, 30.0, 5.0)
PLACE = Bixels(np.array([(x, y) for y in SIDE for x in SIDE]))
BOTH = pytest.mark.parametrize("decompose", [engel, xia_verhey])


def smooth(seed):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(12, 12)), 1.5)
    return np.clip(0.5 + 2 * noise, 0, None).ravel()


WISHED = [smooth(n) for n in range(3)]


def delivered(field):
    x, y = field.bixels.positions.T
    pair = np.searchsorted(MLC.boundaries, y) - 1
    return sum(
        (s.weight * ((s.leaves[0][pair] < x) & (x < s.leaves[1][pair])) for s in field.segments),
        start=np.zeros(len(x)),
    )


def loss_of(found):
    missed = sum(((delivered(f) - w) ** 2).sum() for f, w in zip(found.fields, WISHED, strict=True))
    return float(np.sqrt(missed / sum((w**2).sum() for w in WISHED)))


@BOTH
@pytest.mark.parametrize(
    "bound", [Bound(0.1), Bound(n_segments=12), Bound(0.2, min_weight=0.1), Bound(0.3, min_area=400.0)]
)
@pytest.mark.parametrize("interdigitation", [True, False])
def test_a_reduced_sequence_keeps_its_bound_and_says_what_it_loses(decompose, bound, interdigitation):
    mlc = replace(MLC, interdigitation=interdigitation)
    found = fewest(WISHED, [PLACE] * 3, mlc, bound, decompose=decompose)
    assert found.loss == pytest.approx(loss_of(found), abs=1e-9)
    segments = [s for f in found.fields for s in f.segments]
    assert len(segments) == found.n_segments
    assert bound.n_segments is not None or found.loss <= bound.max_loss
    assert bound.n_segments is None or found.n_segments <= bound.n_segments
    assert min(s.weight for s in segments) >= bound.min_weight
    assert min(area(s.leaves, mlc) for s in segments) >= bound.min_area
    assert interdigitation or not any(clash(*s.leaves) for s in segments)


@BOTH
def test_a_looser_bound_needs_fewer_segments(decompose):
    counts = [
        fewest(WISHED, [PLACE] * 3, MLC, Bound(loss), decompose=decompose).n_segments
        for loss in (0.05, 0.1, 0.2, 0.4)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[3]


def test_more_segments_lose_less():
    losses = [fewest(WISHED, [PLACE] * 3, MLC, Bound(n_segments=n)).loss for n in (6, 12, 24, 48)]
    assert all(more < less for less, more in pairwise(losses))


def test_a_fluence_of_whole_levels_is_reduced_to_itself():
    # With room for every segment nothing is lost, and the exact weights are found again.
    wished = np.rint(4 * WISHED[0] / WISHED[0].max()) / 4
    cut = sequence(wished, PLACE, MLC, 4)
    found = reduced([Field(PLACE, tuple(cut))], [wished], MLC, Bound())
    assert found.loss == pytest.approx(0, abs=1e-7)
    assert found.n_segments <= len(cut)


def test_left_weights_are_the_best_for_the_segments_that_are_left():
    cut = sequence(WISHED[0], PLACE, MLC, 8)
    found = reduced([Field(PLACE, tuple(cut))], [WISHED[0]], MLC, Bound(n_segments=5))
    field = found.fields[0]
    one = [replace(field, segments=(replace(s, weight=1.0),)) for s in field.segments]
    weights, missed = nnls(np.stack([delivered(f) for f in one], axis=1), WISHED[0])
    assert np.allclose(weights, [s.weight for s in field.segments])
    assert found.loss == pytest.approx(missed / np.linalg.norm(WISHED[0]))


def test_of_two_segments_the_one_that_counts_less_goes():
    # Fluence 3 on the left half and 1 on the right: without the right half a tenth of the squares is lost.
    wished = np.where(PLACE.positions[:, 0] < 0, 3.0, 1.0)
    cut = sequence(wished, PLACE, MLC, 3)
    disjoint = [s for s in cut if s.leaves[1].max() <= 0] + [
        replace(cut[0], leaves=np.where(cut[0].leaves[1] > cut[0].leaves[0], [[0.0], [30.0]], 0.0))
    ]
    found = reduced([Field(PLACE, tuple(disjoint))], [wished], MLC, Bound(n_segments=1))
    assert found.fields[0].segments[0].leaves[1].max() <= 0
    assert found.fields[0].segments[0].weight == pytest.approx(3.0)
    assert found.loss == pytest.approx(np.sqrt(0.1))


def test_every_beam_with_fluence_keeps_a_segment():
    weights = [WISHED[0], 0.01 * WISHED[1], np.zeros(len(SIDE) ** 2)]
    found = fewest(weights, [PLACE] * 3, MLC, Bound(n_segments=2))
    assert [len(f.segments) for f in found.fields] == [1, 1, 0]
    with pytest.raises(ValueError, match="at least one segment for each of 2 beams with fluence, got 1"):
        fewest(weights, [PLACE] * 3, MLC, Bound(n_segments=1))


def test_no_fluence_needs_no_segment():
    found = fewest([np.zeros(len(SIDE) ** 2)], [PLACE], MLC, Bound())
    assert found.n_segments == 0
    assert found.loss == 0
