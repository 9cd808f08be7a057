"""Small DICOM series, and ways to spoil them."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from imaging.dicom.writer import write_ct, write_mr
from imaging.grid import Grid
from imaging.source import Source
from imaging.volume import Quantity, Volume

PATIENT = Source(
    patient_id="ID-4711",
    patient_name="Müller^Zoë",
    birth_date="19700102",
    sex="F",
    study_uid="1.2.826.0.1.3680043.8.498.77",
    study_id="S7",
    study_date="20250304",
    study_time="101112",
    accession="A55",
    physician="House^Gregory",
    frame="1.2.826.0.1.3680043.8.498.78",
)
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

Change = Callable[[int, Dataset], None]


def make_grid(angles: tuple[float, float, float], shape: tuple[int, int, int] = (7, 9, 6)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * [0.9375, 1.2, 2.51]
    affine[:3, 3] = [-101.34567, 88.25, -33.123]
    return Grid(shape, affine)


@pytest.fixture
def oblique() -> Grid:
    return make_grid((12, -23, 37))


@pytest.fixture
def patient() -> Source:
    return PATIENT


@pytest.fixture
def make_ct(tmp_path: Path) -> Callable[..., tuple[Volume, Source, Path]]:
    """A CT of every HU there is, written as a series: volume, source, folder."""

    def make(grid: Grid, name: str = "ct") -> tuple[Volume, Source, Path]:
        n = int(np.prod(grid.shape))
        hu = torch.linspace(-1024, 31743, n).round().reshape(1, *grid.shape)
        ct = Volume(hu, grid, Quantity.HU, PATIENT.frame)
        return ct, write_ct(ct, PATIENT, tmp_path / name, seed=(name,), when=WHEN), tmp_path / name

    return make


@pytest.fixture
def make_mr(tmp_path: Path) -> Callable[..., tuple[Volume, Source, Path]]:
    """An MR whose voxels all differ, written as a series: volume, source, folder."""

    def make(grid: Grid, name: str = "mr") -> tuple[Volume, Source, Path]:
        signal = torch.arange(int(np.prod(grid.shape))).float().reshape(1, *grid.shape)
        mr = Volume(signal, grid, Quantity.MR, PATIENT.frame)
        return mr, write_mr(mr, PATIENT, tmp_path / name, seed=(name,), when=WHEN), tmp_path / name

    return make


@pytest.fixture
def edit() -> Callable[[Path, Change], None]:
    """Changes every file of a series: ``change(k, dataset)`` for slice k."""

    def apply(folder: Path, change: Change) -> None:
        for k, file in enumerate(sorted(folder.iterdir())):
            dataset = pydicom.dcmread(file)
            change(k, dataset)
            dataset.save_as(file)

    return apply
