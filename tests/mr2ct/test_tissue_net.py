from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from imaging.grid import Grid, axial
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from models.fit import Fit
from models.unet import UNetConfig, to_cells, to_voxels, unet
from mr2ct.tissue_net import (
    CLASS_OF,
    TISSUE_OF,
    TissueClass,
    TissueNet,
    class_table,
    likeliest,
    loss_of,
    probabilities,
    segment,
    train,
)

SMALL = UNetConfig(outputs=len(TissueClass), features=(4, 4, 4, 4, 4, 4))


class Threshold(nn.Module):
    """A network that calls bright voxels white matter, the others outside."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.full((x.shape[0], len(TissueClass), *x.shape[2:]), -20.0)
        out[:, TissueClass.WHITE] = 40 * (x[:, 0].float() - self.level)
        out[:, TissueClass.OUTSIDE] = 0.0
        return out


class Blocks(Dataset[dict[str, Tensor]]):
    """A bright block of white matter in dark air."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        g = torch.Generator().manual_seed(n)
        labels = torch.zeros(64, 64, 64, dtype=torch.uint8)
        at = torch.randint(4, 36, (3,), generator=g).tolist()
        labels[at[0] : at[0] + 24, at[1] : at[1] + 24, at[2] : at[2] + 24] = int(Tissue.WHITE)
        return {
            "image": (labels > 0).float()[None] + 0.05 * torch.rand(1, 64, 64, 64, generator=g),
            "labels": labels,
        }


def ball(grid: Grid, radius: float) -> Volume:
    at = [grid.affine[a, 3] + grid.affine[a, a] * np.arange(grid.shape[a]) for a in range(3)]
    x, y, z = np.meshgrid(*at, indexing="ij")
    inside = torch.from_numpy((x - 3) ** 2 + (y + 5) ** 2 + (z - 8) ** 2 < radius**2)
    return Volume(inside[None].float() * 700, grid, Quantity.MR, "1.2.3")


def test_every_tissue_has_a_class_and_every_class_a_tissue_of_its_own() -> None:
    assert set(CLASS_OF) == set(Tissue)
    assert set(TISSUE_OF) == set(TissueClass)
    assert all(CLASS_OF[TISSUE_OF[c]] is c for c in TissueClass)
    assert class_table().tolist() == [int(CLASS_OF[t]) for t in Tissue]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.3, 5.0)])
def test_labels_come_back_where_the_head_lies_on_any_grid(spacing: tuple[float, float, float]) -> None:
    grid = axial(np.array([-40.0, -45.0, -30.0]), np.array([38.0, 40.0, 50.0]), spacing)
    mr = ball(grid, 26.0)
    found = segment(mr, Threshold())
    truth = mr.data > 0
    both = float(((found.data == Tissue.WHITE) & truth).sum())
    assert 2 * both / float((found.data == Tissue.WHITE).sum() + truth.sum()) > 0.93
    assert found.grid == grid
    assert found.frame == "1.2.3"


def test_a_turned_scan_gives_the_same_place_in_the_patient() -> None:
    grid = axial(np.array([-40.0, -40.0, -40.0]), np.array([40.0, 40.0, 40.0]), (2.0, 2.0, 2.0))
    mr = ball(grid, 20.0)
    turned = Volume(
        mr.data.permute(0, 3, 1, 2).flip(1).contiguous(),
        Grid(
            (40, 40, 40),
            np.array([[0, 2, 0, -39], [0, 0, 2, -39], [-2, 0, 0, 39], [0, 0, 0, 1.0]]),
        ),
        Quantity.MR,
    )
    found = segment(turned, Threshold()).data
    assert torch.equal(found, segment(mr, Threshold()).data.permute(0, 3, 1, 2).flip(1))


def test_cells_hold_every_voxel_once() -> None:
    x = torch.arange(2 * 3 * 4 * 6 * 2.0).reshape(2, 3, 4, 6, 2)
    cells = to_cells(x)
    assert cells.shape == (2, 24, 2, 3, 1)
    assert torch.equal(to_voxels(cells), x)
    assert torch.equal(cells[0, :8, 0, 0, 0], x[0, 0, :2, :2, :2].flatten())


def test_probabilities_sum_to_one_and_lie_on_the_networks_voxels() -> None:
    grid = axial(np.array([-30.0, -30.0, -30.0]), np.array([31.0, 30.0, 30.0]), (1.0, 1.0, 1.0))
    found = probabilities(ball(grid, 20.0), unet(SMALL))
    assert found.grid.spacing == pytest.approx([2, 2, 2])
    assert float((found.data.sum(dim=0) - 1).abs().max()) < 1e-4
    assert found.quantity is Quantity.PROBABILITY


def test_the_loss_of_a_perfect_answer_is_nothing_and_of_a_wrong_one_much() -> None:
    labels = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
    labels[:, 4:12] = int(Tissue.WHITE)
    image = (labels > 0).float()[:, None]
    right, wrong = (loss_of(Threshold(), {"image": i, "labels": labels}).item() for i in (image, 1 - image))
    assert right < 1e-3
    assert wrong > 5


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    config = TissueNet(
        shape=(64, 64, 64), net=SMALL, fit=Fit(steps=40, workers=0, learning_rate=0.01, warmup=5)
    )
    net, took = train(config, Blocks(), tmp_path, lambda _title, _share: None)
    kept = {k: v[None] for k, v in Blocks()[60].items()}
    with torch.inference_mode():
        first, last = (float(loss_of(n, kept)) for n in (unet(SMALL).eval(), net))
    assert took["steps"] == 40
    assert last < 0.8 * first


def test_likeliest_takes_the_class_with_the_greatest_share() -> None:
    grid = axial(np.zeros(3), np.full(3, 8.0), (2.0, 2.0, 2.0))
    share = torch.zeros(len(TissueClass), 4, 4, 4)
    share[TissueClass.BONE] = 0.6
    share[TissueClass.CSF] = 0.4
    labels = likeliest(Volume(share, grid, Quantity.PROBABILITY), grid)
    assert bool((labels.data == Tissue.SKULL).all())


def test_other_quantities_and_bad_sizes_are_refused() -> None:
    grid = axial(np.zeros(3), np.full(3, 32.0), (2.0, 2.0, 2.0))
    with pytest.raises(ValueError, match="expected a volume in MR signal"):
        segment(Volume(torch.zeros(1, *grid.shape), grid, Quantity.HU), Threshold())
    with pytest.raises(ValueError, match="six counts"):
        UNetConfig(features=(1, 2))


def test_channels_that_the_network_does_not_take_are_refused() -> None:
    grid = axial(np.array([-30.0, -30.0, -30.0]), np.array([31.0, 30.0, 30.0]), (2.0, 2.0, 2.0))
    one = ball(grid, 20.0)
    with pytest.raises(ValueError, match="1 channels"):
        probabilities(replace(one, data=one.data.repeat(2, 1, 1, 1)), unet(SMALL))
