from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from models.generator import GeneratorConfig, Predicts
from models.pipeline import GeneratorPipeline
from models.samplers import flow_euler
from synth.conditions import Shares
from synth.diffusion import DiffusionConfig, losses, networks

TINY = GeneratorConfig(classes=2, channels=(16, 32), blocks=1)
NOTHING = Shares(contrasts=0.0, region=0.0, condition=0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def discs(n: int, seed: int) -> dict[str, Tensor]:
    """A bright disc on the left or on the right, told by which of two planes is filled."""
    side = torch.randint(2, (n,), generator=generator(seed))
    where = torch.arange(16.0)
    i, j = torch.meshgrid(where, where, indexing="ij")
    middle = torch.stack([torch.full((n,), 7.5), 3.5 + 8.0 * side])
    middle = middle + torch.rand(2, n, generator=generator(seed + 1)) - 0.5
    away = (i - middle[0].reshape(-1, 1, 1)) ** 2 + (j - middle[1].reshape(-1, 1, 1)) ** 2
    image = 2 * torch.sigmoid(9 - away)[:, None] - 1
    condition = torch.nn.functional.one_hot(side, 2).float().reshape(n, 2, 1, 1).expand(n, 2, 16, 16)
    return {"image": image, "condition": condition.contiguous()}


def batch(n: int, how: GeneratorConfig, side: int = 8) -> dict[str, Tensor]:
    sides = (side,) * how.space
    return {
        "image": torch.randn(n, how.contrasts, *sides, generator=generator(5)),
        "condition": torch.rand(n, how.classes, *sides, generator=generator(6)),
    }


def value(config: DiffusionConfig, samples: dict[str, Tensor], seed: int = 0) -> Tensor:
    (only,) = losses(config, networks(config), samples, generator(seed))
    assert only[0] == "net"
    return only[1]


def test_a_tiny_network_obeys_its_condition_after_sixty_steps() -> None:
    config = DiffusionConfig(net=TINY, shares=replace(NOTHING, condition=0.1))
    nets = networks(config)
    optimiser = torch.optim.AdamW(nets["net"].parameters(), 4e-3)
    for step in range(60):
        for _, loss in partial(losses, config)(nets, discs(16, 10 * step), generator(step)):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    told = discs(32, 9999)["condition"]
    drawn = GeneratorPipeline(nets["net"].eval())(
        told, generator(), n_steps=8, guidance=2.0, sampler=flow_euler
    )
    right = drawn[..., 8:].mean(dim=(1, 2, 3)) > drawn[..., :8].mean(dim=(1, 2, 3))
    obeyed = int((right == (told[:, 1, 0, 0] > 0.5)).sum())
    assert obeyed >= 26  # by chance once in 3700 runs


def test_the_same_generator_gives_the_same_loss() -> None:
    config = DiffusionConfig(net=replace(TINY, widths=3))
    assert torch.equal(value(config, batch(3, TINY)), value(config, batch(3, TINY)))
    assert not torch.equal(value(config, batch(3, TINY)), value(config, batch(3, TINY), 1))


def test_an_untrained_velocity_errs_by_the_variance_of_source_and_data() -> None:
    # The last layer starts at zero, so the loss is E (source - data)² = 1 + 1.
    config = DiffusionConfig(net=TINY, shares=NOTHING, large_steps=0.0)
    assert float(value(config, batch(64, TINY, 32)).detach()) == pytest.approx(2, rel=0.02)


def test_a_voxel_of_tumour_counts_as_often_as_asked() -> None:
    # Data of variance 3 in the tumour, a quarter of the image, and none outside it: errors of 1 + 3 and 1.
    samples = batch(64, TINY, 32)
    where = torch.zeros(32, 32)
    where[:16, :16] = 1
    samples = {"image": 3**0.5 * where * samples["image"], "condition": where.expand(64, 2, 32, 32).clone()}
    plain = DiffusionConfig(net=TINY, shares=NOTHING, large_steps=0.0)
    assert float(value(plain, samples).detach()) == pytest.approx((1 * 4 + 3 * 1) / 4, rel=0.02)
    counted = replace(plain, tumour=9.0)
    assert float(value(counted, samples).detach()) == pytest.approx((10 * 4 + 3 * 1) / 13, rel=0.02)


def test_an_untrained_ddpm_errs_by_the_variance_of_noise() -> None:
    config = DiffusionConfig(net=replace(TINY, predicts=Predicts.NOISE), shares=NOTHING)
    assert float(value(config, batch(64, TINY, 32)).detach()) == pytest.approx(1, rel=0.02)


def test_contrasts_that_a_case_lacks_do_not_matter() -> None:
    how = GeneratorConfig(space=3, contrasts=4, classes=12, channels=(16, 16), blocks=1)
    config, one = DiffusionConfig(net=how), batch(2, how)
    one["present"] = torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]])
    gone = (one["present"] == 0).reshape(2, 4, 1, 1, 1)
    other = {**one, "image": torch.where(gone, 77.0, one["image"])}
    assert torch.equal(value(config, one), value(config, other))
    assert not torch.equal(value(config, one), value(config, {**one, "present": torch.ones(2, 4)}))


def test_a_render_is_where_paths_begin() -> None:
    # Source 0.8 render + 0.6 noise with the render equal to the data: E (source - data)² = 0.2² + 0.6².
    config = DiffusionConfig(net=replace(TINY, render_share=0.8), shares=NOTHING, large_steps=0.0)
    samples = batch(64, TINY, 32)
    samples["render"] = samples["image"]
    assert float(value(config, samples).detach()) == pytest.approx(0.4, rel=0.02)
    with pytest.raises(ValueError, match="render of the labels"):
        value(config, batch(2, TINY))


def test_a_network_without_a_condition_learns_too() -> None:
    how = GeneratorConfig(contrasts=4, classes=0, channels=(16, 16), blocks=1, widths=2)
    loss = value(DiffusionConfig(net=how, large_steps=1.0), batch(2, how))
    loss.backward()
    assert torch.isfinite(loss)


def test_configs_and_batches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="train a GAN"):
        DiffusionConfig(net=replace(TINY, predicts=Predicts.BANDS))
    with pytest.raises(ValueError, match="neither shortcuts nor a render"):
        DiffusionConfig(net=replace(TINY, predicts=Predicts.NOISE, widths=2))
    with pytest.raises(ValueError, match="shares from 0 to 1"):
        DiffusionConfig(net=TINY, large_steps=1.5)
    with pytest.raises(ValueError, match="1000 times more"):
        DiffusionConfig(net=TINY, tumour=-1.0)
    with pytest.raises(ValueError, match="power of bands"):
        DiffusionConfig(net=TINY, band_power=-1.0)
    with pytest.raises(ValueError, match="1 contrasts with 2 planes"):
        value(DiffusionConfig(net=TINY), batch(2, replace(TINY, classes=3)))
    with pytest.raises(ValueError, match="multiples of 4"):
        value(DiffusionConfig(net=TINY), batch(2, TINY, 6))
