"""Frechet distance between two sets of features, as between two Gaussians.

Dowson and Landau, J. Multivar. Anal. 12, 450 (1982); on features of a network: Heusel et al., NeurIPS 2017.
The trace of the root of a product of covariances is taken through symmetric matrices alone: general matrix
roots of singular covariances return nonsense without a word (two sets of N(0, I), n = 50, d = 512, were 768
apart).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Features = Float[Tensor, "n d"]
Others = Float[Tensor, "m d"]
Projected = Float[Tensor, "n k"]
Mean = Float[Tensor, " d"]
Covariance = Float[Tensor, "d d"]


@dataclass(frozen=True)
class Axes:
    """Principal axes of a set of features.

    Parameters
    ----------
    mean
        Where they start, shape ``(d,)``.
    directions
        Unit vectors in falling order of variance, shape ``(d, k)``.
    """

    mean: Tensor
    directions: Tensor


def frechet_distance(real: Features, synthetic: Others) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of means and covariances; grows as the sets shrink.

    Raises
    ------
    ValueError
        If a set has no more items than dimensions, so that its covariance is singular.
    """
    n, d = min(len(real), len(synthetic)), real.shape[1]
    if n <= d:
        raise ValueError(
            f"expected more items than the {d} dimensions of the features, got {n}; give more images, or "
            "project both sets on principal axes of other real images (principal_axes, project)"
        )
    return frechet_of_moments(*_moments(real), *_moments(synthetic))


def frechet_of_moments(mean: Mean, covariance: Covariance, other: Mean, scatter: Covariance) -> float:
    """Frechet distance between two Gaussians given by mean and covariance."""
    root = _root(covariance.double())
    # (A^1/2 B A^1/2)^1/2 has the trace of (A B)^1/2, and is symmetric.
    inner = root @ scatter.double() @ root
    shared = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
    apart = (mean.double() - other.double()).square().sum()
    return max(float(apart + covariance.double().trace() + scatter.double().trace() - 2 * shared), 0.0)


def principal_axes(features: Features, n_axes: int) -> Axes:
    """The axes along which features vary most.

    Fit them on real features that are not compared afterwards. Axes follow the noise of the set that they
    were fitted on: with n = 50 and d = 512 its leading variances come out 18 times too large (Marchenko and
    Pastur, 1967), and any other set, however real, seems far away.

    Raises
    ------
    ValueError
        If there are as many axes as items or more than dimensions.
    """
    if not 1 <= n_axes <= min(len(features) - 1, features.shape[1]):
        raise ValueError(
            f"expected 1 to {min(len(features) - 1, features.shape[1])} axes for {len(features)} items of "
            f"{features.shape[1]} dimensions, got {n_axes}"
        )
    x = features.double()
    _, _, directions = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False)
    return Axes(x.mean(dim=0), directions[:n_axes].T.contiguous())


def project(features: Features, axes: Axes) -> Projected:
    """Features along principal axes, shape ``(n, k)``, float64."""
    return (features.double() - axes.mean.to(features.device)) @ axes.directions.to(features.device)


def _moments(features: Features) -> tuple[Mean, Covariance]:
    x = features.double()
    return x.mean(dim=0), torch.cov(x.T).reshape(x.shape[1], x.shape[1])


def _root(matrix: Covariance) -> Covariance:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
