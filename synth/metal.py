"""Metal in the beam of a CT: crowns on teeth, hardened and starved rays, and the streaks they leave."""

import math
from dataclasses import replace

import numpy as np
import scipy.fft
import torch
from jaxtyping import Float
from scipy.sparse import coo_array, csr_array

from imaging.grid import Grid
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from .composition import CROWN_DENSITY, TITANIUM_DENSITY
from .sampling import Image, along, linear_taps
from .subject import Subject

# keV, share of what the detector reads behind a head (assumed), and attenuation per gram (cm²/g) of water,
# titanium and gold: NIST XCOM, from memory, water at 40 keV verified.
_SPECTRUM = (
    (40.0, 0.20, 0.2683, 2.214, 12.98),
    (60.0, 0.38, 0.2059, 0.7661, 4.528),
    (80.0, 0.28, 0.1837, 0.4052, 2.185),
    (100.0, 0.14, 0.1707, 0.2721, 5.158),
)
_PHOTONS = 2e5  # a ray in air (assumed)
_N_ANGLES = 240
_PIXEL = 2.0  # mm, of the image that streaks are computed on
_BESIDE = 5.0  # mm around teeth within which metal is a crown
_MOST_CROWNS = 5

Slices = Float[np.ndarray, "n i j"]
Sinogram = Float[np.ndarray, "n angles bins"]


def with_fillings(subject: Subject, probability: float, generator: torch.Generator) -> Subject:
    """A subject some of whose teeth may carry gold crowns; told as ``traits["dental"]``.

    Parameters
    ----------
    subject
        Head; without teeth it stays as it is.
    probability
        That there are any crowns.
    generator
        Draws how many, where and how large.
    """
    happens, n = float(torch.rand(1, generator=generator)) < probability, 1
    n += int(torch.randint(_MOST_CROWNS, (1,), generator=generator))
    draws = torch.rand(n, 2, generator=generator).tolist()
    labels, teeth = subject.labels, torch.nonzero(subject.labels.data[0] == Tissue.TOOTH)
    n = n if happens and len(teeth) else 0
    told = {**subject.traits, "dental": {"crowns": n}}
    if n == 0:
        return replace(subject, traits=told)
    data = labels.data.clone()
    mm = torch.from_numpy(labels.grid.spacing.copy()).float()
    for place, size in draws:
        center = teeth[int(place * len(teeth))]
        near = teeth[(((teeth - center) * mm).square().sum(dim=1)) < (2.5 + 2.0 * size) ** 2]
        data[0, near[:, 0], near[:, 1], near[:, 2]] = int(Tissue.METAL)
    return replace(subject, labels=replace(labels, data=data), traits=told)


def crowns(labels: Volume) -> torch.Tensor | None:
    """Voxels of metal on teeth, as a mask of the labels' first channel; none where there are none.

    Metal near teeth is dental gold; any other is taken as titanium.
    """
    tissue = labels.expect(Quantity.LABEL).data[0]
    metal, teeth = tissue == Tissue.METAL, torch.nonzero(tissue == Tissue.TOOTH)
    if len(teeth) == 0 or not bool(metal.any()):
        return None
    reach = torch.from_numpy(np.ceil(_BESIDE / labels.grid.spacing)).long()
    low = (teeth.amin(dim=0) - reach).clamp(min=0).tolist()
    high = (teeth.amax(dim=0) + reach + 1).tolist()
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    out = torch.zeros_like(metal)
    out[box] = metal[box]
    return out if bool(out.any()) else None


def streaks(
    relative: Image,
    titanium: Image,
    gold: Image,
    linear: tuple[float, float],
    grid: Grid,
    generator: torch.Generator,
) -> Image:
    """What metal adds to slices (in units of water's attenuation): hardening of the beam and lost photons.

    Rays of several energies are followed through each slice with metal and turned back into lengths of
    water, as a scanner corrects for water alone. Behind metal the beam is hard, so lengths come out too
    short; few photons arrive, so they come out noisy (De Man et al., IEEE Trans. Nucl. Sci. 46, 691 (1999)).
    The difference to what a linear scanner would read is backprojected through a ramp filter.

    Parameters
    ----------
    relative
        Attenuation relative to water, with metal at its linear values; shape ``(i, j, k)``.
    titanium, gold
        Share of each voxel that they fill.
    linear
        Attenuation of titanium and of gold relative to water in ``relative``.
    grid
        Where the slices lie, k across them.
    generator
        Draws the photons.
    """
    shown = (titanium + gold).numpy().max(axis=(0, 1)) > 0.05
    at = np.flatnonzero(shown)
    out = torch.zeros_like(relative)
    if len(at) == 0:
        return out
    factor = [max(1, round(_PIXEL / float(s))) for s in grid.spacing[:2]]
    maps = [_reduced(image[:, :, torch.from_numpy(at)], factor) for image in (relative, titanium, gold)]
    pixel = float(grid.spacing[0]) * factor[0]
    body = maps[0] - linear[0] * maps[1] - linear[1] * maps[2]
    matrix, shape = projector((body.shape[1], body.shape[2]), float(grid.spacing[1]) * factor[1] / pixel)
    paths = [_projected(matrix, m, shape) * pixel / 10 for m in (body, maps[1], maps[2])]  # cm
    through = (paths[1] + paths[2]) > 0
    read = _read(paths[0], paths[1], paths[2], generator)
    ideal = paths[0] + linear[0] * paths[1] + linear[1] * paths[2]
    error = np.where(through, read - ideal, 0.0)
    image = backprojected(matrix, error / (pixel / 10), (body.shape[1], body.shape[2]))
    fine = torch.from_numpy(np.ascontiguousarray(image.transpose(1, 2, 0)).astype(np.float32))
    for axis in (0, 1):
        places = (np.arange(relative.shape[axis]) + 0.5) / factor[axis] - 0.5
        fine = along(fine, axis, linear_taps(fine.shape[axis], 1.0, places))
    out[:, :, torch.from_numpy(at)] = fine
    return out


