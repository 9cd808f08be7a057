"""A whole adult head as tissue labels, made by code: average, or varied by a generator.

It is the embedded patient's body, and the prior that is fitted to a scan to find bone and air
there. Smooth surfaces come from measured coefficients (``head_shape.json``), everything
within and below them from solids.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from imaging.grid import Grid, axial
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from . import brain, face
from .folds import smooth_noise, sulci
from .solids import Field, ellipsoid
from .surfaces import Shape, Table, look_up, mean_shape

LOW = (-98.0, -108.0, -138.0)
HIGH = (98.0, 122.0, 106.0)
_REACH = 160.0  # half edge of the cube that smooth noise fills (mm)
_SULCI = 9.0  # between neighbouring sulci, as seen from the centre (degrees)
_FACE_TOP = 4.0  # no facial bone or sinus lies higher (mm)
_VOXELS_AT_ONCE = 150_000  # what fits the cache is four times as fast


@dataclass(frozen=True, eq=False)
class Head:
    """What one head differs in from another.

    Parameters
    ----------
    shape
        Smooth surfaces.
    sulcus
        Angle to the nearest sulcus by direction (radians).
    scale
        Size along x, y, z relative to the mean head.
    warp
        Smooth displacement (mm) on the noise cube, three channels.
    wrinkle
        Smooth displacement of sulci (mm) and their depth, four channels.
    csf
        Width of the fluid between brain and skull (mm).
    ventricle
        Widening of the ventricles (mm).
    """

    shape: Shape
    sulcus: Table
    scale: tuple[float, float, float]
    warp: Tensor
    wrinkle: Tensor
    csf: float = 2.4
    ventricle: float = 0.0


def average_head() -> Head:
    """The mean head; its folds are one fixed pattern, since folds have no average."""
    fixed = torch.Generator().manual_seed(152)
    still = torch.zeros(1, 3, 6, 6, 6)
    return Head(mean_shape(), sulci(fixed, _SULCI), (1.0, 1.0, 1.0), still, smooth_noise(fixed, 4, 11))


def random_head(generator: torch.Generator) -> Head:
    """A head whose size, form, skull, folds and ventricles vary about the mean.

    Standard deviations: 4 % in each dimension (head breadth and length, Bushby et al., Arch.
    Dis. Child. 67, 1286 (1992)), 12 % in skull thickness (Lynnerup, Forensic Sci. Int. 117,
    45 (2001) finds about 15 %), 2 mm of smooth deformation.
    """
    draw = torch.randn(6, generator=generator).clamp(-2, 2).tolist()
    mean = mean_shape()
    thickness = mean.thickness * (1 + 0.12 * draw[3])
    # A thicker scalp lifts the skin off the skull by as much everywhere.
    lift = 1.0 * draw[4] + (thickness - mean.thickness).clamp(-2, 2)
    shape = replace(mean, thickness=thickness, scalp=mean.scalp + lift)
    folds = sulci(generator, _SULCI)
    warp = 2.0 * smooth_noise(generator, 3, 5)
    wrinkle = smooth_noise(generator, 4, 11)
    scale = (1 + 0.03 * draw[0], 1 + 0.03 * draw[1], 1 + 0.03 * draw[2])
    return Head(shape, folds, scale, warp, wrinkle, 2.4 + 0.5 * draw[5], 0.6 * draw[5])


def anatomy(spacing: float = 1.0, generator: torch.Generator | None = None) -> Volume:
    """Tissue labels of an adult head from the vertex to below the chin.

    Parameters
    ----------
    spacing
        Voxel size (mm).
    generator
        Draws one head; without it comes the average head.

    Returns
    -------
    Volume
        Labels of `imaging.tissue.Tissue`, uint8, shape ``(1, i, j, k)``, on an upright grid
        whose origin is the anterior commissure. Air surrounds the head on every side but the
        lower one, which cuts the neck.

    Raises
    ------
    ValueError
        If the spacing is not positive.
    """
    if not (math.isfinite(spacing) and spacing > 0):
        raise ValueError(f"expected a spacing > 0 mm, got {spacing}")
    head = average_head() if generator is None else random_head(generator)
    size = np.array(head.scale)
    margin = np.array([0.0, 0.0, 0.0]) if generator is None else np.array([8.0, 8.0, 8.0])
    low, high = np.array(LOW) * size - margin * [1, 1, 0], np.array(HIGH) * size + margin
    grid = axial(low, high, (spacing, spacing, spacing))
    return Volume(_labels(head, grid), grid, Quantity.LABEL)


def _labels(head: Head, grid: Grid) -> Tensor:
    x, y, z = (
        torch.from_numpy(grid.affine[a, 3] + grid.spacing[a] * np.arange(grid.shape[a])).float()
        / head.scale[a]
        for a in range(3)
    )
    step = max(1, _VOXELS_AT_ONCE // (len(x) * len(y)))

    def piece(k: int) -> Tensor:
        return tissues(head, *torch.meshgrid(x, y, z[k : k + step], indexing="ij"))

    # A core for each piece: pieces are too small to share between cores.
    n_cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(n_cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return torch.cat(list(pool.map(piece, range(0, len(z), step))), dim=2)[None]
    finally:
        torch.set_num_threads(n_cores)


def tissues(head: Head, x: Field, y: Field, z: Field) -> Tensor:
    """Tissue at each place (LPS mm, in units of the head's scale), uint8."""
    label = torch.full(x.shape, int(Tissue.OUTSIDE), dtype=torch.uint8)
    x, y, z = (a + d for a, d in zip((x, y, z), _noise(head.warp, x, y, z), strict=True))
    skin = _skin(head.shape, x, y, z)
    body = skin < 0
    label[body] = _body(head, x[body], y[body], z[body], skin[body]).to(torch.uint8)
    return label


def _body(head: Head, x: Field, y: Field, z: Field, skin: Field) -> Field:
    r, row, phi = _polar(head.shape, x, y, z)
    depth = look_up(head.shape.inner, row, phi) - r
    thickness = look_up(head.shape.thickness, row, phi)
    label = _soft(x.abs(), y, z, skin, depth + thickness, _noise(head.wrinkle, x, y, z))
    label = _vault(label, skin, depth, thickness)
    within = depth > 0
    label[within] = _within(head, x[within], y[within], z[within], depth[within])
    low = ~within & (z < _FACE_TOP)
    label[low] = _face(label[low], x[low].abs(), y[low], z[low], skin[low])
    stem = (x.abs() < 20) & (y.abs() < 60) & (z < 3)
    label[stem] = _stem(label[stem], x[stem].abs(), y[stem], z[stem])
    return label


def _polar(shape: Shape, x: Field, y: Field, z: Field) -> tuple[Field, Field, Field]:
    dx, dy, dz = x - shape.center[0], y - shape.center[1], z - shape.center[2]
    r = (dx**2 + dy**2 + dz**2).sqrt().clamp(min=1e-3)
    return r, torch.arccos((dz / r).clamp(-1, 1)) / math.pi, torch.atan2(dx, -dy)


def _skin(shape: Shape, x: Field, y: Field, z: Field) -> Field:
    """Distance to the skin: radial above, from the vertical axis in the face and neck."""
    r, row, phi = _polar(shape, x, y, z)
    above = r - look_up(shape.scalp, row, phi)
    low, high = shape.face_z
    rho = ((x - shape.center[0]) ** 2 + (y - shape.center[1]) ** 2).sqrt()
    below = rho - look_up(shape.face, (z - low) / (high - low), phi)
    # Below the jaw only the neck goes on.
    neck = ((x / 1.06) ** 2 + (y - 36.0) ** 2).sqrt() - 60.0
    down = ((-108.0 - z) / 30.0).clamp(0, 1)
    below = below * (1 - down) + below.maximum(neck) * down
    weight = ((z + 22.0) / 24.0).clamp(0, 1)
    weight = weight * weight * (3 - 2 * weight)
    skin = above * weight + below * (1 - weight)
    ax = x.abs()
    return skin.minimum(face.nose(ax, y, z)).minimum(face.ear(ax, y, z))


def _soft(ax: Field, y: Field, z: Field, skin: Field, to_bone: Field, grain: Tensor) -> Field:
    """Skin, fat beneath it and between muscles, and muscle, before there is bone."""
    low = ((-z - 30.0) / 60.0).clamp(0, 1)
    fat = (skin < -1.8) & (skin > -(4.2 + 3.0 * low + grain[1]))
    cheek = ellipsoid(ax, y, z, (46.0, -38.0, -68.0), (7.0, 13.0, 16.0)) + 2.0 * grain[2] < 0
    nape = ellipsoid(ax, y, z, (14.0, 85.0, -95.0), (24.0, 5.0, 38.0)) + 2.5 * grain[2] < 0
    planes = (grain[0].abs() < 0.07 * low) & (skin < -1.8)
    fat = (fat | cheek | (nape & (skin < -1.8)) | planes) & (to_bone < 0)
    return torch.where(fat, float(Tissue.FAT), float(Tissue.SCALP))


def _vault(label: Field, skin: Field, depth: Field, thickness: Field) -> Field:
    """Two tables of compact bone, with marrow between them where there is room."""
    vault = (depth <= 0) & (-depth < thickness) & (skin < -2.5)
    table = torch.minimum(-depth, thickness + depth)
    label = torch.where(vault, float(Tissue.SKULL), label)
    spongy = vault & (table > 1.9) & (thickness > 5.0)
    return torch.where(spongy, float(Tissue.MARROW), label)


def _face(label: Field, ax: Field, y: Field, z: Field, skin: Field) -> Field:
    """Facial bones, eyes in their sockets, air, spinal canal."""
    hard = face.bone(ax, y, z)
    label = torch.where((hard < 0) & (skin < -1.5), float(Tissue.SKULL), label)
    teeth = (z > -108.0) & (z < -74.0) & (y < -15.0)
    label = torch.where((hard < -2.8) & (skin < -3) & ~teeth, float(Tissue.MARROW), label)
    lining = torch.where(face.eye_muscles(ax, y, z) < 0, float(Tissue.SCALP), float(Tissue.FAT))
    lining = torch.where(y < -62, float(Tissue.SCALP), lining)
    label = torch.where((face.orbit(ax, y, z) < 0) & (skin < -1.0), lining, label)
    label = torch.where((face.eye(ax, y, z) < 0) & (skin < -1.0), float(Tissue.EYE), label)
    label = torch.where(face.air(ax, y, z) < 0, float(Tissue.AIR), label)
    return torch.where(face.canal(ax, y, z) < 0, float(Tissue.CSF), label)


def _within(head: Head, x: Field, y: Field, z: Field, depth: Field) -> Field:
    """Tissues inside the skull."""
    ax = x.abs()
    wrinkle = _noise(head.wrinkle, x, y, z)
    shifted = [a + 2.2 * d for a, d in zip((x, y, z), wrinkle[:3], strict=True)]
    r, row, phi = _polar(head.shape, *shifted)
    sulcus = look_up(head.sulcus, row, phi) * r
    hull = depth - head.csf
    tent = brain.tentorium(ax, y)
    over = (z - tent).where(y > 24.0, hull)
    # The falx sways, so that a sagittal slice near the midline meets cortex.
    sway = (x + 0.6 * wrinkle[0]).abs()
    above = hull.minimum(over - 0.8)
    upper = brain.cerebrum(sway, shifted[1], shifted[2], above, sulcus, 14.0 + 4.0 * wrinkle[3])
    lower = brain.cerebellum(ax, y, z, hull.minimum(-0.8 - over) - 0.8)
    label = torch.where((z < tent) & (y > 24.0), lower, upper)
    label = torch.where(brain.deep_grey(ax, y, z) < 0, float(Tissue.GREY), label)
    cistern = ellipsoid(ax, y, z, (0.0, -2.0, -17.0), (9.0, 9.0, 8.0)) < 0
    wet = cistern | (brain.ventricles(ax, y, z, head.ventricle) < 0)
    return torch.where(wet, float(Tissue.CSF), label)


def _stem(label: Field, ax: Field, y: Field, z: Field) -> Field:
    """Brainstem with the cisterns around it, and the cord in its canal."""
    stem = brain.brainstem(ax, y, z)
    water = (label == Tissue.GREY) | (label == Tissue.WHITE)
    around = (stem < 3.0) & (z < -6.0) & (y < 30.0) & water
    label = torch.where(around, float(Tissue.CSF), label)
    ventricle = brain.ventricles(ax, y, z) < 0
    label = torch.where((stem < 0) & ~ventricle, float(Tissue.BRAINSTEM), label)
    return torch.where((brain.cord(ax, y, z) < 0) & (stem >= 0), float(Tissue.SCALP), label)


def _noise(cube: Tensor, x: Field, y: Field, z: Field) -> Tensor:
    """Smooth noise at each place, channels first."""
    where = torch.stack([z, y, x], dim=-1).reshape(1, 1, 1, -1, 3) / _REACH
    values = grid_sample(cube, where, mode="bilinear", padding_mode="border", align_corners=False)
    return values.reshape(cube.shape[1], *x.shape)
