"""``spindose evaluate plan``: every figure that a plan and its dose are judged by."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from imaging.structures import TARGETS, RoiType
from planning.check.biology import (
    LOGISTIC,
    LYMAN,
    Logistic,
    Lyman,
    equieffective,
    logistic_probability,
    lyman_ntcp,
)
from planning.check.complexity import complexity
from planning.check.dvh import Dvh, dose_at_cc, dose_at_share, maximum, mean, minimum, share_at_dose
from planning.check.indices import conformity, geud, gradient, homogeneity
from planning.check.judge import as_json, judge
from planning.goals import Goal, same_name
from planning.machine import Machine
from planning.motion import delivery_seconds
from planning.plan import Plan, Prescription

# Less of a structure on the dose grid than this, and it has no index.
_INSIDE_AT_LEAST = 0.99
# Volume effect of a target's gEUD: our choice, among the values in use for aggressive tumours.
_TARGET_A = -10.0
# α/β (Gy) of late effects, where the goals say none for an organ: our choice, the usual value.
_LATE = 3.0
_SIDE = re.compile(r"[_ .-](?:L|R|left|right)$", re.IGNORECASE)


def figures(
    plan: Plan,
    machine: Machine | None,
    dvhs: Mapping[str, Dvh],
    kinds: Mapping[str, RoiType],
    goals: Sequence[Goal],
) -> dict[str, object]:
    """What can be said of a plan in numbers, as plain values.

    Parameters
    ----------
    plan
        Beams with control points and monitor units, and the prescription.
    machine
        The plan's; None where it is not described here, and nothing is said of its leaves and speed.
    dvhs
        Histograms of the plan's total dose (Gy) by structure; empty where there is no dose.
    kinds
        What each structure is for.
    goals
        What is asked.
    """
    rx = plan.prescription
    results = judge(goals, dvhs, rx)
    judged = [result for result in results if result.met is not None]
    return {
        "prescription": {"dose_gy": rx.dose_gy, "n_fractions": rx.n_fractions},
        "beams": len(plan.beams),
        "mu": round(sum(beam.mu for beam in plan.beams), 3),
        "goals_met": sum(result.met is True for result in judged),
        "goals_judged": len(judged),
        "goals": as_json(results) if dvhs else [],
        "structures": {name: metrics(dvh, rx, kinds.get(name)) for name, dvh in dvhs.items()},
        "targets": indices(dvhs, kinds, rx),
        "complications": complications(dvhs, kinds, rx, goals),
        "tumour_control": {"not_evaluated": "no parameters are published that this project ships"},
        **delivery(plan, machine),
    }


def delivery(plan: Plan, machine: Machine | None) -> dict[str, object]:
    """How modulated a plan is and how long it takes; why not, where its machine is not known."""
    if machine is None:
        reason = {"not_evaluated": f"the machine {plan.machine!r} is not described here"}
        return {"machine": plan.machine, "complexity": reason, "delivery_seconds": None}
    return {
        "machine": plan.machine,
        "complexity": {name: round(value, 4) for name, value in asdict(complexity(plan, machine)).items()},
        "delivery_seconds": round(delivery_seconds(plan, machine), 1),
    }


def metrics(dvh: Dvh, rx: Prescription, kind: RoiType | None) -> dict[str, float | None]:
    """Doses, volumes at a dose and, of a target, the gEUD of one structure; ``None`` where there is none."""
    a = _TARGET_A if kind in TARGETS else None
    return {
        "volume_cc": round(dvh.volume_cc, 4),
        "share_inside": round(dvh.share_inside, 4),
        **{f"d{x:g}_gy": round(dose_at_share(dvh, x), 4) for x in (99.0, 98.0, 95.0, 50.0, 5.0, 2.0)},
        **{f"d{cc:g}cc_gy": round(dose_at_cc(dvh, cc), 4) for cc in (0.03, 0.1, 1.0)},
        **{f"v{x:g}_percent": round(share_at_dose(dvh, x / 100 * rx.dose_gy), 4) for x in (100, 95, 50)},
        **{f"v{x:g}gy_percent": round(share_at_dose(dvh, x), 4) for x in (20.0, 30.0, 45.0)},
        "mean_gy": round(mean(dvh), 4),
        "max_gy": round(maximum(dvh), 4),
        "min_gy": round(minimum(dvh), 4),
        "geud_gy": None if a is None else round(geud(dvh, a), 4),
        "geud_a": a,
    }


def indices(
    dvhs: Mapping[str, Dvh], kinds: Mapping[str, RoiType], rx: Prescription
) -> dict[str, dict[str, object]]:
    """Conformity, homogeneity and gradient of every planning target."""
    bodies = [dvh for name, dvh in dvhs.items() if kinds.get(name) is RoiType.EXTERNAL]
    targets = {name: dvh for name, dvh in dvhs.items() if kinds.get(name) is RoiType.PTV}
    if targets and len(bodies) != 1:
        reason = f"expected one external contour, got {len(bodies)}"
        return {name: {"not_evaluated": reason} for name in targets}
    return {name: _index(dvh, bodies[0], rx) for name, dvh in targets.items()}


def _index(target: Dvh, body: Dvh, rx: Prescription) -> dict[str, object]:
    if target.share_inside < _INSIDE_AT_LEAST:
        return {"not_evaluated": f"only {100 * target.share_inside:.0f} % of it is on the dose grid"}
    try:
        return {
            "paddick_conformity": round(conformity(target, body, rx.dose_gy), 4),
            # What covers a target whose median dose is prescribed is the isodose of 95 %.
            "paddick_conformity_of_95_percent": round(conformity(target, body, 0.95 * rx.dose_gy), 4),
            "icru_homogeneity": round(homogeneity(target), 4),
            "gradient_index": round(gradient(body, rx.dose_gy), 4),
        }
    except ValueError as error:  # no volume receives the prescription
        return {"not_evaluated": str(error)}


def complications(
    dvhs: Mapping[str, Dvh], kinds: Mapping[str, RoiType], rx: Prescription, goals: Sequence[Goal] = ()
) -> dict[str, list[dict[str, object]]]:
    """Probability of a complication (%) of each organ that a model has published parameters for.

    Of the dose in 2 Gy fractions with the same effect; they rank plans and predict nothing for a patient.

    Parameters
    ----------
    dvhs, kinds
        Histograms and purposes by structure; only organs that lie on the dose grid are looked at.
    rx
        The fractions.
    goals
        Say the α/β of an organ, where they do.
    """
    found: dict[str, list[dict[str, object]]] = {}
    for name, dvh in dvhs.items():
        key = _published(name)
        if key is None or kinds.get(name) is not RoiType.ORGAN or dvh.share_inside < _INSIDE_AT_LEAST:
            continue
        alpha_beta = _alpha_beta(name, goals)
        same = equieffective(dvh, rx.n_fractions, alpha_beta)
        models: list[tuple[str, float, Lyman | Logistic]] = []
        if key in LYMAN:
            models.append(("Lyman-Kutcher-Burman", lyman_ntcp(same, LYMAN[key]), LYMAN[key]))
        if key in LOGISTIC:
            models.append(("Niemierko", logistic_probability(same, LOGISTIC[key]), LOGISTIC[key]))
        found[name] = [
            {
                "model": model,
                "percent": round(100 * p, 4),
                "geud_eqd2_gy": round(geud(same, _volume_effect(parameters)), 4),
                "alpha_beta_gy": alpha_beta,
                "parameters": asdict(parameters),
                "verified": False,  # as planning.check.biology says of its numbers
            }
            for model, p, parameters in models
        ]
    return found


def _volume_effect(parameters: Lyman | Logistic) -> float:
    return 1 / parameters.n if isinstance(parameters, Lyman) else parameters.a


def _published(name: str) -> str | None:
    """The organ of the published tables that a structure's name stands for, on either side."""
    plain = _SIDE.sub("", name)
    return next((key for key in {**LYMAN, **LOGISTIC} if same_name(key, plain)), None)


def _alpha_beta(name: str, goals: Sequence[Goal]) -> float:
    told = [g.alpha_beta for g in goals if g.alpha_beta is not None and same_name(g.structure, name)]
    return told[0] if told else _LATE
