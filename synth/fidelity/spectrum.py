"""Power at each spatial frequency: what blurred, dotted or noisy images give away.

Radially averaged power of the discrete Fourier transform, as Durall et al., CVPR 2020, here as the mean over
shells and in two or three dimensions.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "n c *space"]
Spectra = Float[Tensor, "n c shells"]
Others = Float[Tensor, "m c shells"]

_LEAST = 1e-20  # power of an empty shell: rounding of float64 on values of about 1


def radial_spectra(images: Images, n_shells: int | None = None) -> Spectra:
    """Mean power in shells of equal width between no frequency and half a cycle per voxel (dB).

    The constant part is left out, as are the corners beyond half a cycle. The transform is orthonormal: white
    noise of variance v has 10 log10(v) in every shell, whatever the size.

    Parameters
    ----------
    images
        Shape ``(n, c, *space)`` in two or three dimensions.
    n_shells
        Half of the shortest side unless given.

    Raises
    ------
    ValueError
        If a shell would hold no frequency.
    """
    sides = images.shape[2:]
    n_shells = n_shells or min(sides) // 2
    if not 1 <= n_shells <= min(sides) // 2:
        raise ValueError(f"expected 1 to {min(sides) // 2} shells for sides {tuple(sides)}, got {n_shells}")
    radius = torch.zeros((*sides[:-1], sides[-1] // 2 + 1), dtype=torch.float64)
    for axis, n in enumerate(sides):
        last = axis == len(sides) - 1
        along = (
            torch.fft.rfftfreq(n, dtype=torch.float64) if last else torch.fft.fftfreq(n, dtype=torch.float64)
        )
        radius += along.reshape([-1 if a == axis else 1 for a in range(len(sides))]).square()
    # Rounded up, so that a shell holds its outer edge: frequencies of half a cycle belong to the last.
    shell = torch.ceil(radius.sqrt() * 2 * n_shells - 1e-9).long().flatten() - 1
    mirrored = torch.full(radius.shape, 2.0, dtype=torch.float64)  # the other half of the transform
    mirrored[..., 0] = 1
    if sides[-1] % 2 == 0:
        mirrored[..., -1] = 1
    inside = (shell >= 0) & (shell < n_shells)
    shell, weight = shell[inside], mirrored.flatten()[inside]
    total = torch.zeros(n_shells, dtype=torch.float64).index_add(0, shell, weight)
    result = torch.zeros((*images.shape[:2], n_shells), dtype=torch.float64)
    for i, image in enumerate(images):
        power = (
            torch.fft.rfftn(image.double().cpu(), dim=list(range(1, image.ndim)), norm="ortho").abs().square()
        )
        result[i].index_add_(1, shell, power.flatten(1)[:, inside] * weight)
    return 10 * torch.log10((result / total).clamp(min=_LEAST))


def spectrum_distance(real: Spectra, synthetic: Others) -> float:
    """Root mean square over shells and channels of the difference of the sets' mean spectra (dB)."""
    return math.sqrt(float((real.mean(dim=0) - synthetic.mean(dim=0)).square().mean()))
