"""Counts of patients that sites tell together, without those of few.

A site tells histograms of its patients by cells that were agreed on. A cell of fewer patients than the
site's file allows is hidden before anything leaves, and with it neighbours, so that it cannot be found by
subtraction (complementary suppression: Hundepool et al., "Statistical Disclosure Control", Wiley 2012,
4.2).
"""

from collections.abc import Mapping, Sequence
from typing import Any

Counts = Mapping[str, Mapping[str, int]]
HIDDEN = -1
_BETWEEN = "|"  # of a histogram's name and its cell's


def suppressed(counts: Counts, least: int) -> dict[str, dict[str, int]]:
    """Histograms without the cells of fewer patients than ``least``, and what would give these away.

    Parameters
    ----------
    counts
        Patients by cell of each histogram; every patient is in one cell of each.
    least
        Patients of a cell that may be told; empty cells may.

    Returns
    -------
    dict
        The same, with :data:`HIDDEN` in place of counts that are not told.
    """
    return {name: _suppressed(cells, least) for name, cells in counts.items()}


def _suppressed(cells: Mapping[str, int], least: int) -> dict[str, int]:
    """Neighbours are told or hidden together, whatever they count: which ones are, tells nothing more."""
    groups = _neighbours(list(cells))
    hidden = {k for k, group in enumerate(groups) if any(0 < cells[c] < least for c in group)}
    last = max(hidden, default=0)
    while hidden and len(hidden) < len(groups) and sum(cells[c] for k in hidden for c in groups[k]) < least:
        last = (last + 1) % len(groups)
        hidden.add(last)
    if sum(cells.values()) < least:
        hidden = set(range(len(groups)))
    return {c: HIDDEN if k in hidden else cells[c] for k, group in enumerate(groups) for c in group}


def _neighbours(cells: list[str]) -> list[list[str]]:
    """Cells in pairs, the last three together where they are odd."""
    if len(cells) < 4:
        return [cells]
    end = len(cells) - 3 if len(cells) % 2 else len(cells)
    return [cells[k : k + 2] for k in range(0, end, 2)] + ([cells[end:]] if end < len(cells) else [])


def pooled(by_site: Sequence[Counts]) -> dict[str, dict[str, dict[str, int]]]:
    """Sums over sites: patients of each cell that were told, and how many sites hide theirs."""
    names = {name: list(cells) for counts in by_site for name, cells in counts.items()}
    return {
        name: {
            cell: {
                "patients": sum(counts[name][cell] for counts in by_site if counts[name][cell] != HIDDEN),
                "sites_hidden": sum(counts[name][cell] == HIDDEN for counts in by_site),
            }
            for cell in cells
        }
        for name, cells in names.items()
    }


def flat(counts: Counts) -> dict[str, int]:
    """Histograms as figures with one name each."""
    return {f"{name}{_BETWEEN}{cell}": n for name, cells in counts.items() for cell, n in cells.items()}


def names_of(cells: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Names of the figures of histograms with these cells."""
    return tuple(f"{name}{_BETWEEN}{cell}" for name, each in cells.items() for cell in each)


def unflat(figures: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """What :func:`flat` was given."""
    out: dict[str, dict[str, int]] = {}
    for key, n in figures.items():
        name, _, cell = key.rpartition(_BETWEEN)
        out.setdefault(name, {})[cell] = int(n)
    return out


def may_leave(figures: Mapping[str, float | int], least: int) -> bool:
    """Whether all are counts, and none of few patients."""
    return all(type(n) is int and (n in (HIDDEN, 0) or n >= least) for n in figures.values())
