"""The page of an evaluation: figures beside their floors, verdicts, nearest pairs and curves."""

import base64
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from imaging.atomic import whole_file
from synth.privacy.audit import Pair, figures

from .evaluate_plots import brightness, pair, some, spectra
from .evaluated import Evaluation, Row, fidelity_verdict, rows
from .review.facts import Provenance
from .review.tables import fact_list, provenance_block, table

_SHOWN = 8  # pairs of each kind
# Figure, its key in synth.privacy.audit.figures, and that of what stands beside it.
_AUDIT = (
    ("Memorised share", "memorised_share", "distance_share_expected"),
    ("Distance to training over distance to held-out images", "distance_ratio", "distance_ratio_null"),
    ("Greatest correlation with a training image", "greatest_correlation", "greatest_correlation_null"),
    ("Membership told by distance, area under the curve", "membership_distance_auc", ""),
    ("Positive control caught", "positive_control_caught", ""),
)
_SIGNS = {True: ("met", "✔"), False: ("unmet", "✖"), None: ("open", "–")}


def write_page(path: Path, found: Evaluation) -> None:
    """A page as one HTML file that opens offline and asks for nothing.

    There is no script in it, pictures are inside, its content security policy forbids every request, every
    text is escaped, and the same content gives the same bytes.
    """
    sets, judged = found.sets, rows(found)
    html = Template(_asset("app", "evaluate_page.html")).substitute(
        style=_asset("app.review", "review.css"),
        facts=fact_list(_facts(found)),
        verdicts=_verdicts(found, judged),
        figures=_figures(judged),
        privacy=_privacy(found),
        nearest=_pairs(found, found.privacy.nearest, "distance"),
        strongest=_pairs(found, found.privacy.strongest, "correlation"),
        real=_image(some(sets, sets.held_out), "Some of the real images that were held out", "strip"),
        synthetic=_image(some(sets, sets.synthetic), "Some of the synthetic images", "strip"),
        spectra=_image(spectra(sets), "Radial spectra of real and synthetic images", "plot"),
        brightness=_image(brightness(sets), "Histograms of brightness within each class", "plot"),
        provenance=provenance_block(_provenance(found)),
    )
    with whole_file(path) as part:
        part.write_text(html, encoding="utf-8", newline="\n")


def _facts(found: Evaluation) -> dict[str, str]:
    sets = found.sets
    return {
        "Synthetic": f"{len(sets.synthetic)} {sets.kind}",
        "Training": str(len(sets.train)),
        "Held out": str(len(sets.held_out)),
        "Contrasts": ", ".join(sets.contrasts),
        "Extractor": found.extractor.name,
        "SHA-256": found.extractor.sha256[:16],
    }


def _verdicts(found: Evaluation, judged: list[Row]) -> str:
    good = all(row.good is not False for row in judged)
    undecided = found.privacy.verdict.startswith("Undecided")
    private = None if undecided else not found.privacy.flagged
    said = [_said(fidelity_verdict(judged), good), _said(found.privacy.verdict, private)]
    return "".join([*said, *(f'<p class="note">{escape(note)}</p>' for note in found.notes)])


def _said(text: str, good: bool | None) -> str:
    kind, sign = _SIGNS[good]
    return f'<p class="said {kind}"><span aria-hidden="true">{sign}</span> {escape(text)}</p>'


def _figures(judged: list[Row]) -> str:
    columns = ("Figure", "Value", "Interval", "Two real halves", "Synthetic at equal number", "Verdict")
    body = [
        [escape(row.name), row.value, row.interval, escape(row.floor), escape(row.beside), _told(row)]
        for row in judged
    ]
    return table("figures", columns, body)


def _told(row: Row) -> str:
    kind, sign = _SIGNS[row.good]
    return f'<span class="verdict {kind}"><span aria-hidden="true">{sign}</span> {escape(row.verdict)}</span>'


def _privacy(found: Evaluation) -> str:
    known = figures(found.privacy)
    first = [
        [escape(name), escape(_value(known.get(key))), escape(_value(known.get(beside)))]
        for name, key, beside in _AUDIT
    ]
    whole = [
        [escape(name.replace("_", " ")), escape(_value(value))]
        for name, value in known.items()
        if name != "verdict"
    ]
    return (
        table("privacy-figures", ("Figure", "Synthetic images", "Held-out images, or chance"), first)
        + f"<details><summary>Every figure of the audit: {len(whole)}</summary>"
        + f"{table('privacy-all', ('Figure', 'Value'), whole)}</details>"
    )


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)


def _pairs(found: Evaluation, pairs: tuple[Pair, ...], kind: str) -> str:
    sets = found.sets
    return "".join(
        f"<figure>{_image(pair(sets, p.synthetic, p.train), 'A synthetic and a training image')}"
        f"<figcaption>synthetic {escape(sets.synthetic.names[p.synthetic])} | training "
        f"{escape(sets.train.names[p.train])}: {kind} {p.value:.3g}</figcaption></figure>"
        for p in pairs[:_SHOWN]
    )


def _provenance(found: Evaluation) -> Provenance:
    sets = found.sets
    return Provenance(
        found.version,
        found.seed,
        {
            "Synthetic images": sets.synthetic.sha256(),
            "Training images": sets.train.sha256(),
            "Held-out images": sets.held_out.sha256(),
            f"Extractor {found.extractor.name}": found.extractor.sha256,
        },
        {
            "Features": found.extractor.what,
            "Dimensions": f"{found.fidelity.n_dimensions}, Frechet distance on {found.fidelity.n_axes}",
            "Resamples": str(found.config.n_resamples),
            "Splits of the floor": str(found.config.n_splits),
            "Neighbours": str(found.config.k),
        },
    )


def _image(png: bytes, alt: str, kind: str = "") -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<img class="{kind}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def _asset(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
