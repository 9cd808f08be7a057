"""The photons of a linac's beam, by energy."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from . import water
from .point_kernel import PointKernels, load

# Attenuation of tungsten (MeV, cm²/g): Hubbell and Seltzer, from a public copy of the NIST table.
_TUNGSTEN = np.array(
    [
        (0.1, 4.438),
        (0.15, 1.581),
        (0.2, 0.7844),
        (0.3, 0.3238),
        (0.4, 0.1925),
        (0.5, 0.1378),
        (0.6, 0.1093),
        (0.8, 0.08066),
        (1.0, 0.06618),
        (1.25, 0.05577),
        (1.5, 0.05000),
        (2.0, 0.04433),
        (3.0, 0.04075),
        (4.0, 0.04038),
        (5.0, 0.04103),
        (6.0, 0.04210),
        (8.0, 0.04472),
        (10.0, 0.04747),
    ]
)
_TUNGSTEN_DENSITY = 19.3  # g/cm³
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


def filtered(energy_max: float, filter_mm: float) -> Spectrum:
    """Bremsstrahlung of a thick target behind tungsten, as lines at the energies of the kernels.

    Energy fluence falls evenly to ``energy_max`` (Kramers, Phil. Mag. 46, 836 (1923)); target and
    flattening filter act as one absorber. Two numbers describe a beam well enough for its depth
    dose to be met; they are effective, not the real target and filter.

    Parameters
    ----------
    energy_max
        Greatest energy of a photon (MeV).
    filter_mm
        Thickness of the absorber (mm tungsten).

    Raises
    ------
    ValueError
        If the energy is beyond the kernels' or the thickness is negative.
    """
    lines = kernels().energy
    if not lines[1] < energy_max <= lines[-1] or filter_mm < 0:
        raise ValueError(
            f"expected a maximum energy of {lines[1]:g}-{lines[-1]:g} MeV behind 0 mm of tungsten or more, "
            f"got {energy_max:g} MeV behind {filter_mm:g} mm"
        )
    edges = np.linspace(lines[0], energy_max, _N_FINE + 1)
    energy = (edges[1:] + edges[:-1]) / 2
    fluence = (1 / energy - 1 / energy_max) * np.exp(-tungsten(energy) * filter_mm)
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


def tungsten(energy: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Attenuation of tungsten (1/mm) from 0.1 to 10 MeV."""
    mass = np.exp(np.interp(np.log(energy), *np.log(_TUNGSTEN).T))
    return mass * _TUNGSTEN_DENSITY / 10


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
