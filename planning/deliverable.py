"""Whether a plan is complete, and its machine can take every state of it."""

import numpy as np

from .beams import Beam, ControlPoint
from .machine import Machine
from .plan import Plan

_SHARE = 1e-6  # of the monitor units, for rounding
_MM = 1e-6


def expect_deliverable(plan: Plan, machine: Machine) -> Plan:
    """This plan, if the machine can deliver it as it stands.

    Raises
    ------
    ValueError
        If the plan is for another machine, has no beams, a beam has no monitor units or does
        not deliver from 0 to 1, or jaws or leaves cross or travel too far.
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
    mlc = machine.mlc
    jaws = np.array([point.jaws_x, point.jaws_y])
    n_pairs = len(mlc.boundaries) - 1
    if point.leaves.shape[1] != n_pairs:
        raise ValueError(f"expected {n_pairs} leaf pairs in beam {name}, got {point.leaves.shape[1]}")
    if not np.isfinite([point.gantry, *jaws.ravel(), *point.leaves.ravel()]).all():
        raise ValueError(f"expected finite angles and positions in beam {name}, got some that are not")
    if (point.leaves[0] > point.leaves[1] + _MM).any() or (jaws[:, 0] > jaws[:, 1] + _MM).any():
        raise ValueError(f"expected leaves and jaws that do not cross in beam {name}, got some that do")
    if np.abs(point.leaves).max() > mlc.max_position + _MM or np.abs(jaws).max() > machine.max_jaw + _MM:
        raise ValueError(
            f"expected leaves within {mlc.max_position:g} mm and jaws within {machine.max_jaw:g} mm "
            f"of the axis in beam {name}, got some beyond"
        )
