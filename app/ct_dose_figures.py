"""One plan on a synthetic CT and on the true one: how far the doses are from each other."""

from collections.abc import Mapping
from typing import Any

from imaging.structures import RoiType
from imaging.volume import Volume
from planning.check.dvh import Dvh, dose_at_share, histogram, mean
from planning.check.gamma import gamma_pass
from planning.check.synthrad_dose import PlanHistograms, dvh_metric, high_dose_error, most_irradiated
from planning.contour.body import body_of
from planning.density import relative_electron_density
from planning.dose.forward import calculate
from planning.machine import Machine
from planning.plan import Plan, Prescription

from .console import Progress
from .evaluate_files import Regions
from .optimised import dose_grid

_GAMMA = ((2.0, 2.0), (1.0, 1.0))  # %, mm
_GAMMA_POINTS = 20_000
# Less of a structure on the dose grid than this, and its figures are of another structure.
_INSIDE_AT_LEAST = 0.99


def on_both(
    plan: Plan,
    machine: Machine,
    cts: tuple[Volume, Volume],
    regions: Regions,
    spacing: float,
    progress: Progress,
) -> dict[str, Any]:
    """Figures of a plan's dose on a synthetic CT beside that on the true one.

    Parameters
    ----------
    plan, machine
        Beams with monitor units, and what delivers them.
    cts
        The synthetic and the true CT (HU) on one grid; each with its own body.
    regions
        Structures, one of them a planning target.
    spacing
        Voxel size of the dose grid (mm).
    progress
        Told what happens now and the share of it that is done.

    Raises
    ------
    ValueError
        If there is no target on the CTs, or no dose in it.
    """
    body = body_of(cts[1])
    grid = dose_grid(cts[1].grid, body, spacing)
    doses = []
    for name, ct in zip(("synthetic", "true"), cts, strict=True):
        title = f"Dose on the {name} CT"
        density = relative_electron_density(ct, body_of(ct))

        def tell(_step: str, share: float, title: str = title) -> None:
            progress(title, share)

        doses.append(calculate(plan, density, grid, machine, progress=tell))
    everything = [histogram(dose, body, cts[1].grid) for dose in doses]
    return {
        "machine": machine.name,
        "dose_spacing_mm": spacing,
        **beside(doses[0], doses[1], regions, (everything[0], everything[1]), plan.prescription),
    }


def beside(
    dose: Volume, true_dose: Volume, regions: Regions, everything: tuple[Dvh, Dvh], rx: Prescription
) -> dict[str, Any]:
    """Figures of a dose on a synthetic CT (Gy) beside that on the true one, on one grid.

    Parameters
    ----------
    dose, true_dose
        Total doses (Gy).
    regions
        Structures, one of them a planning target; of several the one with the greatest mean dose.
    everything
        Histograms of the body in both.
    rx
        What percentages are of.

    Raises
    ------
    ValueError
        As :func:`on_both`.
    """
    both = [regions.histograms(dose), regions.histograms(true_dose)]
    target = _target(both[1], regions.kinds)
    organs = [
        name
        for name, dvh in both[1].items()
        if regions.kinds[name] is RoiType.ORGAN and dvh.share_inside >= _INSIDE_AT_LEAST
    ]
    ours, theirs = (
        PlanHistograms(dvhs[target], whole, {name: dvhs[name] for name in organs})
        for dvhs, whole in zip(both, everything, strict=True)
    )
    found: dict[str, Any] = {
        "prescription": {"dose_gy": rx.dose_gy, "n_fractions": rx.n_fractions},
        "target": target,
    }
    for name, (our, true) in _doses_of(ours.target, theirs.target).items():
        found[f"target_{name}_gy"] = round(true, 4)
        found[f"target_{name}_difference_percent"] = round(100 * (our - true) / rx.dose_gy, 4)
    for percent, mm in _GAMMA:
        gamma = gamma_pass(true_dose, dose, percent, mm, 10.0, n_points=_GAMMA_POINTS)
        found[f"gamma_{percent:g}_{mm:g}_percent"] = gamma.pass_percent
    found["gamma_points"] = gamma.n_points
    found["synthrad"] = {
        "dose_mae": high_dose_error(dose, true_dose, rx.dose_gy),
        "dvh_metric": dvh_metric(ours, theirs, rx.dose_gy),
        "organs": list(most_irradiated(theirs.organs)),
    }
    return found


def _doses_of(ours: Dvh, theirs: Dvh) -> dict[str, tuple[float, float]]:
    return {
        "mean": (mean(ours), mean(theirs)),
        **{f"d{x:g}": (dose_at_share(ours, x), dose_at_share(theirs, x)) for x in (98.0, 2.0)},
    }


def _target(dvhs: Mapping[str, Dvh], kinds: Mapping[str, RoiType]) -> str:
    targets = [name for name in dvhs if kinds[name] is RoiType.PTV]
    if not targets:
        raise ValueError("expected structures with a planning target (PTV), got none; give them all")
    target = max(targets, key=lambda name: mean(dvhs[name]))
    if dvhs[target].share_inside < _INSIDE_AT_LEAST:
        raise ValueError(
            f"expected a target inside the true CT, got {100 * dvhs[target].share_inside:.0f} % of it there; "
            "give a CT of the whole head, registered to the plan's"
        )
    return target


def lines(found: Mapping[str, Any]) -> list[str]:
    """The figures of the dose for a person."""
    percent = {
        name: f"{round(found[f'target_{key}_difference_percent'], 2) + 0.0:+.2f} %"
        for key, name in {"mean": "mean", "d98": "D98%", "d2": "D2%"}.items()
    }
    score = found["synthrad"]
    return [
        f"Dose, synthetic CT − true CT, {found['target']} in % of the prescription: "
        + ", ".join(f"{name} {value}" for name, value in percent.items()),
        f"  gamma 2 %/2 mm {found['gamma_2_2_percent']:.2f} %, 1 %/1 mm {found['gamma_1_1_percent']:.2f} %",
        f"  SynthRAD: dose MAE {100 * score['dose_mae']:.2f} % of the prescription",
        f"  SynthRAD: DVH metric {score['dvh_metric']:.4f}, of organs {', '.join(score['organs']) or 'none'}",
        *(f"Caution: {caution}" for caution in found["cautions"]),
    ]
