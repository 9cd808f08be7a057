"""Tissues with what varies within them, as one code a voxel, so that an image is one look-up.

Muscle is streaked, diploë is denser here than there, grey matter differs from place to place. Each
voxel carries its tissue and one of ten levels of a smooth random texture; a signal equation is then
evaluated for 240 codes instead of millions of voxels. Levels are drawn with dither, whose mean is
the texture itself, so that no contour lines appear.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from .artefacts import texture
from .sampling import along, linear_taps

N_LEVELS = 10
N_CLUSTERS = 3
N_CODES = (max(Tissue) + 1) * N_LEVELS
_STEP = 0.45  # between levels, in standard deviations of the texture
_PLANES = 8

Codes = UInt8[Tensor, "a b c"]
Table = Float[Tensor, "tissues levels"]
Quantiser = Callable[[list[Tensor], Tensor], Tensor]


def deviations() -> Float[Tensor, " levels"]:
    """What each level stands for, in standard deviations of the texture."""
    return (torch.arange(N_LEVELS) - (N_LEVELS - 1) / 2) * _STEP


def textured(labels: Volume, fwhm: float, generator: torch.Generator) -> Codes:
    """Codes of a label map whose levels follow smooth noise: ``tissue · 10 + level``.

    Parameters
    ----------
    labels
        Tissues (`imaging.tissue.Tissue`), uint8, shape ``(1, a, b, c)``.
    fwhm
        Full width at half maximum of the noise (mm).
    generator
        Draws it.

    Raises
    ------
    ValueError
        If the volume does not hold tissue labels.
    """

    def quantised(noise: list[Tensor], dither: Tensor) -> Tensor:
        return _rounded(noise[0].div_(_STEP).add_((N_LEVELS - 1) / 2), dither, N_LEVELS)

    return _coded(labels, (fwhm,), quantised, generator)


def clustered(labels: Volume, size: float, generator: torch.Generator) -> Codes:
    """Codes of a label map whose tissues are each split smoothly at random into three clusters.

    Within a cluster there are three levels of finer texture, so that the code is
    ``tissue · 10 + cluster · 3 + level``.

    Parameters
    ----------
    labels
        Tissues, uint8, shape ``(1, a, b, c)``.
    size
        Typical size of a cluster (mm).
    generator
        Draws the split.

    Raises
    ------
    ValueError
        If the volume does not hold tissue labels.
    """

    def quantised(noise: list[Tensor], dither: Tensor) -> Tensor:
        # Thirds of a normal distribution meet at 0.43 standard deviations.
        cluster = _rounded(noise[0].div_(0.86).add_(1), torch.full((), 0.5), N_CLUSTERS)
        return cluster * 3 + _rounded(noise[1].add_(1), dither, 3)

    return _coded(labels, (size, 2.5), quantised, generator)


def by_tissue(values: Float[Tensor, " tissues"]) -> Float[Tensor, " codes"]:
    """A value of each tissue, repeated for its levels."""
    return values.repeat_interleave(N_LEVELS)


def _rounded(value: Tensor, dither: Tensor, n: int) -> Tensor:
    return value.add_(dither).floor_().clamp_(0, n - 1).to(torch.uint8)


def _coded(
    labels: Volume, widths: tuple[float, ...], quantised: Quantiser, generator: torch.Generator
) -> Codes:
    tissue = labels.expect(Quantity.LABEL).data[0]
    if tissue.dtype is not torch.uint8 or int(tissue.max()) > max(Tissue):
        raise ValueError(
            f"expected tissues as uint8 up to {max(Tissue)}, got {tissue.dtype} up to {int(tissue.max())}"
        )
    fields = [_Texture(labels, fwhm, generator) for fwhm in widths]
    out = torch.empty_like(tissue)
    for first in range(0, tissue.shape[0], _PLANES):
        part = tissue[first : first + _PLANES]
        noise = [field.planes(first, len(part)) for field in fields]
        level = quantised(noise, torch.rand(part.shape, generator=generator))
        out[first : first + _PLANES] = part * N_LEVELS + level
    return out


class _Texture:
    """Smooth noise on a coarse lattice, read on the fine one a few planes at a time."""

    def __init__(self, labels: Volume, fwhm: float, generator: torch.Generator) -> None:
        spacing, shape = labels.grid.spacing, labels.grid.shape
        self._step = max(fwhm / 2, float(spacing.min()))
        size = [int(np.ceil(n * s / self._step)) + 2 for n, s in zip(shape, spacing, strict=True)]
        noise = texture((size[0], size[1], size[2]), fwhm, self._step, generator)
        axes = [np.arange(n) * s for n, s in zip(shape, spacing, strict=True)]
        for axis in (1, 2):
            noise = along(noise, axis, linear_taps(size[axis], self._step, axes[axis]))
        # Interpolation averages neighbours and takes some of the variance with it.
        self._noise = noise / float(noise.numpy().std())
        self._first = axes[0]

    def planes(self, first: int, n: int) -> Tensor:
        places = self._first[first : first + n]
        return along(self._noise, 0, linear_taps(self._noise.shape[0], self._step, places))
