"""Adult heads that differ as adults do: size, skull, sinuses, orbits, age, deformation, pose.

Standard deviations and courses with age, and where they come from:

- size: heads of one sex differ by about 3 % in each dimension (Bushby et al., Arch. Dis. Child. 67, 1286
  (1992)); men's are larger by about 12 % in volume (from memory, unverified);
- thickness of the skull: 15 % (Lynnerup, Forensic Sci. Int. 117, 45 (2001));
- loss of brain: none until 35 years, then 0.2 % a year rising to 0.5 % at 60 and after (Hedman et al., Hum.
  Brain Mapp. 33, 1987 (2012), review of 56 longitudinal studies);
- ventricles: 0.3 cc a year (73 men of 21 to 70 years; American College of Neuropsychopharmacology,
  GN401000089, fig. 5), three times that beyond 70 (assumed);
- eye: axial length 24 mm within 1 mm (Bekerman et al., J. Ophthalmol. 2014, 503645);
- sizes of sinuses, mastoids and orbits, thickness of scalp fat and density of bone: assumed.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from imaging.grid import Grid
from imaging.tissue import BRAIN, Tissue
from imaging.volume import Volume

from . import brain
from .deform import random_field
from .face import EYE_RADIUS, SINUSES, Face
from .folds import smooth_noise
from .labelling import Fluid, Head, drawn_sulci
from .raster import Pose, drawn, expect_upright
from .subject import Subject
from .surfaces import Shape, mean_shape
from .threads import one_thread

_SEX = 0.019  # half the difference in each dimension between men's heads and women's
_BASE_AGE = 50.0  # of the mean head, by its share of fluid (assumed)
# What a millimetre of each makes of the mean brain of 1190 cc, measured on heads drawn at 1.5 mm.
_BRAIN_CC, _CC_PER_CSF, _CC_PER_FISSURE = 1190.0, 53.0, 145.0
_SWELLINGS = ((-2.0, 3.1), (-1.0, 6.9), (0.0, 12.8), (1.0, 21.3), (2.0, 32.7), (3.0, 47.2), (4.0, 65.0))
_SPAN = 2.5  # standard deviations that a draw is held within
_REACH = (130.0, 140.0, 140.0)  # half edges of the box that a deformation covers (mm)


@dataclass(frozen=True)
class AnatomyRecipe:
    """How much heads differ; standard deviations are relative unless a unit is named.

    Parameters
    ----------
    age_years
        Youngest and oldest; ages between are equally likely.
    female
        Share of women.
    size_sd, shape_sd
        Of the whole head and of each dimension beside it.
    skull_thickness_sd, bone_density_sd
        Of the skull's thickness (its tables with it) and of bone's density.
    scalp_fat_sd
        Of the fat under the scalp.
    sinus_sd, mastoid_sd
        Of the linear size of each sinus, and of the mastoid's cells.
    unpneumatised
        Share of frontal sinuses and of mastoids that hold next to no air.
    fluid
        Share of sinuses and mastoids, each side for itself, with fluid in them.
    orbit_sd, eye_sd
        Of the width of the sockets and of the eyeball's radius.
    ventricle_sd
        Of the logarithm of the ventricles' volume at a given age.
    atrophy_sd
        Of the share of brain that is lost at a given age.
    deformation_mm
        Standard deviation of each component of the smooth deformation (mm).
    rotation
        Greatest turn about each axis (degrees).
    shift_mm
        Greatest shift along each axis (mm).

    Raises
    ------
    ValueError
        If a number is negative or not finite, a share exceeds 1, ages do not rise or are no adult's.
    """

    age_years: tuple[float, float] = (18.0, 90.0)
    female: float = 0.5
    size_sd: float = 0.025
    shape_sd: float = 0.02
    skull_thickness_sd: float = 0.15
    bone_density_sd: float = 0.1
    scalp_fat_sd: float = 0.25
    sinus_sd: float = 0.15
    mastoid_sd: float = 0.15
    unpneumatised: float = 0.08
    fluid: float = 0.08
    orbit_sd: float = 0.03
    eye_sd: float = 0.02
    ventricle_sd: float = 0.3
    atrophy_sd: float = 0.015
    deformation_mm: float = 2.0
    rotation: float = 8.0
    shift_mm: float = 5.0

    def __post_init__(self) -> None:
        young, old = self.age_years
        if not 18 <= young <= old <= 110:
            raise ValueError(
                f"expected age_years as two rising ages of adults, 18 to 110, got {young}, {old}"
            )
        for field in fields(self):
            if field.name == "age_years":
                continue
            value, most = getattr(self, field.name), _MOST.get(field.name, 0.3)
            if not 0 <= value <= most:
                raise ValueError(f"expected anatomy {field.name} in 0..{most:g}, got {value}")


_MOST = {
    "female": 1.0,
    "unpneumatised": 1.0,
    "fluid": 1.0,
    "scalp_fat_sd": 0.4,
    "ventricle_sd": 1.0,
    "deformation_mm": 8.0,
    "rotation": 45.0,
    "shift_mm": 40.0,
}


@dataclass(frozen=True, eq=False)
class Drawn:
    """A head before it is drawn onto a grid.

    Parameters
    ----------
    head, pose
        What the head is like, and how it lies.
    traits
        What was drawn, as JSON values.
    """

    head: Head
    pose: Pose
    traits: dict[str, Any]


def head(recipe: AnatomyRecipe, generator: torch.Generator, grid: Grid) -> Subject:
    """A head drawn from a recipe, with its organs, on a grid.

    Parameters
    ----------
    recipe
        How much heads differ.
    generator
        Draws one.
    grid
        An upright grid; its origin is where the anterior commissure of an unshifted head lies.

    Returns
    -------
    Subject
        Tissues, organs, and ``traits["anatomy"]``.

    Raises
    ------
    ValueError
        If the grid is turned.
    """
    expect_upright(grid)
    one = draw(recipe, generator)
    labels, organs, n_ventricle = drawn(one.head, one.pose, grid)
    sizes = measured(labels) | {"ventricles_cc": round(n_ventricle * grid.voxel_volume / 1000, 3)}
    return Subject(labels, organs, {"anatomy": one.traits | sizes})


def measured(labels: Volume) -> dict[str, float]:
    """Volumes (cc) of what a head holds, to be told with it."""
    counts = torch.bincount(labels.data.reshape(-1).long(), minlength=len(Tissue))
    cc = counts.double() * labels.grid.voxel_volume / 1000
    out = {"brain_cc": float(cc[list(BRAIN)].sum()), "csf_cc": float(cc[Tissue.CSF] + cc[Tissue.DURA])}
    out["bone_cc"] = float(cc[[Tissue.SKULL, Tissue.MARROW, Tissue.TOOTH]].sum())
    out["air_cc"], out["fluid_cc"] = float(cc[Tissue.AIR]), float(cc[Tissue.FLUID])
    return {name: round(value, 3) for name, value in out.items()}


def draw(recipe: AnatomyRecipe, generator: torch.Generator) -> Drawn:
    """What one head is like, without drawing it onto a grid."""
    with one_thread():
        return _drawn(recipe, generator)


def _drawn(recipe: AnatomyRecipe, generator: torch.Generator) -> Drawn:
    u = torch.rand(4, generator=generator).tolist()
    n = torch.randn(24, generator=generator).clamp(-_SPAN, _SPAN).tolist()
    young, old = recipe.age_years
    age, female = young + u[0] * (old - young), u[1] < recipe.female
    whole = (1 + recipe.size_sd * n[0]) * (1 - _SEX if female else 1 + _SEX)
    scale = tuple(whole * (1 + recipe.shape_sd * n[1 + a]) for a in range(3))
    thickness = max(1 + recipe.skull_thickness_sd * n[4], 0.5)
    lost = lost_by(age) + recipe.atrophy_sd * n[5]
    ventricles = ventricles_at(age) * math.exp(recipe.ventricle_sd * n[6])
    face = _face(recipe, n[8:16], generator, 1 / whole)
    pose = _pose(recipe, generator, (scale[0], scale[1], scale[2]))
    csf, fissure = _atrophied(lost, ventricles)
    one = Head(
        _shape(thickness),
        drawn_sulci(generator),
        smooth_noise(generator, 4, 11),
        face,
        _fluid(recipe, generator),
        csf=csf,
        fissure=fissure,
        ventricle=_swelling(ventricles),
        table=1.9 * thickness,
        fat=max(1 + recipe.scalp_fat_sd * n[7], 0.2),
    )
    traits: dict[str, Any] = {
        "age_years": age,
        "sex": "F" if female else "M",
        "scale": list(scale),
        "skull_thickness": thickness,
        "bone_density": max(1 + recipe.bone_density_sd * n[16], 0.5),
        "brain_lost": lost,
        "scalp_fat": one.fat,
        "turn_degrees": _angles(pose.turn),
        "shift_mm": list(pose.shift),
        "fluid": [f"{f.sinus} {'left' if f.side > 0 else 'right'}" for f in one.fluid],
        "face": {f.name: getattr(face, f.name) for f in fields(face)},
    }
    return Drawn(one, pose, _rounded(traits))


def lost_by(age: float) -> float:
    """Share of the brain at 35 years that is lost by an age: Hedman et al. (2012)."""
    years, late = min(max(age - 35.0, 0.0), 25.0), max(age - 60.0, 0.0)
    return 0.002 * years + 0.003 * years**2 / 50 + 0.005 * late


def ventricles_at(age: float) -> float:
    """Volume (cc) of the mean ventricles at an age."""
    return 12.8 + 0.3 * (min(age, 70.0) - 20.0) + 0.9 * max(age - 70.0, 0.0)


def _atrophied(lost: float, ventricles_cc: float) -> tuple[float, float]:
    """Width of the outer fluid and half the width of sulci (mm) that leave so much brain."""
    more = _BRAIN_CC * (lost - lost_by(_BASE_AGE)) - (ventricles_cc - 12.8)
    csf = max(2.4 + 0.5 * more / _CC_PER_CSF, 0.8)
    return csf, max(brain.SULCUS_HALF + 0.5 * more / _CC_PER_FISSURE, 0.15)


def _swelling(ventricles_cc: float) -> float:
    by, cc = zip(*_SWELLINGS, strict=True)
    return float(np.interp(ventricles_cc, cc, by))


def _shape(thickness: float) -> Shape:
    """The mean surfaces around a thicker skull: the skin is lifted off by as much everywhere."""
    mean = mean_shape()
    thick = mean.thickness * thickness
    return replace(mean, thickness=thick, scalp=mean.scalp + (thick - mean.thickness).clamp(-3, 3))


def _face(recipe: AnatomyRecipe, n: list[float], generator: torch.Generator, eye: float) -> Face:
    small = torch.rand(2, generator=generator).tolist()
    s = [max(1 + recipe.sinus_sd * v, 0.5) for v in n[:4]]
    return Face(
        maxillary=s[0],
        frontal=0.25 if small[0] < recipe.unpneumatised else s[1],
        ethmoid=min(s[2], 1.1),
        sphenoid=min(s[3], 1.25),
        mastoid=0.3 if small[1] < recipe.unpneumatised else max(1 + recipe.mastoid_sd * n[4], 0.5),
        cells=max(1 + 0.2 * n[5], 0.6),
        orbit=1 + recipe.orbit_sd * n[6],
        # A larger head has no larger eyes.
        eye=EYE_RADIUS * (1 + recipe.eye_sd * n[7]) * eye,
    )


def _fluid(recipe: AnatomyRecipe, generator: torch.Generator) -> tuple[Fluid, ...]:
    """Sinuses that are not clear; the level lies anywhere from the back wall to the front one."""
    u = torch.rand(len(SINUSES), 2, 2, generator=generator)
    back_to_front = {
        "maxillary": (-24.0, -50.0),
        "frontal": (-66.0, -73.0),
        "ethmoid": (-17.0, -58.0),
        "sphenoid": (1.0, -18.0),
        "mastoid": (43.0, 27.0),
    }
    out = []
    for name, sides in zip(SINUSES, u.tolist(), strict=True):
        back, front = back_to_front[name]
        for side, (chance, level) in zip((1, -1), sides, strict=True):
            if chance < recipe.fluid:
                out.append(Fluid(name, side, back + (front - back) * (0.25 + 0.75 * level)))
    return tuple(out)


def _pose(recipe: AnatomyRecipe, generator: torch.Generator, scale: tuple[float, float, float]) -> Pose:
    u = (2 * torch.rand(6, generator=generator) - 1).tolist()
    turn = np.eye(3)
    for axis, angle in enumerate(u[:3]):
        a, b = [c for c in range(3) if c != axis]
        c, s = (
            math.cos(math.radians(recipe.rotation * angle)),
            math.sin(math.radians(recipe.rotation * angle)),
        )
        one = np.eye(3)
        one[a, a], one[b, b], one[a, b], one[b, a] = c, c, -s, s
        turn = one @ turn
    x, y, z = (recipe.shift_mm * v for v in u[3:])
    field = random_field(generator, _around(), recipe.deformation_mm) if recipe.deformation_mm else None
    return Pose(turn, (x, y, z), scale, field)


def _around() -> Grid:
    """What a deformation covers, whatever grid the head is drawn on."""
    affine = np.diag([10.0, 10.0, 10.0, 1.0])
    affine[:3, 3] = -np.array(_REACH)
    return Grid((27, 29, 29), affine)


def _angles(turn: np.ndarray) -> list[float]:
    """Angles (degrees) about x, y, z of a turn made in that order."""
    about_y = math.asin(min(max(-float(turn[2, 0]), -1), 1))
    return [
        math.degrees(math.atan2(turn[2, 1], turn[2, 2])),
        math.degrees(about_y),
        math.degrees(math.atan2(turn[1, 0], turn[0, 0])),
    ]


def _rounded(value: Any) -> Any:
    """JSON values with floats to six places."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: _rounded(v) for name, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value
