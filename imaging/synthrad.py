"""Figures of a synthetic CT as the SynthRAD challenges compute them.

SynthRAD 2023 (Huijben et al., Med. Image Anal. 97, 103276 (2024)) scores mean absolute error
(:func:`imaging.agreement.hu_mae`), peak signal-to-noise ratio and structural similarity inside the body mask;
2025 takes multi-scale structural similarity instead. CT numbers are clipped to -1024..3000, a range of 4024,
for all but the error.
"""

import math

import numpy as np
from jaxtyping import Bool, Float64
from scipy import ndimage

from .agreement import expect_comparable
from .shapes import Mask
from .volume import Volume

LOWEST, HIGHEST = -1024.0, 3000.0
_RANGE = HIGHEST - LOWEST
_WINDOW, _EDGE = 7, 3  # voxels of the window, and those at each face that it does not judge
_C1, _C2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli and Bovik, Asilomar 2003
_SHORTEST = 97  # voxels a side for five scales

Image = Float64[np.ndarray, "i j k"]
Inside = Bool[np.ndarray, "i j k"]


def psnr(ct: Volume, truth: Volume, body: Mask) -> float:
    """Peak signal-to-noise ratio (dB) inside the body; infinite for two equal CTs.

    Raises
    ------
    ValueError
        If the CTs lie on different grids or the body is empty.
    """
    expect_comparable(ct, truth, body)
    inside = body.numpy()
    a, b = (np.clip(_numbers(v)[inside], LOWEST, HIGHEST) for v in (ct, truth))
    error = float(((a - b) ** 2).mean())
    return 10 * math.log10(_RANGE**2 / error) if error else math.inf


def ssim(ct: Volume, truth: Volume, body: Mask) -> float:
    """Mean structural similarity inside the body, air outside (SynthRAD 2023).

    Wang et al., IEEE Trans. Image Process. 13, 600 (2004), with a uniform window of 7³ voxels and sample
    covariance; the three outermost voxels are not judged.

    Raises
    ------
    ValueError
        If the CTs lie on different grids, or the body holds no voxel that is judged.
    """
    expect_comparable(ct, truth, body)
    inside = body.numpy()
    return _mean(_similarity(_shown(ct, inside), _shown(truth, inside)), inside)


def ms_ssim(ct: Volume, truth: Volume, body: Mask) -> float:
    """Multi-scale structural similarity inside the body, air outside (SynthRAD 2025).

    Five scales; luminance counts at every one of them, unlike in the paper of Wang et al. (2003), powers are
    taken voxel by voxel and the mean inside the mask after them. Sides shorter than 97 voxels are continued
    by their edge. A scale is the mean of 2³ voxels and then every second voxel; the mask's is every second
    voxel of the mask alone.

    Raises
    ------
    ValueError
        If the CTs lie on different grids, or the body holds no voxel that is judged at some scale.
    """
    expect_comparable(ct, truth, body)
    inside = body.numpy()
    short = [max(_SHORTEST - n, 0) for n in inside.shape]
    margins = [(n // 2, n - n // 2) for n in short]
    x, y = (np.pad(_shown(v, inside), margins, mode="edge") for v in (ct, truth))
    inside = np.pad(inside, margins, mode="edge")
    result = 1.0
    for weight in _SCALES:
        # Luminance, contrast and structure all take one weight: the power of their product.
        result *= min(_mean(_similarity(x, y).clip(min=0) ** weight, inside), 1.0)
        x, y, inside = _halved(x), _halved(y), inside[::2, ::2, ::2]
    return result


def _numbers(ct: Volume) -> Image:
    return ct.data[0].numpy().astype(np.float64)


def _shown(ct: Volume, inside: Inside) -> Image:
    """CT numbers above the lowest, which stands outside the body."""
    return np.where(inside, np.clip(_numbers(ct), LOWEST, HIGHEST) - LOWEST, 0.0)


def _similarity(x: Image, y: Image) -> Image:
    """Luminance times contrast and structure, at each voxel."""
    n = _WINDOW**x.ndim

    def mean(image: Image) -> Image:
        return ndimage.uniform_filter(image, _WINDOW)

    ux, uy = mean(x), mean(y)
    vx, vy = (n / (n - 1) * (mean(z * z) - u * u) for z, u in ((x, ux), (y, uy)))
    vxy = n / (n - 1) * (mean(x * y) - ux * uy)
    luminance = (2 * ux * uy + _C1) / (ux * ux + uy * uy + _C1)
    return luminance * (2 * vxy + _C2) / (vx + vy + _C2)


def _mean(values: Image, inside: Inside) -> float:
    judged = (slice(_EDGE, -_EDGE),) * values.ndim
    chosen = values[judged][inside[judged]]
    if not chosen.size:
        raise ValueError(
            "expected a body that reaches inside the outermost voxels at every scale, got none of it there; "
            "give a larger scan or mask"
        )
    return float(chosen.mean())


def _halved(image: Image) -> Float64[np.ndarray, "_ _ _"]:
    """Every second voxel of the mean over 2³, each with the voxels before it; air before the first."""
    mean = ndimage.uniform_filter(image, 2, mode="constant")
    return mean[::2, ::2, ::2]
