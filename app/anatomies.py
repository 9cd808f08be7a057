"""A folder of label maps or tissue maps as heads that a cohort varies.

One small file, ``anatomy.toml``, says what the files mean::

    [[head]]
    name = "one"
    labels = "one.nii.gz"
    map = {0 = "outside", 1 = "scalp", 2 = "skull", 3 = "csf", 4 = "grey", 5 = "white", 6 = "air"}

    [[head]]
    name = "another"
    maps = {grey = "1.nii", white = "2.nii", csf = "3.nii", skull = "4.nii", scalp = "5.nii", air = "6.nii"}

Tissues have the names of `imaging.tissue.Tissue`, in small letters. Shares may run from 0 to 1 or to 255.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from imaging.nifti import read_nifti
from imaging.tissue import BONE, BRAIN, Tissue
from imaging.volume import Quantity, Volume
from synth.atlas_head import given_head
from synth.subject import Subject

_FILE = "anatomy.toml"
_KEYS = {"name", "labels", "map", "maps"}
_NAMES = {t.name.lower(): t for t in Tissue}
# Every head needs one of each, or it cannot be told from another body.
_NEEDED = (("skull", BONE), ("brain", BRAIN), ("scalp", (Tissue.SCALP, Tissue.FAT)))


@dataclass(frozen=True)
class _Listed:
    """One head of the list, checked: a label map with its numbers, or a file for each tissue."""

    name: str
    labels: Path | None
    numbers: dict[int, Tissue]
    maps: dict[Tissue, Path]


def read_anatomies(path: Path) -> tuple[Subject, ...]:
    """The heads of a folder, ready for `synth.atlas.varied`.

    Parameters
    ----------
    path
        A folder with ``anatomy.toml`` in it, or such a file, whose key ``folder`` may say where the maps lie,
        relative to the file.

    Raises
    ------
    ValueError
        If there is no such folder or file, it lists no head, a head lacks skull, brain or scalp, a number or
        a file is given twice, a tissue is unknown, or a file is missing, leads out of the folder or is no
        NIfTI.
    """
    folder, heads = _listed(path)
    checked = [_checked(folder, head, k) for k, head in enumerate(heads)]
    names = [head.name for head in checked]
    if len(set(names)) < len(names):
        raise ValueError(f"expected every head under its own name, got {', '.join(names)}; rename one")
    return tuple(given_head(_shares(head), head.name) for head in checked)


def _listed(path: Path) -> tuple[Path, list[Any]]:
    """The folder of the maps and the heads that are listed, as TOML has them."""
    if path.is_dir() and not any(path.iterdir()):
        raise ValueError(
            "expected a folder of label maps, got an empty one; put the maps and anatomy.toml there"
        )
    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"expected {_FILE} to say what the maps are, got none; see docs/anatomy.toml")
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected TOML with every key once in {file.name}, got a fault: {error}") from None
    if unknown := set(content) - {"head", "folder"}:
        raise ValueError(f"expected [[head]] and folder in {file.name}, got {', '.join(sorted(unknown))}")
    heads = content.get("head", [])
    if not isinstance(heads, list) or not heads:
        raise ValueError(f"expected one [[head]] or more in {file.name}, got none; see docs/anatomy.toml")
    folder = file.parent / str(content.get("folder", "."))
    if not folder.is_dir():
        raise ValueError(f"expected the folder that {file.name} names, got none there; mend its key folder")
    return folder.resolve(), heads


def _checked(folder: Path, head: Any, k: int) -> _Listed:
    """One head of the list, before anything of it is read."""
    if not isinstance(head, dict) or not isinstance(name := head.get("name", f"head {k + 1}"), str):
        raise ValueError(f"expected [[head]] number {k + 1} as a table with a name, got something else")  # noqa: TRY004
    if unknown := set(head) - _KEYS:
        raise ValueError(f"expected name, labels, map and maps of {name}, got {', '.join(sorted(unknown))}")
    if ("maps" in head) == ("labels" in head) or ("map" in head) != ("labels" in head):
        raise ValueError(f"expected either labels and map, or maps, of {name}; give one of the two")
    if "maps" in head:
        files = _table(head, "maps", name)
        maps = {_tissue(t, name): _file(folder, file, name) for t, file in files.items()}
        if len(set(maps.values())) < len(maps):
            raise ValueError(f"expected a file of its own for each tissue of {name}, got one file twice")
        there = set(maps)
        listed = _Listed(name, None, {}, maps)
    else:
        numbers = _numbers(_table(head, "map", name), name)
        there = set(numbers.values())
        listed = _Listed(name, _file(folder, head["labels"], name), numbers, {})
    for what, tissues in _NEEDED:
        if not there & set(tissues):
            raise ValueError(
                f"expected {name} to have {what}, got no number or file for it; map one to {what}"
            )
    return listed


def _table(head: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    table = head[key]
    if not isinstance(table, dict) or not table:
        raise ValueError(f'expected {key} of {name} as a table such as {{1 = "scalp"}}, got {table!r}')
    return table


def _numbers(table: Mapping[str, Any], name: str) -> dict[int, Tissue]:
    out: dict[int, Tissue] = {}
    for text, tissue in table.items():
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"expected label numbers of {name} as whole numbers of 0 or more, got {text}")
        if int(text) in out:
            raise ValueError(
                f"expected each label number of {name} once, got {int(text)} twice; map it to one tissue"
            )
        out[int(text)] = _tissue(tissue, name)
    return out


def _tissue(text: object, name: str) -> Tissue:
    if not isinstance(text, str) or text not in _NAMES:
        raise ValueError(f"expected a tissue of {', '.join(_NAMES)} in {name}, got {text!r}")
    return _NAMES[text]


def _file(folder: Path, text: object, name: str) -> Path:
    """A file of the folder."""
    if not isinstance(text, str):
        raise ValueError(f"expected the name of a file in {name}, got {text!r}")  # noqa: TRY004
    path = (folder / text).resolve()
    if not path.is_relative_to(folder):
        raise ValueError(f"expected files of {name} inside the folder, got {text}; copy the file there")
    if not path.is_file():
        raise ValueError(f"expected the file {text} of {name} in the folder, got none; check its name")
    return path


def _shares(head: _Listed) -> dict[Tissue, Volume]:
    """Share of each tissue in each voxel, 0 to 1."""
    if head.labels is None:
        return {tissue: _share(path, head.name) for tissue, path in head.maps.items()}
    labels = _read(head.labels, Quantity.LABEL, head.name)
    unknown = sorted(set(torch.unique(labels.data).tolist()) - set(head.numbers))
    if unknown:
        raise ValueError(
            f"expected a tissue for every number in {head.labels.name}, got none for "
            f"{', '.join(str(n) for n in unknown[:8])}; add it to map"
        )
    out: dict[Tissue, torch.Tensor] = {}
    for number, tissue in head.numbers.items():
        here = (labels.data == number).float()
        out[tissue] = out[tissue] + here if tissue in out else here
    return {t: Volume(data, labels.grid, Quantity.PROBABILITY) for t, data in out.items()}


def _share(path: Path, name: str) -> Volume:
    volume = _read(path, Quantity.PROBABILITY, name)
    low, high = float(volume.data.min()), float(volume.data.max())
    if low < 0 or high > 255:
        raise ValueError(f"expected shares of 0 to 1 or 0 to 255 in {path.name}, got {low:g} to {high:g}")
    return Volume(volume.data / 255, volume.grid, volume.quantity) if high > 1 else volume


def _read(path: Path, quantity: Quantity, name: str) -> Volume:
    try:
        return read_nifti(path, quantity)
    except ValueError as error:
        raise ValueError(f"{path.name} of {name}: {error}") from None
