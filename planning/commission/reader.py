"""Measurements as files hold them: named CSV, PTW ``.mcc``, output factors, absolute dose."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from .scans import Kind, Opening, Scan, Scans, edges
from .water import SAD

# Profiles `10x10m05cm-xXlat` (field, depth; cm), depth doses `10x10mPDD-zZver`; the capital is the axis.
_NAMED = re.compile(r"(?P<x>[\d.]+)x(?P<y>[\d.]+)m(?:(?P<depth>[\d.]+)cm|PDD)-[a-z](?P<axis>[XYZ])\w*")
_AXES = {"X": Kind.CROSSLINE, "Y": Kind.INLINE, "Z": Kind.DEPTH}
_CURVES = {"PDD": Kind.DEPTH, "CROSSPLANE_PROFILE": Kind.CROSSLINE, "INPLANE_PROFILE": Kind.INLINE}
_OUTPUT, _ABSOLUTE, _REFERENCE_COLUMN = "OutputFactors.csv", "AbsoluteDose.csv", "d10 @ 90 SSD"
_FEWEST_READINGS = 20
# Fields that widen with depth as if they had their size further than this from the isocentre (share of the
# SAD) were made by another machine, or their names say another size.
_OTHER_MACHINE = 0.15


def read_scans(folder: Path, blur: float = 0.0) -> Scans:
    """The measurements of a folder.

    ``10x10m05cm-xXlat.csv`` is a profile (field 10 cm x 10 cm, 5 cm deep, along X, the leaves; Y across),
    ``10x10mPDD-zZver.csv`` a depth dose: positions (cm) and readings. PTW's ``.mcc`` says all of that
    itself. ``OutputFactors.csv`` has sides (``05x05``, cm) in its first row and factors below, and
    ``AbsoluteDose.csv`` a column ``d10 @ 90 SSD`` (cGy/MU).

    CSV files say nothing of their distance: the SSD is the whole decimetre that fits the widths of the
    largest field's profiles best. A scan that repeats another one's readings is left out, and both where
    nothing says which of them is right.

    Parameters
    ----------
    folder
        Where they are.
    blur
        Standard deviation of the blur (mm) of the detector that measured the CSV files: about 2 for a
        chamber of 0.1 cm³, 0 for a diode. ``.mcc`` files say their detector's radius, of which half is taken.

    Raises
    ------
    ValueError
        If there are no scans, or one cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"expected a folder of beam scans, got {folder.name}; give the folder itself")
    found: list[Scan] = []
    others: list[str] = []
    for path in sorted(folder.iterdir()):
        named = _NAMED.fullmatch(path.stem)
        if path.suffix.lower() == ".mcc":
            found += _mcc(path)
        elif path.suffix.lower() == ".csv" and named:
            found.append(_csv(path, named, blur))
        elif path.name not in {_OUTPUT, _ABSOLUTE} and path.is_file():
            others.append(path.name)
    if not found:
        raise ValueError(
            "expected beam scans named like 10x10m05cm-xXlat.csv and 10x10mPDD-zZver.csv, or .mcc files, "
            f"got none among {len(others)} files; rename them"
        )
    kept, notes = _without_copies(found)
    if others:
        notes.append(f"{len(others)} files not named like scans of rectangular fields: left out")
    return Scans(tuple(_with_distances(kept)), _output(folder), _absolute(folder), tuple(notes))


def _csv(path: Path, named: re.Match[str], blur: float) -> Scan:
    rows = []
    for row in _rows(path):
        try:
            rows.append((float(row[0]), float(row[1])))
        except (ValueError, IndexError):
            continue
    at, dose = _sorted(np.array(rows, dtype=np.float64).reshape(-1, 2), path.name)
    opening = Opening(10 * float(named["x"]), 10 * float(named["y"]))
    depth = 10 * float(named["depth"] or 0)
    return Scan(_AXES[named["axis"]], opening, np.nan, depth, 10 * at, dose, path.stem, blur)


