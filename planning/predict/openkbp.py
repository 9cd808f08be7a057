"""Patients and doses in the layout of the OpenKBP challenge.

Babier et al., "OpenKBP: The open-access knowledge-based planning grand challenge and dataset", Med. Phys. 48,
5549 (2021). A folder holds tables of a voxel's number and its value, numbers counted in C order over 128³
voxels whose axes run to the back, to the left and to the feet, as organs of both sides and of the neck show.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from imaging.atomic import whole_file
from imaging.grid import Grid
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume

from .patient import Patient

SIDE = 128
TARGETS: Mapping[str, float] = {"PTV70": 70.0, "PTV63": 63.0, "PTV56": 56.0}
ORGANS = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible")
_CT, _POSSIBLE, _DOSE, _SIZES = "ct", "possible_dose_mask", "dose", "voxel_dimensions"
_WATER, _HIGHEST = 1024.0, 4095.0  # of CT numbers of 12 bits
_LARGEST = 256 * 2**20  # bytes of a table
_MOST_MM = 20.0  # of a voxel's side
_MOST_GY = 1000.0
_COLORS = ((255, 0, 0), (255, 128, 0), (255, 255, 0), (0, 128, 255))

Numbers = Shaped[np.ndarray, "..."]
Table = Float[np.ndarray, "n columns"]
Box = Float[Tensor, "i j k"]


def patients_of(path: Path) -> list[Path]:
    """Folders of patients at a path, by their numbers.

    Parameters
    ----------
    path
        A patient's folder (``pt_1``), one of a split (``train-pats``), or one that holds splits.

    Raises
    ------
    ValueError
        If there are none, or a link leads out of the path.
    """
    if not path.is_dir():
        raise ValueError("expected a folder of patients in OpenKBP's layout, got a path that is none")
    root = path.resolve()
    for pattern in ("ct.csv", "*/ct.csv", "*/*/ct.csv", "*/*/*/ct.csv"):
        found = [file.parent for file in path.glob(pattern)]
        if any(not folder.resolve().is_relative_to(root) for folder in found):
            raise ValueError("expected patients inside the folder, got a link that leads out of it")
        if found:
            return sorted(found, key=_number)
    raise ValueError("expected folders such as pt_1 with a ct.csv, got none; name a folder that holds some")


def read_patient(folder: Path) -> Patient:
    """A patient's CT, structures and, where it is there, dose; i runs to the left, j back, k up.

    Parameters
    ----------
    folder
        ``ct.csv`` (12 bits, water at 1024), ``possible_dose_mask.csv``, ``voxel_dimensions.csv`` (mm), one
        table for each structure that was drawn (an empty one is none), and perhaps ``dose.csv`` (Gy).

    Raises
    ------
    ValueError
        If a table is missing, damaged, or tells of voxels that there are not.
    """
    grid = _grid(folder)
    ct = _box(_table(folder / f"{_CT}.csv"), _CT).clamp(0, _HIGHEST) - _WATER
    possible = _mask(folder / f"{_POSSIBLE}.csv")
    structures = {}
    for n, name in enumerate((*TARGETS, *ORGANS)):
        path = folder / f"{name}.csv"
        if path.is_file() and bool((mask := _mask(path)).any()):
            kind = RoiType.PTV if name in TARGETS else RoiType.ORGAN
            color = _COLORS[min(n, len(_COLORS) - 1)]
            structures[name] = Structure(mask > 0, kind, color, TARGETS.get(name))
    dose = folder / f"{_DOSE}.csv"
    return Patient(
        Volume(ct[None], grid, Quantity.HU),
        StructureSet(grid, structures),
        Volume(possible[None], grid, Quantity.LABEL),
        read_dose(dose, grid) if dose.is_file() else None,
    )


def read_dose(path: Path, grid: Grid) -> Volume:
    """A dose (Gy) of a table, 0 where it tells none.

    Raises
    ------
    ValueError
        If the table is damaged, or a dose is negative, not finite or above 1000 Gy.
    """
    dose = _box(_table(path), path.stem)
    if not bool(torch.isfinite(dose).all()) or float(dose.min()) < 0 or float(dose.max()) > _MOST_GY:
        raise ValueError(f"expected doses of 0 to {_MOST_GY:g} Gy in {path.name}, got others or none")
    return Volume(dose[None], grid, Quantity.DOSE)


def write_prediction(dose: Volume, patient: Patient, path: Path) -> None:
    """Writes a dose (Gy) as the challenge takes predictions: every voxel where dose may be.

    Parameters
    ----------
    dose
        On the patient's grid.
    patient
        As :func:`read_patient` gives it.
    path
        A file such as ``pt_1.csv``, written whole or not at all.

    Raises
    ------
    ValueError
        If the dose is none, is negative or not finite somewhere, or lies on another grid.
    """
    if dose.expect(Quantity.DOSE).grid != patient.ct.grid or dose.grid.shape != (SIDE,) * 3:
        raise ValueError("expected a dose on the grid of an OpenKBP patient, got another; resample it")
    if not bool(torch.isfinite(dose.data).all()) or float(dose.data.min()) < 0:
        raise ValueError("expected predicted doses of 0 Gy or more, got negative ones or none")
    inside = np.flatnonzero(_as_kept(patient.possible.data[0]))
    values = _as_kept(dose.data[0].float())[inside]
    with whole_file(path) as part, part.open("w", encoding="ascii") as file:
        file.write(",data\n")
        file.writelines(f"{n},{v:.6g}\n" for n, v in zip(inside.tolist(), values.tolist(), strict=True))


def _number(folder: Path) -> tuple[str, int, str]:
    digits = "".join(c for c in folder.name if c.isdecimal())
    return str(folder.parent), int(digits or 0), folder.name


def _grid(folder: Path) -> Grid:
    path = folder / f"{_SIZES}.csv"
    sizes = _loaded(path, lambda: np.loadtxt(path, ndmin=1))
    if sizes.shape != (3,) or not ((sizes > 0) & (sizes <= _MOST_MM)).all():
        raise ValueError(
            f"expected three sizes of a voxel of 0 to {_MOST_MM:g} mm in {path.name}, got others"
        )
    back, left, up = sizes
    affine = np.diag([left, back, up, 1.0])
    affine[:3, 3] = -np.array([left, back, up]) * (SIDE - 1) / 2
    return Grid((SIDE,) * 3, affine)


def _table(path: Path) -> Table:
    table = _loaded(path, lambda: np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2))
    return table if len(table) else np.zeros((0, 2))


def _mask(path: Path) -> Tensor:
    numbers = _loaded(path, lambda: np.loadtxt(path, delimiter=",", skiprows=1, usecols=0, ndmin=1))
    return _box(np.stack([numbers, np.ones_like(numbers)], axis=1), path.stem).to(torch.uint8)


def _loaded(path: Path, load: Callable[[], Numbers]) -> Numbers:
    if not path.is_file() or path.resolve().parent != path.parent.resolve():
        raise ValueError(f"expected {path.name} in a patient's folder, got none; unpack the data again")
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"expected a table of voxels in {path.name}, got more than 256 MiB")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error")
            warnings.filterwarnings("ignore", message="loadtxt: input contained no data")
            return load()
    except (ValueError, UnicodeDecodeError, UserWarning, OSError):
        raise ValueError(
            f"expected numbers of voxels with their values in {path.name}, got something else; "
            "unpack the data again"
        ) from None


def _box(table: Table, what: str) -> Box:
    """Values of a table where they lie, 0 elsewhere."""
    numbers = table[:, 0]
    if table.shape[1] != 2 or not (np.isfinite(numbers) & (numbers == np.round(numbers))).all():
        raise ValueError(f"expected a whole number and a value a line in {what}.csv, got something else")
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < SIDE**3:
        raise ValueError(f"expected voxels 0 to {SIDE**3 - 1} in {what}.csv, got others")
    if len(np.unique(numbers)) < len(numbers):
        raise ValueError(f"expected each voxel once in {what}.csv, got some twice")
    flat = np.zeros(SIDE**3, dtype=np.float32)
    flat[numbers.astype(np.int64)] = table[:, 1]
    return torch.from_numpy(flat.reshape((SIDE,) * 3).transpose(1, 0, 2)[:, :, ::-1].copy())


def _as_kept(box: Tensor) -> Numbers:
    """What :func:`_box` undoes: values in the order of their numbers."""
    return box.numpy()[:, :, ::-1].transpose(1, 0, 2).ravel()
