"""The page of a plan under errors: histograms as bands, goals at worst, and what fails first."""

import base64
import hashlib
import json
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from imaging.atomic import whole_file
from imaging.show import palette
from imaging.structures import RoiType, StructureSet
from planning.check.first_failure import FirstFailure, Miss
from planning.check.robust import Band, Robustness
from planning.plan import Prescription

from .review.facts import Provenance
from .review.tables import fact_list, provenance_block, table, verdict


@dataclass(frozen=True, eq=False)
class RobustPage:
    """What the page shows; no field may name a patient.

    Parameters
    ----------
    found
        The plan in every scenario.
    failures
        What each kind of error takes away first.
    structures
        Give the histograms their colours.
    prescription
        Dose and fractions.
    provenance
        Where it comes from.
    """

    found: Robustness
    failures: tuple[FirstFailure, ...]
    structures: StructureSet
    prescription: Prescription
    provenance: Provenance


def write_page(path: Path, page: RobustPage) -> None:
    """A page as one HTML file that opens offline and asks for nothing.

    As the review page: all that is shown is inside, its content security policy forbids every request,
    every text is escaped, and the same content gives the same bytes.
    """
    scripts = [
        _asset("app.review", "vendor/plotly-basic.min.js").replace("</script", "<\\/script"),
        _asset("app", "robust_page.js"),
    ]
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        "img-src data: blob:; font-src data:; style-src 'unsafe-inline'; "
        f"script-src {' '.join(_hash(script) for script in scripts)}"
    )
    html = Template(_asset("app", "robust_page.html")).substitute(
        policy=escape(policy),
        style=_asset("app.review", "review.css"),
        facts=fact_list(_facts(page)),
        first=_first(page.failures),
        goals=_goals(page.found),
        scenarios=_scenarios(page.found),
        provenance=provenance_block(page.provenance),
        # "<" written as an escape can neither close the element nor open a comment.
        data=json.dumps(_data(page), ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace(
            "<", "\\u003c"
        ),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )
    with whole_file(path) as part:
        part.write_text(html, encoding="utf-8", newline="\n")


def _facts(page: RobustPage) -> dict[str, str]:
    judged = [band for band in page.found.bands if band.met is not None]
    return {
        "Prescription": f"{page.prescription.dose_gy:g} Gy in {page.prescription.n_fractions} fractions",
        "Scenarios": str(len(page.found.scenarios)),
        "Goals met in all of them": f"{sum(bool(b.met) for b in judged)} of {len(judged)}",
        **{
            f"{c.structure} V95%": f"{c.nominal:.1f} % as planned, {c.worst:.1f} % at worst"
            for c in page.found.coverage
        },
    }


def _first(failures: tuple[FirstFailure, ...]) -> str:
    """What each kind of error takes away first, with everything that was looked at folded away."""
    rows = []
    for failure in failures:
        kind = failure.kind
        holds = f"{failure.holds * kind.size:.3g} {kind.unit}"
        if failure.fails is None:
            rows.append([escape(kind.name), escape(holds), "none found", "", verdict(met=True)])
            continue
        fails = f"{failure.fails * kind.size:.3g} {kind.unit}"
        goals = "<br>".join(escape(_missed(miss)) for miss in failure.missed)
        met = failure.fails > 1
        rows.append([escape(kind.name), escape(holds), escape(fails), goals, verdict(met)])
    columns = ("Error", "Goals hold up to", "First missed at", "Goal", "Holds at the error given")
    looked = [
        [
            escape(failure.kind.name),
            f"{level.multiple * failure.kind.size:.3g} {escape(failure.kind.unit)}",
            "<br>".join(escape(_missed(miss)) for miss in level.missed) or "none",
        ]
        for failure in failures
        for level in failure.levels
    ]
    details = table("levels", ("Error", "Size", "Goals missed that are met as planned"), looked)
    return (
        table("first", columns, rows)
        + f"<details><summary>Every size that was looked at: {len(looked)}</summary>{details}</details>"
    )


def _missed(miss: Miss) -> str:
    goal = miss.result.goal
    return f"{goal.structure} {goal.text}: {miss.result.value:.2f} {miss.result.unit} ({miss.scenario})"


def _goals(found: Robustness) -> str:
    rows = [
        [
            escape(band.goal.structure),
            escape(band.goal.text) + _limit(band),
            f"{band.nominal:.2f} {band.unit}",
            f"{band.mean:.2f} {band.unit}",
            f"{band.worst:.2f} {band.unit}",
            escape(band.where),
            verdict(band.met),
        ]
        for band in found.bands
        if band.met is not None
    ]
    columns = ("Structure", "Goal", "As planned", "Mean", "At worst", "Where", "Result at worst")
    return table("goals", columns, rows) + _open(found)


def _limit(band: Band) -> str:
    """What a goal is held against, where its words say something else: percent, or an EQD2."""
    if (band.limit, band.unit) == (band.goal.limit, band.goal.unit):
        return ""
    return f"<small>that is {band.limit:.2f} {band.unit}</small>"


def _open(found: Robustness) -> str:
    """The goals that could not be evaluated, folded away: never silently left out."""
    rows = [
        [escape(b.goal.structure), escape(b.goal.text), escape(b.reason)]
        for b in found.bands
        if b.met is None
    ]
    if not rows:
        return ""
    body = table("open-goals", ("Structure", "Goal", "Why it was not evaluated"), rows)
    return f"<details><summary>{len(rows)} not evaluated</summary>{body}</details>"


def _scenarios(found: Robustness) -> str:
    """Every goal in every scenario; a sign marks what is missed."""
    shown = [n for n, band in enumerate(found.bands) if band.met is not None]
    goals = [found.bands[n].goal for n in shown]
    columns = ("Scenario", *(f"{escape(g.structure)}<br>{escape(g.text)}" for g in goals))
    rows = [
        [escape(scenario.name), *(_cell(results[n].value, met=bool(results[n].met)) for n in shown)]
        for scenario, results in zip(found.scenarios, found.results, strict=True)
    ]
    return table("scenarios", columns, rows)


def _cell(value: float | None, *, met: bool) -> str:
    text = f"{value or 0.0:.2f}"
    return text if met else f'<span class="missed">✖ {text}</span>'


def _data(page: RobustPage) -> dict[str, object]:
    colors = palette(page.structures)
    bands = page.found.envelopes
    return {
        "prescription": page.prescription.dose_gy,
        "bands": [
            {
                "name": name,
                "color": colors[name],
                # A body's histogram is wide and says little: it is there to be asked for.
                "hidden": page.structures.structures[name].kind is RoiType.EXTERNAL,
                **{
                    key: [round(float(v), 2) for v in values]
                    for key, values in (
                        ("dose", band.doses),
                        ("nominal", band.nominal),
                        ("low", band.low),
                        ("high", band.high),
                    )
                },
            }
            for name, band in bands.items()
        ],
    }


def _asset(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest())
    return f"'sha256-{digest.decode('ascii')}'"
