"""What is no whole MRI of a head is refused in one sentence."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.volume import Quantity, Volume
from mr2ct.domain import expect_head_scan
from synth.patient import patient


def scan(change: Callable[[torch.Tensor], torch.Tensor]) -> Volume:
    """A smooth ball in noise, changed."""
    grid = axial(np.zeros(3), np.full(3, 120.0), (4.0,) * 3)
    at = torch.from_numpy(np.moveaxis(np.indices(grid.shape), 0, -1)).float() - 14.5
    ball = (at.norm(dim=-1) < 12).float()
    noise = torch.rand(grid.shape, generator=torch.Generator().manual_seed(0))
    return Volume(change(ball * (600 + 10 * at[..., 0]) + 20 * noise)[None], grid, Quantity.MR)


def without(planes: slice) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, :, planes] = 0
        return x

    return change


def speck(x: torch.Tensor) -> torch.Tensor:
    """A head behind empty planes, beyond which something glimmers."""
    x = without(slice(0, 4))(x)
    x[10, 10, 0] = 200
    return x


def test_whole_scans_pass_whatever_their_scale_and_surroundings() -> None:
    for factor in (1e-3, 1.0, 50.0):
        expect_head_scan(scan(lambda x, f=factor: f * x))
    expect_head_scan(scan(without(slice(0, 6))))  # empty planes at an end are padding
    expect_head_scan(scan(speck))
    expect_head_scan(scan(lambda x: x - 30))  # a filter's ringing goes below 0


@pytest.mark.parametrize("name", ["t1", "t1c", "t2", "flair"])
def test_every_contrast_of_a_patient_passes(name: str) -> None:
    expect_head_scan(patient(5, 3.0).volumes[name])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (torch.zeros_like, "signal in it"),
        (torch.ones_like, "signal in it"),
        (lambda x: x - 1000, "not the CT"),
        (lambda x: x.clamp(max=620), "not saturated"),
        (without(slice(13, 16)), "got 3 planes without signal"),
    ],
)
def test_what_is_no_whole_scan_is_refused(
    change: Callable[[torch.Tensor], torch.Tensor], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        expect_head_scan(scan(change))


def test_one_bad_contrast_among_several_is_enough() -> None:
    good, bad = scan(lambda x: x), scan(without(slice(10, 12)))
    both = Volume(torch.cat([good.data, bad.data]), good.grid, Quantity.MR)
    with pytest.raises(ValueError, match="got 2 planes"):
        expect_head_scan(both)
    with pytest.raises(ValueError, match="in MR signal, got HU"):
        expect_head_scan(Volume(good.data, good.grid, Quantity.HU))
