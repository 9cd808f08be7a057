import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.encoder import EncoderConfig, embed
from models.fit import Fit
from synth.contrastive import NET, UNKNOWN, Contrastive, Moves, looked_at, losses, network, nt_xent, train

STILL = Moves(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
TINY = EncoderConfig(channels=(8, 8, 8, 16), blocks=(1, 1, 1, 1))
SMALL = Contrastive(TINY, n_classes=2, projection=8, bf16=False, fit=Fit(steps=8, batch=8, warmup=1))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_loss_has_the_closed_forms_of_one_point_and_of_separate_pairs() -> None:
    one = torch.ones(4, 3)
    assert float(nt_xent(one, one, 0.5)) == pytest.approx(math.log(7))
    # Partners agree (cosine 1) and all others are orthogonal: log(1 + (2b - 2) exp(-1 / t)).
    apart = torch.eye(4)
    assert float(nt_xent(apart, 3 * apart, 0.5)) == pytest.approx(math.log(1 + 6 * math.exp(-2)))


def test_the_loss_is_that_of_the_paper_written_out_in_numbers() -> None:
    a, b = torch.randn(3, 4, generator=seeded()), torch.randn(3, 4, generator=seeded(1))
    z = torch.cat([a, b]).tolist()

    def alike(i: int, j: int) -> float:
        dot = sum(x * y for x, y in zip(z[i], z[j], strict=True))
        return dot / math.hypot(*z[i]) / math.hypot(*z[j]) / 0.2

    terms = []
    for i in range(6):
        others = sum(math.exp(alike(i, k)) for k in range(6) if k != i)
        terms.append(-math.log(math.exp(alike(i, (i + 3) % 6)) / others))
    assert float(nt_xent(a, b, 0.2)) == pytest.approx(sum(terms) / 6, rel=1e-5)


def test_looks_move_as_far_as_they_are_told() -> None:
    image = torch.full((6, 1, 16, 16), -1.0)
    image[:, :, 4:8, 2:6] = 1.0
    assert torch.allclose(looked_at(image, STILL, seeded()), image, atol=1e-5)
    mirrored = looked_at(image, Moves(0.0, 0.0, 0.0, 0.0, 0.0, 1.0), seeded())
    assert torch.allclose(mirrored, image.flip(3), atol=1e-5)
    shifted = looked_at(image, Moves(0.0, 0.0, 0.125, 0.0, 0.0, 0.0), seeded()) + 1
    at = torch.arange(16.0) + 0.5
    middle = torch.stack([(shifted.sum(d) * at).sum((1, 2)) / shifted.sum((1, 2, 3)) for d in (3, 2)])
    off = middle - torch.tensor([[6.0], [4.0]])
    assert float(off.abs().max()) <= 2.0 + 1e-3  # an eighth of 16 pixels
    assert len(off.round(decimals=2).unique()) == 12
    bright = looked_at(image, Moves(0.0, 0.0, 0.0, 0.2, 0.0, 0.0), seeded()) - image
    assert float(bright.abs().max()) <= 0.2 + 1e-5
    assert torch.allclose(bright, bright[:, :, :1, :1].expand_as(bright), atol=1e-5)


def test_images_of_unknown_class_teach_the_head_nothing() -> None:
    net = network(SMALL)
    image = torch.rand(4, 1, 32, 32, generator=seeded()) * 2 - 1
    ((name, plain),) = losses({NET: net}, {"image": image}, seeded(), SMALL)
    unknown = {"image": image, "class": torch.full((4,), UNKNOWN)}
    ((_, none),) = losses({NET: net}, unknown, seeded(), SMALL)
    assert name == NET
    assert float(none.detach()) == pytest.approx(float(plain.detach()))
    one = {"image": image, "class": torch.tensor([1, UNKNOWN, UNKNOWN, UNKNOWN])}
    ((_, known),) = losses({NET: net}, one, seeded(), SMALL)
    # Fresh weights tell two classes apart no better than a coin.
    assert float((known - plain).detach()) == pytest.approx(SMALL.class_weight * math.log(2), rel=0.6)


class Discs(Dataset[dict[str, Tensor]]):
    """Sixteen discs of different size and place, of two classes."""

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        n = index % 16
        y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        disc = (x - 8 - 16 * (n % 2)).square() + (y - 6 - 2 * (n // 2)).square() < (3 + n // 4) ** 2
        return {"image": 2.0 * disc[None].float() - 1, "class": torch.tensor(n % 2)}


def test_training_parts_images_that_fresh_weights_do_not_and_goes_on_to_the_bit(tmp_path: Path) -> None:
    def quiet(title: str, share: float) -> None:
        assert title
        assert 0 <= share <= 1

    first = Contrastive(TINY, 2, 8, bf16=False, fit=Fit(steps=3, batch=8, warmup=1, average=0.5))
    whole = Contrastive(TINY, 2, 8, bf16=False, fit=Fit(steps=6, batch=8, warmup=1, average=0.5))
    net, took = train(whole, Discs(), tmp_path / "whole", quiet)
    assert took["steps"] == 6
    again, _ = train(whole, Discs(), tmp_path / "again", quiet)
    shown = torch.stack([Discs()[n]["image"] for n in range(4)])
    assert torch.equal(embed(net, shown), embed(again, shown))
    other, _ = train(first, Discs(), tmp_path / "other", quiet, seed=1)
    assert not torch.equal(embed(net, shown), embed(other, shown))


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="two images"):
        Contrastive(fit=Fit(steps=1, batch=1))
    with pytest.raises(ValueError, match="positive temperature"):
        Contrastive(temperature=0.0)
