"""Structures of one's own from a network whose answers are known: pairs by place, single ones, none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.volume import Quantity, Volume
from planning.contour.classes import CONTRASTS, Classes
from planning.contour.nets import ORGAN_NET
from planning.contour.own import own_structures
from planning.contour.sides import Midplane

GRID = axial(np.full(3, -40.0), np.full(3, 40.0), (2.0, 2.0, 2.0))
NET = replace(
    ORGAN_NET, classes=Classes(("none", "Parotid", "Larynx", "Thyroid"), {}), spacing=2.0, window=(48, 48, 48)
)
PLANE = Midplane(np.zeros(3), np.array([1.0, 0.0, 0.0]))
PAROTID, LARYNX = 300.0, 600.0


class Bright(nn.Module):
    """Calls voxels of T1 parotid or larynx by their brightness; sees no thyroid."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        t1 = x[:, 0].float()
        top = t1.amax().clamp(min=1e-6)
        out = torch.zeros((x.shape[0], 4, *x.shape[2:]))
        out[:, 0] = 10.0
        out[:, 1] = torch.where((t1 > 0.3 * top) & (t1 < 0.7 * top), 20.0, 0.0)
        out[:, 2] = torch.where(t1 >= 0.7 * top, 20.0, 0.0)
        out[:, 3] = -20.0
        return out * self.scale


def scan(*balls: tuple[float, float, float]) -> Volume:
    """A larynx in the middle, and parotids of some radius and brightness at some x."""
    data = torch.zeros(len(CONTRASTS), *GRID.shape)
    for x, radius, bright in balls:
        data[0][sphere(GRID, np.array([x, 0.0, 0.0]), radius)] = bright
    return Volume(data, GRID, Quantity.MR)


def test_a_pair_is_told_apart_by_place_and_mirrors() -> None:
    mr = scan((0.0, 8.0, LARYNX), (-26.0, 7.0, PAROTID), (26.0, 6.0, PAROTID))
    found = own_structures(mr, Bright(), NET, PLANE, GRID)
    assert set(found.masks) == {"Parotid_L", "Parotid_R", "Larynx"}
    assert found.missing == {"Thyroid": "is not seen"}
    x = torch.arange(GRID.shape[0]) * 2.0 + GRID.affine[0, 3]
    for name, at in (("Parotid_L", 26.0), ("Parotid_R", -26.0), ("Larynx", 0.0)):
        middle = float(x[found.masks[name].nonzero()[:, 0]].mean())
        assert middle == pytest.approx(at, abs=1.0)
        assert found.agreement[name] > 0.95  # this network sees no difference in a mirror
    flipped = Volume(mr.data.flip(1), GRID, Quantity.MR)
    other = own_structures(flipped, Bright(), NET, PLANE, GRID)
    assert torch.equal(other.masks["Parotid_R"], found.masks["Parotid_L"].flip(0))


def test_what_is_much_smaller_on_the_other_side_is_an_island() -> None:
    mr = scan((0.0, 8.0, LARYNX), (-26.0, 7.0, PAROTID), (26.0, 3.0, PAROTID))
    found = own_structures(mr, Bright(), NET, PLANE, GRID)
    assert set(found.masks) == {"Parotid", "Larynx"}
    assert not found.masks["Parotid"][GRID.shape[0] // 2 :].any()
