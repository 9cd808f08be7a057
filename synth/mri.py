"""MR images of a head: signal equations or random contrast, averaged over voxels, with a scanner's faults."""

from dataclasses import dataclass
from typing import Any

import torch

from imaging.grid import Grid
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from .artefacts import bias_field, rician
from .cells import Codes, Table, clustered, textured
from .protocol import (
    CONTRASTS,
    T1_SEQUENCES,
    Body,
    Chance,
    Protocol,
    Range,
    chosen,
    drawn,
    expect_range,
    happens,
    random_body,
    settings,
    uniform,
)
from .sampling import Image, sampled
from .slices import ORIENTATIONS, Stack, filled, slice_taps, stack, whole
from .subject import Subject
from .tables import physical_table, random_table
from .tissues import FIELDS

MODES = ("physics", "randomised")

# Clinical protocols of the head, and how often images show a fault (assumed).
_T1_SPIN_ECHO = Protocol((450.0, 700.0), (8.0, 16.0))
_T1_GRADIENT_ECHO = Protocol((150.0, 260.0), (2.5, 5.0), flip=(65.0, 80.0))
_T1_MPRAGE = Protocol((1900.0, 2400.0), (2.0, 4.5), (800.0, 1050.0), (7.0, 12.0))
_T2 = Protocol((3000.0, 6500.0), (80.0, 115.0))
_FLAIR = Protocol((7000.0, 11000.0), (80.0, 140.0))
_PD = Protocol((2200.0, 4500.0), (12.0, 30.0))
_T2STAR = Protocol((500.0, 900.0), (14.0, 25.0), flip=(15.0, 25.0))
_BIAS = Chance(1.0, 0.03, 0.15)
_THICK = Chance(0.2, 3.0, 6.0)


@dataclass(frozen=True)
class MriRecipe:
    """A scanner, its protocols, and how often what goes wrong.

    Parameters
    ----------
    contrasts
        Which images: of ``t1``, ``t1c`` (after contrast agent), ``t2``, ``flair``, ``pd``, ``t2star``.
    mode
        ``physics`` by signal equations, or ``randomised``: any brightness for any tissue and cluster
        of it (Billot et al., Med. Image Anal. 86, 102789 (2023)).
    fields
        Field strengths to draw from (T).
    t1_sequences
        Kinds that T1 weighting is drawn from: ``spin_echo``, ``gradient_echo``, ``mprage``.
    t1_spin_echo, t1_gradient_echo, t1_mprage, t2, flair, pd, t2star
        Ranges of their times.
    variation
        By how much T1, T2 and proton density differ between subjects (standard deviation, relative).
    snr
        White matter over the noise of one channel; in a randomised image, the brightest tissue.
    white
        Where white matter lies in the image's numbers.
    bias
        Shading: standard deviation of its logarithm.
    thick
        Thick slices: thickness (mm).
    gap
        Between thick slices (mm).
    orientations
        Which way thick slices lie.
    native
        Whether thick slices stay on a grid of their own instead of the one asked for.

    Raises
    ------
    ValueError
        If a name is unknown or a range makes no sense.
    """

    contrasts: tuple[str, ...] = ("t1", "t1c", "t2", "flair")
    mode: str = "physics"
    fields: tuple[float, ...] = FIELDS
    t1_sequences: tuple[str, ...] = T1_SEQUENCES
    t1_spin_echo: Protocol = _T1_SPIN_ECHO
    t1_gradient_echo: Protocol = _T1_GRADIENT_ECHO
    t1_mprage: Protocol = _T1_MPRAGE
    t2: Protocol = _T2
    flair: Protocol = _FLAIR
    pd: Protocol = _PD
    t2star: Protocol = _T2STAR
    variation: float = 0.03
    snr: Range = (18.0, 70.0)
    white: Range = (300.0, 900.0)
    bias: Chance = _BIAS
    thick: Chance = _THICK
    gap: Range = (0.0, 1.5)
    orientations: tuple[str, ...] = ("axial", "axial", "sagittal", "coronal")
    native: bool = False

    def __post_init__(self) -> None:
        for name, values, known in (
            ("contrasts", self.contrasts, CONTRASTS),
            ("t1_sequences", self.t1_sequences, T1_SEQUENCES),
            ("orientations", self.orientations, ORIENTATIONS),
            ("fields", self.fields, FIELDS),
            ("mode", (self.mode,), MODES),
        ):
            wrong = [value for value in values if value not in known]
            if wrong or not values:
                raise ValueError(
                    f"expected {name} of {', '.join(map(str, known))}, got {wrong[0] if wrong else 'none'}"
                )
        if len(set(self.contrasts)) < len(self.contrasts):
            raise ValueError(f"expected each contrast once, got {', '.join(self.contrasts)}")
        expect_range("variation", (self.variation, self.variation), 0.0, 0.2)
        expect_range("snr", self.snr, 1.0, 1e6)
        expect_range("white", self.white, 1.0, 1e6)
        expect_range("gap", self.gap, 0.0, 20.0)