def projector(shape: tuple[int, int], aspect: float = 1.0) -> tuple[csr_array, tuple[int, int]]:
    """Parallel projections of an image as a matrix, and the shape of its sinogram (angles, bins).

    Each pixel gives its value to the two nearest rays; bins are as wide as pixels along the first axis.

    Parameters
    ----------
    shape
        Pixels of the image.
    aspect
        Size of a pixel along the second axis relative to the first.
    """
    n_bins = math.ceil(math.hypot(shape[0], shape[1] * aspect)) + 3
    x = np.arange(shape[0]) - (shape[0] - 1) / 2
    y = (np.arange(shape[1]) - (shape[1] - 1) / 2) * aspect
    rows, weights = [], []
    for a in range(_N_ANGLES):
        angle = math.pi * a / _N_ANGLES
        t = (x[:, None] * math.cos(angle) + y[None, :] * math.sin(angle) + (n_bins - 1) / 2).reshape(-1)
        low = np.floor(t).astype(np.int32)
        rows += [a * n_bins + low, a * n_bins + low + 1]
        weights += [(low + 1 - t).astype(np.float32), (t - low).astype(np.float32)]
    n = shape[0] * shape[1]
    columns = np.tile(np.arange(n, dtype=np.int32), 2 * _N_ANGLES)
    entries = (np.concatenate(weights) * np.float32(aspect), (np.concatenate(rows), columns))
    return csr_array(coo_array(entries, shape=(_N_ANGLES * n_bins, n))), (_N_ANGLES, n_bins)


def backprojected(matrix: csr_array, sinogram: Sinogram, shape: tuple[int, int]) -> Slices:
    """Images of sinograms by filtered backprojection: ramp filter with a Hann window.

    Parameters
    ----------
    matrix
        `projector`.
    sinogram
        Projections in units of pixels.
    shape
        Pixels of each image.
    """
    n, n_angles, n_bins = sinogram.shape
    size = scipy.fft.next_fast_len(2 * n_bins, real=True)
    frequency = scipy.fft.rfftfreq(size)
    # The ramp of a band-limited filter, sampled in space: its value at frequency 0 is not quite 0, which
    # keeps CT numbers right (Kak & Slaney, Principles of Computerized Tomographic Imaging (1988), eq. 61).
    away = np.minimum(np.arange(size), size - np.arange(size)).astype(np.float64)
    taps = np.where(away % 2 == 1, -1 / (math.pi * np.maximum(away, 1)) ** 2, 0.0)
    taps[0] = 0.25
    ramp = scipy.fft.rfft(taps).real * (0.5 + 0.5 * np.cos(2 * math.pi * frequency))
    spectrum = scipy.fft.rfft(sinogram, n=size, axis=-1) * ramp
    filtered = scipy.fft.irfft(spectrum, n=size, axis=-1)[:, :, :n_bins]
    flat = np.asarray(matrix.T @ filtered.reshape(n, -1).T.astype(np.float32))
    return (flat.T * (math.pi / n_angles)).reshape(n, *shape)


def _read(body: Sinogram, titanium: Sinogram, gold: Sinogram, generator: torch.Generator) -> Sinogram:
    """Lengths of water (cm) that a scanner takes rays for."""
    energies = np.array(_SPECTRUM)
    water = energies[:, 2]

    def arriving(paths: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        per_cm = (water, energies[:, 3] * TITANIUM_DENSITY, energies[:, 4] * CROWN_DENSITY)
        out = np.zeros(paths[0].shape)
        for e, share in enumerate(energies[:, 1]):
            out += share * np.exp(-sum(mu[e] * path for mu, path in zip(per_cm, paths, strict=True)))
        return out

    signal = arriving((body, titanium, gold))
    noise = torch.randn(body.shape, generator=generator).double().numpy()
    counted = np.maximum(signal + np.sqrt(signal / _PHOTONS) * noise, 0.5 / _PHOTONS)
    lengths = np.linspace(0, 90, 1801)
    none = np.zeros_like(lengths)
    known = -np.log(arriving((lengths, none, none)))
    return np.interp(-np.log(counted), known, lengths)


def _projected(matrix: csr_array, images: Slices, shape: tuple[int, int]) -> Sinogram:
    flat = np.asarray(matrix @ images.reshape(len(images), -1).T)
    return flat.T.reshape(len(images), *shape)


def _reduced(image: Image, factor: list[int]) -> Slices:
    """Means over blocks of pixels, slices first; what is left over at the end is repeated."""
    data = image.numpy().transpose(2, 0, 1)
    short = [(0, 0)] + [(0, -n % f) for n, f in zip(data.shape[1:], factor, strict=True)]
    data = np.pad(data, short, mode="edge")
    n, i, j = data.shape
    return data.reshape(n, i // factor[0], factor[0], j // factor[1], factor[1]).mean(axis=(2, 4))
