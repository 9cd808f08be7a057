"""What a scanner adds to an image: shading, blur and noise."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv3d, grid_sample, pad

from .folds import smooth_noise

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
    cube = smooth_noise(generator, 1, 3)
    axes = [torch.linspace(-0.8, 0.8, n) for n in shape]
    out = torch.empty(shape)
    for i, place in enumerate(axes[0]):
        jk = torch.meshgrid(axes[1], axes[2], indexing="ij")
        where = torch.stack([jk[1], jk[0], place.expand(jk[0].shape)], dim=-1)
        out[i] = grid_sample(cube, where[None, None], align_corners=False)[0, 0, 0]
    return torch.exp(strength * (out - out.mean()))


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
    half = math.ceil(3 * sigma)
    if half == 0:
        return image
    kernel = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    out = image[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 2 * half + 1
        padding = [0, 0, 0, 0, 0, 0]
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = half
        out = conv3d(pad(out, padding, mode="replicate"), kernel.reshape(shape))
    return out[0, 0]
