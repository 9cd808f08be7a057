"""Fewer points to optimise on, each with the exact number of voxels that it stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64, Integer
from torch import Tensor

from .objectives import Objective
from .voxelwise import FallOff, Mimic

# Without a generator the points are drawn with this one: the same every time.
_SEED = 0


@dataclass(frozen=True, eq=False)
class Drawn:
    """Points that stand for all voxels, structure after structure.

    Parameters
    ----------
    rows
        Which voxels were drawn, shape ``(n,)``.
    regions
        For each structure, which of the drawn points are its own: a range.
    weights
        How many voxels each drawn point stands for, shape ``(n,)``.
    kept
        For each structure, which of its voxels were drawn, counted within it.
    """

    rows: Int64[Tensor, " n"]
    regions: Mapping[str, Int64[Tensor, " _"]]
    weights: Float32[Tensor, " n"]
    kept: Mapping[str, Int64[Tensor, " _"]]


def draw(
    voxels: Mapping[str, Integer[Tensor, " _"]],
    shares: Mapping[str, float],
    generator: torch.Generator | None = None,
) -> Drawn:
    """Some voxels of each structure, evenly spread over it.

    Each structure is divided in its order into groups of as even a size as can be, and one voxel of
    each group, any with the same chance, stands for all of it. So the weights of a structure sum to its
    number of voxels exactly, and a mean over the drawn points is on average the mean over all
    (stratified sampling: Cochran, Sampling Techniques, 3rd ed. 1977, chapter 5). Nothing is left out for
    being small.

    Parameters
    ----------
    voxels
        For each structure, its voxels; overlaps resolved beforehand with ``resolve_overlaps``.
    shares
        Which part of each structure's voxels to draw, above 0 and at most 1; all of a structure that is
        not named.
    generator
        Which voxel of each group; the same ones every time where it is None.

    Raises
    ------
    ValueError
        If a share is out of range, or names a structure that there is not.
    """
    for name, share in shares.items():
        if not 0 < share <= 1 or name not in voxels:
            raise ValueError(
                f"expected shares above 0 and at most 1 of {', '.join(voxels)}, got {share:g} of {name}"
            )
    chance = generator or torch.Generator().manual_seed(_SEED)
    kept, sizes = {}, []
    for name, inside in voxels.items():
        kept[name], size = _one_of_each_group(len(inside), shares.get(name, 1.0), chance)
        sizes.append(size)
    rows = [voxels[name][own].long() for name, own in kept.items()]
    ends = torch.tensor([0, *map(len, rows)]).cumsum(0).tolist()
    regions = {
        name: torch.arange(first, last) for name, first, last in zip(kept, ends[:-1], ends[1:], strict=True)
    }
    return Drawn(torch.cat(rows), regions, torch.cat(sizes).float(), kept)


def shares_for(
    objectives: Sequence[Objective], voxels: Mapping[str, Integer[Tensor, " _"]], n_points: int
) -> dict[str, float]:
    """Shares that draw about ``n_points`` where they matter most, for :func:`draw`.

    The variance of a sampled sum of terms, p² σ² / n each, is least for a given number of points where
    n is proportional to p σ (Neyman, J. R. Stat. Soc. 97, 558 (1934)). The spread σ of what a term
    averages is not known beforehand and taken to be even, so a structure gets points by the sum of its
    priorities; what it has no voxels for goes to the others.

    Parameters
    ----------
    objectives
        The terms.
    voxels
        For each structure, its voxels.
    n_points
        Points in all; at least one of each structure.

    Raises
    ------
    ValueError
        If there are more structures than points.
    """
    left = {
        name: sum(o.priority for o in objectives if o.structure == name)
        for name, inside in voxels.items()
        if len(inside)
    }
    if n_points < len(left):
        raise ValueError(f"expected at least one point for each of {len(left)} structures, got {n_points}")
    shares: dict[str, float] = {}
    n_left = float(n_points)
    while left:
        total = sum(left.values())
        wanted = {name: n_left * (p / total if total > 0 else 1 / len(left)) for name, p in left.items()}
        full = [name for name, n in wanted.items() if n >= len(voxels[name])]
        if not full:
            return shares | {name: max(n, 1.0) / len(voxels[name]) for name, n in wanted.items()}
        for name in full:
            shares[name] = 1.0
            n_left -= len(voxels[name])
            del left[name]
    return shares


def at(objectives: Sequence[Objective], drawn: Drawn) -> tuple[Objective, ...]:
    """The same terms, those with a dose of their own for every voxel at the drawn points."""
    return tuple(
        term.at(drawn.kept[term.structure]) if isinstance(term, FallOff | Mimic) else term
        for term in objectives
    )


def _one_of_each_group(
    n: int, share: float, generator: torch.Generator
) -> tuple[Int64[Tensor, " groups"], Int64[Tensor, " groups"]]:
    """One of each of about ``share * n`` groups of neighbours among ``n``, and the sizes of the groups."""
    n_groups = min(max(round(n * share), 1), n)
    ends = torch.arange(n_groups + 1) * n // max(n_groups, 1)
    sizes = ends.diff()
    chance = torch.rand(n_groups, generator=generator, dtype=torch.float64)
    return ends[:-1] + (chance * sizes).long(), sizes
