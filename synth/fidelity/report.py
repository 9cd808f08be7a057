"""All that is measured of a synthetic set against a real one, each figure with its interval and its floor."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from .bootstrap import Groups, Interval
from .diversity import Diversity, diversity
from .frechet import Axes, frechet_distance, project
from .histograms import jensen_shannon, mean_over_classes, tissue_histograms, wasserstein
from .measures import FidelityConfig, Measure, Measuring, Numbers
from .obedience import obedience
from .radiomics import agreement, features_of_set
from .spectrum import radial_spectra, spectrum_distance

Images = Float[Tensor, "n c *space"]
Others = Float[Tensor, "m c *space"]
Features = Float[Tensor, "_ d"]
Labels = Integer[Tensor, "_ ..."]


@dataclass(frozen=True)
class Labelled:
    """What every voxel is, or was asked to be.

    Parameters
    ----------
    real, synthetic
        Classes 0 to ``n_classes - 1``, shapes ``(n, *space)`` and ``(m, *space)``.
    n_classes
        How many classes there are.
    spacing
        Size of a voxel (mm) along each axis.
    region
        Classes that make the region of the radiomics, such as the parts of a tumour; none leaves them out.
    segment
        Takes images ``(b, c, *space)`` and gives classes ``(b, *space)``; trained on real images. None leaves
        obedience out.
    """

    real: Labels
    synthetic: Labels
    n_classes: int
    spacing: Numbers
    region: tuple[int, ...] = ()
    segment: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Tissues:
    """How brightness within the tissues differs; means over classes that both sets have, and channels.

    Parameters
    ----------
    wasserstein
        In units of the images.
    jensen_shannon
        0 to 1.
    by_class
        Wasserstein distance of each class, NaN where a set has none of it.
    """

    wasserstein: Measure
    jensen_shannon: Measure
    by_class: Numbers


@dataclass(frozen=True)
class Radiomics:
    """How features of regions differ; see :class:`synth.fidelity.radiomics.Agreement`."""

    n_real: int
    n_synthetic: int
    difference: Measure
    correlation: Measure
    shift: Measure


@dataclass(frozen=True)
class ClassDice:
    """Dice of what a segmenter finds: in synthetic images with what was asked, in real with the truth."""

    label: int
    synthetic: Interval
    real: Interval


@dataclass(frozen=True)
class Fidelity:
    """The whole report; ``dataclasses.asdict`` gives numbers, strings and tuples alone.

    Parameters
    ----------
    n_real, n_synthetic
        Images in each set.
    n_dimensions, n_axes
        Of the features, and of their projection for the Frechet distance (the same where there was none).
    frechet, kernel
        Distances of features, 0 at best. The Frechet distance depends on the number of images: its floor
        compares at one number. An interval below 0 says that the distance is within its noise.
    precision, recall, density, coverage
        Overlap of features, 1 or so at best; their intervals hold for the other set as it is.
    spectrum
        Difference of radial spectra (dB).
    diversity
        Similarity of pairs within each set.
    tissues, radiomics, obedience
        None where labels, a region or a segmenter are missing.
    """

    n_real: int
    n_synthetic: int
    n_dimensions: int
    n_axes: int
    frechet: Measure
    kernel: Measure
    precision: Measure
    recall: Measure
    density: Measure
    coverage: Measure
    spectrum: Measure
    diversity: Diversity
    tissues: Tissues | None
    radiomics: Radiomics | None
    obedience: tuple[ClassDice, ...] | None


def fidelity(
    real: Images,
    synthetic: Others,
    real_features: Features,
    synthetic_features: Features,
    generator: torch.Generator,
    low: float,
    high: float,
    config: FidelityConfig | None = None,
    axes: Axes | None = None,
    labelled: Labelled | None = None,
    groups: tuple[Groups | None, Groups | None] = (None, None),
) -> Fidelity:
    """Fidelity of a synthetic set.

    Parameters
    ----------
    real, synthetic
        Images, shapes ``(n, c, *space)`` and ``(m, c, *space)``. The real ones are best those that the
        generator was not trained on.
    real_features, synthetic_features
        What a named extractor made of them, shapes ``(n, d)`` and ``(m, d)``.
    generator
        Draws resamples, halves and pairs.
    low, high
        The least and greatest value that images may have, such as -1 and 1.
    config
        See :class:`FidelityConfig`.
    axes
        Principal axes of the features of other real images, for the Frechet distance; needed where half of
        the real images are no more than the features' dimensions.
    labelled
        What the voxels are.
    groups
        Group of each real and of each synthetic image, such as its patient, or None.

    Raises
    ------
    ValueError
        If the sets do not fit one another, hold numbers that are not finite, or are too few for a measure.
    """
    config = config or FidelityConfig()
    _check(real, synthetic, real_features, synthetic_features, labelled, (low, high))
    measured = Measuring(config, groups, generator)
    a, b = real_features, synthetic_features
    if axes is not None:
        a, b = project(a, axes), project(b, axes)
    _check_number(len(real) // 2, len(synthetic), a.shape[1])
    precision, recall, density, coverage = measured.overlaps(real_features, synthetic_features)
    return Fidelity(
        n_real=len(real),
        n_synthetic=len(synthetic),
        n_dimensions=real_features.shape[1],
        n_axes=a.shape[1],
        frechet=measured.distances(lambda x, y: (frechet_distance(x, y),), a, b)[0],
        kernel=measured.kernel(real_features, synthetic_features),
        precision=precision,
        recall=recall,
        density=density,
        coverage=coverage,
        spectrum=measured.distances(
            lambda x, y: (spectrum_distance(x, y),), radial_spectra(real), radial_spectra(synthetic)
        )[0],
        diversity=diversity(
            real, synthetic, high - low, generator, config.n_pairs, config.n_resamples, config.level, groups
        ),
        tissues=None if labelled is None else _tissues(measured, real, synthetic, labelled, (low, high)),
        radiomics=_radiomics(measured, real, synthetic, labelled) if labelled and labelled.region else None,
        obedience=_obedience(measured, real, synthetic, labelled, labelled.segment)
        if labelled and labelled.segment
        else None,
    )


def _tissues(
    measured: Measuring, real: Images, synthetic: Others, labelled: Labelled, ends: tuple[float, float]
) -> Tissues:
    width = (ends[1] - ends[0]) / measured.config.n_bins
    a, b = (
        tissue_histograms(images, labels, labelled.n_classes, *ends, measured.config.n_bins)
        for images, labels in ((real, labelled.real), (synthetic, labelled.synthetic))
    )

    def both(x: Tensor, y: Tensor) -> Numbers:
        return mean_over_classes(wasserstein(x, y, width)), mean_over_classes(jensen_shannon(x, y))

    moved, apart = measured.distances(both, a, b)
    return Tissues(moved, apart, tuple(wasserstein(a, b, width).mean(dim=1).tolist()))


def _radiomics(measured: Measuring, real: Images, synthetic: Others, labelled: Labelled) -> Radiomics:
    region = torch.tensor(labelled.region)
    rows, groups = [], []
    sets = ((real, labelled.real), (synthetic, labelled.synthetic))
    for (images, labels), group in zip(sets, measured.groups, strict=True):
        regions = torch.isin(labels.cpu(), region)
        features, kept = features_of_set(images, regions, labelled.spacing, measured.config.n_levels)
        rows.append(features)
        groups.append(None if group is None else group[kept])

    def three(x: Tensor, y: Tensor) -> Numbers:
        found = agreement(x, y)
        return found.difference, found.correlation, found.shift

    found = measured.distances(three, rows[0], rows[1], (groups[0], groups[1]))
    return Radiomics(len(rows[0]), len(rows[1]), *found)


def _obedience(
    measured: Measuring,
    real: Images,
    synthetic: Others,
    labelled: Labelled,
    segment: Callable[[Tensor], Tensor],
) -> tuple[ClassDice, ...]:
    sets = ((synthetic, labelled.synthetic, measured.groups[1]), (real, labelled.real, measured.groups[0]))
    asked, truth = (
        [
            measured.mean(column, group)
            for column in obedience(segment, images, labels, labelled.n_classes).unbind(dim=1)
        ]
        for images, labels, group in sets
    )
    return tuple(ClassDice(k, a, b) for k, (a, b) in enumerate(zip(asked, truth, strict=True)))


def _check(
    real: Images,
    synthetic: Others,
    real_features: Features,
    synthetic_features: Features,
    labelled: Labelled | None,
    ends: tuple[float, float],
) -> None:
    if not ends[0] < ends[1]:
        raise ValueError(f"expected a least and a greater value of the images, got {ends[0]} and {ends[1]}")
    if (len(real), len(synthetic)) != (len(real_features), len(synthetic_features)):
        raise ValueError(
            f"expected features of each of {len(real)} real and {len(synthetic)} synthetic images, got "
            f"{len(real_features)} and {len(synthetic_features)}; extract them from these images"
        )
    for name, values in (("real", real), ("synthetic", synthetic)):
        if not values.isfinite().all():
            raise ValueError(f"expected finite values in the {name} images; leave the broken ones out")
    for name, values in (("real", real_features), ("synthetic", synthetic_features)):
        if not values.isfinite().all():
            raise ValueError(f"expected finite features of the {name} images; leave the broken ones out")
    if labelled is not None:
        for images, labels in ((real, labelled.real), (synthetic, labelled.synthetic)):
            if labels.shape != (len(images), *images.shape[2:]):
                raise ValueError(
                    f"expected labels for images of shape {tuple(images.shape)}, got {tuple(labels.shape)}"
                )


def _check_number(n_half: int, n_synthetic: int, d: int) -> None:
    n = min(n_half, n_synthetic)
    if n <= d:
        raise ValueError(
            f"expected more than {d} images in half of the real set and in the synthetic one, got {n}; give "
            "axes of other real images (frechet.principal_axes), fewer axes, or more images"
        )
