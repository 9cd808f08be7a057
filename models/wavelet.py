"""One orthonormal Haar step: an image to half-size bands and back, in place of a trained autoencoder.

Four contrasts of 128³ voxels become 32 bands of 64³ at no cost and without loss, since the step is a
rotation (Haar, Math. Ann. 69, 331 (1910)). What lies in the bands differs in size by a factor of twenty,
so each is divided by its own standard deviation in the training set: noise then drowns all of them alike.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_SMALLEST = 1e-3  # of a band that hardly varies, such as the details of blank images

Image = Float[Tensor, "b c *s"]
Bands = Float[Tensor, "b k *h"]


def haar(x: Image) -> Bands:
    """Bands ``(b, c 2^d, *s/2)`` of an image ``(b, c, *s)`` with d axes of even sides.

    Channels are band-major: channel ``n c + m`` is band n of contrast m, and band n has detail along
    those axes whose bits are set in n. Band 0 is the mean of each cell times ``2^(d/2)``.
    """
    n_axes = x.ndim - 2
    for axis in range(2, x.ndim):
        cells = x.unflatten(axis, (-1, 2))  # type: ignore[no-untyped-call]
        even, odd = cells.unbind(axis + 1)
        x = torch.cat([even + odd, even - odd], dim=1)
    return x * 2 ** (-n_axes / 2)


def unhaar(bands: Bands) -> Image:
    """The image ``(b, c, *s)`` of bands ``(b, c 2^d, *s/2)``: what :func:`haar` undoes."""
    n_axes = bands.ndim - 2
    for axis in range(bands.ndim - 1, 1, -1):
        low, high = bands.chunk(2, dim=1)
        bands = torch.stack([low + high, low - high], dim=axis + 1).flatten(axis, axis + 1)
    return bands * 2 ** (-n_axes / 2)


def to_bands(image: Image, band_std: Sequence[float]) -> Bands:
    """Bands of an image, each of standard deviation about 1.

    Parameters
    ----------
    image
        Shape ``(b, c, *s)``, even sides.
    band_std
        Standard deviation of each of the ``c 2^d`` bands in the training set.
    """
    bands = haar(image)
    return bands / _column(band_std, bands)


def to_image(bands: Bands, band_std: Sequence[float]) -> Image:
    """The image of bands that :func:`to_bands` gave."""
    return unhaar(bands * _column(band_std, bands))


def band_std(images: Iterable[tuple[Image, Float[Tensor, "b c"]]]) -> tuple[float, ...]:
    """Standard deviation of each band over a training set.

    Parameters
    ----------
    images
        Batches ``(b, c, *s)``, each with a 1 for every contrast that a case really has, ``(b, c)``.

    Raises
    ------
    ValueError
        If there is no image of one of the contrasts.
    """
    count, first, second = torch.zeros(1), torch.zeros(1), torch.zeros(1)
    for image, present in images:
        bands = haar(image).double().flatten(2)
        there = present.double().repeat(1, bands.shape[1] // image.shape[1])
        count = count + there.sum(0) * bands.shape[2]
        first = first + (bands.sum(2) * there).sum(0)
        second = second + ((bands**2).sum(2) * there).sum(0)
    if bool((count == 0).any()):
        raise ValueError("expected images of every contrast, got none of some; train on fewer contrasts")
    spread = (second / count - (first / count) ** 2).clamp(min=0).sqrt().clamp(min=_SMALLEST)
    return tuple(round(s, 6) for s in spread.tolist())


def _column(band_std: Sequence[float], bands: Bands) -> Tensor:
    column = torch.tensor(band_std, dtype=bands.dtype, device=bands.device)
    return column.reshape(-1, *[1] * (bands.ndim - 2))
