"""How good a contour probably is: the agreement of a head's two views, calibrated to Dice on other heads.

After Roy et al., NeuroImage 195, 11 (2019), who find that samples of one network agree as far as they are
right; here the samples are the head and its mirror image. What agreement is worth is learnt for each
structure, by a monotone regression over held-out heads with known contours.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import isotonic_regression

LOOK_BELOW = 0.7  # expected Dice: a reader must look
_KNOTS = 9
_LEAST = 4  # pairs of a structure, or all structures together speak for it
_LARGEST = 1_000_000  # bytes of a file of them
ALL = "all"

Pair = tuple[float, float]


@dataclass(frozen=True)
class Quality:
    """What agreement is worth.

    Parameters
    ----------
    knots
        Agreement and Dice, both rising, by structure; under :data:`ALL` for those not named.
    spread
        Root mean square of the errors of what was foretold, in Dice.
    patients
        How many heads it rests on.

    Raises
    ------
    ValueError
        If knots are none, or do not rise from 0 to 1.
    """

    knots: Mapping[str, Sequence[Pair]]
    spread: float = 0.0
    patients: int = 0

    def __post_init__(self) -> None:
        for name, pairs in self.knots.items():
            values = np.array(pairs, dtype=np.float64).reshape(-1, 2)
            inside = len(values) > 0 and bool(((values >= 0) & (values <= 1)).all())
            if not inside or bool((np.diff(values, axis=0) < 0).any()):
                raise ValueError(f"expected knots of {name} that rise within 0 to 1, got others")
        if ALL not in self.knots:
            raise ValueError(f"expected knots of {ALL}, got none")

    def expected(self, name: str, agreement: float) -> float:
        """The Dice that contours of a structure with such an agreement have had."""
        at, dice = np.array(self.knots.get(name, self.knots[ALL])).T
        return float(np.interp(agreement, at, dice))


def calibrated(found: Mapping[str, Sequence[Pair]], patients: int) -> Quality:
    """Knots of each structure from pairs of agreement and Dice.

    Parameters
    ----------
    found
        Pairs by structure, of heads that no network learnt from.
    patients
        How many heads they are of.

    Raises
    ------
    ValueError
        If there are none.
    """
    pairs = [pair for of in found.values() for pair in of]
    if not pairs:
        raise ValueError("expected agreements and Dice of some contours, got none; contour more heads")
    knots = {name: _knots(of) for name, of in found.items() if len(of) >= _LEAST} | {ALL: _knots(pairs)}
    told = Quality(knots, 0.0, patients)
    apart = [told.expected(name, a) - d for name, of in found.items() for a, d in of]
    return Quality(knots, float(np.sqrt(np.mean(np.square(apart)))), patients)


def write_quality(quality: Quality, path: Path) -> None:
    """Keeps what was calibrated."""
    told = {"patients": quality.patients, "spread": round(quality.spread, 4), "knots": dict(quality.knots)}
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def read_quality(path: Path) -> Quality:
    """What :func:`write_quality` kept.

    Raises
    ------
    ValueError
        If the file is another.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError  # noqa: TRY301
        told = json.loads(path.read_text(encoding="utf-8"))
        knots = {str(name): [(float(a), float(d)) for a, d in of] for name, of in told["knots"].items()}
        return Quality(knots, float(told["spread"]), int(told["patients"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("expected a calibration of contours' quality (.json), got another file") from None


def _knots(pairs: Sequence[Pair]) -> list[Pair]:
    """A few points of the monotone regression, about which it is linear."""
    values = np.array(sorted(pairs), dtype=np.float64).clip(0, 1)
    fitted = isotonic_regression(values[:, 1]).x
    at = np.unique(np.linspace(0, len(values) - 1, _KNOTS).round().astype(int))
    return [(round(float(values[n, 0]), 4), round(float(fitted[n]), 4)) for n in at]
