"""The prostate of SlicerRT: the volume that receives a dose, by three systems and ours.

The data hold its dose and the tables of Eclipse, CERR and SlicerRT, but no contours. What can be compared
without them: above the dose of anything outside the body, the absolute volume of the body at a dose is that
of the whole grid, and so are the doses of its hottest volumes.
"""

import csv
import gzip
import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from imaging.grid import Grid
from imaging.volume import Quantity, Volume
from planning.check.dvh import dose_at_cc, histogram, share_at_dose

# Dose (Gy) above which the prostate's grid holds next to nothing outside the body: below, the grid's volume
# exceeds every table's, and the more the lower the dose.
_OUTSIDE_AT_MOST = 15.0


def prostate(folder: Path) -> dict[str, object]:
    """Volume of the body at a dose, of three systems and of the whole grid, and how far they are apart."""
    dose = _nrrd(folder / "EclipseProstate_Dose.nrrd")
    whole = histogram(dose, torch.ones(dose.grid.shape, dtype=torch.bool), dose.grid)
    tables = {
        n: _table(folder / f"EclipseProstate_DvhTable_{n}.csv") for n in ("Eclipse", "CERR", "SlicerRT")
    }
    levels = np.arange(_OUTSIDE_AT_MOST, 46.6, 0.5)
    ours = np.array([share_at_dose(whole, x) / 100 * whole.volume_cc for x in levels])
    theirs = {name: np.interp(levels, *table) for name, table in tables.items()}
    low, high = np.min(list(theirs.values()), axis=0), np.max(list(theirs.values()), axis=0)
    beyond = np.maximum(np.maximum(low - ours, ours - high), 0)
    return {
        "levels": len(levels),
        "levels_within_spread": int((beyond == 0).sum()),
        "worst_beyond_spread_cc": float(beyond.max()),
        "worst_beyond_spread_percent": float((100 * beyond / ours).max()),
        "worst_spread_percent": float((100 * (high - low) / ours).max()),
        **{
            f"hottest_{cc:g}cc_gy": {"ours": dose_at_cc(whole, cc)}
            | {name.lower(): _hottest(table, cc) for name, table in tables.items()}
            for cc in (10.0, 100.0, 1000.0)
        },
        **{
            f"worst_from_{name.lower()}_percent": float((100 * np.abs(ours - t) / ours).max())
            for name, t in theirs.items()
        },
    }


def _table(path: Path) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Doses (Gy) and the body's volume (cm³) that receives at least each."""
    header, *rows = list(csv.reader(path.read_text().splitlines()))
    found = re.search(r"% of ([\d.]+) cc", header[1])
    if found is None:
        raise ValueError(f"expected the volume of the body in the header of {path.name}, got {header[1]}")
    values = np.array([[float(row[0]), float(row[1])] for row in rows if row and row[0]])
    return values[:, 0], values[:, 1] / 100 * float(found[1])


def _hottest(table: tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]], cc: float) -> float:
    """Dose (Gy) that the hottest volume receives at least, by a table of falling volumes."""
    doses, volumes = table
    return float(np.interp(-cc, -volumes, doses))


def _nrrd(path: Path) -> Volume:
    """A gzipped NRRD of floats in LPS, as this one file is."""
    header, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines() if ": " in line)
    wanted = {"type": "float", "space": "left-posterior-superior", "encoding": "gzip", "endian": "little"}
    if any(fields.get(key) != value for key, value in wanted.items()):
        raise ValueError(f"expected little-endian gzipped floats in LPS in {path.name}, got {fields}")
    shape = tuple(int(n) for n in fields["sizes"].split())
    affine = np.eye(4)
    affine[:3, :3] = (
        np.array(re.findall(r"[-\d.e]+", fields["space directions"]), dtype=float).reshape(3, 3).T
    )
    affine[:3, 3] = np.array(re.findall(r"[-\d.e]+", fields["space origin"]), dtype=float)
    values = np.frombuffer(gzip.decompress(body), dtype="<f4").reshape(shape[::-1]).transpose(2, 1, 0)
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    return Volume(torch.from_numpy(values.copy()[None]), grid, Quantity.DOSE)
