"""Heads of given label maps, varied as the built-in ones are.

A given head lies in the place and size of the average one (`synth.atlas_head`), so that sizes, turn, shift
and smooth deformation are drawn from the same recipe. Skull and outer fluid become thicker or thinner by
reading along the normal of the skull's inner surface, as far as its signed distances to both surfaces say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from imaging.grid import Grid
from imaging.tissue import BONE, BRAIN, Tissue
from imaging.volume import Quantity, Volume
from imaging.warp import sample

from . import face
from .deform import random_field, steepest
from .heads import AnatomyRecipe, Drawn, draw, lost_by, measured
from .labelling import Head
from .raster import Between, Here, Nodes, Pose, by_blocks
from .solids import grown, union
from .subject import Subject

_COARSE_MM = 2.0  # between places where the surfaces are known, at the least
_STEEPEST = 0.6  # of the thickening, so that it cannot fold with the deformation
_UNEVEN = 0.06  # smooth variation of the skull's thickness beside the drawn one (assumed)
_AGE = 50.0  # that given heads are taken for: maps do not tell it (assumed)
_MM_PER_SHARE = 40.0  # of fluid for each share of brain; over the vault alone (by trial on two heads)
_FLUID_MM = 1.6  # outer fluid of a given head that is widened (assumed)
_INWARDS = 30.0  # depth over which a brain follows its surface (mm)
_BASE, _VAULT = -25.0, 5.0  # below the first height nothing is thickened, above the second everything is (mm)

Grids = Float[np.ndarray, "i j k"]


@dataclass(frozen=True, eq=False)
class _Surfaces:
    inner: Grids
    thickness: Grids
    normal: Float[np.ndarray, "3 i j k"]
    grid: Grid


def varied(
    subjects: Sequence[Subject], recipe: AnatomyRecipe, generator: torch.Generator, grid: Grid
) -> Subject:
    """One of several given heads, varied, with its organs, on a grid.

    Parameters
    ----------
    subjects
        Heads from `synth.atlas_head.given_head`.
    recipe
        How much heads differ. Ventricles, sinuses, mastoids and orbits stay as given; loss of brain shows as
        wider fluid over the brain.
    generator
        Draws head and variation.
    grid
        An upright grid; its origin is where the anterior commissure of an unshifted head lies.

    Raises
    ------
    ValueError
        If there is no head, or the grid is turned.
    """
    if not subjects:
        raise ValueError("expected one head or more to vary, got none")
    one = draw(recipe, generator)
    of = subjects[int(torch.randint(len(subjects), (1,), generator=generator))]
    thicker = _thickened(of, one, generator)
    labels, organs = _read(of, one.head, one.pose, thicker, grid)
    dropped = ("face", "scalp_fat", "fluid")
    traits = {k: v for k, v in one.traits.items() if k not in dropped} | dict(of.traits.get("anatomy", {}))
    traits["fluid"] = one.traits["fluid"] if bool((labels == Tissue.FLUID).any()) else []
    out = Volume(labels[None], grid, Quantity.LABEL)
    return Subject(out, Volume(organs[None], grid, Quantity.LABEL), {"anatomy": traits | measured(out)})


def _read(of: Subject, head: Head, pose: Pose, thicker: Volume, grid: Grid) -> tuple[Tensor, Tensor]:
    """Nearest labels at smoothly warped places; below the given head its lowest plane goes on."""
    source, lattice = (of.labels.data[0].contiguous(), of.organs.data[0].contiguous()), of.labels.grid
    labels, organs = (torch.zeros(grid.shape, dtype=torch.uint8) for _ in range(2))

    def work(here: Here, _nodes: Nodes, between: Between) -> None:
        x, y, z = between()
        points = torch.stack([a.reshape(-1) for a in (x, y, z)], dim=1)
        u = sample(thicker.data, thicker.grid, points)
        index = torch.zeros(len(points), dtype=torch.int32)
        inside = torch.ones(len(points), dtype=torch.bool)
        for axis, n in enumerate(lattice.shape):
            at = points[:, axis] + u[axis]
            at = at.sub_(float(lattice.affine[axis, 3])).div_(float(lattice.spacing[axis])).round_()
            inside &= (at < n) if axis == 2 else (at >= 0) & (at < n)
            index.mul_(n).add_(at.clamp_(0, n - 1).int())
        for to, whole in zip((labels, organs), source, strict=True):
            read = whole.reshape(-1).index_select(0, index).masked_fill_(~inside, 0).reshape(x.shape)
            to[here] = _with_fluid(head, read, x, y, z) if to is labels and head.fluid else read

    by_blocks(pose, grid, work)
    return labels, organs


def _with_fluid(head: Head, label: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Fluid in the given head's air where the built-in head has the sinus that holds it."""
    air = label == Tissue.AIR
    if bool(air.any()):
        px, py, pz = x[air], y[air], z[air]
        found = label[air]
        for fluid in head.fluid:
            sinus = grown(face.parts(face.MEAN).whole[fluid.sinus], 4.0)
            wet = (fluid.side * px > 0) & (py > fluid.level) & (union(px.abs(), py, pz, (sinus,)) < 0)
            found[wet] = int(Tissue.FLUID)
        label[air] = found
    return label


