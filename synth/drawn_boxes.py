"""Where tumours lie in slices: for each class a density of boxes, fitted to those that were seen.

A Gaussian over the box's middle and the logarithms of its sides, kept to boxes inside the picture: sides
are positive and spread by factors, and a large tumour lies near the middle, as it sticks out elsewhere.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

_AXES = 4  # cx, cy, log w, log h
_CLASSES = 256
_DECIMALS = 6  # of a box in its file
_LEAST = 1e-12  # added to variances, so that classes seen once or in a row can be drawn too
_GOLDEN = (math.sqrt(5) - 1) / 2
_BATCH, _BATCHES = 64, 200  # boxes tried before a density is taken to lie outside the picture

Row = tuple[float, ...]


@dataclass(frozen=True)
class BoxDensity:
    """How often each class comes, and where its boxes lie.

    Parameters
    ----------
    shares
        Of the classes, 1 in all.
    means
        Of each class: cx, cy (shares of the picture), log w, log h.
    covariances
        Of each class: four rows of four.

    Raises
    ------
    ValueError
        If counts do not fit one another, shares are not 1 in all, or a covariance is none.
    """

    shares: Row
    means: tuple[Row, ...]
    covariances: tuple[tuple[Row, ...], ...]

    def __post_init__(self) -> None:
        n = len(self.shares)
        rows = [*self.means, *(row for one in self.covariances for row in one)]
        square = all(len(one) == _AXES for one in self.covariances)
        if not 1 <= n <= _CLASSES or {len(self.means), len(self.covariances)} != {n} or not square:
            raise ValueError(
                f"expected a share, a mean and a covariance of 1 to {_CLASSES} classes each, got {n}, "
                f"{len(self.means)} and {len(self.covariances)}"
            )
        if not all(len(row) == _AXES and all(math.isfinite(v) for v in row) for row in rows):
            raise ValueError("expected four finite numbers for cx, cy, log w and log h, got others")
        if not all(share >= 0 for share in self.shares) or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"expected shares of the classes that are 1 in all, got {list(self.shares)}")
        for c in range(n):
            spread = torch.tensor(self.covariances[c], dtype=torch.float64)
            if not torch.equal(spread, spread.T) or int(_factor(spread)[1]) != 0:
                raise ValueError(f"expected a symmetric covariance without negative variance of class {c}")

    def as_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "BoxDensity":
        """The density that a card holds.

        Raises
        ------
        ValueError
            If a key is missing, or a value is no number.
        """
        try:
            shares = _row(values["shares"])
            means = tuple(_row(mean) for mean in values["means"])
            covariances = tuple(tuple(_row(row) for row in one) for one in values["covariances"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(
                "expected shares, means and covariances of boxes as numbers, got something else"
            ) from None
        return cls(shares, means, covariances)


def fit(classes: Int64[Tensor, " n"], boxes: Float[Tensor, "n 4"]) -> BoxDensity:
    """The density of greatest likelihood, left alone that boxes end at the picture's edge.

    Parameters
    ----------
    classes
        Of each box, from 0 without a gap.
    boxes
        ``cx, cy, w, h`` as shares of the picture.

    Raises
    ------
    ValueError
        If there is no box, one has no size, or a class has none.
    """
    if len(classes) == 0 or not bool((boxes[:, 2:] > 0).all()):
        raise ValueError("expected boxes with a width and a height, got none or an empty one")
    counts = torch.bincount(classes)
    if bool((counts == 0).any()):
        raise ValueError(f"expected boxes of every class from 0, got none of {counts.tolist().index(0)}")
    points = torch.cat([boxes[:, :2].double(), boxes[:, 2:].double().log()], dim=1)
    means, spreads = [], []
    for c in range(len(counts)):
        own = points[classes == c]
        off = own - own.mean(dim=0)
        spread = off.T @ off / len(own)
        means.append(tuple(own.mean(dim=0).tolist()))
        spreads.append(tuple(map(tuple, ((spread + spread.T) / 2).tolist())))
    return BoxDensity(tuple((counts.double() / len(classes)).tolist()), tuple(means), tuple(spreads))


def class_of(density: BoxDensity, k: int, start: float) -> int:
    """Class of slice k, so that any first slices hold each class by its share, to a slice or two.

    Multiples of the golden ratio fill 0..1 as evenly as any do (Kuipers and Niederreiter, "Uniform
    distribution of sequences", 1974); chance would leave small sets without a class.

    Parameters
    ----------
    density
        Holds the shares.
    k
        Number of the slice.
    start
        Where the sequence begins, 0 to below 1; other starts give other sets.
    """
    at = (start + k * _GOLDEN) % 1.0
    for c, share in enumerate(density.shares):
        at -= share
        if at < 0:
            return c
    return max(c for c, share in enumerate(density.shares) if share > 0)  # shares round to below 1


def box_of(density: BoxDensity, kind: int, generator: torch.Generator) -> Float64[Tensor, "4"]:
    """A box of a class, all of it inside the picture: ``cx, cy, w, h`` to six decimals, as files hold it.

    Raises
    ------
    ValueError
        If there is no such class, or next to none of its boxes lie inside the picture.
    """
    if not 0 <= kind < len(density.shares):
        raise ValueError(f"expected a class from 0 to {len(density.shares) - 1}, got {kind}")
    factor, _ = _factor(torch.tensor(density.covariances[kind], dtype=torch.float64))
    mean = torch.tensor(density.means[kind], dtype=torch.float64)
    for _ in range(_BATCHES):
        z = torch.randn(_BATCH, _AXES, generator=generator, dtype=torch.float64, device=generator.device)
        points = mean + z.cpu() @ factor.T
        boxes = torch.cat([points[:, :2], points[:, 2:].exp()], dim=1).round(decimals=_DECIMALS)
        found = boxes[_inside(boxes)]
        if len(found):
            return found[0]
    raise ValueError(f"expected boxes of class {kind} inside the picture, got a density outside it")


def _inside(boxes: Tensor) -> Tensor:
    middle, half = boxes[:, :2], boxes[:, 2:] / 2
    return ((middle - half >= 0) & (middle + half <= 1) & (half > 0)).all(dim=1)


def _factor(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Its Cholesky factor, which is the only one, unlike eigenvectors, and 0 where there is one."""
    made = torch.linalg.cholesky_ex(covariance + _LEAST * torch.eye(_AXES, dtype=torch.float64))
    return made.L, made.info


def _row(values: Any) -> Row:
    return tuple(float(v) for v in values)
