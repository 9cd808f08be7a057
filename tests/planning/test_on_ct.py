"""CTs as the networks read them, against CT numbers of known tissues."""

import numpy as np
import pytest
import torch

from imaging.agreement import dice
from imaging.grid import Grid
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume
from planning.contour.classes import CONTRASTS
from planning.contour.convert import Contoured
from planning.contour.on_ct import ct_as_mr, in_place_of_t1, with_numbers_of
from planning.contour.targets import sphere

GRID = Grid((40, 40, 40), np.diag([1.0, 1.0, 1.0, 1.0]))
AIR, FAT, WATER, WHITE, GREY, BONE = -1000.0, -110.0, 8.0, 29.0, 38.0, 1200.0


def layers(*hu: float, noise: float = 0.0) -> Volume:
    """Slabs of equal thickness along k."""
    data = torch.tensor(hu).repeat_interleave(40 // len(hu))[None, None, None].expand(1, 40, 40, -1).clone()
    data += noise * torch.randn(data.shape, generator=torch.Generator().manual_seed(1))
    return Volume(data, Grid(tuple(data.shape[1:]), GRID.affine), Quantity.HU)


def test_tissues_are_as_bright_as_in_a_t1() -> None:
    seen = ct_as_mr(layers(AIR, FAT, WATER, WHITE, GREY, BONE)).data[0]
    air, fat, water, white, grey, bone = (float(seen[..., 6 * n + 3].mean()) for n in range(6))
    assert air == 0.0
    assert bone < 0.1 * fat
    assert bone < water < grey < white < fat


def test_noise_of_a_planning_ct_leaves_white_matter_and_grey_apart() -> None:
    seen = ct_as_mr(layers(WHITE, GREY, noise=5.0)).data[0]
    white, grey = seen[4:-4, 4:-4, 4:16], seen[4:-4, 4:-4, 24:-4]
    apart = float(white.mean() - grey.mean()) / float((white.var() + grey.var()).sqrt())
    raw = float(GREY - WHITE) / (5.0 * np.sqrt(2))
    assert apart > 1.5 * raw


def test_the_networks_are_shown_a_t1_and_nothing_else() -> None:
    ct = layers(WATER, GREY)
    shown = in_place_of_t1(ct)
    assert shown.quantity is Quantity.MR
    for channel, name in zip(shown.data, CONTRASTS, strict=True):
        assert torch.equal(channel, ct_as_mr(ct).data[0]) if name == "t1" else not channel.any()
    with pytest.raises(ValueError, match="HU"):
        ct_as_mr(shown)


def test_body_and_skull_are_those_of_the_ct_numbers() -> None:
    def ball(radius: float) -> Mask:
        return sphere(GRID, np.full(3, 20.0), radius)

    data = torch.full((1, 40, 40, 40), AIR)
    for radius, hu in ((17.0, 40.0), (15.0, BONE), (13.8, 20.0), (13.0, BONE), (11.0, GREY)):
        data[0][ball(radius)] = hu
    data[0, 18:22, 18:22, 1:3] = BONE  # far from the skull, such as a vertebra
    rough = Contoured(
        {"Body": ball(12.0), "Skull": ball(14.0) & ~ball(10.0), "Brain": ball(10.0), "GTV": ball(5.0)},
        Volume((3 * ball(5.0) + ball(2.0)).to(torch.uint8)[None], GRID, Quantity.LABEL),
        {},
        {},
        {},
    )
    made = with_numbers_of(Volume(data, GRID, Quantity.HU), rough)
    skull = made.masks["Skull"]
    assert dice(skull, ball(15.0) & ~ball(11.0)) > 0.97
    assert float(skull[ball(13.8) & ~ball(13.0)].float().mean()) > 0.95  # the marrow between its tables
    assert not skull[18:22, 18:22, 1:3].any()
    assert torch.equal(made.masks["Body"], data[0] > -300)
    assert torch.equal(made.masks["Brain"], rough.masks["Brain"])
    assert "GTV" not in made.masks
    assert made.missing == {"GTV": "is not told from brain on a CT alone"}
    assert torch.equal(made.tumour.data[0] == 4, ball(2.0))  # a cavity is seen
    assert not ((made.tumour.data > 0) & (made.tumour.data < 4)).any()
