"""What a plan report says, gathered once: the PDF and the HTML page are two ways to print it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verdict:
    """A cell that says whether something is met; None where it was not evaluated."""

    met: bool | None


@dataclass(frozen=True)
class Code:
    """A cell to be compared letter by letter, such as a hash."""

    text: str


Cell = str | Verdict | Code


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its heading.

    Parameters
    ----------
    columns
        Headings.
    rows
        Cells, as many in each row as there are columns.
    widths
        Relative widths of the columns.
    heading
        Above the table, where a section has several.
    note
        Below the table: what the numbers are, and where they come from.

    Raises
    ------
    ValueError
        If a row or the widths do not fit the columns.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    widths: tuple[float, ...]
    heading: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if {len(row) for row in self.rows} - {len(self.columns)} or len(self.widths) != len(self.columns):
            raise ValueError(
                f"expected {len(self.columns)} cells in every row of {self.heading or 'a table'}"
            )


@dataclass(frozen=True, eq=False)
class Picture:
    """A PNG, what it shows in words, and which share of the page's width it takes."""

    png: bytes
    words: str
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the report under one heading: sentences, then pictures, then tables."""

    heading: str
    sentences: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, eq=False)
class Report:
    """A report of a plan; nothing in it names a patient unless ``identity`` was asked for.

    Parameters
    ----------
    title
        Heading.
    statements
        Short statements under it.
    cautions
        What the reader must know, one sentence each.
    sections
        The rest.
    version
        Of the software.
    seal
        The last link of the chain over all inputs and files (:mod:`app.report.seal`).
    identity
        Whose plan it is, where somebody asked for it.
    """

    title: str
    statements: Mapping[str, str]
    cautions: tuple[str, ...]
    sections: tuple[Section, ...]
    version: str
    seal: str
    identity: Mapping[str, str] = field(default_factory=dict, repr=False)
