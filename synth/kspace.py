"""Faults of the signal in k-space: movement between lines, ghosts, and lines never measured.

An image is the Fourier transform of what is measured. Lines along the phase-encoding axis come one
repetition after the other, so whatever changes in time changes from line to line of that axis; one
transform along it is enough, since every other axis is measured at once.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from torch.nn.functional import grid_sample

from .protocol import chosen
from .sampling import Image

_PLANES = 8

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Pose:
    """How a head lies from one phase-encoded line on.

    Parameters
    ----------
    start
        Share of the lines measured before.
    shift
        Movement along the three axes (mm).
    rotation
        About the three axes through the centre of the image (degrees).
    """

    start: float
    shift: Triple = (0.0, 0.0, 0.0)
    rotation: Triple = (0.0, 0.0, 0.0)


def random_poses(amplitude: float, generator: torch.Generator) -> list[Pose]:
    """A head that moves one to three times; the centre of k-space sees it where it is.

    Parameters
    ----------
    amplitude
        Standard deviation of each shift (mm) and rotation (degrees).
    generator
        Draws.
    """
    n = 1 + chosen(generator, 3)
    times = sorted(torch.rand(n, generator=generator).tolist())
    places = (amplitude * torch.randn(n, 6, generator=generator).clamp(-2, 2)).tolist()
    poses = [(0.0, [0.0] * 6), *zip(times, places, strict=True)]
    middle = [place for start, place in poses if start <= 0.5][-1]
    out = []
    for start, place in poses:
        a, b, c, d, e, f = (p - m for p, m in zip(place, middle, strict=True))
        out.append(Pose(start, (a, b, c), (d, e, f)))
    return out


def moved(image: Image, spacing: Triple, pose: Pose) -> Image:
    """An image of a head in another pose, trilinear; what enters from beyond the edge is dark.

    Parameters
    ----------
    image
        Signal, shape ``(i, j, k)``.
    spacing
        Voxel size along i, j, k (mm).
    pose
        Where the head went.
    """
    if not any(pose.shift) and not any(pose.rotation):
        return image
    n, mm = np.array(image.shape), np.array(spacing)
    half = np.maximum((n - 1) / 2, 0.5)
    # From the unit cube of the new image to that of the old one: the head's movement undone.
    back = _rotation(pose.rotation).T
    matrix = back * mm / mm[:, None] * half / half[:, None]
    shift = -(back @ np.array(pose.shift)) / mm / half
    axes = [torch.linspace(-1, 1, size) if size > 1 else torch.zeros(1) for size in image.shape]
    j, k = torch.meshgrid(axes[1], axes[2], indexing="ij")
    out = torch.empty_like(image)
    for first in range(0, image.shape[0], _PLANES):
        i = axes[0][first : first + _PLANES, None, None]
        where = [
            m[0] * i + (m[1] * j + m[2] * k + s) for m, s in zip(matrix.tolist(), shift.tolist(), strict=True)
        ]
        at = torch.stack(where[::-1], dim=-1)
        out[first : first + _PLANES] = grid_sample(image[None, None], at[None], align_corners=True)[0, 0]
    return out


def motion(image: Image, spacing: Triple, axis: int, poses: list[Pose]) -> Image:
    """Magnitude of an image whose lines were measured while the head moved.

    Lines come in linear order from one end of k-space to the other.

    Parameters
    ----------
    image
        Signal of the head at rest.
    spacing
        Voxel size along i, j, k (mm).
    axis
        Phase-encoding axis.
    poses
        In the order of their start.
    """
    n = image.shape[axis]
    edges = [math.ceil(pose.start * n) for pose in poses] + [n]
    spectrum = np.zeros(image.shape, dtype=np.complex64)
    for pose, first, last in zip(poses, edges, edges[1:], strict=False):
        if first < last:
            # Lines in the order of their frequency, the lowest of them negative.
            lines = (np.arange(first, last) - n // 2) % n
            part = scipy.fft.fft(moved(image, spacing, pose).numpy(), axis=axis)
            there, here = np.moveaxis(spectrum, axis, 0), np.moveaxis(part, axis, 0)
            there[lines] = here[lines]
    return torch.from_numpy(np.abs(scipy.fft.ifft(spectrum, axis=axis, overwrite_x=True)))


def ghosted(image: Image, axis: int, n: int, strength: float) -> Image:
    """An image with ghosts 1/n of the field of view apart: every n-th line is stronger.

    What varies with the period of n lines puts n − 1 copies of the head beside it, each ``strength`` as
    bright, and leaves the head itself as it was.

    Parameters
    ----------
    image
        Signal.
    axis
        Phase-encoding axis.
    n
        Lines in a period, 2 or more.
    strength
        Brightness of a ghost.
    """
    size = image.shape[axis]
    lines = scipy.fft.fftfreq(size, 1 / size).round().astype(int)
    factor = 1 + strength * (n * (lines % n == 0) - 1)
    shape = [1, 1, 1]
    shape[axis] = size
    spectrum = scipy.fft.fft(image.numpy(), axis=axis)
    spectrum *= factor.astype(np.float32).reshape(shape)
    return torch.from_numpy(np.abs(scipy.fft.ifft(spectrum, axis=axis, overwrite_x=True)))


def truncated(image: Image, axis: int, share: float) -> Image:
    """An image of which only the central share of k-space was measured: edges ring (Gibbs).

    Parameters
    ----------
    image
        Signal.
    axis
        Axis along which lines are missing; they are taken as 0.
    share
        Lines measured, 0 to 1.
    """
    size = image.shape[axis]
    spectrum = scipy.fft.rfft(image.numpy(), axis=axis)
    keep = max(1, math.floor(share * size / 2) + 1)
    np.moveaxis(spectrum, axis, 0)[keep:] = 0
    return torch.from_numpy(scipy.fft.irfft(spectrum, n=size, axis=axis, overwrite_x=True))


def _rotation(degrees: Triple) -> np.ndarray:
    out = np.eye(3)
    for axis, angle in enumerate(degrees):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        out = turn @ out
    return out
