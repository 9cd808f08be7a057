"""A machine's beam against measurements, by the criteria of MPPG 5.a."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from planning.machine import Machine

from .points import BUILD_UP, REFERENCE_DEPTH, on_axis
from .scans import Kind, Opening, Scan, centered
from .tank import DEEPEST, in_water

# Smilowitz et al., MPPG 5.a, J. Appl. Clin. Med. Phys. 16, 14 (2015): 2 % of the local dose where it is high,
# 3 mm in the penumbra, 3 % of the field's greatest dose in the tails.
HIGH_PERCENT, PENUMBRA_MM, TAIL_PERCENT = 2.0, 3.0, 3.0
_HIGH, _LOW = 0.8, 0.2  # shares of the dose on the axis between which the penumbra lies
_STEEP = 0.03  # change a millimetre, as a share of the dose on the axis: penumbra too
# A Gaussian in five nodes (Gauss and Hermite), exact for polynomials of the ninth degree.
_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(5)
_SHARES = _SHARES / _SHARES.sum()


@dataclass(frozen=True, eq=False)
class Verdict:
    """One scan beside the machine's dose.

    Parameters
    ----------
    scan
        The measurement, centred and normalised.
    model
        The machine's dose at the same points, normalised alike.
    high, penumbra, tail
        Which points are judged by which criterion; those in the build-up by none.
    error
        For points of the high dose, percent of the local dose; of the penumbra, mm; of the tails,
        percent of the greatest dose of the field.
    """

    scan: Scan
    model: Float64[np.ndarray, " n"]
    high: Bool[np.ndarray, " n"]
    penumbra: Bool[np.ndarray, " n"]
    tail: Bool[np.ndarray, " n"]
    error: Float64[np.ndarray, " n"]

    @property
    def passed(self) -> Bool[np.ndarray, " n"]:
        """Which points are within their criterion."""
        limit = np.where(self.high, HIGH_PERCENT, np.where(self.penumbra, PENUMBRA_MM, TAIL_PERCENT))
        return np.abs(self.error) <= limit

    @property
    def judged(self) -> Bool[np.ndarray, " n"]:
        """Which points any criterion is for."""
        return self.high | self.penumbra | self.tail


def verify(scans: Sequence[Scan], machine: Machine) -> tuple[Verdict, ...]:
    """Scans beside the dose that the dose engine computes for this machine, in the same water.

    Doses are compared relative to the axis at 100 mm depth where the field has a depth dose, so that a
    profile is judged together with its place on it; else relative to the axis of each profile.
    """
    verdicts = []
    for opening, ssd in dict.fromkeys((scan.opening, scan.ssd) for scan in scans):
        own = [scan for scan in scans if (scan.opening, scan.ssd) == (opening, ssd)]
        verdicts += _field(own, opening, ssd, machine)
    return tuple(verdicts)


def pass_percent(verdicts: Sequence[Verdict]) -> float:
    """Share of judged points that are within their criterion (%)."""
    n = sum(int(v.judged.sum()) for v in verdicts)
    return 100 * sum(int((v.passed & v.judged).sum()) for v in verdicts) / max(n, 1)


def worst_percent(verdicts: Sequence[Verdict]) -> float:
    """Greatest difference in the high dose (% of the local dose)."""
    return max((float(np.abs(v.error[v.high]).max(initial=0)) for v in verdicts), default=0.0)


def worst(verdict: Verdict) -> tuple[float | None, float | None, float | None]:
    """Greatest error of a scan in high dose (%), penumbra (mm) and tails (%); None without such points."""
    own = (np.abs(verdict.error[among]) for among in (verdict.high, verdict.penumbra, verdict.tail))
    found = [float(errors.max()) if len(errors) else None for errors in own]
    return found[0], found[1], found[2]


def _field(scans: Sequence[Scan], opening: Opening, ssd: float, machine: Machine) -> list[Verdict]:
    axis = next((scan for scan in scans if scan.kind is Kind.DEPTH), None)
    lines = [scan if scan.kind is Kind.DEPTH else centered(scan) for scan in scans]
    # Each line as its detector sees it, and the axis at its depth, where it is normalised.
    places = [_blurred(scan) for scan in lines]
    middles = [np.array([[0.0, REFERENCE_DEPTH if axis is not None else scan.depth, 0.0]]) for scan in lines]
    found = in_water([*places, *middles], opening, ssd, machine)
    doses = np.split(found, np.cumsum([len(p) for p in (*places, *middles)])[:-1])
    verdicts = []
    for scan, seen, middle in zip(lines, doses, doses[len(lines) :], strict=False):
        model = _SHARES @ seen.reshape(len(_SHARES), -1) / middle[0]
        if scan.kind is Kind.DEPTH:
            measured = scan.dose / np.interp(REFERENCE_DEPTH, scan.at, scan.dose)
            verdicts.append(_judged(replace(scan, dose=measured), model, 1.0))
        else:
            level = on_axis(axis, scan.depth)
            verdicts.append(_judged(replace(scan, dose=scan.dose * level), model, level))
    return verdicts


def _blurred(scan: Scan) -> Float64[np.ndarray, "_ 3"]:
    """Where the engine is asked for a scan: its points (x, depth, y), moved by each node of the detector."""
    place = np.zeros((len(_NODES), len(scan.at), 3))
    if scan.kind is Kind.DEPTH:
        place[:, :, 1] = scan.at
    else:
        moved = scan.at + scan.blur * _NODES[:, None]
        place[:, :, 0 if scan.kind is Kind.CROSSLINE else 2] = moved
        place[:, :, 1] = scan.depth
    return place.reshape(-1, 3)


def _judged(scan: Scan, model: Float64[np.ndarray, " n"], level: float) -> Verdict:
    """Points by region, and how far off each is; ``level`` is the measured dose on the axis of a profile."""
    error = np.zeros_like(model)
    none = np.zeros(len(model), dtype=bool)
    if scan.kind is Kind.DEPTH:
        high = (scan.at >= max(BUILD_UP, scan.at[scan.dose.argmax()])) & (scan.at <= DEEPEST)
        error[high] = 100 * (model[high] / scan.dose[high] - 1)
        return Verdict(scan, model, high, none, none, error)
    share = scan.dose / level
    steep = (np.abs(np.gradient(share, scan.at)) > _STEEP) & (share > _LOW)
    high = (share >= _HIGH) & ~steep
    tail = share < _LOW
    penumbra = ~high & ~tail
    error[high] = 100 * (model[high] / scan.dose[high] - 1)
    greatest = max(level, float(model.max()))
    error[tail] = 100 * (model - scan.dose)[tail] / greatest
    error[penumbra] = _distances(scan, model)[penumbra]
    return Verdict(scan, model, high, penumbra, tail, error)


def _distances(scan: Scan, model: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """How far along the line the model has the dose of each point (mm)."""
    fine = np.linspace(scan.at[0], scan.at[-1], 20 * len(scan.at))
    there = np.interp(fine, scan.at, model)
    out = np.full(len(model), np.inf)
    crossed = np.sign(there[:-1, None] - scan.dose[None]) != np.sign(there[1:, None] - scan.dose[None])
    for n in range(len(model)):
        places = fine[:-1][crossed[:, n]]
        out[n] = np.abs(places - scan.at[n]).min() if len(places) else np.inf
    return out
