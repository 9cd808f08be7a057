"""A plan report as PDF, set by ReportLab in the DejaVu fonts that come with matplotlib."""

import io
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    CondPageBreak,
    Flowable,
    Image,
    LongTable,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    TableStyle,
)

from imaging.atomic import whole_file
from imaging.dicom.header import RESEARCH_ONLY

from .facts import Cell, Code, Picture, Report, Section, Table, Verdict

_FACES = {
    "Report": "DejaVuSans.ttf",
    "Report-Bold": "DejaVuSans-Bold.ttf",
    "Report-Mono": "DejaVuSansMono.ttf",
}
_INK, _SOFT, _LINE, _ACCENT = "#1c2733", "#566573", "#d8dee6", "#1f5f8b"  # the review page's
_WARN, _WARN_LINE, _WARN_INK = "#fff3d6", "#e0a100", "#5a4100"
_MET, _UNMET = "#0b6b4f", "#a33c00"
_SIDE, _TOP, _BOTTOM = 14 * mm, 20 * mm, 15 * mm
_WIDTH = A4[0] - 2 * _SIDE
_INSIDE = 6  # points that ReportLab keeps free inside the edges of a page's frame
_PAD = 2.5
_ROW, _ROWS = 7 * mm, 5  # a row of a table, about, and how many are not left alone at the end of a page

_BODY = ParagraphStyle("body", fontName="Report", fontSize=7.5, leading=10, textColor=_INK)
_CELL = ParagraphStyle("cell", _BODY, fontSize=6.8, leading=8.6)
_HEAD = ParagraphStyle("head", _CELL, textColor=_SOFT)
_FIRST = ParagraphStyle("first", _CELL, fontName="Report-Bold")
_CODE = ParagraphStyle("code", _CELL, fontName="Report-Mono", fontSize=5.8, leading=7.4)
_NOTE = ParagraphStyle("note", _BODY, fontSize=6.6, leading=8.6, textColor=_SOFT, spaceBefore=2)
_TITLE = ParagraphStyle("title", _BODY, fontName="Report-Bold", fontSize=17, leading=22, spaceAfter=4)
_H2 = ParagraphStyle(
    "h2", _BODY, fontName="Report-Bold", fontSize=10.5, leading=14, textColor=_ACCENT, spaceBefore=9,
    spaceAfter=3,
)  # fmt: skip
_H3 = ParagraphStyle("h3", _BODY, fontName="Report-Bold", fontSize=8, leading=11, spaceBefore=5)
_CAUTION = ParagraphStyle("caution", _BODY, textColor=_WARN_INK)


def write_pdf(path: Path, report: Report) -> None:
    """The report as PDF on A4, written whole or not at all; the same report gives the same bytes.

    Every page says that it is for research only, of which version and seal it is, and which page of how many.

    Parameters
    ----------
    path
        Where to write.
    report
        What to print. Its texts may come from anywhere: they are escaped.
    """
    for name, file in _FACES.items():
        pdfmetrics.registerFont(TTFont(name, str(Path(mpl.get_data_path(), "fonts", "ttf", file))))
    # Set twice: how many pages there are is known after the first time.
    n_pages = _set(io.BytesIO(), report, 0)
    content = io.BytesIO()
    _set(content, report, n_pages)
    with whole_file(path) as part:
        part.write_bytes(content.getvalue())


def _set(stream: io.BytesIO, report: Report, n_pages: int) -> int:
    """The report set on pages; gives how many there are."""
    document = SimpleDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=_SIDE - _INSIDE,
        rightMargin=_SIDE - _INSIDE,
        topMargin=_TOP,
        bottomMargin=_BOTTOM,
        title=report.title,
        author="Spindose",
        subject=RESEARCH_ONLY,
        invariant=1,  # neither a date nor a random number inside
        pageCompression=1,
    )

    def frame(canvas: Any, page: Any) -> None:
        _edges(canvas, report, page.page, n_pages)

    document.build(_story(report), onFirstPage=frame, onLaterPages=frame)
    return int(document.page)


def _edges(canvas: Canvas, report: Report, page: int, n_pages: int) -> None:
    """The note at the top of a page and what it belongs to at the bottom."""
    width, height = A4
    canvas.saveState()
    canvas.setFillColor(HexColor(_WARN))
    canvas.rect(0, height - 12 * mm, width, 12 * mm, stroke=0, fill=1)
    canvas.setFillColor(HexColor(_WARN_LINE))
    canvas.rect(0, height - 12 * mm, width, 0.6 * mm, stroke=0, fill=1)
    canvas.setFillColor(HexColor(_WARN_INK))
    canvas.setFont("Report-Bold", 8.5)
    canvas.drawCentredString(width / 2, height - 6 * mm, f"{RESEARCH_ONLY}.")
    canvas.setFont("Report", 7)
    canvas.drawCentredString(
        width / 2, height - 9.6 * mm, "Nothing in this report may guide the treatment of a patient."
    )
    canvas.setFillColor(HexColor(_SOFT))
    canvas.setFont("Report", 6.5)
    canvas.drawString(_SIDE, 8 * mm, f"Spindose {report.version} · seal {report.seal[:16]}…")
    canvas.drawRightString(width - _SIDE, 8 * mm, f"Page {page} of {n_pages}")
    canvas.restoreState()


