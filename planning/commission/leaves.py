"""Transmission and dosimetric leaf gap from sweeping gaps."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from planning.machine import Mlc

FILE = "SweepingGaps.csv"


def leaves_of(path: Path, mlc: Mlc) -> Mlc:
    """Leaves with the transmission and the dosimetric gap that sweeping gaps tell.

    A gap of width g that sweeps evenly over a distance L gives the axis the share (g + DLG) / L of the
    open dose, and what passes the leaves the rest of the time: the readings, less T (1 − g / L), lie on a
    straight line that is 0 at g = −DLG (LoSasso, Chui, Ling, Med. Phys. 25, 1919 (1998)).

    Parameters
    ----------
    path
        A CSV of pairs: ``open`` and ``closed`` with their readings, ``sweep`` with L (mm), and for each
        gap its width (mm) and reading, all for the same monitor units.
    mlc
        The other leaf data.

    Raises
    ------
    ValueError
        If there are not both leaves' readings, the sweep and two gaps or more, or they contradict each other.
    """
    named: dict[str, float] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            named = {row[0].strip().lower(): float(row[1]) for row in csv.reader(file) if len(row) > 1}
        full, closed, sweep = (named.pop(key) for key in ("open", "closed", "sweep"))
        gaps = np.array([(float(gap), reading) for gap, reading in named.items()]).reshape(-1, 2)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"expected rows 'open', 'closed', 'sweep' and gaps (mm), each with a number, in {path.name}, "
            f"got {sorted(named)}; complete it"
        ) from error
    transmission = closed / full
    if len(gaps) < 2:
        raise ValueError(f"expected two gaps or more in {path.name}, got {len(gaps)}; measure another")
    slope, start = np.polyfit(gaps[:, 0], gaps[:, 1] - closed * (1 - gaps[:, 0] / sweep), 1)
    gap = start / slope
    if not (0 <= transmission < 0.1 and 0 <= gap < gaps[:, 0].max()):
        raise ValueError(
            f"expected a transmission under 10 % and a dosimetric gap narrower than the gaps in {path.name}, "
            f"got {100 * transmission:.1f} % and {gap:.2f} mm; check the readings"
        )
    return replace(mlc, transmission=transmission, dosimetric_gap=float(gap))
