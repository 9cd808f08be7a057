import pytest
import torch
from torch import Tensor

from synth.inpaint import blend_weight, from_scale, inpaint, to_scale


def head(*shape: int, scale: float = 400.0) -> Tensor:
    """Noise on a bright block in air."""
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    out = torch.zeros(shape)
    inner = (..., *(slice(2, n - 2) for n in shape[1:]))
    out[inner] = scale * (0.5 + 0.5 * noise[inner])
    return out


def block(shape: tuple[int, ...], low: int, high: int) -> Tensor:
    region = torch.zeros(shape, dtype=torch.bool)
    region[(slice(low, high),) * len(shape)] = True
    return region


class Flat:
    """Draws one value everywhere, even where it was given something else."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value
        self.seen: dict[str, Tensor] = {}

    def __call__(self, condition: Tensor, known: Tensor, image: Tensor) -> Tensor:
        self.seen = {"condition": condition, "known": known, "image": image}
        return torch.full_like(image, self.value)


@pytest.mark.parametrize("space", [(16, 18, 20), (24, 20)])
def test_outside_the_region_every_bit_stays(space: tuple[int, ...]) -> None:
    scan = head(2, *space).double() / 3  # no round numbers
    region = block(space, 5, 12)
    out = inpaint(scan, region, torch.zeros(12, *space), Flat(-1.0), 2.0, (1.0,) * len(space))
    assert out.dtype == scan.dtype
    assert torch.equal(out[:, ~region], scan[:, ~region])
    assert bool((out[:, region] != scan[:, region]).all())


def test_what_is_drawn_has_the_brightness_of_the_scans_own_scale() -> None:
    # -1 to 1 on the generator's scale is 0 to 1.5 times the scan's 99.5th percentile, whatever its unit.
    region = block((16, 16, 16), 4, 12)
    for scale in (1.0, 400.0):
        scan = head(1, 16, 16, 16, scale=scale)
        out = inpaint(scan, region, torch.zeros(3, 16, 16, 16), Flat(1 / 3), 1.0, (1.0, 1.0, 1.0))
        bright = scan[scan > 0].sort().values
        level = float(bright[round(0.995 * len(bright)) - 1])
        assert float(out[0, 8, 8, 8]) == pytest.approx(level, rel=1e-5)


def test_the_weight_is_0_at_the_border_1_deep_inside_and_a_smoothstep_between() -> None:
    region = torch.zeros(40, 4, dtype=torch.bool)
    region[10:] = True
    weight = blend_weight(region, 8.0, (2.0, 1.0))[:, 0]
    assert float(weight[9]) == 0
    # Row 10 lies 2 mm inside: s = 1/4, s²(3 - 2s) = 5/32; then 1/2 and 27/32.
    assert weight[10:14].tolist() == pytest.approx([5 / 32, 1 / 2, 27 / 32, 1])
    assert bool((weight[13:] == 1).all())
    assert torch.equal(blend_weight(region, 0.0, (1.0, 1.0)), region.float())


def test_a_generator_that_draws_the_scan_leaves_it_as_it_was() -> None:
    scan = head(2, 16, 16, 16)
    shown, level = to_scale(scan)
    region = block((16, 16, 16), 4, 12)

    def same(condition: Tensor, known: Tensor, image: Tensor) -> Tensor:
        return shown[None]

    out = inpaint(scan, region, torch.zeros(3, 16, 16, 16), same, 3.0, (1.0, 1.0, 1.0))
    assert torch.allclose(out, scan, rtol=1e-5)
    assert torch.allclose(from_scale(shown, level), scan, rtol=1e-5)


def test_the_generator_sees_the_surroundings_and_nothing_of_the_region() -> None:
    scan, region = head(2, 16, 16, 16), block((16, 16, 16), 4, 12)
    drawing = Flat()
    inpaint(scan, region, torch.ones(3, 16, 16, 16), drawing, 2.0, (1.0, 1.0, 1.0))
    known = drawing.seen["known"]
    assert known.shape == (1, 2, 16, 16, 16)
    assert torch.equal(known[0, 1] == 0, region)
    assert float(drawing.seen["image"][0, :, region].abs().max()) == 0
    assert drawing.seen["condition"].shape == (1, 3, 16, 16, 16)


def test_dark_drawings_give_no_negative_signal() -> None:
    scan, region = head(1, 16, 16, 16), block((16, 16, 16), 4, 12)
    out = inpaint(scan, region, torch.zeros(3, 16, 16, 16), Flat(-3.0), 1.0, (1.0, 1.0, 1.0))
    assert float(out.min()) == 0


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (block((16, 16, 16), 4, 4), "empty"),
        (block((16, 16, 16), 0, 16), "whole scan"),
        (block((16, 16, 16), 0, 2), "touches tissue"),
        (block((16, 16, 12), 4, 8), "scan's shape"),
    ],
)
def test_regions_that_cannot_be_drawn_are_refused(region: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inpaint(head(1, 16, 16, 16), region, torch.zeros(3, 16, 16, 16), Flat(), 2.0, (1.0, 1.0, 1.0))


def test_scans_and_drawings_without_sense_are_refused() -> None:
    scan, region, condition = head(2, 16, 16, 16), block((16, 16, 16), 4, 12), torch.zeros(3, 16, 16, 16)
    with pytest.raises(ValueError, match="NaN"):
        inpaint(scan / 0, region, condition, Flat(), 2.0, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="finite image"):
        inpaint(scan, region, condition, Flat(torch.nan), 2.0, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="3 positive spacings"):
        inpaint(scan, region, condition, Flat(), 2.0, (1.0, 1.0))
    scan[1] = 0
    with pytest.raises(ValueError, match="none in number 2"):
        inpaint(scan, region, condition, Flat(), 2.0, (1.0, 1.0, 1.0))
