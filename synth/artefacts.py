"""What a scanner adds to an image: shading, blur and noise."""

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

from .folds import smooth_noise
from .sampling import along, linear_taps

Image = Float[Tensor, "i j k"]


def bias_field(shape: tuple[int, int, int], strength: float, generator: torch.Generator) -> Image:
    """Smooth multiplicative shading about 1, the exponential of smooth noise.

    Parameters
    ----------
    shape
        Voxels of the image.
    strength
        Standard deviation of the logarithm, 0.1 for a mild coil profile.
    generator
        Draws the field.
    """
    cube = smooth_noise(generator, 1, 3)[0, 0]
    for axis in (2, 1, 0):
        # The middle of the cube, between 0.1 and 0.9 of its width.
        places = (np.linspace(-0.8, 0.8, shape[axis]) + 1) * cube.shape[axis] / 2 - 0.5
        cube = along(cube, axis, linear_taps(cube.shape[axis], 1.0, places))
    return torch.exp(strength * (cube - float(cube.numpy().mean())))


def rician(image: Image, sigma: float, generator: torch.Generator) -> Image:
    """Magnitude of an image with Gaussian noise in both channels (Gudbjartsson & Patz, MRM 34, 910 (1995)).

    Parameters
    ----------
    image
        Noise-free magnitude.
    sigma
        Standard deviation of each channel, in units of the image.
    generator
        Draws the noise.
    """
    real = torch.randn(image.shape, generator=generator).mul_(sigma).add_(image)
    imaginary = torch.randn(image.shape, generator=generator).mul_(sigma)
    return torch.hypot(real, imaginary)


def blur(image: Image, fwhm: float, spacing: float) -> Image:
    """An image as a voxel or a detector of ``fwhm`` mm sees it, a Gaussian along each axis.

    Parameters
    ----------
    image
        Values on cubic voxels.
    fwhm
        Full width at half maximum (mm).
    spacing
        Voxel size (mm).
    """
    sigma = fwhm / spacing / math.sqrt(8 * math.log(2))
    out = np.empty(image.shape, dtype=np.float32)
    gaussian_filter(image.numpy(), sigma, output=out, mode="nearest", truncate=3.0)
    return torch.from_numpy(out)


def texture(shape: tuple[int, int, int], fwhm: float, spacing: float, generator: torch.Generator) -> Image:
    """Noise of zero mean and unit variance that is smooth over ``fwhm`` mm.

    Where that is much longer than a voxel it is drawn on a coarser lattice and interpolated.

    Parameters
    ----------
    shape
        Voxels of the image.
    fwhm
        Full width at half maximum of the smoothing (mm).
    spacing
        Voxel size (mm).
    generator
        Draws the noise.
    """
    step = max(fwhm / 2, spacing)
    coarse = [math.ceil(n * spacing / step) + 1 for n in shape]
    noise = blur(torch.randn(coarse, generator=generator), fwhm, step)
    if step > spacing:
        noise = interpolate(noise[None, None], size=shape, mode="trilinear", align_corners=True)[0, 0]
    else:
        noise = noise[: shape[0], : shape[1], : shape[2]]
    # numpy sums in one order, however many threads torch has.
    return (noise - float(noise.numpy().mean())) / float(noise.numpy().std())
