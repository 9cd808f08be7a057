"""What a dose predictor sees lies on one grid, in HU and Gy, with a prescription."""

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.predict.patient import Patient, prescribed

GRID = axial(np.zeros(3), np.full(3, 20.0), (5.0,) * 3)
FINER = axial(np.zeros(3), np.full(3, 20.0), (4.0,) * 3)


def volume(quantity: Quantity, grid=GRID) -> Volume:
    kind = torch.uint8 if quantity is Quantity.LABEL else torch.float32
    return Volume(torch.zeros(1, *grid.shape, dtype=kind), grid, quantity)


def drawn(dose: float | None = 60.0) -> StructureSet:
    inside = torch.ones(GRID.shape, dtype=torch.bool)
    return StructureSet(
        GRID,
        {
            "PTV": Structure(inside, RoiType.PTV, (255, 0, 0), dose),
            "Brain": Structure(inside, RoiType.ORGAN, (0, 255, 0)),
        },
    )


def test_prescriptions_are_those_of_targets() -> None:
    made = Patient(volume(Quantity.HU), drawn(), volume(Quantity.LABEL), volume(Quantity.DOSE))
    assert prescribed(made.structures) == {"PTV": 60.0}


@pytest.mark.parametrize(
    ("ct", "structures", "possible", "dose", "message"),
    [
        (volume(Quantity.MR), drawn(), volume(Quantity.LABEL), None, "HU"),
        (volume(Quantity.HU), drawn(), volume(Quantity.PROBABILITY), None, "label"),
        (volume(Quantity.HU), drawn(), volume(Quantity.LABEL), volume(Quantity.HU), "Gy"),
        (volume(Quantity.HU, FINER), drawn(), volume(Quantity.LABEL), None, "on one grid, got several"),
        (volume(Quantity.HU), drawn(None), volume(Quantity.LABEL), None, "a target with a prescription"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    ct: Volume, structures: StructureSet, possible: Volume, dose: Volume | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Patient(ct, structures, possible, dose)
