from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.fit import Fit
from models.unet import UNetConfig
from synth.augmented import ONE_TO_ONE, REAL, SYNTHETIC, Arm
from synth.fidelity.obedience import obedience
from synth.segmented import Crops, MixedVolumes, SegmenterConfig, segment, train_segmenter

SHAPE, CLASSES = (32, 32, 64), 3
NET = UNetConfig(2, CLASSES, features=(16,) * 6)


class Boxes(Dataset[dict[str, Tensor]]):
    """A box that is bright in the contrast of its class."""

    def __init__(self, tag: float = 0.0, swapped: bool = False) -> None:
        self.tag, self.swapped = tag, swapped

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(index)
        low = torch.randint(2, 14, (3,), generator=draw).tolist()
        kind = 1 + int(torch.randint(2, (1,), generator=draw))
        classes = torch.zeros(SHAPE, dtype=torch.long)
        classes[tuple(slice(a, a + 16) for a in low)] = kind
        image = torch.stack([2.0 * (classes == 1) - 1, 2.0 * (classes == 2) - 1]) + self.tag
        told = torch.where(classes > 0, 3 - classes, classes) if self.swapped else classes
        return {
            "image": image,
            "condition": torch.nn.functional.one_hot(told, CLASSES).movedim(-1, 0).float(),
        }


def config(steps: int = 200) -> SegmenterConfig:
    # Processors round bfloat16 each in their own way: slow and wide enough for all of them.
    how = Fit(steps=steps, batch=2, learning_rate=5e-3, warmup=10, average=0.95)
    return SegmenterConfig(NET, (1, 2), SHAPE, how)


def dice_by(arm: Arm, folder, swapped: bool) -> Tensor:
    net = train_segmenter(arm, Boxes(), Boxes(swapped=swapped), config(), folder, 0)
    cases = [Boxes()[1_000_000 + n] for n in range(6)]
    images = torch.stack([c["image"] for c in cases])
    labels = torch.stack([c["condition"] for c in cases]).argmax(1)
    return obedience(lambda x: segment(net, x, (1, 2)), images, labels, CLASSES).nanmean(0)


def test_a_segmenter_learns_what_its_arm_shows_it(tmp_path) -> None:
    # Synthetic volumes with swapped labels teach the swapped classes: only that arm has no Dice.
    assert float(dice_by(REAL, tmp_path / "real", swapped=True)[1:].min()) > 0.6
    assert float(dice_by(SYNTHETIC, tmp_path / "synthetic", swapped=True)[1:].max()) < 0.1


def drawn_from(arm: Arm, length: int, seed: int = 0) -> Iterator[bool]:
    mixed = MixedVolumes(arm, Boxes(), Boxes(tag=10.0), length, seed)
    return (bool(mixed[n]["image"].max() < 5) for n in range(length))


def test_arms_mix_as_they_say_and_every_sample_can_be_had_again() -> None:
    assert all(drawn_from(REAL, 20))
    assert not any(drawn_from(SYNTHETIC, 20))
    # Half of 200: the binomial's deviation is 7.
    assert 72 <= sum(drawn_from(ONE_TO_ONE, 200)) <= 128
    mixed = MixedVolumes(ONE_TO_ONE, Boxes(), Boxes(tag=10.0), 200, 1)
    assert torch.equal(mixed[7]["image"], mixed[7]["image"])


def test_every_other_crop_is_centred_in_a_part_and_none_leaves_the_volume() -> None:
    mixed = MixedVolumes(REAL, Boxes(), Boxes(), 40, 0)
    crops = Crops(mixed, (1, 2), (8, 8, 16), 0)
    assert len(crops) == 40
    starts = []
    for n in range(40):
        crop, whole = crops[n], mixed[n]
        assert crop["image"].shape == (2, 8, 8, 16)
        assert crop["condition"].shape == (CLASSES, 8, 8, 16)
        assert torch.equal(crop["image"][0] > 0, crop["condition"][1] > 0)  # cut alike
        if n % 2:
            assert crop["condition"][1:, 4, 4, 8].sum() == 1
        windows = whole["image"].unfold(1, 8, 1).unfold(2, 8, 1).unfold(3, 16, 1)
        same = (windows == crop["image"][:, None, None, None]).all(-1).all(-1).all(-1).all(0)
        assert same.any()
        starts.append(int(same.nonzero()[0, 2]))
    assert len(set(starts)) > 5
    assert torch.equal(crops[7]["image"], crops[7]["image"])
    with pytest.raises(ValueError, match="smaller crop"):
        Crops(mixed, (1, 2), (64, 32, 32), 0)[0]


def test_arms_are_counted_in_steps() -> None:
    with pytest.raises(ValueError, match="number of steps"):
        SegmenterConfig(NET, (1, 2), fit=Fit(budget_s=1.0))
    with pytest.raises(ValueError, match="5 outputs"):
        SegmenterConfig(NET)
