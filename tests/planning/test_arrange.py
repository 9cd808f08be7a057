import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.structures import RoiType, Structure, StructureSet
from planning.arrange import arrange, arrange_arcs

GRID = Grid((20, 20, 20), np.array([[2.0, 0, 0, -10], [0, 2, 0, 5], [0, 0, 2, 100], [0, 0, 0, 1]]))


def drawn(kinds, filled=True):
    mask = torch.zeros(GRID.shape, dtype=torch.bool)
    mask[4:7, 10:13, 1:4] = filled
    return StructureSet(GRID, {f"{k}{n}": Structure(mask, k, (0, 0, 0)) for n, k in enumerate(kinds)})


def test_beams_are_evenly_spaced_around_the_middle_of_the_target():
    beams = arrange(drawn([RoiType.PTV]), 9)
    assert [beam.gantry for beam in beams] == pytest.approx([40.0 * n for n in range(9)])
    assert len({beam.name for beam in beams}) == 9
    for beam in beams:
        assert beam.isocenter.tolist() == [0.0, 27.0, 104.0]
        assert (beam.couch, beam.collimator) == (0.0, 0.0)


@pytest.mark.parametrize("n_beams", [3, 5, 7, 9])
def test_no_two_of_an_odd_number_of_beams_oppose_each_other(n_beams):
    angles = np.array([beam.gantry for beam in arrange(drawn([RoiType.PTV]), n_beams)])
    apart = (angles[:, None] - angles[None, :]) % 360
    assert np.abs(apart - 180).min() > 1


@pytest.mark.parametrize("kinds", [[], [RoiType.CTV], [RoiType.PTV, RoiType.PTV]])
def test_exactly_one_planning_target_is_expected(kinds):
    with pytest.raises(ValueError, match="one planning target"):
        arrange(drawn(kinds))


def test_an_empty_target_and_no_beam_are_refused():
    with pytest.raises(ValueError, match="empty structure"):
        arrange(drawn([RoiType.PTV], filled=False))
    with pytest.raises(ValueError, match="1 to 36"):
        arrange(drawn([RoiType.PTV]), 0)


def test_full_arcs_turn_to_and_fro_with_turned_collimators():
    first, second = arrange_arcs(drawn([RoiType.PTV]), 2)
    assert (first.start, first.stop, first.clockwise) == (181, 179, True)
    assert (second.start, second.stop, second.clockwise) == (179, 181, False)
    assert first.collimator != second.collimator
    np.testing.assert_array_equal(first.isocenter, second.isocenter)
    (one,) = arrange_arcs(drawn([RoiType.PTV]))
    # 358 degrees in steps of 2.
    assert len(one.angles) == 180


def test_written_arcs_are_taken_as_they_are():
    (arc,) = arrange_arcs(drawn([RoiType.PTV]), written=["30:150:cw:270:45"])
    assert (arc.start, arc.stop, arc.couch, arc.collimator) == (30, 150, 270, 45)
    np.testing.assert_allclose(arc.angles, np.linspace(30, 150, 61))


@pytest.mark.parametrize("text", ["30:150", "30:150:left", "30:150:cw:5", "30:150:cw:400:0", "a:b:cw"])
def test_an_arc_that_cannot_be_is_refused(text):
    with pytest.raises(ValueError, match="expected a"):
        arrange_arcs(drawn([RoiType.PTV]), written=[text])


def test_five_arcs_are_refused():
    with pytest.raises(ValueError, match="expected 1 to 4 arcs, got 5"):
        arrange_arcs(drawn([RoiType.PTV]), 5)
