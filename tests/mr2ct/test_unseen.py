"""Where a scan ends inside a head, and voids in it: balls whose place and size are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imaging.agreement import dice
from imaging.grid import Grid, axial, positions
from imaging.intensity import head_mask
from imaging.phantoms import sphere
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from models.unet import UNetConfig
from mr2ct.convert import convert
from mr2ct.lie import lie
from mr2ct.regression import LEVELS, N_OUTPUTS, RegressionNet
from mr2ct.unseen import UNKNOWN, beyond, cut_sides, deep_air, doubted, removed, seen_box, shown, voids
from synth.anatomy import anatomy
from synth.patient import patient

GRID = axial(np.full(3, -100.0), np.full(3, 100.0), (5.0,) * 3)


def ball(z: float, radius: float = 60.0) -> tuple[Volume, Volume]:
    """A bright ball ``z`` mm above the middle as MRI and as head, with noise around it."""
    mask = sphere(GRID, np.array([0.0, 0.0, z]), radius)
    noise = 5 + torch.rand(GRID.shape, generator=torch.Generator().manual_seed(0))
    mr = Volume(torch.where(mask, 500.0, noise)[None], GRID, Quantity.MR)
    return mr, Volume(mask[None].to(torch.uint8), GRID, Quantity.LABEL)


def test_a_whole_ball_is_cut_nowhere_and_one_that_reaches_out_is_cut_there() -> None:
    mr, head = ball(0.0)
    assert seen_box(mr) == ((0, 39), (0, 39), (0, 39))
    assert cut_sides(head, seen_box(mr)) == {}
    mr, head = ball(70.0)
    assert cut_sides(head, seen_box(mr)) == {"top": (2, 39)}
    turned = Grid(GRID.shape, GRID.affine[:, [2, 1, 0, 3]])
    stored = Volume(head.data.permute(0, 3, 2, 1), turned, Quantity.LABEL)
    assert cut_sides(stored, seen_box(mr)) == {"top": (0, 39)}


def test_nothing_is_known_of_padding_behind_a_cut_and_air_around_a_head_is_known() -> None:
    mr, head = ball(0.0)
    padded = replace(mr, data=mr.data.clone())
    padded.data[..., 25:] = 0
    box = seen_box(padded)
    ((a, b), (c, d), (e, f)), within = box, shown(padded)
    assert bool(within[a : b + 1, c : d + 1, e : f + 1].all())
    assert int(within.sum()) == (b + 1 - a) * (d + 1 - c) * (f + 1 - e)
    assert box[2] == (0, 24)
    unknown = beyond(GRID, box, cut_sides(head, box))
    assert bool(unknown[..., 25:].all())
    assert not bool(unknown[..., :25].any())
    around = replace(mr, data=mr.data.clone())
    around.data[..., 36:] = 0
    assert not bool(beyond(GRID, seen_box(around), cut_sides(head, seen_box(around))).any())


class Bright(nn.Module):
    """Says 50 HU of everything, and is sure."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        said = torch.full((x.shape[0], N_OUTPUTS, *x.shape[2:]), -30.0)
        said[:, 1 + LEVELS.index(50.0)] = 30.0
        return said * self.one


def test_what_is_unknown_may_be_anything_and_the_rest_is_as_sure_as_before() -> None:
    mr, _ = ball(0.0)
    unknown = torch.zeros(GRID.shape, dtype=torch.bool)
    unknown[10:14] = True
    config = RegressionNet(5.0, (32, 32, 32), UNetConfig(inputs=1, outputs=N_OUTPUTS))
    sure = convert(mr, [Bright()], config)
    found = doubted(sure, unknown)
    assert float(found.uncertainty.data[0, 12].min()) == UNKNOWN
    assert float(found.uncertainty.data[0, 20].max()) < 10
    assert torch.equal(found.ct.data, sure.ct.data)


@pytest.mark.parametrize("contrast", ["t1", "flair"])
def test_a_void_beside_the_brain_is_found_where_it_is_and_heads_have_none(contrast: str) -> None:
    case, prior = patient(5, 3.0), anatomy(4.0)
    mr = case.volumes[contrast]
    mask = head_mask(mr)
    offset = lie(case.volumes["ct"], prior).offset
    assert voids(mr, mask, prior, offset) == []
    inside = positions(mr.grid, torch.nonzero(mask.data[0] > 0).double().numpy())
    top = inside[:, 2].max()
    level = inside[np.abs(inside[:, 2] - (top - 60)) < 3]
    middle = np.array([level[:, 0].max() - 24, level[:, 1].mean(), top - 60])
    metal = sphere(mr.grid, middle, 16.0)
    spoiled = replace(mr, data=torch.where(metal[None], 0.02 * mr.data, mr.data))
    (found, *_) = voids(spoiled, head_mask(spoiled), prior, offset)
    assert np.linalg.norm(found.middle - middle) < 10
    assert found.cc == pytest.approx(4 / 3 * np.pi * 1.6**3, rel=0.5)  # bone beside it is dark as well
    assert float((found.mask & metal).sum() / metal.sum()) > 0.95


def test_air_deep_in_the_brain_is_found_where_it_is_and_sinuses_are_none() -> None:
    case, prior = patient(5, 3.0), anatomy(4.0)
    ct = case.volumes["ct"]
    offset = lie(ct, prior).offset
    assert deep_air(ct, prior, offset) == []
    brain = positions(ct.grid, torch.nonzero(case.volumes["labels"].data[0] == Tissue.WHITE).double().numpy())
    middle = brain.mean(axis=0)
    nulled = sphere(ct.grid, middle, 9.0)
    spoiled = replace(ct, data=torch.where(nulled[None], -200.0, ct.data))
    (found,) = deep_air(spoiled, prior, offset)
    assert np.linalg.norm(found.middle - middle) < 4
    assert found.cc == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.3)
    assert bool(found.mask[nulled].all())


def test_a_face_that_was_removed_is_not_shown_and_is_found_and_whole_heads_lack_none() -> None:
    case, prior = patient(5, 3.0), anatomy(4.0)
    t1 = case.volumes["t1"]
    mr = replace(t1, data=t1.data.clamp(min=0.01 * float(t1.data.max())))
    offset = lie(case.volumes["ct"], prior).offset
    assert bool(shown(mr).all())
    assert removed(mr, prior, offset) is None
    # All in front of a plane that leans 30 degrees from coronal is blank, as where faces are removed.
    inside = case.volumes["labels"].data[0] != Tissue.OUTSIDE
    at = positions(mr.grid, np.argwhere(np.ones(mr.grid.shape, dtype=bool)).astype(float))
    middle = positions(mr.grid, torch.nonzero(inside).double().numpy()).mean(axis=0)
    away = (at - middle) @ np.array([0.0, -np.cos(np.pi / 6), -np.sin(np.pi / 6)])
    face = torch.from_numpy((away > 70).reshape(mr.grid.shape))
    defaced = replace(mr, data=torch.where(face[None], 0.0, mr.data))
    gone = removed(defaced, prior, offset)
    assert gone is not None
    assert bool(face[gone].all())
    assert dice(gone, face & inside) > 0.7
    assert float((shown(defaced) == ~face).float().mean()) > 0.999
