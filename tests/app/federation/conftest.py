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
