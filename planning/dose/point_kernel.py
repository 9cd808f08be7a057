"""Where the energy of a photon that interacts in water goes: Monte Carlo of point kernels.

A photon of one energy that travels along z interacts at the origin of endless water. Everything it
sets in motion is followed: recoil electrons, pairs, scattered photons, annihilation photons,
bremsstrahlung. Energy is scored by distance and polar angle as in Mackie, Bielajew, Rogers, Battista,
Phys. Med. Biol. 33, 1 (1988), in two parts: what the electrons of the first interaction leave, and
what photons carry on.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from . import water
from .electrons import RADIATES, slow_down
from .flight import Energy, Particles, Score, Vectors, join, lookup, turn, uniform
from .water import ELECTRON_MASS

# Below this energy (MeV) a photon leaves what it has where it is.
_PHOTON_CUT = 0.01
# Energies of the shipped kernels (MeV).
ENERGIES = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
# Bins of distance (mm) and angle (degrees); the last distance has no end, so that no energy is lost.
RADII = np.concatenate([[0.0], np.geomspace(0.2, 1000, 56), [np.inf]])
ANGLES = np.linspace(0, 180, 37)


@dataclass(frozen=True, eq=False)
class PointKernels:
    """Share of a photon's energy that is left in each bin of angle and distance from its interaction.

    Parameters
    ----------
    energy
        Energies of the photons (MeV).
    primary
        Left by electrons of the first interaction.
    scatter
        Left by what photons set in motion later on.
    primary_error, scatter_error
        Standard errors of these.
    n_histories
        Photons that were followed for each energy.
    """

    energy: Float64[np.ndarray, " n"]
    primary: Float32[np.ndarray, "n angles radii"]
    scatter: Float32[np.ndarray, "n angles radii"]
    primary_error: Float32[np.ndarray, "n angles radii"]
    scatter_error: Float32[np.ndarray, "n angles radii"]
    n_histories: int


def point_kernels(
    energies: tuple[float, ...] = ENERGIES,
    n_histories: int = 200_000,
    *,
    n_batches: int = 10,
    generator: torch.Generator,
) -> PointKernels:
    """Point kernels of water for photons of some energies, with their statistical errors.

    Parameters
    ----------
    energies
        Energies of the photons (MeV), 0.05 to 15.
    n_histories
        Photons to follow for each energy, a multiple of ``n_batches``.
    n_batches
        Batches whose spread gives the error, two at least.
    generator
        Source of randomness; the computation runs on its device.

    Raises
    ------
    ValueError
        If the photons do not fill the batches.
    """
    if n_batches < 2 or n_histories < n_batches or n_histories % n_batches:
        raise ValueError(
            f"expected two batches or more of as many photons each, got {n_histories} in {n_batches}"
        )
    found = [_kernel(energy, n_histories // n_batches, n_batches, generator) for energy in energies]
    mean, error = (np.stack([kernel[n] for kernel in found]).astype(np.float32) for n in range(2))
    return PointKernels(np.array(energies), mean[:, 0], mean[:, 1], error[:, 0], error[:, 1], n_histories)


def save(kernels: PointKernels, path: Path) -> None:
    """Write point kernels to an npz file."""
    values = {f.name: np.asarray(getattr(kernels, f.name)) for f in fields(kernels)}
    np.savez_compressed(path, allow_pickle=False, **values)


def load(path: Path) -> PointKernels:
    """Point kernels of an npz file."""
    with np.load(path, allow_pickle=False) as stored:
        found = {name: stored[name] for name in stored.files}
    return PointKernels(n_histories=int(found.pop("n_histories")), **found)


def _kernel(
    energy: float, n: int, n_batches: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over batches, shape ``(2, angles, radii)``: primary and scatter."""
    batches = torch.stack([_batch(energy, n, generator) for _ in range(n_batches)]) / (n * energy)
    error = batches.std(dim=0) / n_batches**0.5
    return batches.mean(dim=0).cpu().numpy(), error.cpu().numpy()


def _batch(energy: float, n: int, generator: torch.Generator) -> Float64[Tensor, "2 angles radii"]:
    """Energy (MeV) that n photons leave in each bin."""
    device = generator.device
    tally = torch.zeros((2, (len(ANGLES) - 1) * (len(RADII) - 1)), dtype=torch.float64, device=device)
    way = torch.zeros((n, 3), device=device)
    way[:, 2] = 1
    photons = Particles(
        torch.zeros((n, 3), device=device),
        way,
        torch.full((n,), energy, device=device),
        torch.ones(n, device=device),
    )
    first, later = _scorer(tally[0]), _scorer(tally[1])
    photons = _interact(photons, first, later, generator)
    while len(photons.energy):
        photons = _interact(_fly(photons, generator), later, later, generator)
    return tally.reshape(2, len(ANGLES) - 1, len(RADII) - 1)


def _scorer(tally: Float64[Tensor, " bins"]) -> Score:
    """Add energies at positions to the bins of distance and angle."""
    radii = torch.tensor(RADII[1:-1], dtype=torch.float32, device=tally.device)

    def score(at: Vectors, energy: Energy) -> None:
        r = at.norm(dim=1)
        angle = torch.rad2deg(torch.acos((at[:, 2] / r.clamp(min=1e-12)).clamp(-1, 1)))
        ring = (angle / (180 / (len(ANGLES) - 1))).long().clamp(max=len(ANGLES) - 2)
        bins = ring * (len(RADII) - 1) + torch.bucketize(r, radii)
        tally.index_add_(0, bins, energy.double())

    return score


