"""Falx, tentorium and ventricles of the mean head against its own labels and its symmetry."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from imaging.grid import Grid, around
from imaging.partition import Partition
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from planning.contour.barriers import walls
from synth.anatomy import anatomy
from synth.partitions import flags, partitions


@pytest.fixture(scope="module")
def head() -> Volume:
    return anatomy(1.5)


def still(grid: Grid, shift: float = 0.0) -> Volume:
    coarse = around(grid, (20.0, 20.0, 20.0))
    field = torch.zeros(3, *coarse.shape)
    field[2] = shift
    return Volume(field, coarse, Quantity.DISPLACEMENT)


def test_the_heads_own_dura_lies_on_the_walls(head: Volume) -> None:
    found = walls(partitions(still(head.grid), head.grid), head)
    on_wall = (found["falx"] | found["tentorium"]).numpy()
    away = ndimage.distance_transform_edt(~on_wall, sampling=1.5)
    dura = (head.data[0] == Tissue.DURA).numpy()
    assert int(dura.sum()) > 3000
    assert float(np.percentile(away[dura], 95)) <= 3.0
    assert 10 < float(found["ventricles"].sum()) * head.grid.voxel_volume / 1000 < 60  # cm³


def test_sides_mirror_each_other() -> None:
    generator = torch.Generator().manual_seed(3)
    places = 60 * torch.randn(4000, 3, generator=generator)
    mirrored = flags(places * torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.equal(mirrored ^ flags(places), torch.full_like(mirrored, int(Partition.LEFT)))


def test_they_move_with_the_head(head: Volume) -> None:
    moved = partitions(still(head.grid, 6.0), head.grid).data[0]  # places are read 6 mm, 4 voxels, higher
    assert torch.equal(moved[:, :, :-4], partitions(still(head.grid), head.grid).data[0][:, :, 4:])
    with pytest.raises(ValueError, match="displacement"):
        partitions(head, head.grid)
