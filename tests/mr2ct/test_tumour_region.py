import numpy as np
import pytest
import torch

from imaging.grid import Grid, around
from imaging.volume import Quantity, Volume
from mr2ct.tissue_net import TissueClass
from mr2ct.tumour_region import tumour_region

GRID = Grid((40, 40, 40), np.diag([2.0, 2.0, 2.0, 1.0]))


def found() -> Volume:
    """A brain of 30 voxels a side with tumours of 8 and 3, and more outside that looks like one."""
    classes = torch.zeros(40, 40, 40, dtype=torch.long)
    classes[5:35, 5:35, 5:35] = int(TissueClass.WHITE)
    classes[10:18, 10:18, 10:18] = int(TissueClass.OEDEMA)
    classes[12:16, 12:16, 12:16] = int(TissueClass.TUMOUR)
    classes[25:28, 25:28, 25:28] = int(TissueClass.TUMOUR)
    classes[37:40, :, :] = int(TissueClass.TUMOUR)
    share = torch.nn.functional.one_hot(classes, len(TissueClass)).movedim(-1, 0).float()
    return Volume(share, GRID, Quantity.PROBABILITY)


def test_the_largest_region_in_the_brain_is_found_where_it_is() -> None:
    region = tumour_region(found(), GRID)
    assert torch.equal(region.data[0].nonzero().amin(0), torch.tensor([10, 10, 10]))
    assert torch.equal(region.data[0].nonzero().amax(0), torch.tensor([17, 17, 17]))
    assert int(region.data.sum()) == 8**3
    assert region.quantity is Quantity.LABEL


def test_its_volume_is_the_same_on_a_finer_grid() -> None:
    fine = around(GRID, (1.0, 1.0, 1.0))
    region = tumour_region(found(), fine)
    assert float(region.data.sum()) == pytest.approx(16.0**3, rel=0.1)


def test_a_healthy_brain_has_none() -> None:
    healthy = found()
    data = healthy.data.clone()
    data[int(TissueClass.WHITE)] += data[int(TissueClass.TUMOUR)] + data[int(TissueClass.OEDEMA)]
    data[int(TissueClass.TUMOUR)] = data[int(TissueClass.OEDEMA)] = 0
    assert int(tumour_region(Volume(data, GRID, Quantity.PROBABILITY), GRID).data.sum()) == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        tumour_region(healthy, GRID, 1.0)
