"""The report of a commissioned machine as one HTML file that opens offline."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

from planning.commission.commission import FITTED, KEPT_OUT, Commissioned
from planning.commission.plots import beam_plot, depth_plot, profile_plot
from planning.commission.verify import (
    HIGH_PERCENT,
    PENUMBRA_MM,
    TAIL_PERCENT,
    Verdict,
    pass_percent,
    worst,
)

from .review.facts import Provenance
from .review.tables import fact_list, provenance_block, table

_CRITERIA = (
    f"MPPG 5.a: {HIGH_PERCENT:g} % of the local dose where it is high, {PENUMBRA_MM:g} mm in the penumbra, "
    f"{TAIL_PERCENT:g} % of the field's greatest dose in the tails. The first 10 mm of depth are not judged."
)
_HEADINGS = {FITTED: "Fields that were fitted", KEPT_OUT: "Fields kept out of the fit"}


def page(found: Commissioned, provenance: Provenance) -> str:
    """Tables and plots of every set of measurements, and where they come from; every text is escaped."""
    beam = found.machine.beam
    facts = {
        "Calibration": found.machine.calibration,
        "Attenuation": f"{1000 * beam.attenuation:.3f} / m",
        "Penumbra": f"{beam.penumbra_fwhm[0]:.1f} mm along the leaves, {beam.penumbra_fwhm[1]:.1f} mm across",
        "Leaves": f"{100 * found.machine.mlc.transmission:.2f} % transmission, "
        f"{found.machine.mlc.dosimetric_gap:.2f} mm dosimetric gap",
    }
    sections = [f"<p>{escape(_CRITERIA)}</p>"]
    for n, (key, verdicts) in enumerate(found.verdicts.items()):
        heading = f"{_HEADINGS.get(key, key)}: {pass_percent(verdicts):.1f} % of the points pass"
        body = _scans_table(n, verdicts) + _output_table(n, found.output.get(key, {}))
        sections.append(_section(f"s{n}", heading, body + _plots(verdicts)))
    sections.append(_section("beam", "The beam", _image(beam_plot(found.machine), "Kernels and off-axis")))
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'"
    )
    return Template(_asset("app", "machine.html")).substitute(
        policy=escape(policy),
        title=escape(f"Machine {found.machine.name}"),
        style=_asset("app.review", "review.css"),
        facts=fact_list(facts),
        sections="\n".join(sections),
        provenance=provenance_block(provenance),
    )


def _scans_table(number: int, verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        scan = verdict.scan
        depth = f", {scan.depth:g} mm deep" if scan.depth else ""
        figures = worst(verdict)
        rows.append(
            [
                escape(scan.name),
                f"{scan.opening} cm, {scan.kind.value}{depth}",
                str(int(verdict.judged.sum())),
                f"{pass_percent([verdict]):.1f} %",
                *("–" if figure is None else f"{figure:.2f}" for figure in figures),
            ]
        )
    columns = (
        "Scan",
        "What",
        "Points",
        "Pass",
        "Worst, high dose (%)",
        "Worst, penumbra (mm)",
        "Worst, tail (%)",
    )
    return table(f"scans{number}", columns, rows)


def _output_table(number: int, factors: Mapping[float, tuple[float, float]]) -> str:
    rows = [
        [
            f"{side / 10:g}x{side / 10:g} cm",
            f"{measured:.3f}",
            f"{own:.3f}",
            f"{100 * (own / measured - 1):+.2f} %",
        ]
        for side, (measured, own) in factors.items()
    ]
    columns = ("Output factor", "Measured", "Model", "Difference")
    return table(f"output{number}", columns, rows) if rows else ""


def _plots(verdicts: Sequence[Verdict]) -> str:
    pictures = [_image(depth_plot(verdicts), "Depth doses: measured (dots) and model (lines)")]
    for opening in dict.fromkeys(verdict.scan.opening for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.scan.opening == opening]
        pictures.append(
            _image(profile_plot(own), f"Profiles of {opening} cm: measured (dots), model (lines)")
        )
    return "".join(pictures)


def _section(name: str, heading: str, body: str) -> str:
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(heading)}</h2>{body}</section>'


def _image(png: bytes, caption: str) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return (
        f'<figure><img src="{source}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _asset(package: str, name: str) -> str:
    return (files(package) / name).read_text(encoding="utf-8")
