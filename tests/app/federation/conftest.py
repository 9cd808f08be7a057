"""Sites of synthetic patients, small enough to learn from in a second."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from app.dose_material import DoseSource, ReadyDose, prepare_doses
from app.federation.dose_task import DoseTask
from app.train_dose import DoseRun
from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from models.fit import Fit
from planning.predict.lattice import Sizes
from planning.predict.patient import Patient
from planning.predict.site import read_site

RUN = DoseRun(
    read_site("openkbp"),
    fit=Fit(steps=2, warmup=1),
    shape=(32, 32, 32),
    net={"features": (4, 4, 4, 4, 4, 4), "stages": 1},
)


def patient_with_target_at(at: float) -> Patient:
    """A ball of water whose target lies ``at`` mm to the left; the dose is 70 Gy in it and 30 around."""
    grid = axial(np.full(3, -60.0), np.full(3, 60.0), (5.0, 5.0, 4.0))
    body, ptv = sphere(grid, np.zeros(3), 50.0), sphere(grid, np.array([at, 0, 0]), 15.0)
    organ = sphere(grid, np.array([-at, 0, 0]), 10.0)
    drawn = {
        "PTV70": Structure(ptv, RoiType.PTV, (255, 0, 0), 70.0),
        "LeftParotid": Structure(organ, RoiType.ORGAN, (0, 255, 0)),
    }
    return Patient(
        Volume(torch.where(body, 0.0, -1000.0)[None], grid, Quantity.HU),
        StructureSet(grid, drawn),
        Volume(body[None].to(torch.uint8), grid, Quantity.LABEL),
        Volume((torch.where(ptv, 70.0, 30.0) * body)[None], grid, Quantity.DOSE),
    )


def _read(path: Path) -> Patient:
    return patient_with_target_at(float(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> list[ReadyDose]:
    """Six patients made ready once."""
    folder = tmp_path_factory.mktemp("patients")
    for n in range(6):
        (folder / f"{n}.txt").write_text(str(4.0 * n), encoding="utf-8")
    sources = [DoseSource(folder / f"{n}.txt", _read) for n in range(6)]
    found, _ = prepare_doses(sources, RUN.site, Sizes(), folder / "ready", lambda _, __: None)
    return found


@pytest.fixture(scope="session")
def site(ready: list[ReadyDose]) -> Callable[[Sequence[int]], DoseTask]:
    """A site of some of the patients, by number; the last of them is held out."""
    return lambda numbers: DoseTask(RUN, [ready[n] for n in numbers[:-1]], [ready[numbers[-1]]])


def write_openkbp_patient(folder: Path, at: float) -> Path:
    """A patient in OpenKBP's layout: 128 voxels a side, few of them the patient's."""
    folder.mkdir(parents=True)
    index = np.arange(128)
    x, y, z = np.meshgrid(*[(index - 64) * mm for mm in (4.0, 4.0, 3.0)], indexing="ij")
    body = x**2 + y**2 + z**2 < 40.0**2
    ptv = (x - at) ** 2 + y**2 + z**2 < 14.0**2
    organ = (x + at + 5) ** 2 + y**2 + z**2 < 10.0**2
    flat = {name: np.flatnonzero(mask) for name, mask in (("body", body), ("ptv", ptv), ("organ", organ))}
    (folder / "voxel_dimensions.csv").write_text("4.0\n4.0\n3.0\n", encoding="utf-8")
    dose = np.where(ptv, 70.0, 30.0).ravel()[flat["body"]]
    _csv(folder / "ct.csv", flat["body"], np.full(len(flat["body"]), 1024.0))
    _csv(folder / "dose.csv", flat["body"], dose)
    _csv(folder / "possible_dose_mask.csv", flat["body"], None)
    _csv(folder / "PTV70.csv", flat["ptv"], None)
    _csv(folder / "LeftParotid.csv", flat["organ"], None)
    return folder


@pytest.fixture(scope="session")
def made_ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where patients of :func:`hospital` are kept once they are made ready, for all tests."""
    return tmp_path_factory.mktemp("ready")


def _csv(path: Path, index: np.ndarray, data: np.ndarray | None) -> None:
    values = [""] * len(index) if data is None else [f"{v:.1f}" for v in data]
    rows = [f"{i},{v}" for i, v in zip(index, values, strict=True)]
    path.write_text("\n".join([",data", *rows]) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hospital's folder of three patients."""
    folder = tmp_path_factory.mktemp("hospital")
    for n in range(3):
        write_openkbp_patient(folder / f"pt_{n + 1}", 5.0 * n)
    return folder


@pytest.fixture(scope="session")
def write_patient() -> Callable[[Path, float], Path]:
    """Writes a patient in OpenKBP's layout, its target so many mm to the left."""
    return write_openkbp_patient
