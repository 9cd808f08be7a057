"""What an MR scanner does to the shape of a head: a model of its displacements where none were measured."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy.ndimage import gaussian_filter

from imaging.grid import Grid, around, positions
from imaging.resample import resample
from imaging.shapes import Point
from imaging.volume import Quantity, Volume, expect_finite

# Volume susceptibility of water less that of air, −9.05 − 0.36 ppm: Schenck, Med. Phys. 23, 815 (1996);
# the numbers are from memory. Bone differs from water by some percent of that and counts as water.
TISSUE_LESS_AIR_PPM = -9.41
_HZ_PER_PPM_AND_TESLA = 42.577  # of protons
_AIR = 0.3  # relative electron density below which there is air
_VOXEL = 3.0  # mm
# Right at air a field can fold signal over itself; structures as wide as this move as a whole (mm).
_BLUR = 4.0
_AT = 100.0  # mm from the isocentre: where a gradient's displacement is told


@dataclass(frozen=True)
class Scanner:
    """How an MR scanner displaces what it draws.

    Defaults are those of a clinical 3 T scan. With 3D correction hardware displaces by less than 0.45 mm in
    the head (five volunteers and test objects at 3 T, PMC5965671); uncorrected gradients displaced brain
    metastases by 1.2 mm in the median and 3.9 mm at most (Seibert et al., Pract. Radiat. Oncol. 6, e319
    (2016)). Susceptibility displaced organs at risk by up to 1.7 mm in diagnostic settings, by 0.1 to 0.2 mm
    in the median (Mengling et al., Phys. Imaging Radiat. Oncol. 15, 91 (2020)). All were read in the
    papers' abstracts.

    Parameters
    ----------
    tesla
        Field strength.
    hz_per_mm
        Receiver bandwidth along the readout: Hz per pixel over the pixel's size (mm).
    readout
        Axis along which frequency is read: ``x`` (right to left), ``y`` (front to back) or ``z`` (foot to
        head).
    gradient_mm
        Displacement by gradients that are not linear, 100 mm from the isocentre (mm).

    Raises
    ------
    ValueError
        If a number is out of range or the readout is another axis.
    """

    tesla: float = 3.0
    hz_per_mm: float = 220.0
    readout: str = "y"
    gradient_mm: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.tesla <= 12 and 10 <= self.hz_per_mm <= 5000 and 0 <= self.gradient_mm <= 10):
            raise ValueError(
                "expected up to 12 T, 10-5000 Hz/mm and gradients that displace by 0-10 mm, "
                f"got {self.tesla:g} T, {self.hz_per_mm:g} Hz/mm and {self.gradient_mm:g} mm"
            )
        if self.readout not in ("x", "y", "z"):
            raise ValueError(f"expected a readout along x, y or z (LPS), got {self.readout!r}")


def parse_scanner(text: str) -> Scanner:
    """The scanner written as ``3,220,y,0.5``: tesla, Hz/mm, readout and mm by gradients.

    Raises
    ------
    ValueError
        If the text is anything else.
    """
    try:
        tesla, bandwidth, readout, gradient = text.split(",")
        numbers = [float(part) for part in (tesla, bandwidth, gradient)]
    except ValueError:
        raise ValueError(
            f"expected a scanner as tesla, Hz per mm, readout axis and mm, such as 3,220,y,0.5, got {text!r}"
        ) from None
    return Scanner(numbers[0], numbers[1], readout.strip(), numbers[2])


def distortion(density: Volume, scanner: Scanner, isocenter: Point | None = None) -> Volume:
    """Displacement (mm) of a head by gradients and susceptibility: tissue at x appears at x + u(x).

    Gradients displace outward from the scanner's isocentre with the cube of the distance, the first term
    that a symmetric coil leaves. Susceptibility displaces along the readout by the field's error after
    linear shims, to first order: the head is taken as it was drawn.

    Parameters
    ----------
    density
        Relative electron density, zero outside the body.
    scanner
        How it displaces.
    isocenter
        Of the scanner (LPS, mm); by default the middle of the body.

    Returns
    -------
    Volume
        Displacement, shape ``(3, i, j, k)``, on an upright grid of 3 mm that covers the density's.

    Raises
    ------
    ValueError
        If the density is not one or holds no tissue.
    """
    expect_finite(density.expect(Quantity.DENSITY))
    grid = around(density.grid, (_VOXEL,) * 3)
    share = Volume((density.data[:1] > _AIR).float(), density.grid, Quantity.PROBABILITY)
    tissue = resample(share, grid).data[0].double().numpy()
    if not (tissue > 0.5).any():
        raise ValueError("expected a head with tissue, got none; give the density of the synthetic CT")
    at = positions(grid, np.indices(grid.shape).reshape(3, -1).T.astype(np.float64))
    middle = at[tissue.ravel() > 0.5].mean(axis=0) if isocenter is None else isocenter
    out = (at - middle) / _AT
    u = scanner.gradient_mm * (out**2).sum(axis=1, keepdims=True) * out
    ppm = shimmed(field_ppm(TISSUE_LESS_AIR_PPM * tissue, grid), tissue > 0.5)
    ppm = gaussian_filter(ppm, _BLUR / _VOXEL, mode="nearest")
    u[:, "xyz".index(scanner.readout)] += (
        ppm.ravel() * _HZ_PER_PPM_AND_TESLA * scanner.tesla / scanner.hz_per_mm
    )
    data = torch.from_numpy(u.T.reshape(3, *grid.shape).astype(np.float32))
    return Volume(data.contiguous(), grid, Quantity.DISPLACEMENT, density.frame)


def field_ppm(susceptibility: Float64[np.ndarray, "i j k"], grid: Grid) -> Float64[np.ndarray, "i j k"]:
    """Error of a field along z (ppm) by susceptibility (ppm), the sphere of Lorentz taken out.

    ΔB/B0 = F⁻¹[(1/3 − k_z²/k²) F[χ]] after Salomir, de Senneville, Moonen, Concepts Magn. Reson. B 19, 26
    (2003) and Marques, Bowtell, Concepts Magn. Reson. B 25, 65 (2005). The box is doubled, with nothing
    around but a neck that goes on where the scan cuts it.

    Parameters
    ----------
    susceptibility
        Relative to the surroundings (ppm), on an upright grid.
    grid
        Its lattice.
    """
    before = [-(-n // 2) for n in susceptibility.shape]
    wide = np.pad(susceptibility, [(before[0], before[0]), (before[1], before[1]), (0, 0)])
    wide = np.pad(wide, [(0, 0), (0, 0), (before[2], before[2])], mode="edge")
    k = [np.fft.fftfreq(n, h) for n, h in zip(wide.shape, grid.spacing, strict=True)]
    kx, ky, kz = np.meshgrid(*k, indexing="ij", sparse=True)
    square = kx**2 + ky**2 + kz**2
    square[0, 0, 0] = 1.0
    kernel = 1 / 3 - kz**2 / square
    kernel[0, 0, 0] = 0.0  # a constant, which the centre frequency takes away
    field = np.fft.ifftn(kernel * np.fft.fftn(wide)).real
    i, j, m = (slice(b, b + n) for b, n in zip(before, susceptibility.shape, strict=True))
    return field[i, j, m]


def shimmed(
    ppm: Float64[np.ndarray, "i j k"], inside: Bool[np.ndarray, "i j k"]
) -> Float64[np.ndarray, "i j k"]:
    """A field without what the centre frequency and linear shims take away, fitted where there is tissue."""
    axes = [np.linspace(-1, 1, n) for n in ppm.shape]
    ones = np.ones(ppm.shape)
    terms = [ones, *(ones * a for a in np.meshgrid(*axes, indexing="ij", sparse=True))]
    found = np.linalg.lstsq(np.stack([t[inside] for t in terms], axis=1), ppm[inside], rcond=None)[0]
    return ppm - sum(f * t for f, t in zip(found, terms, strict=True))
