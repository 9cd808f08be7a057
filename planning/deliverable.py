"""Whether a plan is complete, and its machine can take every state of it."""

import numpy as np
from jaxtyping import Float64

from .beams import Beam, ControlPoint
from .machine import Machine
from .plan import Plan

_SHARE = 1e-6  # of the monitor units, for rounding
_MM = 1e-6
_ROUNDED = 0.01  # mm, of leaf positions in files


def expect_deliverable(plan: Plan, machine: Machine) -> Plan:
    """This plan, if the machine can deliver it as it stands.

    Raises
    ------
    ValueError
        If the plan is for another machine, has no beams, a beam has no monitor units or does
        not deliver from 0 to 1, jaws or leaves cross or travel too far, jaws are set that the machine
        has not, or leaves of one layer stand too far apart, keep less than their gap, or pass their
        neighbours' opposite leaves where they may not.
    """
    if plan.machine != machine.name:
        raise ValueError(f"expected a plan for machine {machine.name}, got one for {plan.machine}")
    if not 0 < len(machine.name) <= 16:
        raise ValueError(f"expected a machine name of 1 to 16 characters, got {machine.name}; rename it")
    if not plan.beams:
        raise ValueError("expected a plan with at least one beam, got none")
    for beam in plan.beams:
        _check_metersets(beam)
        for point in beam.control_points:
            _check_state(point, beam.name, machine)
    return plan


def _check_metersets(beam: Beam) -> None:
    shares = np.array([p.meterset for p in beam.control_points])
    if len(shares) < 2 or not np.isfinite(beam.mu) or beam.mu <= 0:
        raise ValueError(
            f"expected beam {beam.name} with control points and monitor units, got none; sequence it first"
        )
    whole = abs(shares[0]) <= _SHARE and abs(shares[-1] - 1) <= _SHARE and (np.diff(shares) >= 0).all()
    if not whole:
        raise ValueError(f"expected beam {beam.name} to deliver shares from 0 up to 1, got others")


def _check_state(point: ControlPoint, name: str, machine: Machine) -> None:
    n_pairs, jaws = machine.mlc.n_pairs, np.array([point.jaws_x, point.jaws_y])
    if point.leaves.shape[1] != n_pairs:
        raise ValueError(f"expected {n_pairs} leaf pairs in beam {name}, got {point.leaves.shape[1]}")
    if not np.isfinite([point.gantry, *jaws.ravel(), *point.leaves.ravel()]).all():
        raise ValueError(f"expected finite angles and positions in beam {name}, got some that are not")
    if (point.leaves[0] > point.leaves[1] + _MM).any() or (jaws[:, 0] > jaws[:, 1] + _MM).any():
        raise ValueError(f"expected leaves and jaws that do not cross in beam {name}, got some that do")
    mlc = machine.mlc
    if np.abs(point.leaves).max() > mlc.max_position + _MM or np.abs(jaws).max() > machine.max_jaw + _MM:
        raise ValueError(
            f"expected leaves within {mlc.max_position:g} mm and jaws within {machine.max_jaw:g} mm "
            f"of the axis in beam {name}, got some beyond"
        )
    full = (-machine.max_jaw, machine.max_jaw)
    for axis, own in zip(("x", "y"), jaws, strict=True):
        if axis not in machine.jaws and np.abs(own - full).max() > _MM:
            raise ValueError(
                f"expected the full opening along {axis} in beam {name}, where {machine.name} has no jaws, "
                f"got {own[0]:g} to {own[1]:g} mm"
            )
    first = 0
    for edges in mlc.layers:
        _check_layer(point.leaves[:, first : first + len(edges) - 1], name, machine)
        first += len(edges) - 1


def _check_layer(leaves: Float64[np.ndarray, "2 n"], name: str, machine: Machine) -> None:
    """Refuses what the leaves of one layer cannot do together."""
    mlc, (left, right) = machine.mlc, leaves
    if max(left.max(), -right.min()) > mlc.max_overtravel + _MM:
        raise ValueError(
            f"expected leaves at most {mlc.max_overtravel:g} mm beyond the axis in beam {name}, "
            "got some that are further"
        )
    if np.ptp(leaves, axis=1).max() > mlc.max_span + _MM:
        raise ValueError(
            f"expected leaves of one bank at most {mlc.max_span:g} mm apart in beam {name}, got "
            f"{np.ptp(leaves, axis=1).max():.1f} mm; choose a smaller field or another collimator angle"
        )
    gaps = right - left
    if ((gaps > _MM) & (gaps < mlc.min_gap - _ROUNDED)).any():
        raise ValueError(
            f"expected leaf pairs closed or open by {mlc.min_gap:g} mm in beam {name}, got one open by "
            f"{gaps[gaps > _MM].min():.3f} mm"
        )
    passing = np.maximum(left[1:] - right[:-1], left[:-1] - right[1:])
    if not mlc.interdigitation and (passing > _MM).any():
        raise ValueError(
            f"expected leaves that do not pass the opposite leaves of their neighbours in beam {name}, which "
            f"{machine.name} forbids, got some that do"
        )
