"""Mean share of a bixel that is open while leaf ends move evenly from one place to another, without steps.

Leaves are linear in time between control points, and so the share of a bixel left of a leaf end is a
straight line that is held between 0 and 1. Its mean is exact and differentiable however far the end goes;
sampled in steps it is exact only where these are much shorter than a bixel.
"""

from itertools import pairwise

import torch
from torch import Tensor

# Ways shorter than this share of a bixel, or of a span, are none.
_NO_WAY = 1e-6


def open_between(
    edges: Tensor, width: float, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]
) -> Tensor:
    """Mean open share of bixels behind one layer of leaves, shape ``(spans, n, bixels)``.

    Parameters
    ----------
    edges
        Left ends of the bixels (mm), shape ``(bixels,)``.
    width
        Of a bixel (mm).
    left, right
        Where the opening of each pair begins and ends (mm), at the start and at the end of each span, shape
        ``(spans, n)``; never crossed.
    """
    return _left_of(edges, width, *right) - _left_of(edges, width, *left)


def open_together(
    edges: Tensor, width: float, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]
) -> Tensor:
    """Mean open share of bixels behind two layers, shape ``(spans, rows, bixels)``.

    Between the moments at which one layer's end overtakes the other's, and at which the opening that they
    leave together appears or vanishes, all ends are straight lines: each of these parts is exact.

    Parameters are those of :func:`open_between`, with leaf ends of both pairs over each row, shape
    ``(spans, 2, rows)``.
    """
    moments = [_overtaking(*ends) for ends in (left, right)]
    never = torch.zeros_like(moments[0])
    times = torch.stack([never, *moments, never + 1]).sort(dim=0).values
    total = edges.new_zeros(())
    for start, stop in pairwise(times):
        begins = [_at(left, time).amax(dim=1) for time in (start, stop)]
        ends = [_at(right, time).amin(dim=1) for time in (start, stop)]
        first, last = _positive(ends[0] - begins[0], ends[1] - begins[1])
        one, other = (
            (torch.lerp(*pair, first), torch.lerp(*pair, last))
            for pair in ((begins[0], begins[1]), (ends[0], ends[1]))
        )
        share = (stop - start) * (last - first)
        total = total + share[..., None] * open_between(edges, width, one, other)
    return total


def _left_of(edges: Tensor, width: float, start: Tensor, stop: Tensor) -> Tensor:
    """Mean share of each bixel left of an end that moves, shape ``(spans, n, bixels)``."""
    low, high = (
        (end[..., None] - edges) / width for end in (torch.minimum(start, stop), torch.maximum(start, stop))
    )
    way = (high - low).clamp(min=_NO_WAY)
    # When the end comes into the bixel, when it goes out of it, and where it is on average between the two.
    comes, goes = (-low / way).clamp(0, 1), ((1 - low) / way).clamp(0, 1)
    within = (torch.lerp(low, high, comes).clamp(0, 1) + torch.lerp(low, high, goes).clamp(0, 1)) / 2
    return (goes - comes) * within + (1 - goes)


def _at(ends: tuple[Tensor, Tensor], time: Tensor) -> Tensor:
    """Where ends are at some time of their span, 0..1."""
    return torch.lerp(ends[0], ends[1], time[:, None])


def _overtaking(start: Tensor, stop: Tensor) -> Tensor:
    """When the ends of two layers are at one place, 0..1; 0 where they never are."""
    before, after = start[:, 0] - start[:, 1], stop[:, 0] - stop[:, 1]
    crosses = before * after < 0
    return torch.where(crosses, before / torch.where(crosses, before - after, 1.0), 0.0)


def _positive(start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """From when to when, 0..1, a straight line is above 0."""
    change = stop - start
    crosses = start * stop < 0
    zero = torch.where(crosses, -start / torch.where(crosses, change, 1.0), 0.0)
    begins = torch.where(crosses & (change > 0), zero, 0.0)
    ends = torch.where(crosses & (change < 0), zero, 1.0)
    never = (start <= 0) & (stop <= 0)
    return torch.where(never, 0.0, begins), torch.where(never, 0.0, ends)
