"""What lies at each place of a head: its tissue and its organ.

Smooth surfaces come from measured coefficients (``head_shape.json``), everything within and below
them from solids. Places are LPS mm from the anterior commissure, in the size of the mean head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from imaging.tissue import Tissue

from . import brain, face
from .face import Face
from .folds import smooth_noise, sulci
from .organs import organs
from .solids import Field, ball, union
from .surfaces import Shape, Table, look_up, mean_shape

VENTRICLE = max(Tissue) + 1  # stands for CSF until its voxels are counted
_REACH = 160.0  # half edge of the cube that smooth noise fills (mm)
_SULCI = 9.0  # between neighbouring sulci, as seen from the centre (degrees)
_FACE_TOP = 4.0  # no facial bone or sinus lies higher (mm)
_CHEEK = (ball((46.0, -38.0, -68.0), (7.0, 13.0, 16.0)),)
_NAPE = (ball((14.0, 85.0, -95.0), (24.0, 5.0, 38.0)),)


@dataclass(frozen=True)
class Fluid:
    """Fluid or mucus in a sinus.

    Parameters
    ----------
    sinus
        One of `face.SINUSES`.
    side
        1 the left, -1 the right.
    level
        Fluid lies behind this y (mm), as in a patient who lies on the back.
    """

    sinus: str
    side: int
    level: float


@dataclass(frozen=True, eq=False)
class Head:
    """What one head differs in from another.

    Parameters
    ----------
    shape
        Smooth surfaces.
    sulcus
        Angle to the nearest sulcus by direction (radians).
    wrinkle
        Smooth displacement of sulci (mm) and their depth, four channels on the noise cube.
    face
        Sinuses, mastoids and orbits.
    fluid
        Sinuses that are not clear.
    csf
        Width of the fluid between brain and skull (mm).
    fissure
        Half the width of sulci (mm).
    ventricle
        Widening of the ventricles (mm).
    table
        Thickness of the skull's compact tables (mm).
    fat
        Thickness of the fat under the scalp, relative to the mean.
    """

    shape: Shape
    sulcus: Table
    wrinkle: Tensor
    face: Face = face.MEAN
    fluid: tuple[Fluid, ...] = ()
    csf: float = 2.4
    fissure: float = brain.SULCUS_HALF
    ventricle: float = 0.0
    table: float = 1.9
    fat: float = 1.0


def average_head() -> Head:
    """The mean head; its folds are one fixed pattern, since folds have no average."""
    fixed = torch.Generator().manual_seed(152)
    return Head(mean_shape(), drawn_sulci(fixed), smooth_noise(fixed, 4, 11))


def drawn_sulci(generator: torch.Generator) -> Table:
    """Sulci as far apart as those of a brain."""
    return sulci(generator, _SULCI)


def tissues(head: Head, x: Field, y: Field, z: Field) -> tuple[Tensor, Tensor]:
    """Tissue and organ at each place, uint8; ventricles are numbered `VENTRICLE`."""
    label = torch.full(x.shape, int(Tissue.OUTSIDE), dtype=torch.uint8)
    organ = torch.zeros(x.shape, dtype=torch.uint8)
    distance = skin(head.shape, x, y, z)
    body = distance < 0
    if bool(body.any()):
        px, py, pz = x[body], y[body], z[body]
        found, of = organs(head.face, px, py, pz, _body(head, px, py, pz, distance[body]))
        label[body], organ[body] = found.to(torch.uint8), of
    return label, organ


def skin(shape: Shape, x: Field, y: Field, z: Field) -> Field:
    """Distance to the skin: radial above, from the vertical axis in the face and neck."""
    r, row, phi = _polar(shape, x, y, z)
    lowest, highest = float(z.min()), float(z.max())
    out = r - look_up(shape.scalp, row, phi) if highest > -22.0 else torch.zeros_like(r)
    if lowest < 2.0:
        weight = ((z + 22.0) / 24.0).clamp(0, 1)
        weight = weight * weight * (3 - 2 * weight)
        out = out * weight + _below(shape, x, y, z, phi) * (1 - weight)
    return out.minimum(union(x.abs(), y, z, (face.NOSE, face.EAR)))


def _below(shape: Shape, x: Field, y: Field, z: Field, phi: Field) -> Field:
    low, high = shape.face_z
    rho = ((x - shape.center[0]) ** 2 + (y - shape.center[1]) ** 2).sqrt()
    below = rho - look_up(shape.face, (z - low) / (high - low), phi)
    # Below the jaw only the neck goes on.
    neck = ((x / 1.06) ** 2 + (y - 36.0) ** 2).sqrt() - 60.0
    down = ((-108.0 - z) / 30.0).clamp(0, 1)
    return below * (1 - down) + below.maximum(neck) * down


def _body(head: Head, x: Field, y: Field, z: Field, distance: Field) -> Field:
    r, row, phi = _polar(head.shape, x, y, z)
    depth = look_up(head.shape.inner, row, phi) - r
    thickness = look_up(head.shape.thickness, row, phi)
    within = depth > 0
    label = torch.empty_like(x)
    if bool(within.any()):
        label[within] = _within(head, x[within], y[within], z[within], depth[within])
    rest = ~within
    if bool(rest.any()):
        at = (x[rest], y[rest], z[rest])
        label[rest] = _without(head, *at, distance[rest], depth[rest], thickness[rest])
    stem = (x.abs() < 20) & (y.abs() < 60) & (z < 3)
    if bool(stem.any()):
        label[stem] = _stem(label[stem], x[stem].abs(), y[stem], z[stem])
    return label


def _without(
    head: Head, x: Field, y: Field, z: Field, distance: Field, depth: Field, thickness: Field
) -> Field:
    """Tissues from the inner table of the skull outwards."""
    label = _soft(head, x, y, z, distance, depth + thickness)
    label = _vault(head, label, distance, depth, thickness)
    low = z < _FACE_TOP
    if bool(low.any()):
        label[low] = _face(head, label[low], x[low], y[low], z[low], distance[low])
    return label


def _polar(shape: Shape, x: Field, y: Field, z: Field) -> tuple[Field, Field, Field]:
    dx, dy, dz = x - shape.center[0], y - shape.center[1], z - shape.center[2]
    r = (dx * dx).addcmul_(dy, dy).addcmul_(dz, dz).sqrt_().clamp_(min=1e-3)
    return r, dz.div_(r).clamp_(-1, 1).arccos_().div_(torch.pi), torch.atan2(dx, -dy)


def _soft(head: Head, x: Field, y: Field, z: Field, distance: Field, to_bone: Field) -> Field:
    """Skin, fat beneath it and between muscles, and muscle, before there is bone."""
    grain = _noise(head.wrinkle, x, y, z)
    ax = x.abs()
    low = ((-z - 30.0) / 60.0).clamp(0, 1)
    beneath = distance < -1.8
    fat = beneath & (distance > -1.8 - head.fat * (2.4 + 3.0 * low + grain[1]))
    cheek = union(ax, y, z, _CHEEK, 12.0) + 2.0 * grain[2] < 0
    nape = union(ax, y, z, _NAPE, 12.0) + 2.5 * grain[2] < 0
    planes = (grain[0].abs() < 0.07 * low) & beneath
    fat = (fat | cheek | (nape & beneath) | planes) & (to_bone < 0)
    return torch.where(fat, float(Tissue.FAT), float(Tissue.SCALP))


def _vault(head: Head, label: Field, distance: Field, depth: Field, thickness: Field) -> Field:
    """Two tables of compact bone, with marrow between them where there is room."""
    vault = (-depth < thickness) & (distance < -2.5)
    table = torch.minimum(-depth, thickness + depth)
    label = torch.where(vault, float(Tissue.SKULL), label)
    spongy = vault & (table > head.table) & (thickness > 5.0)
    return torch.where(spongy, float(Tissue.MARROW), label)


def _face(head: Head, label: Field, x: Field, y: Field, z: Field, distance: Field) -> Field:
    """Facial bones, eyes in their sockets, air, spinal canal."""
    ax, how = x.abs(), head.face
    hard = face.bone(how, ax, y, z)
    label = torch.where((hard < 0) & (distance < -1.5), float(Tissue.SKULL), label)
    teeth = (z > -108.0) & (z < -74.0) & (y < -15.0)
    label = torch.where((hard < -2.8) & (distance < -3) & ~teeth, float(Tissue.MARROW), label)
    socket = (face.orbit(how, ax, y, z) < 0) & (distance < -1.0)
    if bool(socket.any()):
        label[socket] = _socket(how, ax[socket], y[socket], z[socket])
    globe = (union(ax, y, z, face.parts(how).eye) < 0) & (distance < -1.0)
    label = torch.where(globe, float(Tissue.EYE), label)
    hollow = face.air(how, ax, y, z) < 0
    label = torch.where(hollow, float(Tissue.AIR), label)
    for fluid in head.fluid:
        inside = face.parts(how).sinuses[fluid.sinus]
        filled = hollow & (fluid.side * x > 0) & (y > fluid.level)
        label = torch.where(filled & (union(ax, y, z, (inside,)) < 0), float(Tissue.FLUID), label)
    return torch.where(union(ax, y, z, face.parts(how).canal) < 0, float(Tissue.CSF), label)


def _socket(how: Face, ax: Field, y: Field, z: Field) -> Field:
    muscles = union(ax, y, z, face.parts(how).muscles) < 0
    return torch.where(muscles | (y < -62), float(Tissue.SCALP), float(Tissue.FAT))


def _within(head: Head, x: Field, y: Field, z: Field, depth: Field) -> Field:
    """Tissues inside the skull."""
    ax = x.abs()
    wrinkle = _noise(head.wrinkle, x, y, z)
    shifted = [a + 2.2 * d for a, d in zip((x, y, z), wrinkle[:3], strict=True)]
    r, row, phi = _polar(head.shape, *shifted)
    sulcus = look_up(head.sulcus, row, phi) * r
    hull = depth - head.csf
    tent = brain.tentorium(ax, y)
    behind = y > 24.0
    over = (z - tent).where(behind, hull)
    # The falx sways, so that a sagittal slice near the midline meets cortex.
    sway = (x + 0.6 * wrinkle[0]).abs()
    above = hull.minimum(over - 0.8)
    deep = 14.0 + 4.0 * wrinkle[3]
    label = brain.cerebrum(sway, shifted[1], shifted[2], above, sulcus, deep, head.fissure)
    below = (z < tent) & behind
    if bool(below.any()):
        at = (ax[below], y[below], z[below])
        label[below] = brain.cerebellum(*at, hull[below].minimum(-0.8 - over[below]) - 0.8)
    label = torch.where(brain.tent_dura(ax, y, over) & (hull > 0), float(Tissue.DURA), label)
    label = torch.where(brain.deep_grey(ax, y, z) < 0, float(Tissue.GREY), label)
    label = torch.where(brain.cistern(ax, y, z) < 0, float(Tissue.CSF), label)
    return torch.where(brain.ventricles(ax, y, z, head.ventricle) < 0, float(VENTRICLE), label)


def _stem(label: Field, ax: Field, y: Field, z: Field) -> Field:
    """Brainstem with the cisterns around it, and the cord in its canal."""
    stem = brain.brainstem(ax, y, z)
    soft = (label == Tissue.GREY) | (label == Tissue.WHITE) | (label == Tissue.DURA)
    around = (stem < 3.0) & (z < -6.0) & (y < 30.0) & soft
    label = torch.where(around, float(Tissue.CSF), label)
    label = torch.where((stem < 0) & (label != VENTRICLE), float(Tissue.BRAINSTEM), label)
    return torch.where((brain.cord(ax, y, z) < 0) & (stem >= 0), float(Tissue.SCALP), label)


def _noise(cube: Tensor, x: Field, y: Field, z: Field) -> Tensor:
    """Smooth noise at each place, channels first."""
    where = torch.stack([z, y, x], dim=-1).reshape(1, 1, 1, -1, 3) / _REACH
    values = grid_sample(cube, where, mode="bilinear", padding_mode="border", align_corners=False)
    return values.reshape(cube.shape[1], *x.shape)
