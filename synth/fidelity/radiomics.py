"""Radiomics of regions, and whether two sets agree in how their features vary together.

First-order, shape and texture features as the Image Biomarker Standardisation Initiative defines them
(reference manual arXiv:1612.07003; its codes stand beside the names). Shapes are counted in voxels: no mesh.
A generator may match every feature alone and still lose how they hang together, such as larger tumours
having darker cores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from .texture import TEXTURES, cooccurrence, discretised, texture_features

Image = Float[Tensor, "c *space"]
Images = Float[Tensor, "n c *space"]
Region = Bool[Tensor, "*space"]
Regions = Bool[Tensor, "n *space"]
Features = Float[Tensor, "n f"]
Others = Float[Tensor, "m f"]
Numbers = Float[Tensor, " k"]

FEWEST_VOXELS = 8  # smaller regions have no texture to speak of

FIRST_ORDER = (
    "mean",  # Q4LE
    "variance",  # ECT3
    "skewness",  # KE2A
    "kurtosis",  # IPH6, less 3
    "percentile_10",  # QG58
    "median",  # Y12H
    "percentile_90",  # 8DWT
    "interquartile_range",  # SALO
    "entropy",  # TLU2, of grey levels
    "uniformity",  # BJ5W, of grey levels
)
SHAPE_2D = ("area", "major_axis", "minor_axis", "elongation")
SHAPE_3D = (
    "volume",  # YEKZ
    "major_axis",  # TDIC
    "minor_axis",  # P9VJ
    "least_axis",  # 7J51
    "elongation",  # Q3CK
    "flatness",  # N17B
)


def feature_names(n_channels: int, n_dims: int) -> tuple[str, ...]:
    """Names of :func:`region_features` in their order."""
    each = [f"{kind}_{k}" for k in range(n_channels) for kind in (*FIRST_ORDER, *TEXTURES)]
    return (*(SHAPE_2D if n_dims == 2 else SHAPE_3D), *each)


def region_features(
    image: Image, region: Region, spacing: Sequence[float], n_levels: int = 32
) -> Float[Tensor, " f"]:
    """Shape of a region, then first-order and texture features of each channel inside it, float64.

    Parameters
    ----------
    image
        Shape ``(c, *space)``.
    region
        Voxels inside, shape ``(*space)``.
    spacing
        Size of a voxel (mm) along each axis.
    n_levels
        Grey levels between the least and the greatest value inside, for entropy, uniformity and texture.

    Raises
    ------
    ValueError
        If the region has fewer than eight voxels or the spacing does not fit.
    """
    if int(region.sum()) < FEWEST_VOXELS:
        raise ValueError(
            f"expected {FEWEST_VOXELS} voxels or more, got {int(region.sum())}; leave the region out"
        )
    if len(spacing) != region.ndim or min(spacing) <= 0:
        raise ValueError(f"expected {region.ndim} positive spacings (mm), got {tuple(spacing)}")
    image, region = image.cpu(), region.cpu()
    places = region.nonzero()
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(places.amin(0), places.amax(0), strict=True))
    inside = region[box]
    parts = [shape_features(inside, spacing)]
    for channel in image:
        levels = discretised(channel[box], inside, n_levels)
        parts += [
            first_order(channel[box][inside], levels[inside]),
            texture_features(cooccurrence(levels, n_levels)),
        ]
    return torch.cat(parts)


def first_order(values: Numbers, levels: Integer[Tensor, " k"]) -> Float[Tensor, " first"]:
    """The features named in ``FIRST_ORDER``; skewness and kurtosis of one value alone are 0."""
    x = values.double()
    mean, variance = x.mean(), x.var(correction=0)
    scaled = (x - mean) / variance.sqrt() if variance > 0 else torch.zeros_like(x)
    tenth, quarter, half, three, ninety = torch.quantile(x, x.new_tensor([0.1, 0.25, 0.5, 0.75, 0.9]))
    share = torch.bincount(levels).double() / len(levels)
    entropy = -torch.special.xlogy(share, share).sum() / math.log(2)
    skewness, kurtosis = scaled.pow(3).mean(), scaled.pow(4).mean() - 3 * (variance > 0)
    return torch.stack(
        [
            mean,
            variance,
            skewness,
            kurtosis,
            tenth,
            half,
            ninety,
            three - quarter,
            entropy,
            share.square().sum(),
        ]
    )


def shape_features(region: Region, spacing: Sequence[float]) -> Float[Tensor, " shape"]:
    """The features named in ``SHAPE_2D`` or ``SHAPE_3D`` (mm, mm2, mm3), by counting voxels."""
    places = region.nonzero().double() * torch.tensor(spacing, dtype=torch.float64)
    size = torch.tensor([len(places) * math.prod(spacing)], dtype=torch.float64)
    # Divided by n - 1: so are the published values of the IBSI's digital phantom.
    spread = torch.linalg.eigvalsh(torch.cov(places.T)).flip(0).clamp(min=0)
    return torch.cat([size, 4 * spread.sqrt(), (spread[1:] / spread[0]).sqrt()])


def features_of_set(
    images: Images, regions: Regions, spacing: Sequence[float], n_levels: int = 32
) -> tuple[Float[Tensor, "k f"], Integer[Tensor, " k"]]:
    """Features of every image whose region has eight voxels or more, and which images those are."""
    kept = (regions.flatten(1).sum(dim=1) >= FEWEST_VOXELS).nonzero()[:, 0].cpu()
    n_features = len(feature_names(images.shape[1], regions.ndim - 1))
    rows = torch.zeros((len(kept), n_features), dtype=torch.float64)
    for row, i in enumerate(kept.tolist()):
        rows[row] = region_features(images[i], regions[i], spacing, n_levels)
    return rows, kept


@dataclass(frozen=True)
class Agreement:
    """How two sets of features compare.

    Parameters
    ----------
    difference
        Mean absolute difference of the rank correlations of pairs of features, 0 to 2.
    correlation
        Correlation between the rank correlations of both sets; 1 where they are proportional, NaN where all
        are equal within a set.
    shift
        Mean over features of the Wasserstein-1 distance, in standard deviations of the real set.
    """

    difference: float
    correlation: float
    shift: float


def agreement(real: Features, synthetic: Others) -> Agreement:
    """Agreement of two sets of features.

    Raises
    ------
    ValueError
        If a set has fewer than three rows or there is one feature alone.
    """
    if min(len(real), len(synthetic)) < 3 or real.shape[1] < 2:
        raise ValueError(
            f"expected three rows of two features or more, got {tuple(real.shape)} and "
            f"{tuple(synthetic.shape)}"
        )
    upper = torch.triu_indices(real.shape[1], real.shape[1], offset=1)
    a, b = (rank_correlations(x)[upper[0], upper[1]] for x in (real, synthetic))
    x, y = a - a.mean(), b - b.mean()
    length = float(x.norm() * y.norm())
    spread = real.double().std(dim=0)
    varies = spread > 0
    shifts = wasserstein_of_samples(real[:, varies], synthetic[:, varies]) / spread[varies]
    return Agreement(
        float((a - b).abs().mean()), float(x @ y) / length if length else math.nan, float(shifts.mean())
    )


def rank_correlations(features: Features) -> Float[Tensor, "f f"]:
    """Spearman correlation of every two features; 0 with a feature that never changes, and 1 with itself."""
    ranks = torch.stack([_ranks(column) for column in features.double().unbind(1)])
    centred = ranks - ranks.mean(dim=1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    unit = torch.where(length > 0, centred / length.clamp(min=1e-300), 0.0)
    return (unit @ unit.T).fill_diagonal_(1.0)


def wasserstein_of_samples(a: Features, b: Others) -> Float[Tensor, " f"]:
    """Wasserstein-1 distance of each column between two samples of any size: the area between the steps."""
    both = torch.cat([a, b]).double().T.contiguous().sort(dim=1).values
    steps = [
        torch.searchsorted(x.double().T.contiguous().sort(dim=1).values, both, right=True) / len(x)
        for x in (a, b)
    ]
    return ((steps[0] - steps[1]).abs()[:, :-1] * both.diff(dim=1)).sum(dim=1)


def _ranks(values: Numbers) -> Numbers:
    """Ranks from 0; equal values share the middle of theirs."""
    _, which, count = torch.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum(0) - (count + 1) / 2)[which].double()
