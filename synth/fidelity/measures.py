"""A figure, its interval and its floor, drawn in the same way for every measure."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .bootstrap import Groups, Interval, bootstrap, bootstraps
from .floor import Floor, real_floor, real_floors
from .kernel import kernel_distance, kernel_interval
from .manifold import overlap

Numbers = tuple[float, ...]
Both = tuple[Groups | None, Groups | None]


@dataclass(frozen=True)
class FidelityConfig:
    """How much is drawn, and how finely it is counted.

    Parameters
    ----------
    n_resamples, level
        Bootstrap resamples of each interval, and the share of them between its bounds.
    n_splits
        Halvings of the real set for each floor.
    k
        Neighbours of precision, recall, density and coverage.
    n_pairs
        Pairs of images for the diversity of each set.
    n_bins
        Bins of the tissue histograms.
    n_levels
        Grey levels of the radiomics.
    """

    n_resamples: int = 500
    level: float = 0.95
    n_splits: int = 50
    k: int = 5
    n_pairs: int = 100
    n_bins: int = 128
    n_levels: int = 32


@dataclass(frozen=True)
class Measure:
    """A figure with its interval, and what real halves give."""

    value: Interval
    floor: Floor


@dataclass(frozen=True)
class Measuring:
    """Measures of a real and a synthetic set.

    Parameters
    ----------
    config
        How much is drawn.
    groups
        Group of each real and of each synthetic item, or None.
    generator
        Draws resamples and halves.
    """

    config: FidelityConfig
    groups: Both
    generator: torch.Generator

    def distances(
        self,
        measure: Callable[[Tensor, Tensor], Numbers],
        real: Tensor,
        synthetic: Tensor,
        groups: Both | None = None,
    ) -> list[Measure]:
        """Measures of two sets whose bias falls with the number of items, so that intervals are centred."""
        config, groups = self.config, groups or self.groups
        values = bootstraps(
            measure,
            [real, synthetic],
            self.generator,
            config.n_resamples,
            config.level,
            groups=groups,
            centred=True,
        )
        floors = real_floors(measure, real, synthetic, self.generator, config.n_splits, config.level, groups)
        return [Measure(value, floor) for value, floor in zip(values, floors, strict=True)]

    def kernel(self, real: Tensor, synthetic: Tensor) -> Measure:
        """Kernel distance, whose interval needs no centring."""
        config = self.config
        value = kernel_interval(
            real, synthetic, self.generator, config.n_resamples, config.level, self.groups
        )
        floor = real_floor(
            kernel_distance, real, synthetic, self.generator, config.n_splits, config.level, self.groups
        )
        return Measure(value, floor)

    def overlaps(self, real: Tensor, synthetic: Tensor) -> list[Measure]:
        """Precision, recall, density, coverage: each interval over the items whose mean it is.

        Items drawn twice would be neighbours of themselves; so the other set and the balls stay as they are.
        """
        config = self.config

        def four(x: Tensor, y: Tensor) -> Numbers:
            found = overlap(x, y, config.k)
            return found.precision, found.recall, found.density, found.coverage

        floors = real_floors(
            four, real, synthetic, self.generator, config.n_splits, config.level, self.groups
        )
        found = overlap(real, synthetic, config.k)
        items = ((found.precise, 1), (found.recalled, 0), (found.dense, 1), (found.covered, 0))
        return [
            Measure(self.mean(hits.double().cpu(), self.groups[whose]), floor)
            for (hits, whose), floor in zip(items, floors, strict=True)
        ]

    def mean(self, values: Tensor, groups: Groups | None) -> Interval:
        """Mean of the values that are defined, with its interval over items."""
        return bootstrap(
            lambda drawn: float(drawn.nanmean()),
            [values],
            self.generator,
            self.config.n_resamples,
            self.config.level,
            groups=[groups],
        )
