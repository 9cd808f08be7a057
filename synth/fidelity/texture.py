"""Grey-level co-occurrence within a region: six texture features of the IBSI.

Haralick et al., IEEE Trans. Syst. Man Cybern. 3, 610 (1973), as defined by the Image Biomarker
Standardisation Initiative (Zwanenburg et al., Radiology 295, 328 (2020); reference manual arXiv:1612.07003,
section 3.6): neighbours at distance 1, symmetric, all directions of the volume merged before the features
are taken.
"""

import itertools

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

Plane = Float[Tensor, "*space"]
Region = Bool[Tensor, "*space"]
Levels = Integer[Tensor, "*space"]
Matrix = Float[Tensor, "g g"]

TEXTURES = (
    "joint_entropy",  # TU9B
    "angular_second_moment",  # 8ZQL
    "contrast",  # ACUI
    "inverse_difference_moment",  # WF0Z
    "correlation",  # NI2N
    "cluster_shade",  # 7NFM
)


def discretised(values: Plane, region: Region, n_levels: int) -> Levels:
    """Grey levels 1 to ``n_levels`` of equal width between the least and greatest value inside; 0 outside.

    IBSI's fixed bin number. A region of one value is all level 1.
    """
    x = values.double()
    low, high = x[region].min(), x[region].max()
    width = (high - low) / n_levels
    level = ((x - low) / width).floor().clamp(0, n_levels - 1) if width > 0 else torch.zeros_like(x)
    return torch.where(region, level.long() + 1, 0)


def cooccurrence(levels: Levels, n_levels: int) -> Matrix:
    """Probability of two levels side by side, in all directions, symmetric; level 0 is outside.

    Raises
    ------
    ValueError
        If no two voxels of the region touch.
    """
    total = torch.zeros(n_levels * n_levels, dtype=torch.float64)
    half = (3**levels.ndim) // 2  # each direction once, not its opposite
    for step in list(itertools.product((-1, 0, 1), repeat=levels.ndim))[:half]:
        here = levels[
            tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(step, levels.shape, strict=True))
        ]
        there = levels[
            tuple(slice(max(s, 0), n - max(-s, 0)) for s, n in zip(step, levels.shape, strict=True))
        ]
        both = (here > 0) & (there > 0)
        pairs = (here[both] - 1) * n_levels + there[both] - 1
        total += torch.bincount(pairs.flatten(), minlength=n_levels * n_levels)
    matrix = total.reshape(n_levels, n_levels)
    if not matrix.any():
        raise ValueError("expected a region in which voxels touch, got none; leave the region out")
    return (matrix + matrix.T) / (2 * matrix.sum())


def texture_features(matrix: Matrix) -> Float[Tensor, " textures"]:
    """The features named in ``TEXTURES`` of a co-occurrence matrix; entropy is in bits.

    A region of one level correlates by 1.
    """
    level = torch.arange(1, len(matrix) + 1, dtype=torch.float64)
    marginal = matrix.sum(dim=0)
    mean = marginal @ level
    variance = marginal @ (level - mean).square()
    apart = level[:, None] - level
    covariance = (level - mean) @ matrix @ (level - mean)
    both = level[:, None] + level - 2 * mean
    return torch.stack(
        [
            -torch.special.xlogy(matrix, matrix).sum() / torch.log(torch.tensor(2.0, dtype=torch.float64)),
            matrix.square().sum(),
            (matrix * apart.square()).sum(),
            (matrix / (1 + apart.square())).sum(),
            covariance / variance if variance > 0 else torch.ones_like(variance),
            (matrix * both**3).sum(),
        ]
    )