def _mcc(path: Path) -> Iterator[Scan]:
    """The scans of a PTW file: ``KEY=value`` lines, and readings between BEGIN_DATA and END_DATA."""
    for n, text in enumerate(re.split(r"BEGIN_SCAN\s+\d+", path.read_text(encoding="latin-1"))[1:]):
        name = f"{path.stem}, scan {n + 1}"
        keys = dict(re.findall(r"^\s*([A-Z_]+)=(.*?)\s*$", text, re.MULTILINE))
        data = re.search(r"BEGIN_DATA(.*?)END_DATA", text, re.DOTALL)
        try:
            kind = _CURVES[keys["SCAN_CURVETYPE"]]
            opening = Opening(float(keys["FIELD_CROSSPLANE"]), float(keys["FIELD_INPLANE"]))
            depth = 0.0 if kind is Kind.DEPTH else float(keys["SCAN_DEPTH"])
            ssd, radius = float(keys["SSD"]), float(keys.get("DETECTOR_RADIUS", 0))
            rows = [line.split()[:2] for line in data[1].splitlines() if line.strip()]  # type: ignore[index]
            readings = np.array(rows, dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected a whole scan in {name}, got one that cannot be read; export it again"
            ) from error
        # A disc seen from the side has a standard deviation of half its radius.
        yield Scan(kind, opening, ssd, depth, *_sorted(readings, name), name, radius / 2)


def _sorted(
    rows: Float64[np.ndarray, "_ 2"], name: str
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows) < _FEWEST_READINGS or not (rows[:, 1].max(initial=0) > 0):
        raise ValueError(
            f"expected at least {_FEWEST_READINGS} readings in {name}, got {len(rows)}; measure it again"
        )
    at, first = np.unique(rows[:, 0], return_index=True)
    return at, rows[first, 1]


def _without_copies(found: Sequence[Scan]) -> tuple[list[Scan], list[str]]:
    """Scans whose readings are their own; of two alike that could both be it, neither."""
    kept: list[Scan] = []
    notes = []
    for scan in found:
        twins = [k for k in kept if np.array_equal(k.dose, scan.dose) and np.array_equal(k.at, scan.at)]
        if not twins:
            kept.append(scan)
            continue
        kept.remove(twins[0])
        notes.append(f"{scan.name} and {twins[0].name} hold the same readings: both left out")
    return kept, notes


def _with_distances(scans: Sequence[Scan]) -> list[Scan]:
    """Scans with the SSD that the widths of the largest field tell.

    Widths grow with depth as rays diverge: their slope tells how far from the source a field has its
    nominal size.
    """
    own = [scan for scan in scans if not np.isfinite(scan.ssd) and scan.kind is not Kind.DEPTH]
    largest = max((scan.opening.x for scan in own), default=0.0)
    wide = [scan for scan in own if scan.opening.x == largest and scan.kind is Kind.CROSSLINE]
    if all(np.isfinite(scan.ssd) for scan in scans):
        return list(scans)
    if len({scan.depth for scan in wide}) < 2:
        raise ValueError(
            "expected crossline profiles of the largest field at two depths or more, got fewer, so that its "
            "distance is unknown; add them"
        )
    depths = np.array([scan.depth for scan in wide])
    widths = np.array([np.diff(edges(scan))[0] for scan in wide])
    axis = largest / np.polyfit(depths, widths, 1)[0]
    if abs(axis / SAD - 1) > _OTHER_MACHINE:
        raise ValueError(
            f"expected fields that have their size {SAD:.0f} mm from the source, got {axis:.0f} mm by their "
            "widths; check the names of the scans"
        )
    ssd = 100 * round(float(np.median(widths / largest * SAD - depths)) / 100)
    return [scan if np.isfinite(scan.ssd) else replace(scan, ssd=float(ssd)) for scan in scans]


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def _output(folder: Path) -> dict[float, float]:
    path = folder / _OUTPUT
    if not path.exists():
        return {}
    try:
        head, first = _rows(path)[:2]
        pairs = zip(head[1:], first[1:], strict=False)
        return {10 * float(side.split("x")[0]): float(factor) for side, factor in pairs if side.strip()}
    except ValueError as error:
        raise ValueError(
            f"expected sides like 05x05 and their factors in {_OUTPUT}, got rows that cannot be read; mend it"
        ) from error


def _absolute(folder: Path) -> float | None:
    path = folder / _ABSOLUTE
    if not path.exists():
        return None
    try:
        head, first = _rows(path)[:2]
        named = {cell.strip(): value for cell, value in zip(head, first, strict=False)}
        return float(named[_REFERENCE_COLUMN]) / 100
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"expected a column {_REFERENCE_COLUMN!r} (cGy/MU) in {_ABSOLUTE}, got none that can "
            "be read; mend it"
        ) from error
