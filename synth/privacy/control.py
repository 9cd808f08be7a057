"""The positive control: images known to be copies, which an audit that is worth anything catches."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .correlation import Copies, Search, as_distance, strongest
from .evidence import Evidence, evidence
from .groups import Groups
from .neighbours import Neighbours, nearest
from .sample import Embed, Images, Sample, sample


@dataclass(frozen=True)
class Control:
    """What the audit says of known copies.

    Parameters
    ----------
    distance, correlation, crop
        Share of copies that lie beyond the null's 1st percentile: the audit's sensitivity.
    caught
        Whether any of the three was flagged.
    """

    distance: Evidence
    correlation: Evidence
    crop: Evidence | None
    caught: bool


def control(
    known: Sample,
    train: Sample,
    distances: Neighbours,
    correlations: Copies,
    crops: Copies | None,
    search: Search | None = None,
    alarm: float = 0.01,
    held_out_groups: Groups | None = None,
) -> Control:
    """The audit's own tests, with its own null, on images that are copies or come from an overfitted model.

    Parameters
    ----------
    known
        What ought to be caught.
    train
        The training set of the audit, with what was copied in it.
    distances, correlations, crops
        What the audit found, for its null.
    search
        How images are laid over one another.
    alarm
        Probability under which chance no longer explains a share.
    held_out_groups
        The patient of each held-out image, where patients give several.
    """

    def beyond(images: Images, references: Images, null: Copies) -> Evidence:
        found = as_distance(strongest(images, references, search))
        return evidence(found, as_distance(null.null), alarm, null_groups=held_out_groups)

    away = nearest(known.features, train.features)
    far = evidence(away, distances.null, alarm, null_groups=held_out_groups)
    whole, part = beyond(known.images, train.images, correlations), None
    if known.crops is not None and train.crops is not None and crops is not None:
        part = beyond(known.crops, train.crops, crops)
    return Control(far, whole, part, any(found.flagged for found in (far, whole, part) if found is not None))


@dataclass(frozen=True)
class Disguise:
    """How a copy differs from its original.

    Parameters
    ----------
    noise
        Standard deviation of added Gaussian noise, as a share of the image's range.
    shift
        Greatest shift along each axis, as a share of that axis.
    gamma
        Brightness is bent by an exponent between e^−gamma and e^gamma.
    mirrored
        Share of copies that are mirrored from left to right.
    """

    noise: float = 0.02
    shift: float = 0.05
    gamma: float = 0.25
    mirrored: float = 0.5


def constructed(
    train: Sample, embed: Embed, n: int, generator: torch.Generator, disguise: Disguise | None = None
) -> Sample:
    """Near copies of ``n`` training images drawn at random, as an overfitted generator would make them.

    An overfitted generator itself is a stronger control: give what it draws to
    :func:`synth.privacy.sample.sample` instead.

    Parameters
    ----------
    train
        What is copied.
    embed
        The extractor that gave ``train`` its features.
    n
        How many copies.
    generator
        Which images, and their disguise.
    disguise
        How copies differ from their originals.
    """
    chosen = torch.randint(len(train), (n,), generator=generator)
    copies = sample(near_copies(train.images[chosen], generator, disguise), embed)
    if train.crops is None:
        return copies
    return Sample(copies.images, copies.features, near_copies(train.crops[chosen], generator, disguise))


def near_copies(
    images: Images, generator: torch.Generator, disguise: Disguise | None = None, mirror: int | None = None
) -> Images:
    """Every image ``(n, c, *space)`` shifted, mirrored or not, bent in brightness and made noisy.

    Parameters
    ----------
    images
        In any range of brightness, which they keep but for the noise.
    generator
        On the CPU, wherever the images are.
    disguise
        How copies differ from their originals.
    mirror
        Axis of space from left to right; by default the first of volumes and the last of slices.
    """
    how = disguise or Disguise()
    axis = mirror if mirror is not None else (0 if images.ndim == 5 else images.ndim - 3)
    return torch.stack([_disguised(image, axis, how, generator) for image in images])


def _disguised(image: Tensor, axis: int, how: Disguise, generator: torch.Generator) -> Tensor:
    space = image.shape[1:]
    chance = torch.rand(2 + len(space), generator=generator).tolist()
    if chance[0] < how.mirrored:
        image = image.flip(1 + axis)
    far = [math.floor(how.shift * side) for side in space]
    steps = [round((2 * u - 1) * reach) for u, reach in zip(chance[2:], far, strict=True)]
    image = _shifted(image, steps)
    low, high = image.min(), image.max()
    width = (high - low).clamp(min=1e-12)
    bent = ((image - low) / width) ** math.exp((2 * chance[1] - 1) * how.gamma)
    noise = torch.randn(image.shape, generator=generator).to(image)
    return low + width * (bent + how.noise * noise)


def _shifted(image: Tensor, steps: list[int]) -> Tensor:
    """Image moved by whole voxels; what comes in repeats the edge, as no wrapped-around search assumes."""
    pads = [pad for step in reversed(steps) for pad in (max(step, 0), max(-step, 0))]
    wide = functional.pad(image[None], pads, mode="replicate")[0]
    for dim, (step, side) in enumerate(zip(steps, image.shape[1:], strict=True), start=1):
        wide = wide.narrow(dim, max(-step, 0), side)
    return wide
