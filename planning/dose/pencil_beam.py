"""What one bixel does in water: depth factors and lateral tables of the pencil beam."""

import math

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import map_coordinates
from scipy.special import erf
from torch import Tensor

from planning.machine import PencilBeam

# The kernels' first value stands for a cell of this size (mm): the convolution has this spacing.
RESOLUTION = 0.5
# Between these entries of a refined table a straight line is as good as the table (mm).
FINE = 0.125


def depth_factors(beam: PencilBeam, depth: Float[Tensor, " n"]) -> Float[Tensor, "3 n"]:
    """Factor of each lateral kernel at radiological depths (mm water).

    β_i / (β_i − m) · (exp(−m t) − exp(−β_i t)): Bortfeld, Schlegel, Rhein, Med. Phys. 20, 311
    (1993).
    """
    primary = torch.exp(-beam.attenuation * depth)
    return torch.stack([b / (b - beam.attenuation) * (primary - torch.exp(-b * depth)) for b in beam.betas])


def lateral_tables(
    beam: PencilBeam, ssd: float, width: tuple[float, float], cutoff: float
) -> Float[Tensor, "3 u v"]:
    """Lateral factors of a rectangular bixel: rect ⊗ Gaussian source ⊗ K_i.

    Parameters
    ----------
    beam
        The kernels.
    ssd
        Distance from the source to the surface (mm); the nearest tabulated kernels are taken.
    width
        Size of the bixel along x and y (mm at the isocentre).
    cutoff
        Furthest offset that is asked for (mm).

    Returns
    -------
    Tensor
        One quadrant, as the tables are even in x and y: entry ``[i, u, v]`` is for
        x = u · ``RESOLUTION`` and y = v · ``RESOLUTION``; float32.

    Raises
    ------
    ValueError
        If there are no kernels for this distance.
    """
    if not beam.ssd[0] - 0.5 <= ssd <= beam.ssd[-1] + 0.5:
        raise ValueError(
            f"expected a source to surface distance of {beam.ssd[0]:g}-{beam.ssd[-1]:g} mm, got {ssd:.1f}; "
            "move the isocentre into the patient"
        )
    kernels = beam.kernels[int(np.abs(beam.ssd - ssd).argmin())]
    n_table = math.ceil(cutoff / RESOLUTION) + 2
    n_field = math.ceil((max(width) / 2 + 2 * beam.penumbra_fwhm.max()) / RESOLUTION)
    n_kernel = n_table + n_field
    at = np.arange(-n_field, n_field + 1) * RESOLUTION
    field = np.outer(*(blurred_edge(at, w, fwhm) for w, fwhm in zip(width, beam.penumbra_fwhm, strict=True)))
    steps = np.arange(-n_kernel, n_kernel + 1) * RESOLUTION
    radius = np.hypot(steps[:, None], steps[None])
    size = next_fast_len(2 * (n_kernel + n_field) + 1, real=True)
    spectrum = rfft2(field, (size, size))
    first = n_kernel + n_field
    tables = []
    for kernel in kernels:
        spread = np.interp(radius, beam.radius, kernel, right=0.0) * RESOLUTION**2
        full = irfft2(spectrum * rfft2(spread, (size, size)), (size, size))
        tables.append(full[first : first + n_table, first : first + n_table])
    return torch.from_numpy(np.stack(tables).astype(np.float32))


def refined(tables: Float[Tensor, "3 u v"]) -> Float[Tensor, "3 p q"]:
    """Lateral tables on a spacing of ``FINE``, by cubic splines that are even at x = 0 and y = 0."""
    n = round(RESOLUTION / FINE)
    at = np.meshgrid(*(np.arange((size - 1) * n + 1) / n for size in tables.shape[1:]), indexing="ij")
    fine = [map_coordinates(table.numpy(), at, order=3, mode="mirror") for table in tables]
    return torch.from_numpy(np.stack(fine))


def off_axis(beam: PencilBeam, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Open fluence and factor on the radiological depth at distances from the axis (mm at the isocentre)."""
    return (
        np.interp(radius, beam.off_axis_radius, beam.off_axis_fluence),
        np.interp(radius, beam.off_axis_radius, beam.off_axis_depth),
    )


def blurred_edge(at: Float64[np.ndarray, " m"], width: float, fwhm: float) -> Float64[np.ndarray, " m"]:
    """A box of this width through a Gaussian of this FWHM, at offsets from its middle (all mm)."""
    root = math.sqrt(2) * fwhm / math.sqrt(8 * math.log(2))
    return (erf((at + width / 2) / root) - erf((at - width / 2) / root)) / 2
