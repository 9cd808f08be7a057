"""``spindose pareto``: what one goal of a planned patient costs another, as a page to walk along."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from imaging.atomic import new_folder, whole_file
from imaging.dicom.header import software_version
from imaging.folder import read_case
from imaging.show import palette
from imaging.structures import StructureSet
from planning.beams import Beam
from planning.check.dvh import Dvh, curve
from planning.check.judge import GoalResult, judge, measure
from planning.density import relative_electron_density
from planning.goals import Comparison, Goal, brain_goals, read_sheet, same_name
from planning.machine import load_machine
from planning.optimise.outlook import sampled
from planning.optimise.pareto import write_front
from planning.optimise.trade_off import TradeOff, dose_at, find_goal, trade_off
from planning.plan import Prescription
from planning.plan_file import read_plan

from .console import Progress
from .optimised import BODY
from .patient import kept_structures
from .review.facts import Provenance
from .review.tables import fact_list, provenance_block
from .steps import file_hash

_BETWEEN = 4  # places that the page shows between two nodes
_CURVE_POINTS = 160


@dataclass(frozen=True, eq=False)
class ParetoPage:
    """What the page of a front shows; no field may name a patient.

    Parameters
    ----------
    found
        The front.
    structures
        Give the histograms their colours.
    prescription
        Dose and fractions.
    goals
        All goals; those without a structure are told as not evaluated.
    facts
        Short statements under the heading.
    provenance
        Where it comes from.
    """

    found: TradeOff
    structures: StructureSet
    prescription: Prescription
    goals: tuple[Goal, ...]
    facts: Mapping[str, str]
    provenance: Provenance


def walk_pareto(
    planned: Path, between: tuple[str, str], out: Path, n_points: int, progress: Progress
) -> dict[str, object]:
    """The front between two goals of a patient that was planned before, in a new folder.

    Parameters
    ----------
    planned
        Folder of an earlier ``spindose plan`` or ``spindose demo``.
    between
        The two goals, such as ``PTV D98%`` and ``Brainstem D0.03cc``.
    out
        Where the front and its page go: ``front.json``, ``front.npz``, ``pareto.html``.
    n_points
        Fluences to compute.
    progress
        Called with what happens now and the share of it that is done.

    Raises
    ------
    ValueError
        If the folder holds no such run, or the goals cannot be traded.
    """
    kept = {name: planned / name for name in ("synthetic_ct", "contours", "delivery", "dose")}
    if not all(folder.is_dir() for folder in kept.values()):
        raise ValueError(
            "expected the folder of a finished 'spindose plan' or 'spindose demo', got another; plan first"
        )
    ct = read_case(kept["synthetic_ct"]).volumes["ct"]
    structures = kept_structures(read_case(kept["contours"]))
    plan = read_plan(kept["delivery"] / "plan.json")
    own = kept["delivery"] / "goals.toml"
    goals = read_sheet(own.read_text(encoding="utf-8")) if own.is_file() else brain_goals()
    pair = (find_goal(between[0], goals, structures), find_goal(between[1], goals, structures))
    with new_folder(out) as here:
        found = trade_off(
            pair,
            relative_electron_density(ct, structures.mask(BODY)),
            structures,
            plan.prescription,
            load_machine(plan.machine),
            [Beam(b.gantry, b.couch, b.collimator, b.isocenter, b.name) for b in plan.beams],
            goals,
            read_case(kept["dose"]).volumes["dose"].grid,
            n_points=n_points,
            progress=progress,
        )
        write_front(found.front, here)
        provenance = Provenance(
            software_version(),
            inputs={"plan": file_hash(kept["delivery"]), "contours": file_hash(kept["contours"])},
            parameters={"between": " and ".join(found.front.names), "machine": plan.machine},
        )
        facts = {
            "Prescription": f"{plan.prescription.dose_gy:g} Gy in {plan.prescription.n_fractions} fractions",
            "Beams": str(len(plan.beams)),
            "Fluences": f"{len(found.front.places)}, known within {100 * found.front.gap:.1f} % of the front",
        }
        write_page(
            here / "pareto.html",
            ParetoPage(found, structures, plan.prescription, _with(pair, goals), facts, provenance),
        )
    ends = {name: list(found.front.metrics[f"{g.structure} {g.text}"]) for name, g in _named(found)}
    return {"pareto": str(out / "pareto.html"), "front": str(out / "front.json"), "values": ends}


def write_page(path: Path, page: ParetoPage) -> None:
    """The page of a front as one HTML file that opens offline and asks for nothing.

    As the review page: all that is shown is inside, its content security policy forbids every request,
    every text is escaped, and the same content gives the same bytes.
    """
    scripts = [
        _asset("app.review", "vendor/plotly-basic.min.js").replace("</script", "<\\/script"),
        _asset("app", "pareto.js"),
    ]
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        "img-src data: blob:; font-src data:; style-src 'unsafe-inline'; "
        f"script-src {' '.join(_hash(script) for script in scripts)}"
    )
    first, second = page.found.front.names
    html = Template(_asset("app", "pareto.html")).substitute(
        policy=escape(policy),
        title=escape(f"{first} against {second}"),
        first=escape(first),
        second=escape(second),
        style=_asset("app.review", "review.css"),
        facts=fact_list(page.facts),
        provenance=provenance_block(page.provenance),
        # "<" written as an escape can neither close the element nor open a comment.
        data=json.dumps(_data(page), ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace(
            "<", "\\u003c"
        ),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )
    with whole_file(path) as part:
        part.write_text(html, encoding="utf-8", newline="\n")


def _data(page: ParetoPage) -> dict[str, object]:
    front = page.found.front
    spread = [
        np.linspace(a, b, _BETWEEN, endpoint=False)
        for a, b in zip(front.places, front.places[1:], strict=False)
    ]
    places = np.append(np.concatenate(spread), front.places[-1])
    doses = [dose_at(page.found, float(place)) for place in places]
    axis = np.linspace(0, 1.02 * max(float(dose.max()) for dose in doses), _CURVE_POINTS)
    seen = [sampled(dose, page.found.drawn) for dose in doses]
    colors = palette(page.structures)
    judged = judge(page.goals, seen[0], page.prescription)
    shown = [result.goal for result in judged if result.met is not None]
    return {
        "prescription": page.prescription.dose_gy,
        "pair": [
            {
                "name": name,
                "unit": _measure(goal, seen[0], page.prescription)[1],
                "better": "more" if goal.comparison is Comparison.AT_LEAST else "less",
                "limit": round(judge([goal], seen[0], page.prescription)[0].limit, 3),
            }
            for name, goal in _named(page.found)
        ],
        "goals": [
            {
                "structure": result.goal.structure,
                "goal": result.goal.text,
                "unit": result.unit,
                "limit": _limit(result),
            }
            for result in judged
            if result.met is not None
        ],
        "open": [
            {"structure": result.goal.structure, "goal": result.goal.text, "reason": result.reason}
            for result in judged
            if result.met is None
        ],
        "structures": [{"name": name, "color": colors[name]} for name in seen[0]],
        "dose": [round(float(x), 2) for x in axis],
        "nodes": list(range(0, len(places), _BETWEEN)),
        "steps": [
            {
                "place": round(float(place), 4),
                "pair": [
                    round(_measure(goal, dvhs, page.prescription)[0], 3) for _, goal in _named(page.found)
                ],
                "goals": [
                    [round(result.value or 0.0, 3), result.met]
                    for result in judge(shown, dvhs, page.prescription)
                ],
                "curves": [[round(float(v), 1) for v in curve(dvh, axis)] for dvh in dvhs.values()],
            }
            for place, dvhs in zip(places, seen, strict=True)
        ],
    }


def _with(pair: tuple[Goal, Goal], goals: tuple[Goal, ...]) -> tuple[Goal, ...]:
    """All goals, and those of the two that somebody gave in words of their own."""
    known = {(goal.structure.lower(), goal.text) for goal in goals}
    return (*goals, *(goal for goal in pair if (goal.structure.lower(), goal.text) not in known))


def _named(found: TradeOff) -> list[tuple[str, Goal]]:
    return list(zip(found.front.names, found.goals, strict=True))


def _measure(goal: Goal, dvhs: Mapping[str, Dvh], prescription: Prescription) -> tuple[float, str]:
    return measure(goal, next(d for n, d in dvhs.items() if same_name(n, goal.structure)), prescription)


def _limit(result: GoalResult) -> str:
    """What a goal is held against, where its words say something else: percent, or an EQD2."""
    if (result.limit, result.unit) == (result.goal.limit, result.goal.unit):
        return ""
    return f"{result.limit:.2f} {result.unit}"


def _asset(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest())
    return f"'sha256-{digest.decode('ascii')}'"
