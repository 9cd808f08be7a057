"""How photons and electrons interact with water.

Photon coefficients are those of Hubbell and Seltzer (NISTIR 5632, NIST Standard Reference Database
126), electron data those of ESTAR (NIST Standard Reference Database 124). Both tables were copied
from public copies of the NIST pages, not from NIST itself. What they leave open is closed by
physics: Compton scattering is that of Klein and Nishina, and pair production is what it and
the photoelectric effect leave of the total.
"""

import numpy as np
from jaxtyping import Float64

Energies = Float64[np.ndarray, " n"]

ELECTRON_MASS = 0.51099895  # MeV
# Electrons in a mm³ of water of 1 g/cm³, and the classical electron radius in mm.
ELECTRON_DENSITY = 6.02214076e23 * 10 / 18.01528 * 1e-3
ELECTRON_RADIUS = 2.8179403e-12

# Energy (MeV), mass attenuation and mass energy-absorption coefficient (cm²/g).
_PHOTONS = np.array(
    [
        (0.01, 5.329, 4.944),
        (0.015, 1.673, 1.374),
        (0.02, 0.8096, 0.5503),
        (0.03, 0.3756, 0.1557),
        (0.04, 0.2683, 0.06947),
        (0.05, 0.2269, 0.04223),
        (0.06, 0.2059, 0.03190),
        (0.08, 0.1837, 0.02597),
        (0.1, 0.1707, 0.02546),
        (0.15, 0.1505, 0.02764),
        (0.2, 0.1370, 0.02967),
        (0.3, 0.1186, 0.03192),
        (0.4, 0.1061, 0.03279),
        (0.5, 0.09687, 0.03299),
        (0.6, 0.08956, 0.03284),
        (0.8, 0.07865, 0.03206),
        (1.0, 0.07072, 0.03103),
        (1.25, 0.06323, 0.02965),
        (1.5, 0.05754, 0.02833),
        (2.0, 0.04942, 0.02608),
        (3.0, 0.03969, 0.02281),
        (4.0, 0.03403, 0.02066),
        (5.0, 0.03031, 0.01915),
        (6.0, 0.02770, 0.01806),
        (8.0, 0.02429, 0.01658),
        (10.0, 0.02219, 0.01566),
        (15.0, 0.01941, 0.01441),
        (20.0, 0.01813, 0.01382),
    ]
)
# Energy (MeV), collision and radiative stopping power (MeV cm²/g), CSDA range (g/cm²), radiation yield.
_ELECTRONS = np.array(
    [
        (0.01, 22.56, 3.898e-3, 2.515e-4, 9.408e-5),
        (0.015, 16.47, 3.944e-3, 5.147e-4, 1.316e-4),
        (0.02, 13.17, 3.963e-3, 8.566e-4, 1.663e-4),
        (0.03, 9.653, 3.984e-3, 1.756e-3, 2.301e-4),
        (0.04, 7.777, 4.005e-3, 2.919e-3, 2.886e-4),
        (0.05, 6.603, 4.031e-3, 4.320e-3, 3.435e-4),
        (0.06, 5.797, 4.062e-3, 5.940e-3, 3.955e-4),
        (0.08, 4.757, 4.138e-3, 9.773e-3, 4.931e-4),
        (0.1, 4.115, 4.228e-3, 1.431e-2, 5.842e-4),
        (0.15, 3.238, 4.494e-3, 2.817e-2, 7.926e-4),
        (0.2, 2.793, 4.801e-3, 4.488e-2, 9.826e-4),
        (0.3, 2.355, 5.514e-3, 8.421e-2, 1.331e-3),
        (0.4, 2.148, 6.339e-3, 0.1288, 1.658e-3),
        (0.5, 2.034, 7.257e-3, 0.1766, 1.976e-3),
        (0.6, 1.963, 8.254e-3, 0.2265, 2.292e-3),
        (0.8, 1.886, 1.042e-2, 0.3302, 2.928e-3),
        (1.0, 1.849, 1.280e-2, 0.4367, 3.579e-3),
        (1.25, 1.829, 1.600e-2, 0.5717, 4.416e-3),
        (1.5, 1.822, 1.942e-2, 0.7075, 5.281e-3),
        (2.0, 1.824, 2.678e-2, 0.9785, 7.085e-3),
        (2.5, 1.834, 3.468e-2, 1.247, 8.969e-3),
        (3.0, 1.846, 4.299e-2, 1.514, 1.092e-2),
        (4.0, 1.870, 6.058e-2, 2.037, 1.495e-2),
        (5.0, 1.892, 7.917e-2, 2.550, 1.911e-2),
        (6.0, 1.911, 9.854e-2, 3.052, 2.336e-2),
        (8.0, 1.943, 0.1391, 4.030, 3.200e-2),
        (10.0, 1.968, 0.1814, 4.975, 4.072e-2),
        (15.0, 2.014, 0.2926, 7.219, 6.243e-2),
        (20.0, 2.046, 0.4086, 9.320, 8.355e-2),
    ]
)
# The photoelectric part falls so steeply where it can no longer be told from rounding of the table.
_PHOTOELECTRIC_SLOPE = -3.2
_PHOTOELECTRIC_TOP = 0.1
_PAIR_THRESHOLD = 2 * ELECTRON_MASS
# Double Compton scattering and radiative corrections: Compton scattering of XCOM at 1 MeV over Klein-Nishina.
_RADIATIVE = 1.0008


