"""A cohort's recipe: how heads, tumours, MRI and CT differ, filled from TOML, with one hash.

A recipe is five tables, each the frozen config of one stage, and two that say how results are
written. What a file leaves out keeps its default; what it says is checked before anything is made.
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from imaging.grid import Grid
from imaging.tissue import Tissue

from .config import filled, plain, toml
from .ct import CtRecipe
from .heads import AnatomyRecipe
from .lesions import TumourRecipe
from .mri import MriRecipe

# Tables that say how a case is made; only these enter the hash that cases are drawn from.
STAGES = ("grid", "anatomy", "tumour", "mri", "ct")
_SHAPE = (16, 1024)
_SPACING = (0.2, 8.0)  # mm
_FINEST, _COARSEST = 0.4, 4.0  # mm; solids of the head are drawn for these


@dataclass(frozen=True)
class GridRecipe:
    """Where a case is imaged, and on what finer lattice its tissues are drawn.

    Parameters
    ----------
    shape
        Voxels along x, y, z.
    spacing
        Voxel size along x, y, z (mm).
    fine
        Voxel size of the tissues that signal is averaged over (mm); at most the smallest of ``spacing``.
    center
        Centre of the box (LPS, mm, from the anterior commissure); the default leaves the same
        margin above the vertex and behind the head.

    Raises
    ------
    ValueError
        If a count or a size is not positive, or the fine lattice is coarser than the voxels.
    """

    shape: tuple[int, int, int] = (192, 224, 192)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fine: float = 0.8
    center: tuple[float, float, float] = (0.0, 7.0, 8.0)

    def __post_init__(self) -> None:
        if not all(_SHAPE[0] <= n <= _SHAPE[1] for n in self.shape):
            raise ValueError(f"expected a shape of {_SHAPE[0]} to {_SHAPE[1]} voxels, got {list(self.shape)}")
        if not all(_SPACING[0] <= mm <= _SPACING[1] for mm in self.spacing):
            raise ValueError(
                f"expected a spacing of {_SPACING[0]:g} to {_SPACING[1]:g} mm, got {list(self.spacing)}"
            )
        if not _FINEST <= self.fine <= _COARSEST:
            raise ValueError(f"expected fine in {_FINEST:g}..{_COARSEST:g} mm, got {self.fine:g}")
        if self.fine > min(self.spacing) + 1e-9:
            raise ValueError(
                f"expected fine of at most the spacing of {min(self.spacing):g} mm, got {self.fine:g}; "
                "signal is averaged over finer voxels"
            )
        if not all(abs(mm) <= 200 for mm in self.center):
            raise ValueError(f"expected a center within 200 mm, got {list(self.center)}")

    @property
    def scan(self) -> Grid:
        """The grid of images and labels."""
        return _box(self.center, self.shape, self.spacing)

    @property
    def lattice(self) -> Grid:
        """The fine grid, over the same box."""
        counts = [
            math.ceil(n * mm / self.fine - 1e-6) for n, mm in zip(self.shape, self.spacing, strict=True)
        ]
        return _box(self.center, (counts[0], counts[1], counts[2]), (self.fine,) * 3)


@dataclass(frozen=True)
class LabelRecipe:
    """Which number stands for each tissue in the label maps that are written.

    Parameters
    ----------
    numbers
        Tissue, in small letters, to number; tissues that are not named keep theirs.

    Raises
    ------
    ValueError
        If a tissue is unknown, a number is no uint8, or two tissues would share one.
    """

    numbers: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {tissue.name.lower(): int(tissue) for tissue in Tissue}
        for name, number in self.numbers.items():
            if name not in known:
                raise ValueError(f"expected tissues of {', '.join(known)}, got unknown tissue {name!r}")
            if not 0 <= number <= 255:
                raise ValueError(f"expected a label number of 0 to 255 for {name}, got {number}")
        taken: dict[int, str] = {}
        for name, number in {**known, **self.numbers}.items():
            if number in taken:
                raise ValueError(
                    f"expected a label number of its own for each tissue, got {number} for both "
                    f"{taken[number]} and {name}"
                )
            taken[number] = name

    @property
    def table(self) -> tuple[int, ...]:
        """The number of each tissue, in the order of `imaging.tissue.Tissue`."""
        return tuple(self.numbers.get(tissue.name.lower(), int(tissue)) for tissue in Tissue)


@dataclass(frozen=True)
class About:
    """What a cohort says of itself.

    Parameters
    ----------
    name
        Its name in the manifest.
    licence
        Under which licence the cases are passed on; a URL or an SPDX name.
    creator
        Who made it.
    url
        Where it can be had; empty where nowhere.

    Raises
    ------
    ValueError
        If name, licence or creator are empty, or one of them does not fit on a line.
    """

    name: str = "Spindose synthetic brain-tumour cohort"
    licence: str = "https://creativecommons.org/licenses/by/4.0/"
    creator: str = "Spindose"
    url: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "licence", "creator", "url"):
            text = getattr(self, name)
            if not text.isprintable() or not (text.strip() or name == "url"):
                raise ValueError(f"expected {name} as one line of text, got {text!r}")


@dataclass(frozen=True)
class Recipe:
    """Everything that a cohort is drawn from.

    Parameters
    ----------
    grid
        Where cases are imaged.
    anatomy, tumour, mri, ct
        Config of each stage.
    labels
        Numbers in the label maps that are written.
    about
        What the manifest says.
    """

    grid: GridRecipe = field(default_factory=GridRecipe)
    anatomy: AnatomyRecipe = field(default_factory=AnatomyRecipe)
    tumour: TumourRecipe = field(default_factory=TumourRecipe)
    mri: MriRecipe = field(default_factory=MriRecipe)
    ct: CtRecipe = field(default_factory=CtRecipe)
    labels: LabelRecipe = field(default_factory=LabelRecipe)
    about: About = field(default_factory=About)


def parse(text: str) -> Recipe:
    """The recipe in a TOML text.

    Raises
    ------
    ValueError
        If the text is no TOML, names a table or key that there is none of, or gives a value of
        the wrong type or out of range; the sentence names table and key.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"expected a recipe in TOML, got a text that is none: {error}") from None
    return filled(Recipe(), tables, ())


def fingerprint(recipe: Recipe) -> str:
    """SHA-256 of the tables that cases are drawn from, the same however the file was written."""
    whole = plain(recipe)
    text = json.dumps({name: whole[name] for name in STAGES}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def to_toml(recipe: Recipe) -> str:
    """A recipe as TOML with every value, so that it can be made again when defaults have changed."""
    return toml(plain(recipe))


def _box(
    center: tuple[float, float, float], shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> Grid:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(center) - (np.array(shape) - 1) / 2 * np.array(spacing)
    return Grid(shape, affine)
