"""Structures of 3D Slicer and ITK-SNAP read back: ``.seg.nrrd``, and label maps with their names."""

import re
import tomllib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nrrd  # type: ignore[import-untyped] # it has none
import numpy as np
import torch

from .grid import Grid
from .nifti import read_nifti
from .structures import RoiType, Structure, StructureSet
from .volume import Quantity

_GREY = (160, 160, 160)
_MOST = 2_000_000_000  # voxels in all layers: a header may claim any number
_LARGEST = 1_000_000  # bytes of a label description
_TURNED = {"left-posterior-superior": 1.0, "lps": 1.0, "right-anterior-superior": -1.0, "ras": -1.0}
_UNREADABLE = (nrrd.NRRDError, ValueError, KeyError, IndexError, EOFError, zlib.error, TypeError)
_SNAP = re.compile(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+\S+\s+\d+\s+\d+\s+"(.*)"\s*')


def read_seg_nrrd(path: Path) -> StructureSet:
    """The segments of a segmentation of 3D Slicer, with their names and colours.

    Parameters
    ----------
    path
        The file, in one piece.

    Raises
    ------
    ValueError
        If it is no such file, does not say where it lies, keeps its voxels in another file, or names two
        segments alike.
    """
    header = _header(path)
    sign = _TURNED.get(str(header.get("space", "")).lower())
    if sign is None or "space origin" not in header or "space directions" not in header:
        raise ValueError(
            "expected a segmentation that says where it lies (LPS or RAS), got one that does not"
        )
    try:
        data, _ = nrrd.read(str(path))
    except _UNREADABLE:
        raise ValueError("expected a whole .seg.nrrd file, got a damaged one; save it again") from None
    layers = data[None] if data.ndim == 3 else data
    if layers.ndim != 4 or layers.dtype.kind not in "iu":
        raise ValueError("expected layers of labels as whole numbers in a .seg.nrrd, got something else")
    affine = np.eye(4)
    directions = np.asarray(header["space directions"], dtype=np.float64).reshape(-1, 3)[-3:]
    affine[:3, :3], affine[:3, 3] = directions.T, header["space origin"]
    affine[:2] *= sign
    shape = layers.shape[1:]
    return StructureSet(Grid((shape[0], shape[1], shape[2]), affine), _segments(header, layers))


def _header(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError("expected a .seg.nrrd file, got a path where there is none; check the path")
    try:
        header: dict[str, Any] = nrrd.read_header(str(path))
        sizes = [int(n) for n in header["sizes"]]
    except (*_UNREADABLE, UnicodeDecodeError, OverflowError):
        raise ValueError("expected a .seg.nrrd file, got one that does not read as NRRD") from None
    if "data file" in header or "datafile" in header:
        raise ValueError("expected a .seg.nrrd in one piece, got one whose voxels lie in another file")
    if min(sizes, default=0) < 1 or np.prod(np.array(sizes, dtype=np.float64)) > _MOST:
        raise ValueError(f"expected 1 to {_MOST} voxels in a .seg.nrrd, got sizes of {sizes}")
    return header


def _segments(header: Mapping[str, Any], layers: np.ndarray) -> dict[str, Structure]:
    numbers = sorted(int(m[1]) for key in header if (m := re.fullmatch(r"Segment(\d{1,4})_ID", key)))
    out: dict[str, Structure] = {}
    for n in numbers:
        name = str(header.get(f"Segment{n}_Name", header[f"Segment{n}_ID"]))
        try:
            value = int(header.get(f"Segment{n}_LabelValue", 1))
            # Files of before 2020 have no layers of their own: one for each segment.
            layer = int(header.get(f"Segment{n}_Layer", n if len(layers) > 1 else 0))
            rgb = [float(c) for c in str(header.get(f"Segment{n}_Color", "0.6 0.6 0.6")).split()]
        except ValueError:
            raise ValueError("expected numbers as layer, label and colour of a segment, got words") from None
        if not 0 <= layer < len(layers):
            raise ValueError(f"expected a segment in one of {len(layers)} layers, got layer {layer}")
        if name in out:
            raise ValueError(f"expected every segment under its own name, got {name} twice; rename one")
        color = _color(rgb)
        out[name] = Structure(torch.from_numpy(layers[layer] == value), RoiType.ORGAN, color)
    return out


def _color(rgb: list[float]) -> tuple[int, int, int]:
    if len(rgb) != 3 or not all(0 <= c <= 1 for c in rgb):
        return _GREY
    return round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])


def read_labels(path: Path, names: Mapping[int, str]) -> StructureSet:
    """The labels of a NIfTI label map as structures; those without a name are called ``label 7``.

    Parameters
    ----------
    path
        The label map.
    names
        Name of each number; a number that no voxel has is an empty structure.

    Raises
    ------
    ValueError
        As :func:`imaging.nifti.read_nifti`, or if a name is given twice or a label is below 0.
    """
    volume = read_nifti(path, Quantity.LABEL)
    there = [int(n) for n in torch.unique(volume.data).tolist() if n != 0]
    if there and min(there) < 0:
        raise ValueError(f"expected labels of 0 and above, got {min(there)}")
    called = dict(names) | {n: f"label {n}" for n in there if n not in names}
    if len(set(called.values())) < len(called):
        raise ValueError("expected every label under its own name, got a name twice; rename one")
    return StructureSet(
        volume.grid,
        {name: Structure(volume.data[0] == n, RoiType.ORGAN, _GREY) for n, name in sorted(called.items())},
    )


def label_names(path: Path) -> dict[int, str]:
    """Names of labels by ITK-SNAP's label description, or by TOML (``Brainstem = 3``); 0 is none.

    Raises
    ------
    ValueError
        If the file is neither, or lists a label or a name twice.
    """
    if not path.is_file() or path.stat().st_size > _LARGEST:
        raise ValueError("expected a label description of ITK-SNAP, or a table in TOML, got no such file")
    try:
        text = path.read_text(encoding="utf-8")
        rows = _of_toml(text) if path.suffix == ".toml" else _of_snap(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise ValueError("expected a label description or TOML in UTF-8, got another file") from None
    for n, of in enumerate(("label", "name")):
        seen = [row[n] for row in rows]
        if twice := [s for s in seen if seen.count(s) > 1]:
            raise ValueError(f"expected every {of} of a table of labels once, got {twice[0]} twice")
    names = {number: name for number, name in rows if number > 0}
    if not names:
        raise ValueError("expected a table of labels with numbers above 0, got none in it")
    return names


def _of_snap(text: str) -> list[tuple[int, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = [_SNAP.fullmatch(line) for line in lines]
    rows = [(int(row[1]), row[5]) for row in found if row]
    if len(rows) < len(lines):
        raise ValueError('expected lines such as 1 255 0 0 1 1 1 "Brain" in a label description')
    return rows


def _of_toml(text: str) -> list[tuple[int, str]]:
    told = tomllib.loads(text)
    if not all(type(number) is int and number >= 0 for number in told.values()):
        raise ValueError("expected whole numbers of 0 and above in a table of labels, such as Brain = 1")
    return [(number, name) for name, number in told.items()]