def images(
    subject: Subject, recipe: MriRecipe, generator: torch.Generator, grid: Grid
) -> tuple[dict[str, Volume], dict[str, Any]]:
    """MR images of a subject on the scanner's grid.

    Signal is averaged over voxels, never labels: a voxel that is half CSF is as bright as both halves.

    Parameters
    ----------
    subject
        Head on a grid at least as fine.
    recipe
        Scanner, sequences and artefacts.
    generator
        Draws everything.
    grid
        Where to image, parallel to the subject's grid.

    Returns
    -------
    dict
        A volume of MR signal under the name of each contrast.
    dict
        What was drawn, as JSON values.

    Raises
    ------
    ValueError
        If the grid is turned against the subject's.
    """
    body = random_body(recipe.fields[chosen(generator, len(recipe.fields))], recipe.variation, generator)
    labels = subject.labels
    if recipe.mode == "physics":
        codes = textured(labels, 4.0, generator)
    else:
        codes = clustered(labels, 18.0, generator)
    traits: dict[str, Any] = {"field": body.field, "mode": recipe.mode}
    volumes = {}
    for name in recipe.contrasts:
        table, told = _table(name, recipe, body, generator)
        image, place, artefacts = _scanned(codes, table, recipe, generator, labels.grid, grid)
        volumes[name] = Volume(image[None], place, Quantity.MR, labels.frame)
        traits[name] = {**told, **artefacts}
    return volumes, traits


def _table(
    name: str, recipe: MriRecipe, body: Body, generator: torch.Generator
) -> tuple[Table, dict[str, Any]]:
    """Brightness of each tissue at each level, and how it came about; the reference lies at 1."""
    if recipe.mode == "randomised":
        return random_table(generator), {"sequence": "randomised"}
    sequence_kind = {"t2": "spin_echo", "pd": "spin_echo", "flair": "flair", "t2star": "gradient_echo"}
    if name in ("t1", "t1c"):
        kind = recipe.t1_sequences[chosen(generator, len(recipe.t1_sequences))]
        protocol = getattr(recipe, f"t1_{kind}")
    else:
        kind, protocol = sequence_kind[name], getattr(recipe, name)
    sequence = drawn(kind, protocol, float(body.t1[Tissue.CSF]), generator)
    table = physical_table(sequence, body, agent=name == "t1c")
    return table, settings(sequence)


def _scanned(
    codes: Codes, table: Table, recipe: MriRecipe, generator: torch.Generator, fine: Grid, grid: Grid
) -> tuple[Image, Grid, dict[str, Any]]:
    slices, told = _slices(recipe, generator, grid)
    snr, white = uniform(generator, recipe.snr), uniform(generator, recipe.white)
    image = sampled(codes, table.reshape(-1), slice_taps(fine, slices))
    shading = happens(generator, recipe.bias)
    if shading:
        image.mul_(bias_field(slices.grid.shape, shading, generator))
    image = rician(image, 1 / snr, generator).mul_(white)
    told |= {"bias": shading, "snr": snr, "white": white}
    if slices.thickness == 0 or recipe.native:
        return image, slices.grid, told
    return filled(image, slices, grid), grid, told


def _slices(recipe: MriRecipe, generator: torch.Generator, grid: Grid) -> tuple[Stack, dict[str, Any]]:
    thickness, gap = happens(generator, recipe.thick), uniform(generator, recipe.gap)
    orientation = recipe.orientations[chosen(generator, len(recipe.orientations))]
    if thickness <= grid.spacing[ORIENTATIONS.index(orientation)]:
        return whole(grid), {"thickness": 0.0, "gap": 0.0, "orientation": "3d"}
    told = {"thickness": thickness, "gap": gap, "orientation": orientation}
    return stack(grid, orientation, thickness, gap), told