def _fly(photons: Particles, generator: torch.Generator) -> Particles:
    """Photons where they interact next."""
    path = -torch.log1p(-uniform(photons.energy, generator)) / lookup(water.attenuation, photons.energy)
    return replace(photons, at=photons.at + path[:, None] * photons.way)


def _interact(photons: Particles, first: Score, later: Score, generator: torch.Generator) -> Particles:
    """The photons that come out of an interaction; electrons are followed to their end.

    ``first`` scores what electrons leave, ``later`` what is too weak to fly on as a photon.
    """
    compton = lookup(water.compton, photons.energy)
    pair = lookup(water.pair, photons.energy)
    total = compton + pair + lookup(water.photoelectric, photons.energy)
    chance = uniform(photons.energy, generator) * total
    scattered = photons[chance < compton]
    paired = photons[(chance >= compton) & (chance < compton + pair)]
    absorbed = photons[chance >= compton + pair]
    photon, recoil = _scatter(scattered, generator)
    leptons = _split(paired, generator)
    electrons = join(recoil, absorbed, *leptons)
    ends = slow_down(electrons, first, generator)
    # The last of the ends are the positrons'.
    positrons = ends[len(ends) - len(paired.energy) :]
    out = join(
        photon, _bremsstrahlung(electrons, generator), *_annihilate(positrons, paired.weight, generator)
    )
    weak = out.energy < _PHOTON_CUT
    later(out.at[weak], out.energy[weak] * out.weight[weak])
    return out[~weak]


def _scatter(photons: Particles, generator: torch.Generator) -> tuple[Particles, Particles]:
    """Photon and recoil electron after Compton scattering, by rejection from Klein and Nishina."""
    a = photons.energy / ELECTRON_MASS
    kept, cosine = torch.ones_like(a), torch.ones_like(a)
    waiting = torch.arange(len(a), device=a.device)
    while len(waiting):
        k = a[waiting]
        # 1/ε is the greater part of the density: sampled directly, the rest rejected.
        share = torch.exp(-uniform(k, generator) * torch.log1p(2 * k))
        cos = 1 - (1 / share - 1) / k
        accept = uniform(k, generator) <= 1 - share * (1 - cos**2) / (1 + share**2)
        accept &= uniform(k, generator) * 2 <= 1 + share**2
        kept[waiting[accept]], cosine[waiting[accept]] = share[accept], cos[accept]
        waiting = waiting[~accept]
    azimuth = 2 * torch.pi * uniform(a, generator)
    way = turn(photons.way, cosine, azimuth)
    energy = photons.energy * kept
    momentum = photons.energy[:, None] * photons.way - energy[:, None] * way
    length = momentum.norm(dim=1, keepdim=True)
    recoil = torch.where(length > 1e-9, momentum / length.clamp(min=1e-9), photons.way)
    electron = Particles(photons.at, recoil, photons.energy - energy, photons.weight)
    return Particles(photons.at, way, energy, photons.weight), electron


def _split(photons: Particles, generator: torch.Generator) -> tuple[Particles, Particles]:
    """Electron and positron of a pair: the energy is shared evenly at random, angles go as 1/(1 − β cos)²."""
    shared = photons.energy - 2 * ELECTRON_MASS
    part = uniform(shared, generator) * shared
    out = []
    for kinetic in (part, shared - part):
        gamma = 1 + kinetic / ELECTRON_MASS
        beta = (1 - gamma**-2).clamp(min=0).sqrt()
        u = 2 * uniform(beta, generator) - 1
        turned = turn(photons.way, (beta + u) / (1 + beta * u), 2 * torch.pi * uniform(beta, generator))
        out.append(Particles(photons.at, turned, kinetic, photons.weight))
    return out[0], out[1]


def _annihilate(at: Vectors, weight: Energy, generator: torch.Generator) -> tuple[Particles, Particles]:
    """Two photons back to back from where positrons came to rest."""
    cosine = 2 * uniform(weight, generator) - 1
    azimuth = 2 * torch.pi * uniform(weight, generator)
    sine = (1 - cosine**2).sqrt()
    way = torch.stack([sine * azimuth.cos(), sine * azimuth.sin(), cosine], dim=1)
    energy = torch.full_like(weight, ELECTRON_MASS)
    return Particles(at, way, energy, weight), Particles(at, -way, energy, weight)


def _bremsstrahlung(electrons: Particles, generator: torch.Generator) -> Particles:
    """One photon for each electron that carries all the energy the electron will radiate.

    The energy per photon energy is taken as even up to the electron's, as in thick targets of light
    elements; the photon starts with the electron.
    """
    fast = electrons[electrons.energy > RADIATES]
    k = (uniform(fast.energy, generator) * fast.energy).clamp(min=1e-6)
    radiated = lookup(water.radiation_yield, fast.energy) * fast.energy
    return Particles(fast.at, fast.way, k, fast.weight * radiated / k)
