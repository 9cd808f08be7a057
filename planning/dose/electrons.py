"""How electrons slow down in water.

They lose energy continuously (no straggling, no knock-on electrons of their own) and are turned by
a random hinge in each step, as in PENELOPE, by an angle whose mean cosine is that of screened
Rutherford scattering.
"""

import torch

from . import water
from .flight import Energy, Particles, Score, Vectors, lookup, turn, uniform
from .water import ELECTRON_MASS

# Below this energy (MeV) an electron leaves what it has where it is: its range is 18 µm.
ELECTRON_CUT = 0.03
# Slower electrons radiate too little to be worth a photon (MeV).
RADIATES = 0.3
# Share of the remaining range that an electron travels in one step.
_STEP = 0.12
_PATHS = (2.6e-3, 90.0)  # of electrons of 10.2 keV and 19.3 MeV (mm)


def slow_down(electrons: Particles, score: Score, generator: torch.Generator) -> Vectors:
    """Where electrons come to rest; what they do not radiate is scored on the way."""
    radiated = lookup(water.radiation_yield, electrons.energy)
    radiated = torch.where(electrons.energy > RADIATES, radiated, torch.zeros_like(radiated))
    left = electrons.weight * (1 - radiated)
    ends = electrons.at.clone()
    at, way, energy, index = electrons.at, electrons.way, electrons.energy, torch.arange(len(left))
    index = index.to(left.device)
    while len(energy):
        slow = energy < ELECTRON_CUT
        score(at[slow], energy[slow] * left[slow])
        ends[index[slow]] = at[slow]
        at, way, energy, left, index = (x[~slow] for x in (at, way, energy, left, index))
        reach = lookup(water.csda_range, energy)
        step = _STEP * reach
        after = lookup(water.energy_of_range, reach - step, _PATHS)
        middle = (energy + after) / 2
        hinge = uniform(energy, generator) * step
        turned = turn(
            way,
            _deflection(_turning(middle) * step, generator),
            2 * torch.pi * uniform(energy, generator),
        )
        corner = at + hinge[:, None] * way
        # The loss of a step goes to one point of it, drawn evenly.
        point = uniform(energy, generator) * step
        before = (point < hinge)[:, None]
        place = torch.where(before, at + point[:, None] * way, corner + (point - hinge)[:, None] * turned)
        score(place, (energy - after) * left)
        at, way, energy = corner + (step - hinge)[:, None] * turned, turned, after
    return ends


def _turning(energy: Energy) -> Energy:
    """Mean of 1 − cos per mm of an electron's path in water, for small steps.

    First transport coefficient of scattering in the first Born approximation (Mott's factor
    1 − β² sin²(θ/2)) by nuclei screened as by Molière, Z. Naturforsch. 2a, 133 (1947), and by
    Z free electrons that turn it no further than when they share the energy evenly.
    """
    alpha = 1 / 137.036
    gamma = 1 + energy / ELECTRON_MASS
    beta2 = 1 - gamma**-2
    momentum2 = gamma**2 - 1
    # 1 − cos of the furthest turn by an electron at rest.
    furthest = 1 - ((gamma + 1) / (gamma + 3)).sqrt()
    total = torch.zeros_like(energy)
    for z, per_molecule in ((1, 2), (8, 1)):
        thomas_fermi = (alpha * z ** (1 / 3) / 0.885) ** 2 / momentum2
        eta = thomas_fermi / 4 * (1.13 + 3.76 * (alpha * z) ** 2 / beta2)
        nucleus = torch.log1p(1 / eta) - 1 / (1 + eta) - beta2
        electron = torch.log1p(furthest / (2 * eta)) - furthest / (furthest + 2 * eta)
        total += per_molecule * (z**2 * nucleus + z * electron)
    molecules = water.ELECTRON_DENSITY / 10
    return 2 * torch.pi * water.ELECTRON_RADIUS**2 * molecules * total / (momentum2 * beta2)


def _deflection(strength: Energy, generator: torch.Generator) -> Energy:
    """Cosines of angles whose mean is exp(−strength), Gaussian where small, even where large.

    The density exp(κ cos) of Fisher, whose κ follows from coth κ − 1/κ = exp(−strength), here by
    the approximation of Banerjee et al., J. Mach. Learn. Res. 6, 1345 (2005), then one Newton step.
    """
    mean = torch.exp(-strength.double()).clamp(1e-6, 1 - 1e-9)
    kappa = mean * (3 - mean**2) / (1 - mean**2)
    off = 1 / torch.tanh(kappa) - 1 / kappa - mean
    kappa = (kappa - off / (1 - (1 / torch.tanh(kappa)) ** 2 + 1 / kappa**2).clamp(min=1e-12)).clamp(min=1e-6)
    u = uniform(strength, generator).double().clamp(min=1e-12)
    cosine = 1 + torch.log(u + (1 - u) * torch.exp(-2 * kappa)) / kappa
    return cosine.clamp(-1, 1).to(strength.dtype)
