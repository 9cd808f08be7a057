"""The photons of a linac's beam, by energy."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from . import water
from .point_kernel import PointKernels, load

_N_FINE = 2000


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Lines that stand for a beam's photons: energies (MeV) and fluence, whose sum is 1."""

    energy: Float64[np.ndarray, " n"]
    fluence: Float64[np.ndarray, " n"]


@cache
def kernels() -> PointKernels:
    """The point kernels that are shipped, as ``kernels/README.md`` describes them."""
    return load(Path(__file__).parent / "kernels" / "water.npz")


def filtered(energy_max: float, absorber_mm: float) -> Spectrum:
    """Bremsstrahlung of a thick target behind an absorber, as lines at the energies of the kernels.

    Energy fluence falls evenly to ``energy_max`` (Kramers, Phil. Mag. 46, 836 (1923)); target and
    flattening filter act as one absorber that attenuates like water, so mainly by Compton scattering.
    Two numbers describe a beam well enough for its depth dose to be met; they are effective, not the
    real target and filter.

    Parameters
    ----------
    energy_max
        Greatest energy of a photon (MeV).
    absorber_mm
        Thickness of the absorber (mm water).

    Raises
    ------
    ValueError
        If the energy is beyond the kernels' or the thickness is negative.
    """
    lines = kernels().energy
    if not lines[1] < energy_max <= lines[-1] or absorber_mm < 0:
        raise ValueError(
            f"expected a maximum energy of {lines[1]:g}-{lines[-1]:g} MeV behind 0 mm of water or more, "
            f"got {energy_max:g} MeV behind {absorber_mm:g} mm"
        )
    edges = np.linspace(lines[0], energy_max, _N_FINE + 1)
    energy = (edges[1:] + edges[:-1]) / 2
    fluence = (1 / energy - 1 / energy_max) * np.exp(-water.attenuation(energy) * absorber_mm)
    # Each energy goes to the two lines beside it, such that its number and its energy are kept.
    right = np.clip(np.searchsorted(lines, energy), 1, len(lines) - 1)
    share = (energy - lines[right - 1]) / (lines[right] - lines[right - 1])
    binned = np.bincount(right, fluence * share, len(lines))
    binned += np.bincount(right - 1, fluence * (1 - share), len(lines))
    return Spectrum(lines, binned / binned.sum())


def single(energy: float) -> Spectrum:
    """Photons of one energy, which must be one of the kernels' (MeV)."""
    lines = kernels().energy
    if energy not in lines:
        raise ValueError(
            f"expected one of the energies {', '.join(f'{e:g}' for e in lines)} MeV, got {energy:g}"
        )
    return Spectrum(lines, (lines == energy).astype(np.float64))


def kerma_and_scerma(spectrum: Spectrum, depth: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, "2 d"]:
    """Energy released per mm of water and photon at depths (mm water), in MeV/mm.

    First what electrons of the first interaction will leave nearby (collision kerma), then what
    photons carry on; together they are the terma. Ahnesjö, Andreo, Brahme, Acta Oncol. 26, 49 (1987).
    Narrow beam: coherent scattering takes no photon away.
    """
    attenuation = water.attenuation(spectrum.energy)
    shares = kernels().primary.sum(axis=(1, 2)).astype(np.float64)
    left = spectrum.fluence * spectrum.energy * attenuation * np.exp(-np.outer(depth, attenuation))
    return np.stack([left @ shares, left @ (1 - shares)])
