"""Variables and inequalities of a linear program, gathered piece by piece."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer
from scipy.sparse import coo_array, csr_array

Numbers = Integer[np.ndarray, " n"]
Reals = Float[np.ndarray, " n"]


class Columns:
    """Variables with their bounds and costs, in the order that they were added; ``n`` of them."""

    def __init__(self) -> None:
        self._lower: list[Reals] = []
        self._upper: list[Reals] = []
        self._cost: list[Reals] = []
        self._limits: list[tuple[Numbers, Reals]] = []
        self._charges: list[tuple[Numbers, Reals]] = []
        self.n = 0

    def add(self, n: int, lower: float = 0.0, upper: float = np.inf, cost: float = 0.0) -> Numbers:
        """Numbers of so many new variables."""
        self._lower.append(np.full(n, lower))
        self._upper.append(np.full(n, upper))
        self._cost.append(np.full(n, cost))
        self.n += n
        return np.arange(self.n - n, self.n)

    def limit(self, variables: Numbers, upper: Reals) -> None:
        """Upper bounds in place of what they were."""
        self._limits.append((variables, upper))

    def charge(self, variables: Numbers, cost: Reals) -> None:
        """What each of them costs, in place of what it did."""
        self._charges.append((variables, cost))

    def finished(self) -> tuple[Reals, Float[np.ndarray, "n 2"]]:
        """Costs, and lower and upper bounds."""
        cost = np.concatenate(self._cost)
        bounds = np.stack([np.concatenate(self._lower), np.concatenate(self._upper)], axis=1)
        for variables, upper in self._limits:
            bounds[variables, 1] = upper
        for variables, own in self._charges:
            cost[variables] = own
        return cost, bounds


class Rows:
    """Inequalities: sums of variables with factors that are at most a limit."""

    def __init__(self) -> None:
        self._places: list[tuple[Numbers, Numbers, Reals]] = []
        self._limits: list[Reals] = []
        self._n = 0

    def add(self, parts: Sequence[tuple[Numbers, float | Reals]], limits: Reals) -> None:
        """One row for each limit, with one variable of each part in it."""
        own = np.arange(self._n, self._n + len(limits))
        for variables, factor in parts:
            self._places.append((own, variables, np.broadcast_to(factor, own.shape)))
        self._limits.append(limits)
        self._n += len(limits)

    def add_sum(self, variables: Numbers, factor: float, most: int) -> None:
        """One row: a sum of variables times a factor is at most another variable."""
        row = np.full(len(variables) + 1, self._n)
        factors = np.append(np.full(len(variables), factor), -1.0)
        self._places.append((row, np.append(variables, most), factors))
        self._limits.append(np.zeros(1))
        self._n += 1

    def finished(self, n_columns: int) -> tuple[csr_array, Reals]:
        """Factors and limits."""
        rows, columns, factors = (np.concatenate(part) for part in zip(*self._places, strict=True))
        table = coo_array((factors, (rows, columns)), shape=(self._n, n_columns))
        return table.tocsr(), np.concatenate(self._limits)
