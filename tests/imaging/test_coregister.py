import dataclasses

import numpy as np
import pytest
import torch

from imaging.coregister import moved_onto
from imaging.grid import Grid
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.anatomy import anatomy

# Signal of each tissue in two contrasts that no line relates: fluid is dark in one and bright in the other.
T1 = {
    Tissue.SCALP: 90.0,
    Tissue.FAT: 120.0,
    Tissue.CSF: 20.0,
    Tissue.GREY: 60.0,
    Tissue.WHITE: 80.0,
    Tissue.EYE: 25.0,
}
T2 = {
    Tissue.SCALP: 40.0,
    Tissue.FAT: 70.0,
    Tissue.CSF: 120.0,
    Tissue.GREY: 70.0,
    Tissue.WHITE: 55.0,
    Tissue.EYE: 125.0,
}


def scan(signal: dict[Tissue, float]) -> Volume:
    labels = anatomy(4.0)
    data = torch.zeros(labels.data.shape)
    for tissue, value in signal.items():
        data[labels.data == int(tissue)] = value
    return Volume(data, labels.grid, Quantity.MR, "1.2.3")


def turned(degrees: float, shift: tuple[float, float, float]) -> np.ndarray:
    a = np.radians(degrees)
    out = np.eye(4)
    out[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    out[:3, 3] = shift
    return out


def test_a_patient_who_moved_comes_back_to_a_fraction_of_a_voxel() -> None:
    fixed, moving = scan(T1), scan(T2)
    there = dataclasses.replace(
        moving,
        grid=Grid(moving.grid.shape, turned(11.0, (6.0, -9.0, 31.0)) @ moving.grid.affine),
        frame="4.5",
    )
    back = moved_onto(there, fixed)
    corners = np.array([[0, 0, 0, 1], [40, 0, 0, 1], [0, 50, 0, 1], [0, 0, 45, 1], [40, 50, 45, 1]]).T
    off = np.linalg.norm(((back.grid.affine - fixed.grid.affine) @ corners)[:3], axis=0)
    assert off.max() < 2.0  # voxels are 4 mm
    assert torch.equal(back.data, there.data)
    assert back.frame == "1.2.3"


def test_what_cannot_come_together_is_refused() -> None:
    fixed = scan(T1)
    with pytest.raises(ValueError, match="empty one"):
        moved_onto(dataclasses.replace(fixed, data=torch.zeros_like(fixed.data)), fixed)
    away = turned(0.0, (0.0, 0.0, 400.0)) @ fixed.grid.affine
    with pytest.raises(ValueError, match="400 mm and 0 degrees"):
        moved_onto(dataclasses.replace(fixed, grid=Grid(fixed.grid.shape, away)), fixed)
    with pytest.raises(ValueError, match="MR"):
        moved_onto(fixed, dataclasses.replace(fixed, quantity=Quantity.HU))
