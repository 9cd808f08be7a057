import json

import numpy as np
import torch

from imaging.grid import axial
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.check.compare import compare
from planning.plan import Prescription


def test_a_dose_one_percent_too_high_differs_by_one_percent():
    grid = axial(np.full(3, -10.0), np.full(3, 10.0), (2.0, 2.0, 2.0))
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[3:7, 3:7, 3:7] = True
    drawn = StructureSet(grid, {"PTV": Structure(mask, RoiType.PTV, (255, 0, 0))})
    truth = Volume(torch.full((1, *grid.shape), 60.0), grid, Quantity.DOSE)
    ours = Volume(truth.data * 1.01, grid, Quantity.DOSE)
    got = compare(ours, truth, drawn, Prescription(60.0, 30))
    for metric in ("mean", "d98", "d95", "d2"):
        assert got["PTV"][f"{metric}_gy"] == 60.0
        assert abs(got["PTV"][f"{metric}_difference_percent"] - 1.0) < 1e-3
        assert abs(got["PTV"][f"{metric}_difference_gy"] - 0.6) < 1e-3
    json.dumps(got)
