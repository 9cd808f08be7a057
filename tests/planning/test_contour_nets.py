from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from imaging.grid import Grid, axial
from imaging.organ import Organ
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from models.fit import Fit
from models.unet import UNetConfig, unet
from planning.contour.classes import CONTRASTS, HEAD, HEAD_OF, ORGANS, HeadClass, OrganClass
from planning.contour.nets import HEAD_NET, ORGAN_NET, ContourNet, loss_of, shares, train

SMALL = UNetConfig(len(CONTRASTS), len(OrganClass), (4, 4, 4, 4, 4, 4), sharp=4, deep=2)


class Thirds(nn.Module):
    """A network that calls voxels that are bright in T1c eyes, and whatever lies at low i a lens."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.full((x.shape[0], len(OrganClass), *x.shape[2:]), -20.0)
        out[:, 0] = 0.0
        out[:, OrganClass.EYE] = 40 * (x[:, 1].float() - self.level)
        out[:, OrganClass.LENS, :20] = 30.0
        return out


class Balls(Dataset[dict[str, Tensor]]):
    """A bright eye in the dark, with a lens beside it."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        organs = torch.zeros(64, 64, 64, dtype=torch.uint8)
        organs[8:40, 8:40, 8:40], organs[40:48, 8:40, 8:40] = int(Organ.EYE_L), int(Organ.LENS_L)
        image = torch.zeros(4, 64, 64, 64)
        image[n % 4] = (organs > 0).float()
        return {"image": image, "labels": (organs > 0).to(torch.uint8) * int(Tissue.EYE), "organs": organs}


def test_every_tissue_of_a_head_has_a_class_and_those_of_a_tumour_are_brats() -> None:
    assert set(HEAD_OF) == set(Tissue)
    assert set(HEAD_OF.values()) == set(HeadClass)
    labels = torch.tensor([int(t) for t in (Tissue.NECROSIS, Tissue.INFILTRATION, Tissue.CAVITY)]).byte()
    assert HEAD.wanted(labels).tolist() == [HeadClass.CORE, HeadClass.CORE, HeadClass.CAVITY]
    assert len(HEAD.weight) == len(HEAD.names)
    assert len(ORGANS.weight) == len(ORGANS.names)


def test_organs_win_over_tissues_and_both_sides_are_one_class() -> None:
    labels = torch.tensor([Tissue.BRAINSTEM, Tissue.GREY, Tissue.NERVE, Tissue.NERVE, Tissue.EYE]).byte()
    organs = torch.tensor(
        [Organ.NONE, Organ.NONE, Organ.OPTIC_NERVE_L, Organ.OPTIC_NERVE_R, Organ.LENS_R]
    ).byte()
    wanted = [OrganClass.BRAINSTEM, 0, OrganClass.OPTIC_NERVE, OrganClass.OPTIC_NERVE, OrganClass.LENS]
    assert ORGANS.wanted(labels, organs).tolist() == wanted
    with pytest.raises(ValueError, match="expected organs beside tissues"):
        ORGANS.wanted(labels)


def test_both_networks_together_fit_into_sixteen_mib() -> None:
    count = sum(p.numel() for config in (HEAD_NET, ORGAN_NET) for p in unet(config.net).parameters())
    assert 2 * count <= 16 * 2**20


def test_training_lowers_the_loss(
    tmp_path: Path,
) -> None:
    config = ContourNet(ORGANS, 1.0, SMALL, fit=Fit(steps=30, learning_rate=5e-3, warmup=1, average=0.5))
    batch = {name: t[None] for name, t in Balls()[0].items()}

    net, took = train(config, Balls(), tmp_path, lambda *_: None)
    torch.manual_seed(0)
    with torch.no_grad():
        before = float(loss_of(config, unet(config.net), batch))
        after = float(loss_of(config, net, batch))
    assert took["steps"] == 30
    assert after < 0.7 * before


def test_the_mirror_of_a_head_has_the_mirrored_answer() -> None:
    n = 40
    data = torch.zeros(4, n, n, n)
    data[1, 10:20, 10:20, 10:20] = 100.0
    grid = axial(np.zeros(3), np.full(3, float(n)), (1.0, 1.0, 1.0))
    config = ContourNet(ORGANS, 1.0, SMALL, window=(64, 64, 64))
    there, back = shares(Volume(data, grid, Quantity.MR), Thirds(), config)
    assert there.grid == grid
    assert there.quantity is Quantity.PROBABILITY
    assert torch.allclose(there.data.sum(dim=0), torch.ones(n, n, n), atol=1e-3)
    eye = there.data[OrganClass.EYE] > 0.5
    assert torch.equal(eye, data[1] > 0)
    # The lens is said by place: in the mirrored view, at the other end.
    assert bool((there.data[OrganClass.LENS, :5] > 0.5).all())
    assert bool((there.data[OrganClass.LENS, -5:] < 0.5).all())
    assert bool((back.data[OrganClass.LENS, :5] < 0.5).all())


def test_other_channels_than_the_contrasts_are_refused() -> None:
    grid = Grid((8, 8, 8), np.eye(4))
    with pytest.raises(ValueError, match="expected MR signal of 4 contrasts, got 1"):
        shares(Volume(torch.ones(1, 8, 8, 8), grid, Quantity.MR), Thirds(), ORGAN_NET)


def test_samples_are_centred_on_organs_that_a_class_is_made_of() -> None:
    organs = torch.arange(len(Organ), dtype=torch.uint8).reshape(1, 1, 1, -1)
    kept = ORGANS.only(organs).flatten().tolist()
    left_out = {Organ.OPTIC_TRACT_L, Organ.OPTIC_TRACT_R, Organ.MANDIBLE}
    assert kept == [0 if organ in left_out else int(organ) for organ in Organ]
