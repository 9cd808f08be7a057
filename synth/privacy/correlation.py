"""The training image that each image is a copy of, were it one: greatest correlation after alignment."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Integer
from torch import Tensor
from torch.nn import functional

from .evidence import Evidence, evidence
from .groups import Groups
from .sample import N_RIVALS, Images, Match

_VALUES = 2**22  # of one block of correlations: 50 MB with its spectrum
_REFERENCES = 128  # whose spectra are kept at once


@dataclass(frozen=True)
class Search:
    """How images are laid over one another.

    Parameters
    ----------
    reach
        Greatest shift along each axis, as a share of that axis. Shifts are circular: what leaves on
        one side, in scans mostly air, comes back on the other.
    mirror
        Axis of space from left to right, along which images are mirrored too; by default the first
        of volumes (LPS) and the last of slices (rows, columns).
    coarse
        Every training image is searched at about this many voxels along the shortest axis, then the
        best are measured in full.
    n_measured
        How many of the best are measured in full.
    """

    reach: float = 0.125
    mirror: int | None = None
    coarse: int = 32
    n_measured: int = 4


@dataclass(frozen=True)
class Copies:
    """Correlations of synthetic images with training images.

    Parameters
    ----------
    train
        Each synthetic image's most correlated training image.
    null
        Each held-out image's most correlated training image.
    evidence
        Share of synthetic images correlated above the null's 99th percentile, r taken as the
        distance 1 − r.
    """

    train: Match
    null: Match
    evidence: Evidence


def copies(
    synthetic: Images,
    train: Images,
    held_out: Images,
    search: Search | None = None,
    alarm: float = 0.01,
    *,
    groups: Groups | None = None,
    held_out_groups: Groups | None = None,
) -> Copies:
    """Correlations synthetic → train and held-out → train, and what stands out.

    Parameters
    ----------
    synthetic, train, held_out
        Images, volumes or crops ``(n, c, *space)``; train and held-out split by patient.
    search
        How images are laid over one another.
    alarm
        Probability under which chance no longer explains the share.
    groups
        The patient of each synthetic image, where a real set stands in for the synthetic one.
    held_out_groups
        The patient of each held-out image, where patients give several.
    """
    found, null = strongest(synthetic, train, search), strongest(held_out, train, search)
    said = evidence(as_distance(found), as_distance(null), alarm, groups=groups, null_groups=held_out_groups)
    return Copies(found, null, said)


def as_distance(match: Match) -> Match:
    """The same with 1 − r in place of each correlation r."""
    return Match(1 - match.value, 1 - match.rivals, match.index)


@torch.no_grad()
def strongest(images: Images, references: Images, search: Search | None = None) -> Match:
    """Greatest Pearson correlation of each image with any reference, shifted and mirrored, and which it is.

    Images of several channels count by the mean over channels, so that no contrast outweighs
    another; a channel without any structure counts as 0. Correlation does not see brightness and
    linear contrast; all shifts are tried at once by the correlation theorem. Rotation and scaling
    are not searched.

    Parameters
    ----------
    images
        Images or volumes ``(n, c, *space)``.
    references
        The training images ``(m, c, *space)``.
    search
        How far images are shifted, and how coarse the first pass over all references is.

    Raises
    ------
    ValueError
        If images and references differ in shape, or there are none.
    """
    how = search or Search()
    if images.shape[1:] != references.shape[1:] or not len(images) or not len(references):
        raise ValueError(
            f"expected images of one shape, got {tuple(images.shape)} and {tuple(references.shape)}; "
            "resample them to one grid"
        )
    factor = max(1, min(images.shape[2:]) // how.coarse)
    n_best = min(max(how.n_measured, N_RIVALS), len(references))
    value, index = _surveyed(_pooled(images, factor), _pooled(references, factor), n_best, how)
    rivals = value[:, :N_RIVALS].mean(1)
    if factor > 1:
        value, index = _measured(images, references, index[:, : how.n_measured], how)
    return Match(value[:, 0], rivals, index[:, 0])


def _surveyed(
    images: Images, references: Images, n_best: int, how: Search
) -> tuple[Float[Tensor, "n k"], Integer[Tensor, "n k"]]:
    """Values and numbers of the best references of each image, best first, in blocks of bounded memory."""
    n_pairs = max(1, _VALUES // math.prod(images.shape[2:]))
    n_references = min(n_pairs, _REFERENCES)
    value = images.new_full((len(images), n_best), -torch.inf, dtype=torch.float32)
    index = torch.zeros_like(value, dtype=torch.long)
    for columns in _blocks(len(references), n_references):
        spectra = _spectra(references[columns])
        numbers = torch.arange(columns.start, columns.stop, device=images.device)
        for rows in _blocks(len(images), max(1, n_pairs // n_references)):
            found = _peaks(images[rows], spectra, how)
            values = torch.cat([value[rows], found], 1)
            indices = torch.cat([index[rows], numbers.expand(len(found), -1)], 1)
            value[rows], order = values.topk(n_best)
            index[rows] = indices.gather(1, order)
    return value, index


def _measured(
    images: Images, references: Images, candidates: Integer[Tensor, "n k"], how: Search
) -> tuple[Float[Tensor, "n 1"], Integer[Tensor, "n 1"]]:
    """Value and number of the best of each image's candidates, at full size."""
    rows = []
    for image, chosen in zip(images, candidates, strict=True):
        one = [_peaks(image[None], _spectra(references[number][None]), how) for number in chosen]
        rows.append(torch.cat(one, 1))
    value, place = torch.cat(rows).max(1, keepdim=True)
    return value, candidates.gather(1, place)


