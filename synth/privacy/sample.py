"""What an audit compares, and what a comparison gives."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer, Real
from torch import Tensor

from .crops import crops
from .groups import Groups

Images = Float[Tensor, "_ _ ..."]
Features = Float[Tensor, "_ _"]
Embed = Callable[[Tensor], Tensor]
N_RIVALS = 50


@dataclass(frozen=True)
class Sample:
    """One set of images: synthetic, training, or held out.

    Parameters
    ----------
    images
        Images or volumes ``(n, c, *space)``, in any one range of brightness.
    features
        Their embedding ``(n, d)`` by an extractor that never saw which image is whose.
    crops
        Their tumours alone ``(n, c, *side)``, as :func:`synth.privacy.crops.crops` cuts them.
    groups
        The patient of each image ``(n,)``, or the smallest block known to hold whole patients, where
        patients give several: without it slices count as patients, and chance looks like a leak.

    Raises
    ------
    ValueError
        If images, features, crops and groups are not of one number, or there are none.
    """

    images: Images
    features: Features
    crops: Images | None = None
    groups: Groups | None = None

    def __post_init__(self) -> None:
        parts = (self.images, self.features, self.crops, self.groups)
        counts = [len(part) for part in parts if part is not None]
        if len(set(counts)) > 1 or not counts[0]:
            raise ValueError(
                f"expected as many features, crops and patients as images, and one at least, got {counts}; "
                "give each image its own row"
            )

    def __len__(self) -> int:
        """How many images."""
        return len(self.images)


@dataclass(frozen=True)
class Match:
    """The training image that is most like each image.

    Parameters
    ----------
    value
        Distance or correlation ``(n,)``.
    rivals
        Mean of it over the 50 training images most like each image, or all where there are fewer.
    index
        Number of the training image ``(n,)``.
    """

    value: Float[Tensor, " n"]
    rivals: Float[Tensor, " n"]
    index: Integer[Tensor, " n"]


@torch.no_grad()
def sample(
    images: Images,
    embed: Embed,
    boxes: Real[Tensor, "_ _ 2"] | None = None,
    groups: Groups | None = None,
    chunk: int = 64,
) -> Sample:
    """Images with their features, and their tumours where boxes ``(n, d, 2)`` (voxels) are known.

    Parameters
    ----------
    images
        Images or volumes ``(n, c, *space)``.
    embed
        Images ``(b, c, *space)`` to features ``(b, d)``.
    boxes
        First and last edge of each tumour along each axis, as :func:`synth.privacy.crops.crops` takes.
    groups
        The patient of each image.
    chunk
        Images embedded at once.
    """
    features = torch.cat([embed(part) for part in torch.split(images, chunk)])
    return Sample(images, features, None if boxes is None else crops(images, boxes), groups)
