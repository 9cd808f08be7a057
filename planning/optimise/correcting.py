"""Monitor units corrected on the dose as it is calculated, until it meets the goals or rounds run out."""

from dataclasses import replace

from torch import Tensor

from imaging.volume import Volume
from planning.check.judge import GoalResult, judge
from planning.machine import Machine

from .delivering import Delivered, Wish
from .from_goals import strengthened
from .monitor_units import scale_for
from .objectives import prepare
from .outlook import rank, sampled
from .refit import fitted, span_doses, span_units, with_units


def corrected(
    made: Delivered,
    wish: Wish,
    density: Volume,
    machine: Machine,
    *,
    least: float = 0.0,
    n_rounds: int = 0,
    max_iterations: int = 60,
) -> Delivered:
    """The same shapes with monitor units that minimise the terms on the calculated dose.

    Each span's dose is calculated once, as the plan's dose has it. Where that dose, scaled as the plan will
    be, misses goals, their terms get greater priorities and monitor units are fitted again; the round that
    missed fewest goals stays, the first of equal ones.

    Parameters
    ----------
    made
        Beams with control points and monitor units, and the terms that they were shaped for.
    wish
        The goals, and the points that the dose is at.
    density
        Relative electron density, as the plan's dose traces it.
    machine
        What delivers them.
    least
        No span that delivers gets fewer monitor units.
    n_rounds
        How often priorities are raised.
    max_iterations
        Iterations of each round at most.
    """
    columns = span_doses(made.beams, density, wish.drawn.points, machine)
    terms, mu = made.terms, span_units(made.beams)
    tried: list[tuple[tuple[int, ...], Tensor]] = []
    for n in range(n_rounds + 1):
        objective = prepare(terms, wish.drawn.regions, like=columns)
        mu = fitted(mu, columns, objective, least=least, max_iterations=max_iterations)[0]
        missed = _missed(columns @ mu, wish) if n_rounds else []
        tried.append((rank(missed), mu))
        if not missed or n == n_rounds:
            break
        terms = strengthened(terms, missed)
    best = min(tried, key=lambda one: one[0])[1]
    return replace(made, beams=with_units(made.beams, best))


def _missed(dose: Tensor, wish: Wish) -> list[GoalResult]:
    """The goals that a dose of one fraction misses once its monitor units are scaled for the target."""
    seen = sampled(dose * wish.prescription.n_fractions, wish.drawn)
    scale = scale_for(seen[wish.target], wish.prescription)
    whole = sampled(scale * dose * wish.prescription.n_fractions, wish.drawn)
    return [one for one in judge(wish.goals, whole, wish.prescription) if one.met is False]
