"""Whether the beams of an RTPLAN deliver what they say: monitor units, shares, leaves, fractions, machine."""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float64
from pydicom.dataset import Dataset

from planning.rtplan_devices import JAWS
from planning.rtplan_machine import Head, head_of, machine_for, treatment_beams

from .findings import Finding, flagged, refused, unreadable

_SHARE = 1e-4  # of the final weight, for rounding in files
_MM = 1e-3
# Doses of the beams at their points need not add up to the dose of the target's volume: our choice.
_FRACTION_PERCENT = 20.0


def beam_findings(plan: Dataset) -> Iterator[Finding]:
    """What is wrong with the beams of an RTPLAN, one sentence for each thing and beam.

    Parameters
    ----------
    plan
        The data set.
    """
    beams = {int(beam.BeamNumber): beam for beam in treatment_beams(plan)}
    if not beams:
        yield refused("expected a plan with at least one treatment beam, got none; export the plan again")
    yield from _monitor_units(plan, beams)
    for number, beam in beams.items():
        yield from _shares(number, beam)
        yield from _devices(number, beam)
    yield from _fractions(plan)
    yield from _machine(beams)


def _number(value: object) -> float:
    """A number of the file; NaN where there is none."""
    try:
        return float(str(value))
    except ValueError:
        return float("nan")


def _groups(plan: Dataset) -> list[Dataset]:
    return list(plan.get("FractionGroupSequence") or [])


def _monitor_units(plan: Dataset, beams: Mapping[int, Dataset]) -> Iterator[Finding]:
    references = [r for group in _groups(plan) for r in group.get("ReferencedBeamSequence") or []]
    told = [(int(reference.ReferencedBeamNumber), reference) for reference in references]
    every = {int(beam.BeamNumber) for beam in plan.get("BeamSequence") or []}
    for number, reference in told:
        if number not in every:
            yield refused(
                f"expected beam {number} of the fractions in the plan, got none; export the plan again"
            )
        mu = _number(reference.get("BeamMeterset"))
        if number in beams and not (np.isfinite(mu) and mu > 0):
            yield refused(
                f"expected monitor units above 0 in beam {number}, got "
                f"{'none' if np.isnan(mu) else f'{mu:g}'}; calculate the plan again"
            )
    for number in sorted(set(beams) - {number for number, _ in told}):
        yield refused(
            f"expected every treatment beam in a fraction group, got beam {number} in none, without "
            "monitor units; delete it or plan its fractions"
        )


def _shares(number: int, beam: Dataset) -> Iterator[Finding]:
    points = beam.get("ControlPointSequence") or []
    weights = np.array([_number(point.get("CumulativeMetersetWeight")) for point in points])
    final = _number(beam.get("FinalCumulativeMetersetWeight"))
    if len(points) < 2 or int(beam.get("NumberOfControlPoints") or 0) != len(points):
        yield refused(
            f"expected {beam.get('NumberOfControlPoints') or 'two or more'} control points in beam {number}, "
            f"got {len(points)}; export the plan again"
        )
    elif not np.isfinite(weights).all() or not final > 0:
        yield refused(f"expected a meterset weight at each control point of beam {number}, got none at some")
    elif (np.diff(weights) < -_SHARE * final).any():
        yield refused(f"expected meterset weights of beam {number} that rise, got some that fall")
    elif abs(weights[0]) > _SHARE * final or abs(weights[-1] - final) > _SHARE * final:
        yield refused(
            f"expected beam {number} to deliver from 0 to 1 of its monitor units, got "
            f"{weights[0] / final:.4g} to {weights[-1] / final:.4g}; export the plan again"
        )


