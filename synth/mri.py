"""MR images of a head: signal equations or random contrast, averaged over voxels, with a scanner's faults."""

from dataclasses import dataclass
from typing import Any

import torch

from imaging.grid import Grid
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from .acquisition import Scan, scanned, stored
from .cells import Table, clustered, textured
from .contrast import Mprage, SpoiledGradientEcho
from .distortion import displaced_codes, on_grid
from .field_of_view import face_plane, random_window
from .kspace import random_poses
from .magnet import Bent, OffResonance, bent, kept
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
from .sampling import sampled
from .slices import ORIENTATIONS, Stack, slice_taps, stack, whole
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
_MOTION = Chance(0.12, 0.3, 1.5)
_GHOSTING = Chance(0.1, 0.02, 0.1)
_GIBBS = Chance(0.3, 0.6, 0.95)
_WRAP = Chance(0.05, 0.02, 0.1)
_BOTTOM = Chance(0.15, 0.02, 0.2)
_CROP = Chance(0.08, 0.02, 0.1)
_LEAN = (25.0, 40.0)  # degrees from coronal of the plane that cuts faces off
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
    motion
        Movement while lines are measured (standard deviation, mm and degrees).
    ghosting
        Brightness of ghosts relative to the head.
    gibbs
        Share of k-space that is measured, along each encoded axis.
    wrap
        Share of the image that the field of view lacks along the phase-encoding axis.
    bottom
        Share of the height that is not scanned at the lower end.
    crop
        Share of each axis that is cut off at one end, at the most.
    deface
        Share of subjects whose face is removed from every image.
    distortion
        Share of subjects whose images are distorted by air in tissue and by the gradients.
    bandwidth
        Of the readout (Hz/mm); widened where tissue would fold.
    gradient_error
        Displacement by gradients 100 mm from the isocentre along the bore (mm).
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
    motion: Chance = _MOTION
    ghosting: Chance = _GHOSTING
    gibbs: Chance = _GIBBS
    wrap: Chance = _WRAP
    bottom: Chance = _BOTTOM
    crop: Chance = _CROP
    deface: float = 0.1
    distortion: float = 0.4
    bandwidth: Range = (120.0, 400.0)
    gradient_error: Range = (0.0, 1.0)
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
        expect_range("bandwidth", self.bandwidth, 10.0, 1e5)
        expect_range("gradient_error", self.gradient_error, 0.0, 5.0)
        for name in ("deface", "distortion"):
            expect_range(name, (getattr(self, name),) * 2, 0.0, 1.0)
        for name in ("ghosting", "gibbs", "wrap", "bottom", "crop"):
            expect_range(name, (getattr(self, name).low, getattr(self, name).high), 0.0, 0.99)


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
        A volume of MR signal under the name of each contrast; where the scanner distorts, its
        ``displacement`` too (mm: tissue at x appears at x + u(x)).
    dict
        What was drawn, as JSON values.

    Raises
    ------
    ValueError
        If the grid is turned against the subject's, or a head without a brain is to lose its face.
    """
    labels = subject.labels
    body = random_body(recipe.fields[chosen(generator, len(recipe.fields))], recipe.variation, generator)
    physics = recipe.mode == "physics"
    codes = textured(labels, 4.0, generator) if physics else clustered(labels, 18.0, generator)
    traits: dict[str, Any] = {"field": body.field, "mode": recipe.mode}
    volumes: dict[str, Volume] = {}
    field = OffResonance(labels, body.field)
    bend, traits["distortion"] = _bent(recipe, field, generator, grid)
    if bend is not None:
        codes = displaced_codes(codes, labels.grid, bend.inverse, bend.lattice)
        volumes["displacement"] = Volume(
            on_grid(bend.field, bend.lattice, grid), grid, Quantity.DISPLACEMENT, labels.frame
        )
    face, lean = None, uniform(generator, _LEAN)
    if float(torch.rand(1, generator=generator)) < recipe.deface:
        face = face_plane(labels, lean)
    traits["defaced"] = face is not None
    for name in recipe.contrasts:
        table, te, told = _table(name, recipe, body, generator)
        scan, faults = _scan(recipe, generator, grid, face)
        image = sampled(codes, table.reshape(-1), slice_taps(labels.grid, scan.stack))
        share = kept(field, bend, scan.stack.grid, te)
        if share is not None:
            image.mul_(share)
        image = scanned(image, scan, generator)
        volumes[name] = stored(image, scan, grid, labels.frame, native=recipe.native)
        traits[name] = {**told, **faults}
    return volumes, traits


def _bent(
    recipe: MriRecipe, field: OffResonance, generator: torch.Generator, grid: Grid
) -> tuple[Bent | None, dict[str, Any]]:
    """Distortion by an uneven field and by gradients, of all images of a subject alike."""
    axis, sense = chosen(generator, 2), 1 - 2 * chosen(generator, 2)
    bandwidth = sense * uniform(generator, recipe.bandwidth)
    error = uniform(generator, recipe.gradient_error)
    if float(torch.rand(1, generator=generator)) >= recipe.distortion:
        return None, {}
    out, factor = bent(field, axis, bandwidth, error, grid)
    return out, {"axis": axis, "hertz_per_mm": bandwidth / factor, "gradient_error": error}


def _table(
    name: str, recipe: MriRecipe, body: Body, generator: torch.Generator
) -> tuple[Table, float, dict[str, Any]]:
    """Brightness of each tissue at each level, echo time of a gradient echo (ms) or 0, and the sequence."""
    if recipe.mode == "randomised":
        return random_table(generator), 0.0, {"sequence": "randomised"}
    sequence_kind = {"t2": "spin_echo", "pd": "spin_echo", "flair": "flair", "t2star": "gradient_echo"}
    if name in ("t1", "t1c"):
        kind = recipe.t1_sequences[chosen(generator, len(recipe.t1_sequences))]
        protocol = getattr(recipe, f"t1_{kind}")
    else:
        kind, protocol = sequence_kind[name], getattr(recipe, name)
    sequence = drawn(kind, protocol, float(body.t1[Tissue.CSF]), generator)
    table = physical_table(sequence, body, agent=name == "t1c")
    te = sequence.te if isinstance(sequence, SpoiledGradientEcho | Mprage) else 0.0
    return table, te, settings(sequence)


def _scan(
    recipe: MriRecipe,
    generator: torch.Generator,
    grid: Grid,
    face: tuple[tuple[float, float], float] | None,
) -> tuple[Scan, dict[str, Any]]:
    """Faults of one image, and the same as JSON values."""
    slices, told = _slices(recipe, generator, grid)
    within = [axis for axis in range(3) if axis != slices.axis or slices.thickness == 0][:2]
    phase = within[chosen(generator, 2)]
    drawn_faults = {
        name: happens(generator, getattr(recipe, name))
        for name in ("bias", "motion", "ghosting", "gibbs", "wrap", "bottom", "crop")
    }
    snr, white = uniform(generator, recipe.snr), uniform(generator, recipe.white)
    period = 2 + chosen(generator, 3)
    poses = random_poses(drawn_faults["motion"], generator) if drawn_faults["motion"] else []
    window = None
    if drawn_faults["bottom"] or drawn_faults["crop"]:
        window = random_window(slices.grid.shape, drawn_faults["bottom"], drawn_faults["crop"], generator)
    scan = Scan(
        slices,
        phase,
        snr,
        white,
        bias=drawn_faults["bias"],
        poses=tuple(poses),
        ghost=drawn_faults["ghosting"],
        period=period,
        gibbs=drawn_faults["gibbs"],
        wrap=drawn_faults["wrap"],
        window=window,
        face=face,
    )
    return scan, {**told, "phase_axis": phase, "snr": snr, "white": white, **drawn_faults}


def _slices(recipe: MriRecipe, generator: torch.Generator, grid: Grid) -> tuple[Stack, dict[str, Any]]:
    thickness, gap = happens(generator, recipe.thick), uniform(generator, recipe.gap)
    orientation = recipe.orientations[chosen(generator, len(recipe.orientations))]
    if thickness <= grid.spacing[ORIENTATIONS.index(orientation)]:
        return whole(grid), {"thickness": 0.0, "gap": 0.0, "orientation": "3d"}
    told = {"thickness": thickness, "gap": gap, "orientation": orientation}
    return stack(grid, orientation, thickness, gap), told
