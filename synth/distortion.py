"""Where a scanner draws tissue: bent fields and curved gradients move it, and take signal away.

A displacement u says that tissue at x appears at x + u(x) (mm, LPS), as `planning.displacement` reads
it. It is computed on a coarse lattice, made such that nothing folds, and saved with the images.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from imaging.grid import Grid, positions
from imaging.warp import lattice as places
from imaging.warp import sample

from .cells import Codes
from .sampling import along, interpolated, linear_taps, offsets

STEEPEST = 0.85  # how much u may change in a millimetre; at 1 tissue would fold
_FAR = 100.0  # mm from the isocentre where gradient errors are told
_EXCITED = 1000.0  # Hz off resonance that a selective pulse of 2 kHz still excites (assumed)
_ROUNDS, _CLOSE = 40, 0.01  # of the search for the inverse, and where it may stop (mm)
_PLANES = 8

Lattice = Float[Tensor, "p q r"]
Vectors = Float[Tensor, "3 p q r"]


def susceptibility_displacement(hertz: Lattice, axis: int, bandwidth: float) -> Vectors:
    """Displacement (mm) along the readout axis by off-resonance: Δf over the bandwidth of a millimetre.

    Parameters
    ----------
    hertz
        Off-resonance (Hz).
    axis
        Readout axis of an upright grid.
    bandwidth
        Of the readout (Hz/mm); its sign is the sense of the gradient.
    """
    out = torch.zeros(3, *hertz.shape)
    out[axis] = hertz / bandwidth
    return out


def gradient_displacement(grid: Grid, center: Float[np.ndarray, " 3"], mm: float) -> Vectors:
    """Displacement (mm) by gradients that fall off away from the isocentre.

    A gradient coil's field is harmonic; by symmetry its first error is of third order: for the transverse
    ones x (4z² − x² − y²), for the axial one z (2z² − 3x² − 3y²) (Janke et al., Magn. Reson. Med. 52, 115
    (2004), on spherical harmonics of gradients). What is left after the scanner's own correction is small.

    Parameters
    ----------
    grid
        Where, upright.
    center
        Isocentre (LPS, mm).
    mm
        Displacement 100 mm from the isocentre along the bore.
    """
    at = places(grid).double() - torch.from_numpy(np.asarray(center))
    x, y, z = (at / _FAR).T
    r2 = x * x + y * y
    out = torch.stack([x * (4 * z * z - r2), y * (4 * z * z - r2), z * (2 * z * z - 3 * r2)])
    return (-0.5 * mm * out).reshape(3, *grid.shape).float()


def steepness(field: Vectors, step: float) -> float:
    """By how many mm a displacement changes in a mm at most: a bound on its Lipschitz constant."""
    changes = [float(field.diff(dim=axis).square().sum(dim=0).max()) for axis in (1, 2, 3)]
    return sum(changes) ** 0.5 / step


def unfolded(field: Vectors, step: float) -> tuple[Vectors, float]:
    """A displacement made weak enough that no tissue folds, and the factor that did it.

    For susceptibility the factor is a wider bandwidth, which a protocol would take for the same reason.
    """
    steepest = steepness(field, step)
    factor = min(1.0, STEEPEST / steepest) if steepest > 0 else 1.0
    return field * factor, factor


def undone(field: Vectors, lattice: Grid) -> Vectors:
    """The inverse v of a displacement: what appears at y lies at y + v(y), so v(y) = −u(y + v(y))."""
    drawn = places(lattice)
    v = -field.reshape(3, -1).T
    for _ in range(_ROUNDS):
        before = v
        v = -sample(field, lattice, drawn + v).T
        if float((v - before).abs().max()) < _CLOSE:
            break
    return v.T.reshape(field.shape).contiguous()


def pulled(values: Lattice, inverse: Vectors, lattice: Grid) -> Lattice:
    """Values of the tissue that appears at each point of a lattice."""
    at = places(lattice) + inverse.reshape(3, -1).T
    return sample(values[None], lattice, at)[0].reshape(values.shape)


def compression(inverse: Vectors, step: float) -> Lattice:
    """Brightness of tissue that the inverse displacement v spreads or squeezes: det(1 + ∇v).

    Signal is kept: what is drawn on half the space is twice as bright.
    """
    padded = torch.nn.functional.pad(inverse[None], (1, 1, 1, 1, 1, 1), mode="replicate")[0]
    n = inverse.shape[1:]
    rows = []
    for axis in range(3):
        ends = []
        for off in (2, 0):
            part = padded
            for other in range(3):
                part = part.narrow(other + 1, off if other == axis else 1, n[other])
            ends.append(part)
        rows.append((ends[0] - ends[1]) / (2 * step))
    g = [[rows[b][a] + float(a == b) for b in range(3)] for a in range(3)]
    return (
        g[0][0] * (g[1][1] * g[2][2] - g[1][2] * g[2][1])
        - g[0][1] * (g[1][0] * g[2][2] - g[1][2] * g[2][0])
        + g[0][2] * (g[1][0] * g[2][1] - g[1][1] * g[2][0])
    ).clamp(min=0)


def displaced_codes(codes: Codes, fine: Grid, inverse: Vectors, lattice: Grid) -> Codes:
    """Codes where a scanner draws them: each voxel takes the code of the tissue that appears there.

    Parameters
    ----------
    codes
        True codes on the fine grid.
    fine
        Their grid.
    inverse
        Inverse displacement v (mm) on a lattice parallel to it.
    lattice
        Its grid.
    """
    step, shape = lattice.spacing, codes.shape
    read = offsets(lattice, fine)
    sense = (fine.affine[:3, :3] / fine.spacing).T  # LPS to the grid's axes
    moving = [a for a in range(3) if bool(inverse[int(np.abs(sense[a]).argmax())].any())]
    parts = {}
    for a in moving:
        world = int(np.abs(sense[a]).argmax())
        v = inverse[world] * float(sense[a, world] / fine.spacing[a])
        for axis in (2, 1):
            v = along(v, axis, linear_taps(lattice.shape[axis], float(step[axis]), read[axis]))
        parts[a] = v
    source = codes.numpy().reshape(-1)
    strides = (shape[1] * shape[2], shape[2], 1)
    out = np.empty(tuple(shape), dtype=np.uint8)
    for first in range(0, shape[0], _PLANES):
        n = min(_PLANES, shape[0] - first)
        taps = linear_taps(lattice.shape[0], float(step[0]), read[0][first : first + n])
        where = torch.zeros(n, shape[1], shape[2], dtype=torch.int32)
        for a in range(3):
            index = torch.arange(first, first + n) if a == 0 else torch.arange(shape[a])
            index = index.reshape([-1 if b == a else 1 for b in range(3)]).float()
            if a in parts:
                index = along(parts[a], 0, taps).add_(index).round_().clamp_(0, shape[a] - 1)
            where += index.to(torch.int32) * strides[a]
        out[first : first + n] = np.take(source, where.numpy())
    return torch.from_numpy(out)


def kept_signal(hertz: Lattice, step: float, voxel: tuple[float, float, float], te: float) -> Lattice:
    """Share of the signal that an uneven field leaves, by dephasing within voxels and by missed excitation.

    Across a voxel a gradient echo's phase varies linearly, which leaves a sinc of Δf · TE along each axis
    (Reichenbach et al., J. Magn. Reson. Imaging 7, 266 (1997)); a spin echo refocuses it, TE = 0. Far off
    resonance, beside metal, no pulse of usual bandwidth excites anything.

    Parameters
    ----------
    hertz
        Off-resonance (Hz).
    step
        Distance of its points (mm).
    voxel
        Size of a voxel (mm).
    te
        Echo time of a gradient echo (ms), 0 for a spin echo.
    """
    out = torch.sigmoid((_EXCITED - hertz.abs()) / 50)
    if te > 0:
        for axis, size in enumerate(voxel):
            slope = torch.gradient(hertz, spacing=step, dim=axis)[0]
            out = out * torch.sinc(slope * size * te / 1000).abs()
    return out


def on_grid(field: Vectors, lattice: Grid, grid: Grid) -> Float[Tensor, "3 i j k"]:
    """A displacement at the voxels of a grid, linear between the points of its lattice."""
    return torch.stack(
        [
            interpolated(component, lattice, grid) if bool(component.any()) else torch.zeros(grid.shape)
            for component in field
        ]
    )


def isocenter(grid: Grid) -> Float[np.ndarray, " 3"]:
    """Where a scanner puts the middle of what it images (LPS, mm)."""
    return positions(grid, (np.array([grid.shape], dtype=np.float64) - 1) / 2)[0]
