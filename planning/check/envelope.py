"""Between what a histogram lies when the plan is given otherwise than it was made."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from .dvh import Dvh, curve, maximum

_POINTS = 301
# How far beyond the hottest part of the plan as it is the histograms of scenarios are told.
_HOTTER = 1.15


@dataclass(frozen=True, eq=False)
class Envelope:
    """Between what the cumulative histogram of one structure lies in all scenarios.

    Parameters
    ----------
    doses
        Doses, ascending (Gy).
    nominal, low, high
        Share of the volume (%) that receives at least each dose: as planned, and the least and the most.
    """

    doses: Float64[np.ndarray, " m"]
    nominal: Float64[np.ndarray, " m"]
    low: Float64[np.ndarray, " m"]
    high: Float64[np.ndarray, " m"]


def widened(envelopes: Mapping[str, Envelope], dvhs: Mapping[str, Dvh]) -> dict[str, Envelope]:
    """Envelopes that hold one scenario more; those of the plan as it is where there were none."""
    if not envelopes:
        hottest = max((maximum(dvh) for dvh in dvhs.values()), default=1.0)
        axis = np.linspace(0.0, _HOTTER * max(hottest, 1.0), _POINTS)
        first = {name: curve(dvh, axis) for name, dvh in dvhs.items()}
        return {name: Envelope(axis, one, one, one) for name, one in first.items()}
    out = {}
    for name, old in envelopes.items():
        new = curve(dvhs[name], old.doses)
        out[name] = replace(old, low=np.minimum(old.low, new), high=np.maximum(old.high, new))
    return out