def _thickened(of: Subject, one: Drawn, generator: torch.Generator) -> Volume:
    """Displacement (mm) that reads the given head so that skull and outer fluid have the drawn width."""
    at = _surfaces(of)
    uneven = random_field(generator, at.grid, 1.0, 60.0)
    noise = ndimage.zoom(uneven.data[0].numpy(), np.array(at.inner.shape) / uneven.data.shape[1:], order=1)
    factor = one.traits["skull_thickness"] * (1 + _UNEVEN * np.clip(noise, -2, 2))
    z = at.grid.affine[2, 3] + at.grid.spacing[2] * np.arange(at.grid.shape[2])
    ramp = np.clip((z - _BASE) / (_VAULT - _BASE), 0, 1)
    weight = ramp * ramp * (3 - 2 * ramp)
    outwards = _skull_shift(at, np.clip(factor, 0.6, 1.6))
    inwards = _fluid_shift(at, wider_fluid(one.traits["brain_lost"]))
    u = at.normal * ((inwards - outwards) * weight)
    field = Volume(torch.from_numpy(u.astype(np.float32)), at.grid, Quantity.DISPLACEMENT)
    return replace(field, data=field.data * min(1.0, _STEEPEST / max(steepest(field), 1e-9)))


def wider_fluid(lost: float) -> float:
    """How much wider (mm) the fluid over a brain is that has lost a share of itself, ventricles as given."""
    return float(np.clip(_MM_PER_SHARE * (lost - lost_by(_AGE)), -0.9, 2.4))


def _skull_shift(at: _Surfaces, factor: Grids) -> Grids:
    """How far out of the way the skull pushes: none within it, all of its growth beyond."""
    depth = np.clip(at.inner, 0, at.thickness * factor)
    return depth * (1 - 1 / factor)


def _fluid_shift(at: _Surfaces, wider: float) -> Grids:
    """How far the brain's surface draws back from the skull, less and less with depth."""
    depth = np.clip(-at.inner, 0, None)
    full = _FLUID_MM + wider
    return wider * np.where(depth < full, depth / full, np.exp(-(depth - full) / _INWARDS))


def _surfaces(of: Subject) -> _Surfaces:
    """Signed distance (mm) to the inner surface of the skull, its thickness, and the way out, coarsely."""
    by = max(1, round(_COARSE_MM / float(of.labels.grid.spacing.max())))
    labels = of.labels.data[0, ::by, ::by, ::by].numpy()
    affine = of.labels.grid.affine.copy()
    affine[:3, :3] *= by
    grid = Grid(labels.shape, affine)
    sx, sy, sz = (float(s) for s in grid.spacing)
    spacing = (sx, sy, sz)
    soft = np.isin(labels, [*BRAIN, Tissue.CSF, Tissue.DURA, Tissue.NERVE])
    cavity = ndimage.binary_fill_holes(ndimage.binary_opening(soft, iterations=1))
    skull = ndimage.binary_closing(cavity | np.isin(labels, BONE), iterations=2)
    inner, outer = (ndimage.gaussian_filter(_signed(m, spacing), 1.0) for m in (cavity, skull))
    smooth = ndimage.gaussian_filter(inner, 2.0)
    slope = np.stack([np.gradient(smooth, s, axis=a) for a, s in enumerate(spacing)])
    normal = slope / np.maximum(np.linalg.norm(slope, axis=0), 0.3)
    thickness = ndimage.gaussian_filter(np.clip(inner - outer, 2.0, 12.0), 2.0)
    return _Surfaces(inner, thickness, normal, grid)


def _signed(mask: np.ndarray, spacing: tuple[float, float, float]) -> Grids:
    """Distance to the border of a mask (mm), negative within."""
    return ndimage.distance_transform_edt(~mask, spacing) - ndimage.distance_transform_edt(mask, spacing)
