"""What a segmenter of CTs sees: nothing of two CTs that are one, more the further tissues lie apart."""

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.fit import Fit
from models.unet import UNetConfig, unet
from mr2ct.ct_features import CtFeatures, SegmenterOfCts, ct_features
from mr2ct.tissue_net import TissueClass

SMALL = SegmenterOfCts(UNetConfig(1, len(TissueClass), (8, 8, 8, 8, 8, 8)), Fit(steps=2))


class Cubes(Dataset[dict[str, Tensor]]):
    """A cube of bone in air."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        labels = torch.zeros(64, 64, 64, dtype=torch.uint8)
        labels[8:24, 8:24, 8:24] = 2
        ct = torch.where(labels == 2, 1000.0, -1000.0)
        return {"ct": ct[None], "labels": labels}


def cube(side: int) -> Tensor:
    ct = torch.full((1, 1, 32, 32, 32), -1000.0)
    low, high = 16 - side // 2, 16 + side // 2
    ct[..., low:high, low:high, low:high] = 1000.0
    return ct


def test_one_ct_is_like_itself_and_less_like_others() -> None:
    torch.manual_seed(0)
    features = CtFeatures(unet(SMALL.net))
    apart = [float(features.apart(cube(side), cube(16))) for side in (16, 18, 24)]
    assert apart[0] == 0
    assert 0 < apart[1] < apart[2]


def test_the_ct_learns_and_the_segmenter_does_not() -> None:
    torch.manual_seed(0)
    features = CtFeatures(unet(SMALL.net))
    ct = cube(24).requires_grad_()
    features.apart(ct, cube(16)).backward()
    assert ct.grad is not None
    assert float(ct.grad.abs().sum()) > 0
    assert all(not p.requires_grad and p.grad is None for p in features.parameters())
    # A training loop that sets everything to training leaves it as it is.
    assert all(not p.requires_grad for p in features.train().parameters())


def test_it_is_trained_once_and_found_again(tmp_path: Path) -> None:
    told: list[str] = []

    def progress(title: str, _share: float) -> None:
        told.append(title)

    first = ct_features(Cubes(), (64, 64, 64), tmp_path, progress, SMALL)
    assert told
    again = ct_features(Cubes(), (64, 64, 64), tmp_path, lambda *_: None, SMALL)
    assert float(first.apart(cube(24), cube(16))) == float(again.apart(cube(24), cube(16)))