def _devices(number: int, beam: Dataset) -> Iterator[Finding]:
    """Pairs that cross or are not all there; one sentence for each device of a beam."""
    n_pairs = {}
    for device in beam.get("BeamLimitingDeviceSequence") or []:
        kind, pairs = str(device.RTBeamLimitingDeviceType), int(device.get("NumberOfLeafJawPairs") or 0)
        n_pairs[kind] = pairs
        edges = device.get("LeafPositionBoundaries")
        if edges is not None and len(edges) != pairs + 1:
            yield refused(
                f"expected {pairs + 1} edges for the {pairs} leaf pairs of beam {number}, got {len(edges)}; "
                "export the plan again"
            )
    told: set[str] = set()
    for index, point in enumerate(beam.get("ControlPointSequence") or []):
        for device in point.get("BeamLimitingDevicePositionSequence") or []:
            kind = str(device.RTBeamLimitingDeviceType)
            if kind in told:
                continue
            for finding in _place(
                number, index, kind, np.atleast_1d(device.LeafJawPositions), n_pairs.get(kind)
            ):
                told.add(kind)
                yield finding


def _place(number: int, index: int, kind: str, values: np.ndarray, n_pairs: int | None) -> Iterator[Finding]:
    what = "jaws" if kind in (*JAWS["x"], *JAWS["y"]) else "leaves"
    at = f"at control point {index} of beam {number}"
    place: Float64[np.ndarray, " _"] = np.asarray(values, dtype=np.float64)
    if n_pairs is None or len(place) != 2 * n_pairs or not np.isfinite(place).all():
        yield refused(
            f"expected a position for each of {n_pairs or 0} pairs of {what} {at}, got {len(place)} numbers"
        )
        return
    crossing = place[:n_pairs] - place[n_pairs:]
    if crossing.max() > _MM:
        yield refused(
            f"expected {what} that do not overlap, got {int((crossing > _MM).sum())} pairs that do, by up to "
            f"{crossing.max():.1f} mm {at}; calculate the plan again"
        )


def prescribed(plan: Dataset) -> float | None:
    """The largest dose prescribed to a target (Gy), if there is one."""
    doses = [
        _number(r.get("TargetPrescriptionDose"))
        for r in plan.get("DoseReferenceSequence") or []
        if r.get("DoseReferenceType") == "TARGET"
    ]
    return max((dose for dose in doses if dose > 0), default=None)


def n_fractions(plan: Dataset) -> int | None:
    """Fractions of the plan, where it has one group of them."""
    groups = _groups(plan)
    return int(groups[0].get("NumberOfFractionsPlanned") or 0) or None if len(groups) == 1 else None


def _fractions(plan: Dataset) -> Iterator[Finding]:
    groups = _groups(plan)
    if len(groups) != 1:
        yield flagged(f"expected one fraction group, got {len(groups)}; choose one wherever the plan is used")
        return
    fractions, dose = n_fractions(plan), prescribed(plan)
    if fractions is None:
        yield refused(
            "expected a number of fractions, got none; plan the fractions and export the plan again"
        )
    if dose is None:
        yield flagged("expected a dose prescribed to a target, got none; give it wherever the plan is used")
    told = [_number(r.get("BeamDose")) for r in groups[0].get("ReferencedBeamSequence") or []]
    if fractions is None or dose is None or not told or np.isnan(told).any():
        return
    given = fractions * sum(told)
    if abs(given / dose - 1) > _FRACTION_PERCENT / 100:
        yield flagged(
            f"expected doses of the beams that in {fractions} fractions come to the prescribed {dose:g} Gy, "
            f"got {given:.3g} Gy; look at the number of fractions and at the points of the beams"
        )


def _machine(beams: Mapping[int, Dataset]) -> Iterator[Finding]:
    heads: dict[str, Head] = {}
    for beam in beams.values():
        try:
            head = head_of(beam)
        except ValueError as error:
            yield unreadable(error)
            return
        heads.setdefault(head.name, head)
    if len(heads) > 1:
        yield refused(f"expected all beams on one machine, got {len(heads)} machines; split the plan")
    for head in heads.values():
        try:
            machine = machine_for(head)
        except ValueError as error:
            yield flagged(str(error))
            continue
        if machine.name != head.name:
            yield flagged(
                f"expected a machine that is described here, got one that is not but has the leaves of "
                f"{machine.name}; describe the plan's own before its dose is relied on"
            )
