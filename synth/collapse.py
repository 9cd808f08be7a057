"""Whether a generator draws one image again and again, told before anybody looks."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d

_COARSE = 4  # voxels that are averaged along each axis: noise on one image is not another image


class Diversity(StrEnum):
    """What the distances between drawn images say."""

    DIVERSE = "diverse"
    NOISE_IGNORED = "noise ignored"  # the condition decides everything
    COLLAPSED = "collapsed"


@dataclass(frozen=True)
class Limits:
    """From which distance on, relative to that between real images, images are told apart.

    Parameters
    ----------
    apart
        Drawn under different conditions (or under none): less is collapse. Half of the real distance is a
        rule of ours.
    noise
        Drawn with different noise under one condition, which may leave little to chance: less means that
        the noise is ignored.
    """

    apart: float = 0.5
    noise: float = 0.05


@dataclass(frozen=True)
class Collapse:
    """Mean distance between two images, and what it says.

    Parameters
    ----------
    within
        Of two drawn under the same condition with different noise.
    across
        Of two drawn under different conditions; ``within`` where there was one condition.
    real
        Of two real images.
    verdict
        What that says.
    sentence
        The same for a reader.
    """

    within: float
    across: float
    real: float
    verdict: Diversity
    sentence: str


def collapse(
    drawn: Float[Tensor, "conditions draws c *space"],
    real: Float[Tensor, "n c *space"],
    limits: Limits | None = None,
) -> Collapse:
    """Whether drawn images differ as much as real ones do.

    A distance is the root mean square of the difference of two images averaged over cells of four voxels a
    side, so that noise laid over one image does not pass for diversity.

    Parameters
    ----------
    drawn
        Images by condition and by noise, at least two of each condition, on the scale of the real ones.
        One condition stands for a generator that has none.
    real
        Real images, at least two.
    limits
        What is too little.

    Raises
    ------
    ValueError
        If there are too few images, they are not finite, or the real ones are all the same.
    """
    limits = limits or Limits()
    n_conditions, n_draws = drawn.shape[:2]
    if n_conditions < 1 or n_draws < 2 or len(real) < 2:
        raise ValueError(
            f"expected a condition with two images and two real ones at least, got {n_conditions} with "
            f"{n_draws} and {len(real)}; draw more"
        )
    if not bool(torch.isfinite(drawn).all() and torch.isfinite(real).all()):
        raise ValueError("expected finite images, got NaN or infinite voxels; training has diverged")
    among_real = float(_distances(real).mean())
    if among_real == 0:
        raise ValueError("expected real images that differ, got copies of one; check the folder")
    each = _distances(drawn.flatten(0, 1))
    group = torch.arange(n_conditions).repeat_interleave(n_draws)
    first, second = torch.triu_indices(len(group), len(group), offset=1)
    alike = (group[first] == group[second]).to(each.device)
    within = float(each[alike].mean())
    across = float(each[~alike].mean()) if n_conditions > 1 else within
    verdict = _verdict(within / among_real, across / among_real, limits)
    return Collapse(within, across, among_real, verdict, _sentence(within, across, among_real, verdict))


def _distances(images: Float[Tensor, "n c *space"]) -> Float[Tensor, " pairs"]:
    """Of the pairs (0, 1), (0, 2) … (1, 2) …, in the order of `torch.triu_indices`."""
    pool = adaptive_avg_pool2d if images.ndim == 4 else adaptive_avg_pool3d
    size = tuple(max(s // _COARSE, 1) for s in images.shape[2:])
    coarse = pool(images.float(), size).flatten(1)  # type: ignore[arg-type]
    return torch.pdist(coarse) / coarse.shape[1] ** 0.5


def _verdict(within: float, across: float, limits: Limits) -> Diversity:
    if across < limits.apart:
        return Diversity.COLLAPSED
    return Diversity.NOISE_IGNORED if within < limits.noise else Diversity.DIVERSE


def _sentence(within: float, across: float, real: float, verdict: Diversity) -> str:
    share = f"{100 * across / real:.0f} % as far apart as real ones"
    if verdict is Diversity.COLLAPSED:
        return f"Mode collapse: drawn images lie {share}; stop and lower the learning rates."
    if verdict is Diversity.NOISE_IGNORED:
        return (
            f"The noise is ignored: drawn images lie {share}, "
            f"but {100 * within / real:.1f} % where the condition is the same."
        )
    return f"No mode collapse: drawn images lie {share}."