def total_attenuation(energy: Energies) -> Energies:
    """Attenuation of a narrow beam of photons, coherent scattering included (1/mm)."""
    return _read(_PHOTONS, 1, energy) / 10


def absorption(energy: Energies) -> Energies:
    """Energy-absorption coefficient of photons (1/mm): what stays near where they interact."""
    return _read(_PHOTONS, 2, energy) / 10


def compton(energy: Energies) -> Energies:
    """Attenuation by Compton scattering off free electrons (1/mm).

    Klein and Nishina, Z. Phys. 52, 853 (1929), integrated over angles.
    """
    a = energy / ELECTRON_MASS
    log = np.log1p(2 * a)
    bracket = 2 * (1 + a) / (1 + 2 * a) - log / a
    section = (1 + a) / a**2 * bracket + log / (2 * a) - (1 + 3 * a) / (1 + 2 * a) ** 2
    return 2 * np.pi * ELECTRON_RADIUS**2 * section * ELECTRON_DENSITY


def compton_transfer(energy: Energies) -> Energies:
    """Part of :func:`compton` that recoil electrons carry away (1/mm), by quadrature over angles."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    kept = 1 / (1 + energy[:, None] / ELECTRON_MASS * (1 - nodes))
    section = kept**2 * (kept + 1 / kept - 1 + nodes**2) * (1 - kept)
    return np.pi * ELECTRON_RADIUS**2 * ELECTRON_DENSITY * (section * weights).sum(axis=1)


def photoelectric(energy: Energies) -> Energies:
    """Attenuation by the photoelectric effect (1/mm): what Compton recoils leave of the absorption."""
    low = np.minimum(energy, _PHOTOELECTRIC_TOP)
    steep = (energy / low) ** _PHOTOELECTRIC_SLOPE
    return np.maximum(absorption(low) - compton_transfer(low), 0) * steep


def pair(energy: Energies) -> Energies:
    """Attenuation by pair production (1/mm): what the other effects leave of the total.

    The rounding of the table and the corrections to Klein and Nishina leave 10 % of doubt at 2 MeV,
    where pairs are 1 % of the interactions, and less above.
    """
    knots = _PHOTONS[:, 0]
    left = total_attenuation(knots) - _RADIATIVE * compton(knots) - photoelectric(knots) - _coherent(knots)
    left = np.where(knots > _PAIR_THRESHOLD, np.maximum(left, 0), 0)
    return np.interp(energy, np.insert(knots, 17, _PAIR_THRESHOLD), np.insert(left, 17, 0.0))


def attenuation(energy: Energies) -> Energies:
    """Attenuation without coherent scattering (1/mm), which takes no energy and hardly turns photons."""
    return compton(energy) + photoelectric(energy) + pair(energy)


def csda_range(energy: Energies) -> Energies:
    """Path after which an electron has lost its energy (mm)."""
    return _read(_ELECTRONS, 3, energy) * 10


def energy_of_range(path: Energies) -> Energies:
    """Energy of an electron that has this path before it (MeV)."""
    return np.exp(np.interp(np.log(path / 10), np.log(_ELECTRONS[:, 3]), np.log(_ELECTRONS[:, 0])))


def collision_stopping_power(energy: Energies) -> Energies:
    """Energy that an electron gives to electrons on its path (MeV/mm)."""
    return _read(_ELECTRONS, 1, energy) / 10


def radiation_yield(energy: Energies) -> Energies:
    """Share of its energy that an electron loses to bremsstrahlung before it stops."""
    return _read(_ELECTRONS, 4, energy)


def _coherent(energy: Energies) -> Energies:
    """Attenuation by coherent scattering above 1 MeV (1/mm): XCOM's at 1 MeV, falling as 1/E²."""
    return 5.627e-6 / energy**2


def _read(table: np.ndarray, column: int, energy: Energies) -> Energies:
    """A column of a table at energies, linear in the logarithms of both."""
    if energy.size and not table[0, 0] * (1 - 1e-9) <= energy.min() <= energy.max() <= table[-1, 0]:
        raise ValueError(
            f"expected energies of {table[0, 0]:g}-{table[-1, 0]:g} MeV, "
            f"got {energy.min():g} to {energy.max():g}"
        )
    return np.exp(np.interp(np.log(energy), np.log(table[:, 0]), np.log(table[:, column])))
