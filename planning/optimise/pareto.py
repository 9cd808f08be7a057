"""The plans between two wishes: a front of fluences along which one can only be bought with the other."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from .fluence import Progress, Weights, even_scale, minimise

Dose = Tensor
Wish = Callable[[Tensor], tuple[float, Tensor]]

_FORMAT = 1
# Values that differ by less than this share of the front's extent are one value.
_SAME = 1e-4


@dataclass(frozen=True, eq=False)
class Front:
    """Fluences none of which is better than another in both of two objectives.

    Parameters
    ----------
    names
        What the first and the second objective stand for.
    shares
        Weight of the second objective that each fluence is the best for, ascending, 0..1.
    places
        Where each lies along the front, by its length with both objectives' ranges as units, 0..1.
    fluences
        Bixel weights of one fraction, shape ``(nodes, bixels)``.
    values
        The two objectives, shape ``(nodes, 2)``: the first rises along the front, the second falls.
    gap
        How far below the lines between neighbours the true front can lie at most, in the same units.
    metrics
        Any other number of each node by its name.
    """

    names: tuple[str, str]
    shares: Float64[np.ndarray, " nodes"]
    places: Float64[np.ndarray, " nodes"]
    fluences: Float32[Tensor, "nodes bixels"]
    values: Float64[np.ndarray, "nodes 2"]
    gap: float
    metrics: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Node:
    """The best fluence for one weight of the second objective."""

    share: float
    weights: Weights
    values: tuple[float, float]

    def at(self, share: float) -> float:
        """The sum of both objectives for another weight of the second."""
        return (1 - share) * self.values[0] + share * self.values[1]


def sweep(
    names: tuple[str, str],
    wishes: tuple[Wish, Wish],
    apply: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    start: Weights,
    *,
    n_points: int = 9,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
    progress: Progress | None = None,
) -> Front:
    """The front between two convex objectives of the dose, by weighted sums where it is known least.

    First the best fluence for each objective alone. Then, again and again, the pair of neighbours between
    which the front may lie furthest below their connecting line is divided, by the weights to which that
    line is level: what is known from below are the lines on which the weighted sums are constant. The
    sandwich method of Craft, Halabi, Shih, Bortfeld, Med. Phys. 33, 3399 (2006), in two dimensions. Each
    search starts between its neighbours. Fluences that another one beats in both are left out.

    Parameters
    ----------
    names
        What the objectives stand for.
    wishes
        The two objectives: value and gradient of a dose.
    apply, adjoint
        Dose of weights and its transpose, as in :func:`planning.optimise.fluence.minimise`.
    start
        Where the first search begins, shape ``(bixels,)``.
    n_points
        Fluences to find, at least 2.
    max_iterations, tolerance
        When each search ends.
    progress
        Told the share of the points that is done.

    Raises
    ------
    ValueError
        If fewer than two points are asked for.
    """
    if n_points < 2:
        raise ValueError(f"expected at least 2 points on a front, got {n_points}")

    scale = even_scale(apply, adjoint, _summed(wishes, 0.5), start)

    def solve(share: float, begin: Weights) -> _Node:
        found = minimise(
            apply,
            adjoint,
            _summed(wishes, share),
            begin,
            max_iterations=max_iterations,
            tolerance=tolerance,
            scale=scale,
        ).weights
        dose = apply(found)
        return _Node(share, found, (wishes[0](dose)[0], wishes[1](dose)[0]))

    first = solve(0.0, start)
    nodes = [first, solve(1.0, first.weights)]
    while len(nodes) < n_points:
        if progress is not None:
            progress("front", len(nodes) / n_points)
        unknown = [_unknown(a, b, nodes) for a, b in pairwise(nodes)]
        n = int(np.argmax(unknown))
        if unknown[n] < _SAME:
            break
        a, b = nodes[n], nodes[n + 1]
        nodes.insert(n + 1, solve(_level(a, b), (a.weights + b.weights) / 2))
    # A search that ran out of iterations may end behind its neighbours: the ends go on from the best of all.
    for n, share in ((0, 0.0), (-1, 1.0)):
        best = min(nodes, key=lambda node: node.at(share))
        if best is not nodes[n]:
            nodes[n] = solve(share, best.weights)
    if progress is not None:
        progress("front", 1.0)
    return _front(names, nodes)


def navigate(front: Front, place: float) -> Float32[Tensor, " bixels"]:
    """The fluence at a place along the front, 0 for the first objective's best to 1 for the second's.

    Between two nodes it is their mixture, whose dose is the mixture of their doses; convex objectives are
    never worse there than the mixture of their values.

    Raises
    ------
    ValueError
        If the place is not 0..1.
    """
    low, share = between(front, place)
    if share == 0:
        return front.fluences[low]
    return torch.lerp(front.fluences[low], front.fluences[low + 1], share)


def between(front: Front, place: float) -> tuple[int, float]:
    """The node before a place along the front, and the share of the next one in the mixture there.

    Raises
    ------
    ValueError
        If the place is not 0..1.
    """
    if not 0 <= place <= 1:
        raise ValueError(f"expected a place on the front from 0 to 1, got {place:g}")
    low = int(np.clip(np.searchsorted(front.places, place, side="right") - 1, 0, len(front.places) - 1))
    if low == len(front.places) - 1:
        return low, 0.0
    way = front.places[low + 1] - front.places[low]
    return low, float((place - front.places[low]) / way)


def write_front(front: Front, folder: Path) -> None:
    """A front as ``front.json`` and, for the fluences, ``front.npz`` in an existing folder."""
    with (folder / "front.npz").open("wb") as file:
        np.savez(file, fluences=front.fluences.cpu().numpy())
    told = {
        "format": _FORMAT,
        "names": list(front.names),
        "shares": front.shares.tolist(),
        "places": front.places.tolist(),
        "values": front.values.tolist(),
        "gap": front.gap,
        "metrics": {name: list(values) for name, values in front.metrics.items()},
    }
    (folder / "front.json").write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")


def read_front(folder: Path) -> Front:
    """A front as :func:`write_front` wrote it.

    Raises
    ------
    ValueError
        If the folder holds none, or one of another format.
    """
    try:
        told = json.loads((folder / "front.json").read_text(encoding="utf-8"))
        with np.load(folder / "front.npz", allow_pickle=False) as stored:
            fluences = torch.from_numpy(stored["fluences"])
        if told["format"] != _FORMAT:
            raise ValueError(f"expected a front of format {_FORMAT}, got {told['format']}; make it again")
        return Front(
            (told["names"][0], told["names"][1]),
            np.array(told["shares"], dtype=np.float64),
            np.array(told["places"], dtype=np.float64),
            fluences,
            np.array(told["values"], dtype=np.float64),
            float(told["gap"]),
            {name: tuple(values) for name, values in told["metrics"].items()},
        )
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        raise ValueError("expected a folder with a front as write_front writes it; make it again") from None


def _summed(wishes: tuple[Wish, Wish], share: float) -> Wish:
    """The sum of two objectives for a weight of the second."""

    def objective(dose: Dose) -> tuple[float, Tensor]:
        (a, slope_a), (b, slope_b) = wishes[0](dose), wishes[1](dose)
        return (1 - share) * a + share * b, (1 - share) * slope_a + share * slope_b

    return objective


def _level(a: _Node, b: _Node) -> float:
    """The weight of the second objective to which the line between two nodes is level."""
    rise, fall = b.values[0] - a.values[0], a.values[1] - b.values[1]
    return rise / (rise + fall)


def _unknown(a: _Node, b: _Node, nodes: list[_Node]) -> float:
    """How far below the line between two neighbours the front can lie, with the ranges as units."""
    ranges = np.abs(np.subtract(nodes[-1].values, nodes[0].values))
    rise, fall = b.values[0] - a.values[0], a.values[1] - b.values[1]
    # Neighbours that do not trade one for the other, by rounding of their searches.
    if ranges.min() <= 0 or rise <= 0 or fall <= 0 or not a.share < _level(a, b) < b.share:
        return 0.0
    lines = np.array([[1 - a.share, a.share], [1 - b.share, b.share]])
    corner = np.linalg.solve(lines, (lines * np.array([a.values, b.values])).sum(axis=1))
    p, q, r = (np.array(x) / ranges for x in (a.values, b.values, corner))
    along = (q - p) / np.linalg.norm(q - p)
    away = r - p
    return float(abs(along[0] * away[1] - along[1] * away[0]))


def _front(names: tuple[str, str], nodes: list[_Node]) -> Front:
    """The nodes that no other beats in both objectives, and where they lie."""
    values = np.array([node.values for node in nodes])
    extent = np.maximum(np.ptp(values, axis=0), 1e-12)
    kept: list[_Node] = []
    for node, own in zip(nodes, values, strict=True):
        no_worse = (values <= own + _SAME * extent).all(axis=1)
        better = (values < own - _SAME * extent).any(axis=1)
        same = any((np.abs(np.subtract(k.values, own)) <= _SAME * extent).all() for k in kept)
        if not (no_worse & better).any() and not same:
            kept.append(node)
    left = np.array([node.values for node in kept])
    steps = np.hypot(*(np.diff(left, axis=0) / extent).T) if len(kept) > 1 else np.zeros(0)
    places = np.concatenate([[0.0], np.cumsum(steps)])
    return Front(
        names,
        np.array([node.share for node in kept]),
        places / max(places[-1], 1e-12),
        torch.stack([node.weights.float() for node in kept]),
        left,
        max((_unknown(a, b, kept) for a, b in pairwise(kept)), default=0.0),
    )
