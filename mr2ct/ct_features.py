"""What a segmenter of CTs sees in one: a synthetic CT should look to it as the true one does.

An absolute error is content with a blurred bone where edges are in doubt; features that tell tissues apart
are not (Johnson, Alahi and Fei-Fei, ECCV 2016). The segmenter is our own, trained in minutes on CTs of the
same synthetic heads: nothing is taken from photographs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.fit import Fit
from models.unet import UNetConfig, to_cells

from .tissue_net import TissueClass, TissueNet, train

_UNIT = 1000.0  # HU in one unit of what it sees

Ct = Float[Tensor, "b 1 i j k"]


def seen(ct: Float[Tensor, "*_ i j k"]) -> Float[Tensor, "*_ i j k"]:
    """A CT (HU) as the segmenter takes it: air 0, water 1."""
    return ct / _UNIT + 1


@dataclass(frozen=True)
class SegmenterOfCts:
    """Config of the segmenter: small, since CTs tell tissues plainly.

    Parameters
    ----------
    net
        Size of the U-Net.
    fit
        Steps and rates.
    """

    net: UNetConfig = field(
        default_factory=lambda: UNetConfig(1, len(TissueClass), features=(16, 24, 32, 32, 32, 32))
    )
    fit: Fit = field(default_factory=lambda: Fit(steps=400, learning_rate=3e-3))


class CtFeatures(nn.Module):
    """The first three levels of a trained segmenter, frozen.

    Parameters
    ----------
    net
        A :class:`models.unet.CellUNet` that takes one channel.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        inner: nn.Module = net.inner  # type: ignore[assignment]
        self.levels = nn.ModuleList([inner.conv_0, inner.down_1, inner.down_2])  # type: ignore[list-item]
        self.requires_grad_(False).eval()

    def forward(self, ct: Ct) -> list[Tensor]:
        """Features of a CT (HU) at three scales."""
        x = to_cells(seen(ct)).contiguous(memory_format=torch.channels_last_3d)
        found = []
        with torch.autocast(ct.device.type, torch.bfloat16):
            for level in self.levels:
                x = level(x)
                found.append(x)
        return found

    def apart(self, ct: Ct, truth: Ct) -> Float[Tensor, ""]:
        """Mean absolute difference of the features of two CTs (HU), averaged over scales."""
        with torch.no_grad():
            wanted = self(truth)
        gaps = [(a.float() - b.float()).abs().mean() for a, b in zip(self(ct), wanted, strict=True)]
        return torch.stack(gaps).mean()


@dataclass(frozen=True, eq=False)
class _Cts(Dataset[dict[str, Tensor]]):
    pairs: Dataset[dict[str, Tensor]]

    def __len__(self) -> int:
        return len(self.pairs)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pair = self.pairs[index]
        return {"image": seen(pair["ct"]), "labels": pair["labels"]}


def ct_features(
    pairs: Dataset[dict[str, Tensor]],
    shape: tuple[int, int, int],
    folder: Path,
    progress: Callable[[str, float], None],
    config: SegmenterOfCts | None = None,
    device: str = "cpu",
) -> CtFeatures:
    """A segmenter trained on the CTs of pairs, or kept in ``folder`` from before, and what it sees.

    Parameters
    ----------
    pairs
        Give ``ct`` (HU) and ``labels`` of tissues.
    shape
        Voxels of a pair.
    folder
        Keeps its checkpoint.
    progress
        Called with what happens and the share that is done.
    config
        Of the segmenter.
    device
        Where it trains.
    """
    config = config or SegmenterOfCts()
    as_tissues = TissueNet(shape=shape, net=config.net, fit=config.fit)
    net, _ = train(as_tissues, _Cts(pairs), folder, progress, device)
    return CtFeatures(net)
