"""A plan as one HTML file that opens offline: each beam with a slider and a play button."""

import base64
import hashlib
import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from imaging.atomic import whole_file

from .plan_view import BeamView, PlanView, plan_view, window
from .plan_view_strip import strip
from .review.tables import fact_list, provenance_block


def view_plan(rtplan: Path, out: Path, fraction_group: int | None = None) -> dict[str, object]:
    """An RTPLAN drawn as a strip (.png) or a page (.html), by the name of ``out``.

    Raises
    ------
    ValueError
        If the plan cannot be read, or ``out`` ends in something else.
    """
    kind = out.suffix.lower()
    if kind not in {".html", ".png"}:
        raise ValueError(f"expected a .html or .png file to draw to, got {kind or 'no ending'}; name one")
    view = plan_view(rtplan, fraction_group)
    if kind == ".html":
        write_page(out, view)
    else:
        with whole_file(out) as part:
            part.write_bytes(strip(view))
    return {"view": str(out), "mu": {shown.beam.name: round(shown.beam.mu, 3) for shown in view.beams}}


def write_page(path: Path, view: PlanView) -> None:
    """The page of a plan, written whole or not at all.

    As the review page: all that is shown is inside, its content security policy forbids every request,
    every text is escaped, and the same content gives the same bytes. Where scripts do not run, and on
    paper, the strip stands in.
    """
    script = _asset("app", "plan_view.js")
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src 'unsafe-inline'; script-src {_hash(script)}"
    )
    html = Template(_asset("app", "plan_view.html")).substitute(
        policy=escape(policy),
        title="Plan beam by beam",
        style=_asset("app.review", "review.css"),
        facts=fact_list(view.facts),
        beams="\n".join(_section(n, shown) for n, shown in enumerate(view.beams)),
        strip=f"data:image/png;base64,{base64.b64encode(strip(view)).decode('ascii')}",
        provenance=provenance_block(view.provenance),
        # "<" written as an escape can neither close the element nor open a comment.
        data=json.dumps([_data(shown) for shown in view.beams], allow_nan=False).replace("<", "\\u003c"),
        script=script,
    )
    with whole_file(path) as part:
        part.write_text(html, encoding="utf-8", newline="\n")


def _section(n: int, shown: BeamView) -> str:
    last = len(shown.beam.control_points) - 1
    return (
        f'<section class="beam" data-beam="{n}" aria-labelledby="b{n}">'
        f'<h2 id="b{n}">{escape(shown.beam.name)}</h2>{fact_list(shown.facts())}'
        f'<div class="shown"><canvas class="aperture" role="img" aria-labelledby="b{n}" '
        f'aria-describedby="s{n}"></canvas><div>'
        '<canvas class="units" role="img" aria-label="Monitor units from each control point to the next">'
        "</canvas>"
        '<div class="walk"><button type="button" class="play" aria-pressed="false">Play</button>'
        f'<input type="range" min="0" max="{last}" step="1" value="0" '
        f'aria-label="Control point of {escape(shown.beam.name)}"></div>'
        f'<p class="state" id="s{n}"></p></div></div></section>'
    )


def _data(shown: BeamView) -> dict[str, object]:
    """What the page draws of a beam, to a hundredth of a millimetre."""
    x, y, half = window(shown)
    points = shown.beam.control_points
    jaws = {axis: [_rounded(getattr(p, f"jaws_{axis}")) for p in points] for axis in shown.jaws}
    layers = [
        {
            "edges": _rounded(edges),
            "leaves": [[_rounded(bank) for bank in shown.layers(n)[layer]] for n in range(len(points))],
        }
        for layer, edges in enumerate(shown.edges)
    ]
    return {
        "window": _rounded((x, y, half)),
        "mu": round(shown.beam.mu, 3),
        "arc": shown.is_arc,
        "gantry": _rounded(shown.gantry),
        "shares": [round(float(share), 6) for share in shown.shares],
        "jaws": jaws,
        "layers": layers,
    }


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 2) for value in values]


def _asset(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest())
    return f"'sha256-{digest.decode('ascii')}'"