def _peaks(images: Images, spectra: Complex[Tensor, "_ _ ..."], how: Search) -> Float[Tensor, "_ _"]:
    """Greatest correlation of every image with every reference, over shifts and mirror images."""
    axis = how.mirror if how.mirror is not None else (0 if images.ndim == 5 else images.ndim - 3)
    plain = _peak(_spectra(images), spectra, images.shape[2:], how.reach)
    return torch.maximum(plain, _peak(_spectra(images.flip(2 + axis)), spectra, images.shape[2:], how.reach))


def _peak(
    a: Complex[Tensor, "_ _ ..."], b: Complex[Tensor, "_ _ ..."], space: torch.Size, reach: float
) -> Float[Tensor, "_ _"]:
    product = a[:, None, 0].conj() * b[None, :, 0]
    for channel in range(1, a.shape[1]):
        product.addcmul_(a[:, None, channel].conj(), b[None, :, channel])
    for axis in reversed(range(len(space))):
        waves = _waves(space[axis], reach, half=axis == len(space) - 1).to(product)
        product = torch.tensordot(product, waves, dims=([2 + axis], [0]))
    return product.real.flatten(2).amax(2).clamp(-1.0, 1.0)


def _waves(side: int, reach: float, *, half: bool) -> Complex[Tensor, "frequency shift"]:
    """Inverse Fourier transform of one axis, at the shifts within reach alone.

    Few shifts are asked for, so a product with this small matrix takes a third of the time of a fast
    transform to all of them. A half spectrum counts each of its frequencies twice, but for those that
    are their own conjugates; the sum's real part is then that of the whole.
    """
    far = min(math.ceil(reach * side), (side - 1) // 2)
    frequency = torch.arange(side // 2 + 1 if half else side)
    weight = torch.ones(len(frequency), dtype=torch.float64)
    if half:
        weight[1 : (side + 1) // 2] = 2
    turns = frequency[:, None] * torch.arange(-far, far + 1) / side
    return torch.exp(2j * math.pi * turns) * weight[:, None] / side


def _spectra(images: Images) -> Complex[Tensor, "_ _ ..."]:
    """Fourier transforms of images whose channels have zero mean and unit norm over all of them together."""
    flat = images.float().flatten(2)
    centred = flat - flat.mean(2, keepdim=True)
    norm = centred.norm(dim=2, keepdim=True)
    # Rounding leaves a flat channel with a residue that would correlate with anything when scaled up.
    alive = norm > 1e-5 * flat.norm(dim=2, keepdim=True)
    unit = torch.where(alive, centred / norm.clamp(min=1e-30), 0.0) / math.sqrt(flat.shape[1])
    return torch.fft.rfftn(unit.reshape(images.shape), dim=tuple(range(2, images.ndim)))


def _pooled(images: Images, factor: int) -> Images:
    if factor == 1:
        return images
    pool = functional.avg_pool2d if images.ndim == 4 else functional.avg_pool3d
    return torch.cat([pool(part.float(), factor) for part in torch.split(images, 16)])


def _blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
