"""The true CT of a head, with its exact electron and mass density."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import torch
from jaxtyping import Float
from torch import Tensor

from imaging.grid import Grid
from imaging.tissue import BONE, Tissue
from imaging.volume import Quantity, Volume

from .cells import N_CODES, N_LEVELS, Codes, Table, deviations, textured
from .composition import (
    CROWN_DENSITY,
    GOLD,
    TITANIUM,
    TITANIUM_DENSITY,
    electron_density,
    hounsfield,
    mass_density,
    mean_hu,
    relative_electron_density,
)
from .metal import crowns, streaks, with_fillings
from .protocol import Range, chosen, expect_range, uniform
from .sampling import Image, Taps, offsets, profile_taps, sampled, voxel_taps
from .subject import Subject

CROWN_HU = 30000.0  # of dental gold, where extended scales end
LOWEST, HIGHEST = -1024.0, 3071.0  # what twelve bits hold

Frequencies = Float[np.ndarray, "..."]

# Frequency (1/mm) at which the response has fallen to a half, and the gain before it (assumed; soft tissue
# kernels of head protocols resolve about 4, bone kernels about 9 line pairs a centimetre).
KERNELS: dict[str, tuple[float, float]] = {"soft": (0.32, 0.0), "standard": (0.42, 0.0), "bone": (0.55, 4.0)}


@dataclass(frozen=True)
class CtRecipe:
    """A CT scanner and how subjects differ to it.

    Parameters
    ----------
    kernels
        Reconstruction kernels to draw from: ``soft``, ``standard``, ``bone``.
    noise
        Standard deviation of the noise (HU) that the standard kernel would give.
    thickness
        Of slices (mm).
    cortical, trabecular
        Factor on the CT number of compact and of spongy bone, one of each subject, beside the density of bone
        that its anatomy tells.
    texture
        Variation of bone within a subject (standard deviation, relative).
    variation
        By how much the CT number of each soft tissue differs between subjects (standard deviation, HU).
    dental
        Share of subjects with crowns that streak, where the subject does not yet know whether it has any.

    Raises
    ------
    ValueError
        If a kernel is unknown or a range makes no sense.
    """

    kernels: tuple[str, ...] = ("soft", "standard", "bone")
    noise: Range = (3.0, 9.0)
    thickness: Range = (1.0, 2.5)
    cortical: Range = (0.93, 1.07)
    trabecular: Range = (0.7, 1.3)
    texture: float = 0.12
    variation: float = 2.0
    dental: float = 0.3

    def __post_init__(self) -> None:
        wrong = [kernel for kernel in self.kernels if kernel not in KERNELS]
        if wrong or not self.kernels:
            got = wrong[0] if wrong else "none"
            raise ValueError(f"expected kernels of {', '.join(KERNELS)}, got {got}")
        expect_range("noise", self.noise, 0.0, 500.0)
        expect_range("thickness", self.thickness, 0.1, 20.0)
        expect_range("cortical", self.cortical, 0.3, 2.0)
        expect_range("trabecular", self.trabecular, 0.1, 3.0)
        expect_range("texture", (self.texture, self.texture), 0.0, 0.5)
        expect_range("variation", (self.variation, self.variation), 0.0, 20.0)
        expect_range("dental", (self.dental, self.dental), 0.0, 1.0)


def true_ct(
    subject: Subject, recipe: CtRecipe, generator: torch.Generator, grid: Grid
) -> tuple[dict[str, Volume], dict[str, Any]]:
    """CT of a subject, with the densities that it was made from.

    Parameters
    ----------
    subject
        Head on a grid at least as fine.
    recipe
        Scanner and variation.
    generator
        Draws everything.
    grid
        Where to image, parallel to the subject's grid.

    Returns
    -------
    dict
        ``ct`` (HU, with blur, noise and streaks), ``electron_density`` (relative to water) and
        ``mass_density`` (g/cm³), both the mean over each voxel and without noise.
    dict
        What was drawn, as JSON values.

    Raises
    ------
    ValueError
        If the grid is turned against the subject's.
    """
    if "dental" not in subject.traits:
        subject = with_fillings(subject, recipe.dental, generator)
    labels = subject.labels
    # The anatomy may have drawn how dense its bone is; what is left here is the scanner's and the marrow's.
    bone = float(subject.traits.get("anatomy", {}).get("bone_density", 1.0))
    hu, traits = ct_numbers(recipe, bone, generator)
    codes, golden = textured(labels, 4.0, generator), crowns(labels)
    if golden is not None:
        codes[golden] = N_CODES
    taps = voxel_taps(labels.grid, grid)
    electrons, mass = _densities(hu)
    volumes = {
        name: Volume(sampled(codes, _coded(table, crown), taps)[None], grid, quantity, labels.frame)
        for name, table, quantity, crown in (
            ("electron_density", electrons, Quantity.DENSITY, electron_density(GOLD, CROWN_DENSITY)),
            ("mass_density", mass, Quantity.MASS_DENSITY, CROWN_DENSITY),
        )
    }
    thickness = max(uniform(generator, recipe.thickness), float(grid.spacing[2]))
    kernel = recipe.kernels[chosen(generator, len(recipe.kernels))]
    noise = uniform(generator, recipe.noise)
    slices = profile_taps(
        labels.grid.shape[2], float(labels.grid.spacing[2]), offsets(labels.grid, grid)[2], thickness, 0.0
    )
    # Above the air around the head, so that what lies beyond the subject's grid is air as well.
    taps = (taps[0], taps[1], slices)
    image = sampled(codes, _coded(hu + 1000, CROWN_HU + 1000), taps)
    if bool((labels.data == Tissue.METAL).any()):
        image = _with_streaks(image, codes, taps, float(hu[Tissue.METAL, 0]), grid, generator)
    image = reconstructed(image, (float(grid.spacing[0]), float(grid.spacing[1])), kernel, noise, generator)
    volumes["ct"] = Volume(image.sub_(1000).clamp_(LOWEST, HIGHEST)[None], grid, Quantity.HU, labels.frame)
    traits |= {"kernel": kernel, "noise": noise, "thickness": thickness, "dental": subject.traits["dental"]}
    return volumes, traits


def ct_numbers(recipe: CtRecipe, bone: float, generator: torch.Generator) -> tuple[Table, dict[str, Any]]:
    """CT number of each tissue of one subject at each level of its texture, and what was drawn.

    Parameters
    ----------
    recipe
        Scanner and variation.
    bone
        Density of this subject's bone, relative to the mean.
    generator
        Draws the subject's deviations.
    """
    hu = mean_hu()
    cortical, trabecular = (bone * uniform(generator, r) for r in (recipe.cortical, recipe.trabecular))
    shift = recipe.variation * torch.randn(len(hu), generator=generator).clamp(-2, 2)
    # Mucus in a sinus is anything from thin to inspissated (assumed).
    shift[Tissue.FLUID] = 4 * shift[Tissue.FLUID] + 2.5 * recipe.variation
    fixed = [Tissue.OUTSIDE, Tissue.AIR, Tissue.METAL, *BONE]
    shift[fixed] = 0.0
    hu = hu + shift
    hu[Tissue.METAL] = hounsfield(TITANIUM, TITANIUM_DENSITY)
    hu[Tissue.SKULL] *= cortical
    hu[Tissue.MARROW] *= trabecular
    within = torch.full((len(hu),), 2.0)  # HU, within a soft tissue (assumed)
    within[[Tissue.SCALP, Tissue.FAT]] = 8.0
    within[list(BONE)] = recipe.texture * hu[list(BONE)]
    within[[Tissue.OUTSIDE, Tissue.AIR, Tissue.METAL, Tissue.CSF, Tissue.EYE]] = 0.0
    return hu[:, None] + within[:, None] * deviations(), {"cortical": cortical, "trabecular": trabecular}


def _coded(table: Table, crown: float) -> Float[Tensor, " codes"]:
    """A table by code, with dental gold after the tissues."""
    return torch.cat([table.reshape(-1), torch.tensor([crown])])


def _with_streaks(
    image: Image,
    codes: Codes,
    taps: tuple[Taps, Taps, Taps],
    titanium: float,
    grid: Grid,
    generator: torch.Generator,
) -> Image:
    shares = []
    for first, last in ((Tissue.METAL * N_LEVELS, (Tissue.METAL + 1) * N_LEVELS), (N_CODES, N_CODES + 1)):
        table = torch.zeros(N_CODES + 1)
        table[first:last] = 1.0
        shares.append(sampled(codes, table, taps))
    linear = (1 + titanium / 1000, 1 + CROWN_HU / 1000)
    return image + 1000 * streaks(image / 1000, shares[0], shares[1], linear, grid, generator)


def _densities(hu: Table) -> tuple[Table, Table]:
    """Electron and mass density of each code."""
    electrons, mass = torch.empty_like(hu), torch.empty_like(hu)
    for tissue in Tissue:
        electrons[tissue] = relative_electron_density(tissue, hu[tissue])
        mass[tissue] = mass_density(tissue, hu[tissue])
    return electrons, mass


def response(frequency: Frequencies, kernel: str) -> Frequencies:
    """Modulation transfer of a kernel: 1 at frequency 0, raised before it falls where edges are enhanced.

    Parameters
    ----------
    frequency
        Spatial frequency (1/mm).
    kernel
        ``soft``, ``standard`` or ``bone``.
    """
    half, gain = KERNELS[kernel]
    square = (frequency / half) ** 2
    return (1 + gain * square) * np.exp(-math.log(2 * (1 + gain)) * square)


def noise_power(frequency: Frequencies, kernel: str) -> Frequencies:
    """Noise power spectrum of filtered backprojection, up to a constant: the ramp times the squared response.

    Riederer, Pelc & Chesler, Phys. Med. Biol. 23, 446 (1978): projections carry white noise, the ramp filter
    raises it, so noise is grainy and has no slow waves.
    """
    return frequency * response(frequency, kernel) ** 2


def reconstructed(
    image: Image, spacing: tuple[float, float], kernel: str, noise: float, generator: torch.Generator
) -> Image:
    """Axial slices as a kernel resolves them, with its noise.

    Parameters
    ----------
    image
        Perfect slices, shape ``(i, j, k)`` with k across them.
    spacing
        Voxel size along i and j (mm).
    kernel
        ``soft``, ``standard`` or ``bone``.
    noise
        Standard deviation that the standard kernel would have at this dose, in units of the image.
    generator
        Draws the noise.
    """
    n_i, n_j = image.shape[:2]
    frequency = np.hypot(
        scipy.fft.fftfreq(n_i, spacing[0])[:, None], scipy.fft.rfftfreq(n_j, spacing[1])[None, :]
    )
    spectrum = scipy.fft.rfft2(image.numpy(), axes=(0, 1))
    spectrum *= response(frequency, kernel).astype(np.float32)[:, :, None]
    if noise > 0:
        full = np.hypot(*np.meshgrid(scipy.fft.fftfreq(n_i, spacing[0]), scipy.fft.fftfreq(n_j, spacing[1])))
        # White noise of unit variance has n_i n_j in each of its Fourier coefficients.
        standard = noise_power(full, "standard").mean()
        amplitude = np.sqrt(noise_power(frequency, kernel) / standard * n_i * n_j / 2) * noise
        white = torch.randn(*spectrum.shape, 2, generator=generator).numpy().view(np.complex64)[..., 0]
        # Neighbouring slices share detectors' readings.
        white[:, :, 1:] = (white[:, :, 1:] + white[:, :, :-1]) * math.sqrt(0.5)
        spectrum += white * amplitude.astype(np.float32)[:, :, None]
    return torch.from_numpy(scipy.fft.irfft2(spectrum, s=(n_i, n_j), axes=(0, 1)))
