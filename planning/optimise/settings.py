"""How a plan is made."""

from dataclasses import dataclass

from imaging.volume import Volume
from planning.scenarios import NOMINAL, Scenario, combined, density_scenarios, setup_scenarios

from .robust import Aggregate


@dataclass(frozen=True)
class Settings:
    """How a plan is made.

    Parameters
    ----------
    n_levels
        Levels that each beam's fluence is rounded to before it is cut into segments.
    min_area
        Smallest opening of a segment (mm² at the isocentre).
    min_mu
        Fewest monitor units of a segment in one fraction.
    n_segments
        Segments of all standing fields together at most, where their leaves are shaped.
    shape_leaves
        Whether leaves are shaped by gradient; otherwise segments are cut from the fluence alone. Leaves
        that may not pass the opposite ones of their neighbours are never shaped.
    leaf_iterations
        Iterations of leaves and weights together at most.
    n_rounds
        How often priorities are raised for goals that are not met.
    n_presses
        How often organs are spared further once goals are met (:mod:`planning.optimise.pressing`).
    press_priority
        What that counts, beside 100 for the target.
    n_corrections
        How often monitor units are fitted again on the calculated dose for goals that it misses, where leaves
        are shaped and nothing is uncertain.
    max_iterations
        Iterations of each optimisation at most.
    setup_error_mm
        How far the patient may lie from where the plan has them, either way along each axis (mm); with 0
        the plan is not robust against it.
    density_sigmas
        How many standard deviations the density may be off, either way, where a deviation is given.
    aggregate
        Whether the worst of these scenarios counts or their expected value.
    robust_organs
        Whether the terms of organs count in every scenario as the target's do, or only as planned.
    """

    n_levels: int = 12
    min_area: float = 200.0
    min_mu: float = 2.0
    n_segments: int = 60
    shape_leaves: bool = True
    leaf_iterations: int = 80
    n_rounds: int = 2
    n_presses: int = 0
    press_priority: float = 10.0
    n_corrections: int = 0
    max_iterations: int = 60
    setup_error_mm: float = 0.0
    density_sigmas: float = 1.0
    aggregate: Aggregate = Aggregate.WORST
    robust_organs: bool = False

    def scenarios(self, deviation: Volume | None) -> tuple[Scenario, ...]:
        """What the plan shall hold in; the plan as it is alone where nothing is uncertain."""
        moved = setup_scenarios(self.setup_error_mm) if self.setup_error_mm else (NOMINAL,)
        if deviation is None:
            return moved
        return combined(moved, density_scenarios((-self.density_sigmas, self.density_sigmas)))
