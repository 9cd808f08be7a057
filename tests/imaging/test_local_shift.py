"""Blocks of a CT find their place in an MRI that shares no grey value with it."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from imaging.grid import Grid
from imaging.local_shift import local_shifts
from imaging.phantoms import sphere
from imaging.volume import Quantity, Volume

SIDE, VOXEL = 48, 2.5
GRID = Grid((SIDE,) * 3, np.diag([VOXEL, VOXEL, VOXEL, 1.0]))
HU = torch.tensor([-1000.0, 0.0, 60.0, 700.0, -90.0])
SIGNAL = torch.tensor([2.0, 90.0, 40.0, 5.0, 140.0])  # bone dark, fat bright: no line relates them
BODY = sphere(GRID, GRID.center, 50.0)


@pytest.fixture(scope="module")
def tissues() -> torch.Tensor:
    coarse = torch.randn(1, 1, 10, 10, 10, generator=torch.Generator().manual_seed(0))
    smooth = interpolate(coarse, size=(SIDE,) * 3, mode="trilinear", align_corners=True)[0, 0]
    return (1 + torch.bucketize(smooth, torch.tensor([-0.4, 0.0, 0.4]))) * BODY


def ct(tissues: torch.Tensor) -> Volume:
    return Volume(HU[tissues][None], GRID, Quantity.HU)


def mr(tissues: torch.Tensor) -> Volume:
    noise = torch.randn(tissues.shape, generator=torch.Generator().manual_seed(1))
    shading = torch.linspace(0.6, 1.4, SIDE)[:, None, None]
    return Volume(((SIGNAL[tissues] + 3 * noise).clamp(min=0) * shading)[None], GRID, Quantity.MR)


def test_what_lies_in_its_place_stays_there_whatever_the_contrast_and_shading(tissues: torch.Tensor) -> None:
    found = local_shifts(ct(tissues), mr(tissues), BODY)
    assert len(found) > 30
    assert float(found.max()) == 0.0


def test_a_ct_two_voxels_off_is_found_five_millimetres_off(tissues: torch.Tensor) -> None:
    affine = GRID.affine.copy()
    affine[1, 3] += 2 * VOXEL
    moved = dataclasses.replace(ct(tissues), grid=Grid(GRID.shape, affine))
    found = local_shifts(moved, mr(tissues), BODY)
    assert float(found.median()) == 5.0
    assert float((found == 5.0).float().mean()) > 0.7


def test_a_part_that_is_bent_is_found_and_the_rest_stays(tissues: torch.Tensor) -> None:
    bent = tissues.clone()
    bent[24:, 16:32, 16:32] = tissues[24:, 13:29, 16:32]
    found = local_shifts(ct(bent), mr(tissues), BODY)
    assert 0.02 < float((found > 4).float().mean()) < 0.4


def test_scans_that_do_not_meet_give_no_block(tissues: torch.Tensor) -> None:
    affine = GRID.affine.copy()
    affine[0, 3] += 1000.0
    away = dataclasses.replace(mr(tissues), grid=Grid(GRID.shape, affine))
    assert len(local_shifts(ct(tissues), away, BODY)) == 0
    with pytest.raises(ValueError, match="MR signal"):
        local_shifts(ct(tissues), ct(tissues), BODY)
