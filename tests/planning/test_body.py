import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.phantoms import sphere
from imaging.volume import Quantity, Volume
from planning.contour.body import body_of

GRID = Grid((40, 40, 20), np.diag([2.0, 2.0, 2.0, 1.0]))


def test_the_body_is_the_largest_tissue_with_its_cavities():
    center = np.array([40.0, 40.0, 20.0])
    head, cavity = sphere(GRID, center, 30.0), sphere(GRID, center, 8.0)
    hu = torch.full(GRID.shape, -1000.0)
    hu[head] = 40.0
    hu[cavity] = -1000.0
    hu[0, :, :] = 200.0  # a couch
    assert torch.equal(body_of(Volume(hu[None], GRID, Quantity.HU)), head)


def test_air_alone_is_refused():
    with pytest.raises(ValueError, match="got air alone"):
        body_of(Volume(torch.full((1, *GRID.shape), -1000.0), GRID, Quantity.HU))
