"""A scanner's artefacts cheap enough for every training sample, on any device.

Each is the simplest form of what ``synth.mri`` does with care: thick slices, shading, ghosts, ringing,
wrap, noise, another scale of grey.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv3d, interpolate

Image = Float[Tensor, "i j k"]


@dataclass(frozen=True)
class Scan:
    """What one scan does to an image.

    Parameters
    ----------
    blur
        Standard deviation of its point spread along each axis (voxels).
    slices, axis
        Thickness of slices (voxels) and the axis they are stacked along; 1 for a volume.
    bias
        Standard deviation of the logarithm of its shading.
    noise
        Standard deviation of each channel of its noise, relative to white matter.
    gamma
        Exponent of the grey scale.
    ghost
        Share of the image that appears shifted by half or a third of the field of view.
    ringing
        Share of k-space that is kept along one axis; 1 for all.
    wrap
        Voxels of the image that fold over at both ends of one axis.
    """

    blur: tuple[float, float, float] = (0.4, 0.4, 0.4)
    slices: float = 1.0
    axis: int = 2
    bias: float = 0.0
    noise: float = 0.0
    gamma: float = 1.0
    ghost: float = 0.0
    ringing: float = 1.0
    wrap: int = 0

    @staticmethod
    def drawn(share: float, spacing: float, generator: torch.Generator, thick: float | None = None) -> "Scan":
        """A scan whose artefacts are each there in this share of scans; none at a share of 0.

        Thick slices have a share of their own where one is given.
        """
        u = torch.rand(16, generator=generator).tolist()
        if share == 0:
            return Scan(blur=(0.4, 0.4, 0.4))
        a, b, c = (0.3 + 0.5 * v for v in u[:3])
        scan = Scan((a, b, c), axis=int(3 * u[3]), bias=0.35 * u[4], noise=0.08 * u[5] ** 2)
        scan = replace(scan, gamma=math.exp(0.5 * (u[6] - 0.5)))
        if u[7] < (share if thick is None else thick):
            scan = replace(scan, slices=max(1.0, (2 + 4.5 * u[8]) / spacing))
        if u[9] < share / 2:
            scan = replace(scan, ghost=0.15 * u[10])
        if u[11] < share / 2:
            scan = replace(scan, ringing=0.5 + 0.4 * u[12])
        if u[13] < share / 4:
            scan = replace(scan, wrap=int(20 * u[14] / spacing))
        return scan


def scanned(image: Image, scan: Scan, noise: torch.Generator) -> Image:
    """The image that a scan makes of a perfect one; ``noise`` lives on the image's device."""
    out = blurred(image, scan.blur)
    if scan.slices > 1:
        out = _sliced(out, scan.slices, scan.axis)
    if scan.wrap:
        out = _wrapped(out, scan.wrap, (scan.axis + 1) % 3)
    if scan.ringing < 1:
        out = _cut_in_k_space(out, scan.ringing, (scan.axis + 1) % 3)
    if scan.ghost:
        out = out + scan.ghost * out.roll(out.shape[0] // 2, dims=0)
    if scan.bias:
        out = out * _shading(out.shape, scan.bias, noise)
    if scan.noise:
        out = torch.hypot(_normal(out, scan.noise, noise).add_(out), _normal(out, scan.noise, noise))
    return out.clamp_(min=0).pow_(scan.gamma) if scan.gamma != 1 else out


def _normal(like: Image, sigma: float, noise: torch.Generator) -> Image:
    return torch.randn(like.shape, generator=noise, device=like.device).mul_(sigma)


def blurred(image: Image, sigma: tuple[float, float, float]) -> Image:
    """Gaussian along each axis, cut at two voxels; beyond the edge the nearest value holds."""
    out = image
    for axis, s in enumerate(sigma):
        at = torch.arange(-2, 3, device=image.device)
        weight = torch.exp(-0.5 * (at / s) ** 2)
        w = (weight / weight.sum()).tolist()
        n = out.shape[axis]
        total = out * w[2]
        for off in (1, 2):
            if w[2 + off] < 1e-4:
                continue
            total.narrow(axis, off, n - off).add_(out.narrow(axis, 0, n - off), alpha=w[2 + off])
            total.narrow(axis, 0, n - off).add_(out.narrow(axis, off, n - off), alpha=w[2 + off])
            total.narrow(axis, 0, off).add_(out.narrow(axis, 0, 1), alpha=w[2 + off])
            total.narrow(axis, n - off, off).add_(out.narrow(axis, n - 1, 1), alpha=w[2 + off])
        out = total
    return out


def _sliced(image: Image, thickness: float, axis: int) -> Image:
    """Slices ``thickness`` voxels thick, read back at every voxel."""
    n = image.shape[axis]
    size = list(image.shape)
    size[axis] = max(round(n / thickness), 2)
    thick = interpolate(image[None, None], size=tuple(size), mode="area")
    return interpolate(thick, size=tuple(image.shape), mode="trilinear", align_corners=False)[0, 0]


def _wrapped(image: Image, voxels: int, axis: int) -> Image:
    """What lies beyond a field of view that ends ``voxels`` early appears at the other end."""
    n = image.shape[axis]
    kept = n - 2 * voxels
    out = image.clone()
    out.narrow(axis, voxels, voxels).add_(image.narrow(axis, n - voxels, voxels))
    out.narrow(axis, n - 2 * voxels, voxels).add_(image.narrow(axis, 0, voxels))
    out.narrow(axis, 0, voxels).zero_()
    out.narrow(axis, voxels + kept, voxels).zero_()
    return out


def _cut_in_k_space(image: Image, share: float, axis: int) -> Image:
    """Only the central share of k-space along an axis: Gibbs ringing at edges."""
    k = torch.fft.rfft(image, dim=axis)
    first = max(round(share * k.shape[axis]), 1)
    k.narrow(axis, first, k.shape[axis] - first).zero_()
    return torch.fft.irfft(k, n=image.shape[axis], dim=axis).clamp_(min=0)


def _shading(shape: torch.Size, strength: float, noise: torch.Generator) -> Image:
    cube = torch.randn(1, 1, 4, 4, 4, generator=noise, device=noise.device)
    kernel = torch.full((1, 1, 2, 2, 2), 0.25, device=noise.device)
    field = interpolate(conv3d(cube, kernel), size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]
    return field.mul_(strength).exp_()
