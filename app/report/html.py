"""A plan report as one HTML page: it holds all that it shows, prints well, and asks for nothing."""

import base64
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from app.review.tables import fact_list, table, verdict
from imaging.atomic import whole_file

from .facts import Cell, Code, Picture, Report, Section, Table, Verdict


def write_html(path: Path, report: Report) -> None:
    """The page, written whole or not at all; the same report gives the same bytes.

    Parameters
    ----------
    path
        Where to write.
    report
        What to print. Its texts may come from anywhere: they are escaped.
    """
    page = Template(files("app.report").joinpath("report.html").read_text(encoding="utf-8")).substitute(
        title=escape(report.title),
        style=_style(),
        identity=fact_list(report.identity),
        statements=fact_list({**report.statements, "Software": f"Spindose {report.version}"}),
        cautions=_cautions(report.cautions),
        sections="\n".join(_section(n, section) for n, section in enumerate(report.sections)),
        seal=escape(report.seal),
    )
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8", newline="\n")


def _style() -> str:
    """The look of the review page, and what paper needs beside it."""
    review = files("app.review").joinpath("review.css").read_text(encoding="utf-8")
    return review + files("app.report").joinpath("report.css").read_text(encoding="utf-8")


def _cautions(cautions: tuple[str, ...]) -> str:
    if not cautions:
        return ""
    items = "".join(f"<li>{escape(caution)}</li>" for caution in cautions)
    return f'<section class="cautions"><h2>Cautions</h2><ul>{items}</ul></section>'


def _section(number: int, section: Section) -> str:
    parts = [
        *(f"<p>{escape(sentence)}</p>" for sentence in section.sentences),
        *map(_picture, section.pictures),
        *(_table(f"t{number}-{n}", one) for n, one in enumerate(section.tables)),
    ]
    return f"<section><h2>{escape(section.heading)}</h2>{''.join(parts)}</section>"


def _picture(picture: Picture) -> str:
    source = base64.b64encode(picture.png).decode("ascii")
    words = escape(picture.words)
    return (
        f'<figure><img alt="{words}" style="width:{100 * picture.share:g}%" '
        f'src="data:image/png;base64,{source}">'
        f"<figcaption>{words}.</figcaption></figure>"
    )


def _table(name: str, one: Table) -> str:
    heading = f"<h3>{escape(one.heading)}</h3>" if one.heading else ""
    note = f'<p class="note">{escape(one.note)}</p>' if one.note else ""
    rows = [[_cell(cell) for cell in row] for row in one.rows]
    return heading + table(name, [escape(column) for column in one.columns], rows) + note


def _cell(cell: Cell) -> str:
    if isinstance(cell, Verdict):
        return verdict(cell.met)
    if isinstance(cell, Code):
        return f"<code>{escape(cell.text)}</code>"
    return escape(cell)
