"""Barriers of a CTV against ways around a wall that are known in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor

from imaging.grid import Grid
from imaging.partition import Partition
from imaging.shapes import Mask
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from imaging.warp import lattice
from planning.contour.barriers import Barriers, kept_within, parse_barriers, walls
from planning.contour.margins import expand
from planning.contour.targets import sphere

MARGIN, EDGE = 15.0, 4.0  # mm; the wall at x = 0 ends at z = EDGE


def grid(slice_mm: float) -> Grid:
    n = int(60 / slice_mm) + 1
    affine = np.diag([1.0, 1.0, slice_mm, 1.0])
    affine[:3, 3] = [-30, -30, -slice_mm * (n // 2)]
    return Grid((61, 61, n), affine)


def places(on: Grid) -> tuple[Tensor, Tensor, Tensor]:
    x, y, z = lattice(on).reshape(*on.shape, 3).unbind(dim=-1)
    return x, y, z


def wall(on: Grid) -> Mask:
    x, _, z = places(on)
    return (x == 0) & (z <= EDGE)


def around_the_edge(on: Grid, from_x: float) -> Tensor:
    """Shortest way (mm) past the edge from a ball of 3 mm at (from_x, 0, 0), the wall unfolded."""
    x, y, z = places(on)
    edge = EDGE + float(on.spacing[2]) / 2  # the outer face of the wall's last voxel
    first, second = np.hypot(from_x, edge), torch.hypot(x, z - edge)
    return torch.hypot(first + second, y) - 3.0


@pytest.mark.parametrize("slice_mm", [1.0, 2.0])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_behind_a_wall_lies_what_the_way_around_its_edge_reaches(slice_mm: float, side: float) -> None:
    on = grid(slice_mm)
    room = torch.ones(on.shape, dtype=torch.bool)
    gtv = sphere(on, np.array([6.0 * side, 0.0, 0.0]), 3.0)
    x, _, z = places(on)
    cut = kept_within(gtv, room, on, MARGIN, {"falx": wall(on)}, Barriers(falx=0.0))
    behind = (x * side < 0) & (z <= EDGE)
    way = around_the_edge(on, 6.0)
    assert not cut[behind & (way > MARGIN + 1.0)].any()
    assert cut[behind & (way < MARGIN - 1.0)].all()
    assert bool(cut[behind].any())  # some of it is reached around the edge
    before = x * side > 0
    assert torch.equal(cut[before], expand(gtv, on, MARGIN)[before])


def test_beyond_a_wall_the_ctv_goes_as_far_as_it_is_allowed_to() -> None:
    on = grid(1.0)
    room, gtv = torch.ones(on.shape, dtype=torch.bool), sphere(on, np.array([6.0, 0.0, -14.0]), 3.0)
    x, y, _ = places(on)
    line = (y == 0) & (places(on)[2] == -14)
    for beyond in (0.0, 3.0, 5.0):
        cut = kept_within(gtv, room, on, MARGIN, {"tentorium": wall(on)}, Barriers(tentorium=beyond))
        # The nearest voxel that it reaches lies at x = 1, its surface half a voxel nearer.
        assert float(x[cut & line].min()) == pytest.approx(0.5 - beyond, abs=0.5)


def test_a_barrier_that_is_off_or_not_known_cuts_nothing() -> None:
    on = grid(1.0)
    brain, gtv = sphere(on, np.zeros(3), 16.0), sphere(on, np.array([6.0, 0.0, 0.0]), 3.0)
    plain = expand(gtv, on, MARGIN)
    known = {"falx": wall(on)}
    assert torch.equal(kept_within(gtv, brain, on, MARGIN, known, Barriers(falx=None)), plain & brain)
    assert torch.equal(kept_within(gtv, brain, on, MARGIN, {}, Barriers()), plain & brain)
    everywhere = kept_within(gtv, brain, on, MARGIN, known, parse_barriers("none"))
    assert torch.equal(everywhere, plain)
    into_bone = kept_within(gtv, brain, on, MARGIN, {}, Barriers(bone=2.0))
    assert torch.equal(into_bone, plain & expand(brain, on, 2.0))


def test_the_gtv_is_never_cut() -> None:
    on = grid(1.0)
    gtv = sphere(on, np.array([1.0, 0.0, 0.0]), 6.0)  # reaches through the wall and out of the brain
    brain = sphere(on, np.array([-10.0, 0.0, 0.0]), 14.0)
    cut = kept_within(gtv, brain, on, MARGIN, {"falx": wall(on)}, Barriers(falx=0.0))
    assert not (gtv & ~cut).any()


def test_sheets_have_no_gap_and_ventricles_are_fluid_that_hangs_together() -> None:
    on = grid(2.0)
    x, y, z = places(on)
    slanted = x + 0.4 * y - 0.7 * z > 0.3
    flags = int(Partition.LEFT) * slanted.int() + int(Partition.BY_FALX)
    flags += int(Partition.VENTRICLE) * (torch.sqrt(x**2 + y**2 + z**2) < 5).int()
    fluid = (torch.sqrt((x - 2) ** 2 + y**2 + z**2) < 6) | (z > 20)
    tissues = Volume(
        torch.where(fluid, int(Tissue.CSF), int(Tissue.WHITE)).to(torch.uint8)[None], on, Quantity.LABEL
    )
    found = walls(Volume(flags.to(torch.uint8)[None], on, Quantity.LABEL), tissues)
    one, other = slanted & ~found["falx"], ~slanted
    for axis in range(3):  # no two neighbours across the sheet are both free
        n = on.shape[axis]
        first, second = (part.narrow(axis, 0, n - 1) for part in (one, other))
        third, fourth = (part.narrow(axis, 1, n - 1) for part in (one, other))
        assert not (first & fourth).any()
        assert not (second & third).any()
    assert torch.equal(found["ventricles"], fluid & (z < 15))
    assert not found["tentorium"].any()


def test_barriers_are_read_as_they_are_written() -> None:
    assert parse_barriers("bone,falx,tentorium,ventricles") == Barriers()
    assert parse_barriers("bone, falx=0") == Barriers(0.0, 0.0, None, None)
    assert str(parse_barriers("bone=1,ventricles=2.5")) == "bone 1 mm, ventricles 2.5 mm"
    assert str(parse_barriers("none")) == "none"
    with pytest.raises(ValueError, match="expected barriers of bone, falx, tentorium, ventricles"):
        parse_barriers("bone,chiasm")
    with pytest.raises(ValueError, match="expected 0 to 20 mm beyond a barrier"):
        parse_barriers("falx=-1")
    labels = Volume(torch.zeros(1, 61, 61, 61, dtype=torch.uint8), grid(1.0), Quantity.LABEL)
    with pytest.raises(ValueError, match="on one grid, got two"):
        walls(labels, Volume(torch.zeros(1, 61, 61, 31, dtype=torch.uint8), grid(2.0), Quantity.LABEL))
