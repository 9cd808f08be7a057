"""Segments on every machine that is described: what its leaves let through, and whether it can stand so."""

from dataclasses import replace

import numpy as np
import pytest

from planning.beams import Beam
from planning.deliverable import expect_deliverable
from planning.dose.aperture import transmitted
from planning.dose.bixels import Bixels
from planning.machine import load_machine
from planning.optimise.engel import engel
from planning.optimise.openings import Opening
from planning.optimise.raster import area, leaves_of, raster_of
from planning.optimise.sequence import quantise, sequence, settle, to_beam
from planning.optimise.xia_verhey import xia_verhey
from planning.plan import Plan, Prescription
from planning.rows import left_open, rows_of

NAMES = ["generic-6mv", "millennium-6mv", "agility-6mv", "stacked-6mv"]
BOTH = pytest.mark.parametrize("decompose", [engel, xia_verhey])


def machine_like(name, interdigitation, layer=0):
    """A machine whose leaves let nothing through, the layers in another order where asked for."""
    machine = load_machine(name)
    mlc = replace(machine.mlc, transmission=0.0, dosimetric_gap=0.0, interdigitation=interdigitation)
    if layer:
        mlc = replace(mlc, boundaries=mlc.lower, lower=mlc.boundaries)
    return replace(machine, mlc=mlc)


def behind(edges, n_rows=6):
    """Bixels behind leaf pairs around the axis."""
    first = int(np.searchsorted(edges, 0.0)) - n_rows // 2
    y = (edges[first : first + n_rows] + edges[first + 1 : first + n_rows + 1]) / 2
    return Bixels(
        np.array([(x, one) for one in y for x in np.arange(-17.5, 20.0, 5.0)]),
        (5.0, float(edges[first + 1] - edges[first])),
    )


def ragged(n):
    rng = np.random.default_rng(5)
    return np.where(rng.random(n) < 0.3, 0.0, rng.random(n))


@BOTH
@pytest.mark.parametrize("interdigitation", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_control_points_deliver_the_quantised_fluence(name, interdigitation, decompose):
    machine = machine_like(name, interdigitation)
    bixels = behind(machine.mlc.boundaries)
    fluence = ragged(len(bixels.positions))
    levels, step = quantise(fluence, 5)
    segments = sequence(fluence, bixels, machine.mlc, 5, decompose=decompose)
    beam = to_beam(Beam(0.0, 0.0, 0.0, np.zeros(3), "1"), segments, machine)
    expect_deliverable(Plan((beam,), Prescription(2.0, 1), machine.name), machine)
    through = np.zeros(len(fluence))
    for segment, point in zip(segments, beam.control_points[::2], strict=True):
        through += segment.weight * transmitted(point.leaves, point.jaws_x, point.jaws_y, bixels, machine)
    assert np.allclose(through, levels * step)


@pytest.mark.parametrize("interdigitation", [True, False])
def test_rows_may_be_the_pairs_of_the_lower_layer(interdigitation):
    machine = machine_like("stacked-6mv", interdigitation, layer=1)
    bixels = behind(machine.mlc.lower)
    fluence = ragged(len(bixels.positions))
    assert raster_of(bixels, machine.mlc).layer == 1
    levels, step = quantise(fluence, 4)
    segments = sequence(fluence, bixels, machine.mlc, 4)
    shapes, jaws_x, jaws_y = settle(segments, machine)
    through = sum(
        s.weight * transmitted(leaves, jaws_x, jaws_y, bixels, machine)
        for s, leaves in zip(segments, shapes, strict=True)
    )
    assert np.allclose(through, levels * step)


def test_pairs_of_the_other_layer_open_no_further_than_what_they_cover():
    mlc = load_machine("stacked-6mv").mlc
    bixels = behind(mlc.boundaries, 4)
    raster = raster_of(bixels, mlc)
    # Two pairs open side by side, two closed.
    leaves = leaves_of(Opening(1, np.array([1, 3, 0, 0]), np.array([4, 8, 0, 0])), raster, mlc)
    n_upper = len(mlc.boundaries) - 1
    upper, lower = leaves[:, :n_upper], leaves[:, n_upper:]
    row = raster.pair
    assert upper[:, row].tolist() == [-15.0, 0.0]
    assert upper[:, row + 1].tolist() == [-5.0, 20.0]
    is_open = np.flatnonzero(lower[1] > lower[0])
    # Pairs of the lower layer lie half a leaf off: the first touches the first row alone, the next both.
    assert len(is_open) == 3
    assert lower[:, is_open[0]].tolist() == [-15.0, 0.0]
    assert lower[:, is_open[1]].tolist() == [-15.0, 20.0]
    assert lower[:, is_open[2]].tolist() == [-5.0, 20.0]
    assert area(leaves, mlc) == 10 * 15 + 10 * 25
    rows = rows_of(mlc)
    gaps = np.diff(left_open(leaves, rows), axis=0)[0]
    assert gaps[gaps > 0].tolist() == [15, 15, 25, 25]


def test_rows_that_are_not_leaf_pairs_are_refused():
    mlc = load_machine("generic-6mv").mlc
    x = np.arange(-7.5, 10.0, 5.0)
    between = Bixels(np.array([(a, b) for b in (0.0, 5.0) for a in x]))
    half = Bixels(np.array([(a, b) for b in (1.25, 3.75) for a in x]), (5.0, 2.5))
    for bixels in (between, half):
        with pytest.raises(ValueError, match="behind a leaf pair and as high"):
            raster_of(bixels, mlc)
    fine = Bixels(np.array([(a, b) for b in (2.5, 7.5) for a in x]))
    with pytest.raises(ValueError, match="behind a leaf pair and as high"):
        raster_of(fine, load_machine("stacked-6mv").mlc)
    with pytest.raises(ValueError, match="every bixel once"):
        raster_of(Bixels(np.array([(2.5, 2.5), (2.5, 2.5)])), mlc)


@BOTH
def test_segments_are_no_smaller_than_asked_for(decompose):
    machine = machine_like("stacked-6mv", interdigitation=True)
    bixels = behind(machine.mlc.boundaries)
    fluence = ragged(len(bixels.positions))
    every = sequence(fluence, bixels, machine.mlc, 8, decompose=decompose)
    large = sequence(fluence, bixels, machine.mlc, 8, 300.0, decompose)
    assert 0 < len(large) < len(every)
    assert min(area(s.leaves, machine.mlc) for s in large) >= 300.0
    # All that bixels of 5 mm x 10 mm get through it is its area.
    for s in large:
        (leaves,), jaws_x, jaws_y = settle([s], machine)
        lit = transmitted(leaves, jaws_x, jaws_y, bixels, machine).sum()
        assert area(s.leaves, machine.mlc) == pytest.approx(50 * lit)
