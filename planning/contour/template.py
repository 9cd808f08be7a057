"""Names, colours and types of contours where they are written, by a template that a clinic may change."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imaging.grid import Grid
from imaging.shapes import Mask
from imaging.structures import RoiType, Structure, StructureSet

from .algebra import combined, names_in

BRAIN = Path(__file__).parent / "templates" / "brain.toml"
_LONGEST = 64  # characters of an ROI Name (DICOM PS3.5, LO)
_LARGEST = 1_000_000  # bytes of a template


@dataclass(frozen=True)
class Entry:
    """How one contour is written.

    Parameters
    ----------
    of
        What was contoured, or what is made of it: ``Brainstem + 3`` (:mod:`planning.contour.algebra`).
    name
        What it is called.
    kind
        What it is for.
    color
        Red, green, blue, 0 to 255.

    Raises
    ------
    ValueError
        If the name does not fit an ROI Name, or the colour is none.
    """

    of: str
    name: str
    kind: RoiType
    color: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not 0 < len(self.name.strip()) <= _LONGEST or "\\" in self.name or not self.name.isprintable():
            raise ValueError(
                f"expected names of 1 to {_LONGEST} characters without a backslash, got {self.name!r}"
            )
        if not all(0 <= c <= 255 for c in self.color):
            raise ValueError(f"expected colours of 0 to 255, got {list(self.color)} of {self.name}")


def read_template(path: Path = BRAIN) -> tuple[Entry, ...]:
    """A template of structures, in the order in which they are written.

    Parameters
    ----------
    path
        A TOML file of ``[[structure]]`` tables with ``is``, ``name``, ``type`` and ``color``.

    Raises
    ------
    ValueError
        If it is no such file, lists a name twice, or holds a word that it should not.
    """
    if not path.is_file() or path.stat().st_size > _LARGEST:
        raise ValueError("expected a template of structures (TOML), got no such file; see --template's help")
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"expected a template of structures in TOML, got a file that is none: {error}"
        ) from None
    tables = told.get("structure")
    if set(told) != {"structure"} or not isinstance(tables, list) or not tables:
        raise ValueError("expected a template of [[structure]] tables alone, got others or none")
    entries = tuple(_entry(table) for table in tables)
    for what in ("name", "of"):
        seen = [getattr(e, what) for e in entries]
        if twice := {s for s in seen if seen.count(s) > 1}:
            raise ValueError(f"expected every structure of a template once, got {min(twice)} twice")
    return entries


def structure_set(
    masks: Mapping[str, Mask], grid: Grid, template: tuple[Entry, ...], frame: str = ""
) -> StructureSet:
    """Contours as a template names, colours and orders them; what it does not list is left out.

    Parameters
    ----------
    masks
        By what they are, True inside.
    grid
        Where they lie.
    template
        How each is written; one made of others is left out where one of these is not there, or it is empty.
    frame
        Frame of reference.
    """
    drawn = {}
    for e in template:
        if e.of in masks:
            drawn[e.name] = Structure(masks[e.of], e.kind, e.color)
        elif set(names_in(e.of)) <= set(masks) and bool((mask := combined(e.of, masks, grid)).any()):
            drawn[e.name] = Structure(mask, e.kind, e.color)
    return StructureSet(grid, drawn, frame)


def _entry(table: Any) -> Entry:
    if not isinstance(table, dict) or set(table) != {"is", "name", "type", "color"}:
        raise ValueError("expected is, name, type and color of every structure of a template, got others")
    color = table["color"]
    if not isinstance(color, list) or len(color) != 3 or not all(type(c) is int for c in color):
        raise ValueError(f"expected a color of three whole numbers, got {color!r}")
    if {type(table["is"]), type(table["name"])} != {str}:
        raise ValueError(f"expected words for is and name, got {table['is']!r} and {table['name']!r}")
    if not names_in(table["is"]):
        raise ValueError(f"expected a structure, or what is made of some, got {table['is']!r}")
    kinds = [kind.value for kind in RoiType]
    if table["type"] not in kinds:
        raise ValueError(f"expected a type of {', '.join(kinds)}, got {table['type']!r} of {table['name']}")
    return Entry(table["is"], table["name"], RoiType(table["type"]), (color[0], color[1], color[2]))
