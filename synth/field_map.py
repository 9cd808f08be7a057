"""The main field that a head bends: air and metal in tissue, from their susceptibility."""

import math

import numpy as np
import scipy.fft
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from imaging.grid import Grid
from imaging.tissue import BONE, Tissue
from imaging.volume import Quantity, Volume

from .sampling import lattice_like, sampled, voxel_taps

GYROMAGNETIC = 42.577  # MHz/T, of protons: Hz per ppm and tesla
STEP = 2.5  # mm, of the lattice that fields are computed on

# Volume susceptibility (ppm): Schenck, Med. Phys. 23, 815 (1996); from memory, unverified but for bone,
# which Hopkins & Wehrli, Magn. Reson. Med. 37, 494 (1997) find at −0.90 ppm in CGS units, −11.3 in SI.
_TISSUE, _AIR, _BONE, _METAL = -9.05, 0.36, -11.3, 182.0

Lattice = Float[np.ndarray, "a b c"]
Inside = Bool[np.ndarray, "a b c"]


def susceptibility(labels: Volume, lattice: Grid, *, metal: bool) -> Lattice:
    """Mean susceptibility (ppm) above that of air around each point of a lattice.

    Parameters
    ----------
    labels
        Tissues.
    lattice
        Where; parallel to the labels' grid.
    metal
        Whether metal counts as titanium; otherwise it is taken as tissue.
    """
    value = torch.full((256,), _TISSUE - _AIR)
    value[[Tissue.OUTSIDE, Tissue.AIR]] = 0.0
    value[list(BONE)] = _BONE - _AIR
    if metal:
        value[Tissue.METAL] = _METAL - _AIR
    codes = labels.expect(Quantity.LABEL).data[0]
    chi = sampled(codes, value, voxel_taps(labels.grid, lattice)).numpy()
    # The lattice reaches a little below the labels, into what would count as air.
    chi[:, :, 0] = chi[:, :, 1]
    return chi


def dipole_field(chi: Lattice, spacing: tuple[float, float, float]) -> Lattice:
    """Shift of the field that nuclei see (ppm) when a field along +k magnetises matter.

    A convolution with the dipole, less the Lorentz sphere, done in k-space: D = 1/3 − kz²/k² (Salomir, de
    Senneville & Moonen, Concepts Magn. Reson. 19B, 26 (2003); Marques & Bowtell, ibid. 25B, 65 (2005)). The
    mean, which D leaves open, is 0.

    Parameters
    ----------
    chi
        Susceptibility (ppm) against the medium around; the lowest plane along k goes on below.
    spacing
        Distance of its points (mm).
    """
    size = [scipy.fft.next_fast_len(math.ceil(1.6 * n), real=True) for n in chi.shape]
    padded = np.zeros(size, dtype=np.float32)
    n_i, n_j, n_k = chi.shape
    padded[:n_i, :n_j, :n_k] = chi
    # The neck does not end where the image does: air there would bend the field.
    below = (size[2] - n_k) // 2
    padded[:n_i, :n_j, size[2] - below :] = chi[:, :, :1]
    k = [scipy.fft.fftfreq(n, s) for n, s in zip(size, spacing, strict=True)]
    k[2] = scipy.fft.rfftfreq(size[2], spacing[2])
    z2 = k[2][None, None, :] ** 2
    k2 = k[0][:, None, None] ** 2 + k[1][None, :, None] ** 2 + z2
    k2[0, 0, 0] = 1.0
    kernel = (1 / 3 - z2 / k2).astype(np.float32)
    kernel[0, 0, 0] = 0.0
    spectrum = scipy.fft.rfftn(padded)
    spectrum *= kernel
    return np.ascontiguousarray(scipy.fft.irfftn(spectrum, s=size)[:n_i, :n_j, :n_k])


def shimmed(field: Lattice, inside: Inside) -> Lattice:
    """A field less the second-order polynomial that fits it best within a mask, as a scanner's shims do."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in field.shape), indexing="ij")
    x, y, z = (a.astype(np.float32) for a in axes)
    terms = [np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 2 * z * z - x * x - y * y]
    within = [term[inside].astype(np.float64) for term in terms]
    values = field[inside].astype(np.float64)
    # Plain sums, whose order no number of threads changes.
    normal = np.array([[float((a * b).sum()) for b in within] for a in within])
    right = np.array([float((a * values).sum()) for a in within])
    fit = np.linalg.lstsq(normal, right, rcond=None)[0]
    return field - sum(float(c) * term for c, term in zip(fit, terms, strict=True))


def in_tissue(field: Lattice, inside: Inside) -> Lattice:
    """A field whose values in air are those of the nearest tissue, a little smoothed.

    No signal comes from air, so only the field in tissue moves anything; the jump at its surface does not.
    """
    nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return np.asarray(gaussian_filter(field[tuple(nearest)], 1.0, mode="nearest", truncate=3.0))


def field_map(labels: Volume, tesla: float, *, metal: bool) -> tuple[Float[Tensor, "a b c"], Grid]:
    """Off-resonance (Hz) in and around a head after shimming, on a lattice of its own.

    Parameters
    ----------
    labels
        Tissues of an upright head; the main field points along +z.
    tesla
        Field strength (T).
    metal
        Whether metal bends the field.
    """
    lattice = lattice_like(labels.grid, STEP)
    chi = susceptibility(labels, lattice, metal=False)
    inside = chi < 0.5 * (_TISSUE - _AIR)
    spacing = (STEP, STEP, STEP)
    if not inside.any():
        return torch.zeros(lattice.shape), lattice
    ppm = in_tissue(shimmed(dipole_field(chi, spacing), inside), inside)
    if metal:
        chi = susceptibility(labels, lattice, metal=True) - chi
        ppm = ppm + dipole_field(chi, spacing)
    return torch.from_numpy((ppm * GYROMAGNETIC * tesla).astype(np.float32)), lattice
