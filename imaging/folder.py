"""A case on disk: ``case.json`` beside NIfTI files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from .case import Case
from .grid import Grid, close
from .nifti import read_nifti, write_nifti
from .source import Source
from .structures import RoiType, Structure, StructureSet
from .volume import Quantity, Volume

_FORMAT = 1


def write_case(case: Case, folder: Path) -> None:
    """A case written into an existing, empty folder; the index ``case.json`` comes last.

    Volumes are float32 or whole-number NIfTI files; each structure is a mask of its own, since
    structures overlap. The index keeps the affines, which NIfTI rounds to single precision.
    """
    index: dict[str, object] = {"format": _FORMAT}
    index["volumes"] = {
        name: {
            "file": _write(volume, folder / f"{name}.nii.gz", case.source.mark),
            "quantity": volume.quantity.value,
            "frame": volume.frame,
            "affine": volume.grid.affine.tolist(),
        }
        for name, volume in case.volumes.items()
    }
    if case.structures is not None:
        index["frame"] = case.structures.frame
        index["affine"] = case.structures.grid.affine.tolist()
        index["structures"] = {
            name: {
                # Names come from other systems' files, so they never become file names.
                "file": _write(
                    _as_labels(case.structures, s), folder / f"structure_{n:03d}.nii.gz", case.source.mark
                ),
                "kind": s.kind.value,
                "color": list(s.color),
                "prescription_gy": s.prescription_gy,
            }
            for n, (name, s) in enumerate(case.structures.structures.items())
        }
    index["source"] = dataclasses.asdict(case.source)
    (folder / "case.json").write_text(json.dumps(index, indent=1, ensure_ascii=False))


def read_case(folder: Path) -> Case:
    """A case as ``write_case`` wrote it.

    Raises
    ------
    ValueError
        If the folder holds no case, or one of another format.
    """
    try:
        index = json.loads((folder / "case.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        raise ValueError("expected a case folder with a case.json; write one with write_case") from None
    if index.get("format") != _FORMAT:
        raise ValueError(f"expected a case of format {_FORMAT}, got {index.get('format')}; write it again")
    volumes = {
        name: dataclasses.replace(
            _read(folder, entry["file"], Quantity(entry["quantity"]), entry["affine"]), frame=entry["frame"]
        )
        for name, entry in index["volumes"].items()
    }
    source = Source(**{**index["source"], "instance_uids": tuple(index["source"]["instance_uids"])})
    return Case(volumes, _read_structures(index, folder), source)


def _read_structures(index: dict[str, Any], folder: Path) -> StructureSet | None:
    entries = index.get("structures")
    if not entries:
        return None
    masks = {
        name: _read(folder, entry["file"], Quantity.LABEL, index["affine"]) for name, entry in entries.items()
    }
    structures = {
        name: Structure(masks[name].data[0] > 0, RoiType(e["kind"]), tuple(e["color"]), e["prescription_gy"])
        for name, e in entries.items()
    }
    return StructureSet(next(iter(masks.values())).grid, structures, index["frame"])


def _read(folder: Path, file: str, quantity: Quantity, affine: list[list[float]]) -> Volume:
    volume = read_nifti(_inside(folder, file), quantity)
    exact = Grid(volume.grid.shape, np.array(affine))
    if not close(volume.grid, exact):
        raise ValueError("expected the files of a case as they were written, got one that lies elsewhere")
    return dataclasses.replace(volume, grid=exact)


def _write(volume: Volume, path: Path, mark: str) -> str:
    write_nifti(volume, path, mark)
    return path.name


def _as_labels(structures: StructureSet, structure: Structure) -> Volume:
    return Volume(structure.mask[None].byte(), structures.grid, Quantity.LABEL, structures.frame)


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise ValueError("expected the files of a case beside its case.json, got a path that leads elsewhere")
    return folder / name
