"""Dose of every bixel when the patient lies elsewhere or tissue is denser: one influence a scenario."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from imaging.shapes import Points
from imaging.volume import Volume
from planning.beams import Beam
from planning.dose.bixel_dose import CUTOFF
from planning.dose.bixels import Bixels
from planning.dose.influence import Influence, adjoint, apply, influence
from planning.dose.layout import lay_out
from planning.dose.memory import expect_room
from planning.machine import Machine
from planning.scenarios import Scenario, expect_deviation, expect_scenarios, perturbed, shifted

Progress = Callable[[str, float], None]
Regions = Mapping[str, Integer[Tensor, " _"]]
_BYTES = 4  # of an entry


@dataclass(frozen=True, eq=False)
class Uncertain:
    """Dose of every bixel in every scenario, at the points where it counts there.

    Doses of all scenarios follow one another in one vector, the plan as it is first.

    Parameters
    ----------
    scenarios
        The plan as it is, and what may be otherwise.
    matrices
        The influence in each scenario; the first is at all points.
    places
        For each scenario, which points its rows stand for.
    robust
        Structures whose terms count in every scenario; those of all others count as planned.
    """

    scenarios: tuple[Scenario, ...]
    matrices: tuple[Influence, ...]
    places: tuple[Integer[Tensor, " _"], ...]
    robust: frozenset[str]

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each scenario's doses begin in the vector, and their end."""
        ends = [0]
        for place in self.places:
            ends.append(ends[-1] + len(place))
        return tuple(ends)

    @property
    def n_beams(self) -> int:
        """Beams that there are."""
        return len(self.matrices[0].beam_starts) - 1


def influences(
    scenarios: Sequence[Scenario],
    beams: Sequence[Beam],
    bixels: Sequence[Bixels],
    density: Volume,
    points: Points,
    regions: Regions,
    robust: Collection[str],
    machine: Machine,
    *,
    deviation: Volume | None = None,
    cutoff: float = CUTOFF,
    progress: Progress | None = None,
) -> Uncertain:
    """The influence in every scenario.

    The plan as it is is computed at all points, every other scenario only in the robust structures. All
    are kept: S scenarios cost 1 + (S - 1) r times the memory and the time of one influence matrix, where
    r is the share of its entries that lie in the robust structures (a third for a brain tumour with its
    goals where only the target is robust).

    Parameters
    ----------
    scenarios
        The plan as it is first.
    beams, bixels, density, points, machine, cutoff
        As :func:`planning.dose.influence.influence` takes them.
    regions
        For each structure, which points belong to it.
    robust
        Structures whose terms shall count in every scenario.
    deviation
        One standard deviation of the density; needed where a scenario has an error of it.
    progress
        Told the share that is done, 0..1.

    Raises
    ------
    ValueError
        If the plan as it is does not come first, a robust structure has no point, or for what ``influence``
        or :func:`planning.scenarios.perturbed` refuses.
    MemoryError
        If the matrices of all scenarios together would not fit, before any of them is computed.
    """
    told = expect_scenarios(scenarios)
    if deviation is not None:
        expect_deviation(deviation, density)
    missing = sorted(name for name in robust if name not in regions)
    if missing or not robust:
        raise ValueError(
            f"expected points in every robust structure, got none in {', '.join(missing) or 'none named'}; "
            "contour it, or leave it out"
        )
    inside = torch.cat([regions[name] for name in sorted(robust)]).unique()
    places = (torch.arange(len(points)), *(inside for _ in told[1:]))
    # The same points seen from some millimetres away: as many entries, by far better than a percent.
    n_bytes = [_BYTES * _entries(beams, bixels, points[p.numpy()], machine, cutoff) for p in places[:2]]
    expect_room(
        sum(n_bytes[:1]) + (len(told) - 1) * sum(n_bytes[1:]),
        density.data.device,
        f"the influence of {len(told)} scenarios",
    )
    matrices = []
    for n, (scenario, place) in enumerate(zip(told, places, strict=True)):
        matrices.append(
            influence(
                shifted(beams, scenario),
                bixels,
                perturbed(density, scenario, deviation),
                points[place.numpy()],
                machine,
                cutoff=cutoff,
                progress=progress if n == 0 else None,
            )
        )
        if progress is not None and len(told) > 1:
            progress("influence of the scenarios", (n + 1) / len(told))
    return Uncertain(told, tuple(matrices), places, frozenset(robust))


def only_as_planned(matrix: Influence) -> Uncertain:
    """One influence matrix as the only scenario."""
    return Uncertain((Scenario("as planned"),), (matrix,), (torch.arange(matrix.n_voxels),), frozenset())


def apply_all(uncertain: Uncertain, weights: Float[Tensor, " bixels"]) -> Float[Tensor, " all_points"]:
    """Dose of bixel weights in all scenarios (Gy)."""
    return torch.cat([apply(matrix, weights) for matrix in uncertain.matrices])


def adjoint_all(uncertain: Uncertain, gradient: Float[Tensor, " all_points"]) -> Float[Tensor, " bixels"]:
    """Transpose of :func:`apply_all`."""
    parts = gradient.split([len(place) for place in uncertain.places])
    total = adjoint(uncertain.matrices[0], parts[0])
    for matrix, part in zip(uncertain.matrices[1:], parts[1:], strict=True):
        total = total + adjoint(matrix, part.contiguous())
    return total


def regions_in(uncertain: Uncertain, regions: Regions, n: int) -> dict[str, Integer[Tensor, " _"]]:
    """For each structure that scenario ``n`` looks at, which of its doses belong to it, in their order."""
    if n == 0:
        return dict(regions)
    seen = uncertain.places[n]
    return {name: torch.searchsorted(seen, regions[name]) for name in uncertain.robust}


def _entries(
    beams: Sequence[Beam], bixels: Sequence[Bixels], points: Points, machine: Machine, cutoff: float
) -> int:
    """How many numbers the influence at some points holds."""
    return sum(
        lay_out(beam, own, points, machine, cutoff).n_entries for beam, own in zip(beams, bixels, strict=True)
    )
