"""How bright each tissue is: histograms within labels, and how far those of two sets lie apart."""

import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor

Images = Float[Tensor, "n c *space"]
Labels = Integer[Tensor, "n *space"]
Counts = Float[Tensor, "n classes c bins"]
Others = Float[Tensor, "m classes c bins"]
ByClass = Float[Tensor, "classes c"]


def tissue_histograms(
    images: Images, labels: Labels, n_classes: int, low: float, high: float, n_bins: int = 128
) -> Counts:
    """Voxels of each image by class, channel and brightness, float64.

    Parameters
    ----------
    images
        Shape ``(n, c, *space)``.
    labels
        Class of every voxel, 0 to ``n_classes - 1``, shape ``(n, *space)``.
    n_classes
        How many classes there are.
    low, high
        Outer edges of the bins; values beyond them count in the first and the last.
    n_bins
        Bins of equal width.

    Raises
    ------
    ValueError
        If a label is not a class, or the bins have no width.
    """
    if not low < high or n_bins < 1:
        raise ValueError(f"expected bins between a low and a higher edge, got {n_bins} from {low} to {high}")
    if int(labels.min()) < 0 or int(labels.max()) >= n_classes:
        raise ValueError(
            f"expected labels 0 to {n_classes - 1}, got {int(labels.min())} to {int(labels.max())}"
        )
    n, c = images.shape[:2]
    result = torch.zeros((n, c, n_classes * n_bins), dtype=torch.float64)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        bins = ((image.double().cpu() - low) * (n_bins / (high - low))).floor().clamp(0, n_bins - 1).long()
        at = label.long().cpu().flatten() * n_bins + bins.flatten(1)
        for k in range(c):
            result[i, k] = torch.bincount(at[k], minlength=n_classes * n_bins).double()
    return result.reshape(n, c, n_classes, n_bins).transpose(1, 2)


def wasserstein(real: Counts, synthetic: Others, width: float) -> ByClass:
    """Wasserstein-1 distance of each class and channel, of all images of a set together.

    The area between the cumulative histograms: how far brightness has to be moved on average, in units of the
    images (``width`` is that of a bin). NaN for a class that a set has not.
    """
    p, q = _shares(real), _shares(synthetic)
    return (p - q).cumsum(dim=-1).abs().sum(dim=-1) * width


def jensen_shannon(real: Counts, synthetic: Others) -> ByClass:
    """Jensen-Shannon distance of each class and channel, of all images of a set together, 0 to 1.

    Root of the divergence to base 2 (Endres and Schindelin, IEEE Trans. Inf. Theory 49, 1858 (2003)). NaN
    for a class that a set has not.
    """
    p, q = _shares(real), _shares(synthetic)
    mean = (p + q) / 2
    # 0 log 0 is 0; a share beside an empty mean cannot be.
    divergence = (torch.special.xlogy(p, p / mean) + torch.special.xlogy(q, q / mean)).nan_to_num(0.0)
    halves = divergence.sum(dim=-1) / (2 * math.log(2))
    return torch.where(p.sum(dim=-1).isnan() | q.sum(dim=-1).isnan(), torch.nan, halves.clamp(min=0).sqrt())


def mean_over_classes(distances: ByClass) -> float:
    """Mean over the classes and channels that both sets have; NaN where there is none."""
    return float(distances.nanmean())


def _shares(counts: Counts) -> Float[Tensor, "classes c bins"]:
    total = counts.sum(dim=0)
    return total / total.sum(dim=-1, keepdim=True)  # 0 / 0 is NaN: the class is not there
