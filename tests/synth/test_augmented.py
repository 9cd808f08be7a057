from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.encoder import EncoderConfig
from models.fit import Fit
from synth.augmented import (
    ONE_TO_TWO,
    REAL,
    SYNTHETIC,
    THEN_REAL,
    Arm,
    Cases,
    Mixed,
    ReaderConfig,
    Scores,
    moved,
    overlap,
    paired_gain,
    read,
    train_reader,
)

TINY = ReaderConfig(
    EncoderConfig(1, (16, 16, 32, 32), (1, 1, 1, 1)),
    n_classes=2,
    fit=Fit(steps=120, batch=8, learning_rate=2e-3, average=0.9, warmup=10),
)


def discs(n: int, seed: int) -> Cases:
    """A large disc (0) or a small one (1) anywhere on black."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.rand(n, 2, generator=generator) * 0.5 + 0.25
    kind = torch.arange(n) % 2
    radius = 0.2 - 0.12 * kind
    y, x = torch.meshgrid(torch.arange(32) / 32, torch.arange(32) / 32, indexing="ij")
    far = ((x - at[:, 0, None, None]) ** 2 + (y - at[:, 1, None, None]) ** 2).sqrt()
    images = torch.where(far < radius[:, None, None], 0.9, -1.0)
    return Cases(images[:, None], kind, torch.cat([at, 2 * radius[:, None].repeat(1, 2)], dim=1))


def test_a_box_moves_with_its_picture() -> None:
    image = torch.full((1, 64, 64), -1.0)
    image[0, 20:36, 8:16] = 1.0
    box = torch.tensor([12 / 64, 28 / 64, 8 / 64, 16 / 64])
    for n in range(20):
        picture, new = moved(image, box, 0.15, 0.1, torch.Generator().manual_seed(n))
        rows, columns = (picture[0] > 0).any(1).nonzero()[:, 0], (picture[0] > 0).any(0).nonzero()[:, 0]
        low = torch.stack([columns.min(), rows.min()]) / 64
        high = torch.stack([columns.max() + 1, rows.max() + 1]) / 64
        assert torch.allclose((low + high) / 2, new[:2], atol=0.02)
        assert torch.allclose(high - low, new[2:], atol=0.035)


def test_arms_mix_as_they_say() -> None:
    real = discs(20, 0)
    made = replace(real, images=torch.full_like(real.images, -1.0))

    def shares(arm: Arm) -> tuple[float, float]:
        mixed = Mixed(arm, real, made, TINY, 0)
        bright = torch.tensor([float(mixed[n]["image"].max() > -0.9) for n in range(len(mixed))])
        half = len(bright) // 2
        return float(bright[:half].mean()), float(bright[half:].mean())

    assert shares(REAL) == (1, 1)
    assert shares(SYNTHETIC) == (0, 0)
    assert shares(THEN_REAL) == (0, 1)
    assert sum(shares(ONE_TO_TWO)) / 2 == pytest.approx(1 / 3, abs=0.07)


def test_a_reader_learns_kinds_and_boxes(tmp_path: Path) -> None:
    reader = train_reader(REAL, discs(200, 0), discs(0, 0), TINY, tmp_path / "real", 0)
    scores = read(reader, discs(60, 5))
    assert scores.accuracy > 0.9
    assert float(scores.overlap.mean()) > 0.2
    wrong = replace(discs(200, 0), classes=1 - discs(200, 0).classes)
    misled = read(train_reader(SYNTHETIC, discs(200, 0), wrong, TINY, tmp_path / "wrong", 0), discs(60, 5))
    assert misled.accuracy < 0.1
    assert float(paired_gain([scores], [misled]).mean()) > 0.8


def test_accuracy_counts_kinds_alike_and_overlap_is_the_share_of_both() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]])
    shifted = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1]])
    assert overlap(boxes, shifted).tolist() == pytest.approx([1, 1 / 3, 0])
    scores = Scores(torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.ones(4), torch.tensor([0, 0, 0, 1]))
    assert scores.accuracy == 0.5


def test_arms_without_steps_or_cases_are_refused(tmp_path: Path) -> None:
    timed = replace(TINY, fit=Fit(budget_s=1.0))
    with pytest.raises(ValueError, match="number of steps"):
        train_reader(REAL, discs(4, 0), discs(4, 0), timed, tmp_path, 0)
    with pytest.raises(ValueError, match="empty set"):
        train_reader(ONE_TO_TWO, discs(4, 0), discs(0, 0), TINY, tmp_path, 0)