def _story(report: Report) -> list[Flowable]:
    said = {**report.identity, **report.statements}
    return [
        Paragraph(escape(report.title), _TITLE),
        *([_statements(said)] if said else []),
        *_cautions(report.cautions),
        *(flowable for section in report.sections for flowable in _section(section)),
    ]


def _statements(said: dict[str, str]) -> Flowable:
    cells = [
        Paragraph(
            f'<font color="{_SOFT}">{escape(k)}</font><br/><font name="Report-Bold">{escape(v)}</font>', _BODY
        )
        for k, v in said.items()
    ]
    cells += [""] * (-len(cells) % 3)
    rows = [cells[n : n + 3] for n in range(0, len(cells), 3)]
    return LongTable(rows, colWidths=[_WIDTH / 3] * 3, style=_rules(0), hAlign="LEFT")


def _cautions(cautions: tuple[str, ...]) -> list[Flowable]:
    if not cautions:
        return []
    rows = [[Paragraph(f"<b>Caution.</b> {escape(caution)}", _CAUTION)] for caution in cautions]
    style = [
        ("BACKGROUND", (0, 0), (-1, -1), HexColor(_WARN)),
        ("LINEBEFORE", (0, 0), (0, -1), 2, HexColor(_WARN_LINE)),
    ]
    return [Spacer(1, 5), LongTable(rows, colWidths=[_WIDTH], style=TableStyle(style), hAlign="LEFT")]


def _section(section: Section) -> list[Flowable]:
    first = _picture_height(section.pictures[0]) if section.pictures else _ROWS * _ROW
    return [
        # A heading goes to the next page where what stands under it would.
        CondPageBreak(first + 3 * _ROW),
        Paragraph(escape(section.heading), _H2),
        *(Paragraph(escape(sentence), _BODY) for sentence in section.sentences),
        *(flowable for picture in section.pictures for flowable in _picture(picture)),
        *(flowable for table in section.tables for flowable in _table(table)),
    ]


def _picture(picture: Picture) -> list[Flowable]:
    image = Image(
        io.BytesIO(picture.png), width=_WIDTH * picture.share, height=_picture_height(picture), hAlign="LEFT"
    )
    image.keepWithNext = 1
    return [image, Paragraph(f"{escape(picture.words)}.", _NOTE)]


def _picture_height(picture: Picture) -> float:
    across, up = ImageReader(io.BytesIO(picture.png)).getSize()
    return float(_WIDTH * picture.share * up / across)


def _table(table: Table) -> list[Flowable]:
    whole = sum(table.widths)
    rows = [
        [Paragraph(escape(column), _HEAD) for column in table.columns],
        *([_cell(cell, first=n == 0) for n, cell in enumerate(row)] for row in table.rows),
    ]
    grid = LongTable(
        rows,
        colWidths=[_WIDTH * width / whole for width in table.widths],
        repeatRows=1,
        style=_rules(1),
        hAlign="LEFT",
    )
    few = CondPageBreak((min(len(rows), _ROWS) + 1) * _ROW)
    heading = [few, Paragraph(escape(table.heading), _H3)] if table.heading else [few]
    note = [Paragraph(escape(table.note), _NOTE)] if table.note else []
    return [*heading, grid, *note]


def _rules(n_head: int) -> TableStyle:
    return TableStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), _PAD * 2),
            ("TOPPADDING", (0, 0), (-1, -1), _PAD * 0.6),
            ("BOTTOMPADDING", (0, 0), (-1, -1), _PAD),
            *([("LINEBELOW", (0, 0), (-1, -1), 0.5, HexColor(_LINE))] if n_head else []),
        ]
    )


def _cell(cell: Cell, *, first: bool) -> Flowable:
    if isinstance(cell, Verdict):
        sign, word, color = {
            True: ("✔", "Met", _MET),
            False: ("✖", "Not met", _UNMET),
            None: ("–", "Not evaluated", _SOFT),
        }[cell.met]
        return Paragraph(f'<font color="{color}" name="Report-Bold">{sign} {word}</font>', _CELL)
    if isinstance(cell, Code):
        return Paragraph(escape(cell.text), _CODE)
    return Paragraph(escape(cell), _FIRST if first else _CELL)
