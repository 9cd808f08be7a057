"""Patients in OpenKBP's layout planned on their own CT: fluence of our beams that mimics a dose.

Where the data tell no machine (Babier et al., Med. Phys. 48, 5549 (2021)) whether a dose can be delivered
shows when a machine of ours is asked for it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from imaging.grid import positions
from imaging.shapes import Mask, Points
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.contour.body import body_of
from planning.density import relative_electron_density
from planning.dose.aperture import Lattice
from planning.dose.bixel_dose import FULL_CUTOFF
from planning.dose.bixels import Bixels, covering
from planning.dose.field import dose as dose_of_fluence
from planning.dose.field import views
from planning.dose.influence import Influence, influence
from planning.machine import Machine
from planning.optimise.fluence import Ended, optimise_fluence
from planning.optimise.objectives import Objective, SquaredUnderdose
from planning.optimise.sampling import Drawn, at, draw
from planning.optimise.voxelwise import Mimic
from planning.predict.aimed import coplanar, middle_of
from planning.predict.criteria import Judged, judged_by_criteria
from planning.predict.patient import Patient, prescribed
from planning.predict.site import Site

BODY = "tissue"
# Tissue is looked at by its distance from the targets (mm): near them dose falls, far it is low and smooth.
_SHELLS = ((0.0, 5.0), (5.0, 15.0), (15.0, 40.0), (40.0, np.inf))
_MARGIN = 5.0  # of bixels beyond the targets (mm)


@dataclass(frozen=True)
class Mimicking:
    """How a dose is mimicked.

    Parameters
    ----------
    n_fractions
        Fractions that the dose is given in: 35, as 70 Gy are.
    target, organ, tissue
        Priorities of the voxels of each target, organ and shell of tissue.
    organ_under
        What less dose than the reference's counts in organs and tissue, where more counts 1.
    anchor
        Priority of each target's lack of the share ``anchored`` of its prescription, whatever the
        reference says.
    anchored
        The share of the prescription; the criteria ask 95 % of it of 99 % of a target.
    n_target, n_organ, n_tissue
        Points that are drawn in each of them at most.
    max_iterations
        Of the search for the fluence.

    Raises
    ------
    ValueError
        If there are no fractions, a priority is negative, or there are fewer than 10 points.
    """

    n_fractions: int = 35
    target: float = 100.0
    organ: float = 20.0
    tissue: float = 10.0
    organ_under: float = 0.1
    anchor: float = 100.0
    anchored: float = 0.98
    n_target: int = 2000
    n_organ: int = 600
    n_tissue: int = 1000
    max_iterations: int = 120

    def __post_init__(self) -> None:
        factors = (self.target, self.organ, self.tissue, self.organ_under, self.anchor, self.anchored)
        if self.n_fractions < 1 or min(factors) < 0:
            raise ValueError("expected fractions and priorities of 0 or more to mimic with, got others")
        if min(self.n_target, self.n_organ, self.n_tissue, self.max_iterations) < 10:
            raise ValueError("expected 10 points and iterations or more to mimic with, got fewer")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A patient as the search for a fluence sees it.

    Parameters
    ----------
    density
        Relative electron density, 0 outside the body.
    inside
        Voxels that get dose, shape ``(i, j, k)``.
    beams, bixels
        Directions, and the bixels of each.
    voxels
        Of each region, counted through the patient's grid.
    drawn
        Points: some voxels of each region.
    matrix
        Dose of bixels at the points, in one fraction.
    """

    density: Volume
    inside: Mask
    beams: tuple[Beam, ...]
    bixels: tuple[Bixels, ...]
    voxels: Mapping[str, Int64[Tensor, " _"]]
    drawn: Drawn
    matrix: Influence


@dataclass(frozen=True, eq=False)
class Achieved:
    """What our beams make of a reference.

    Parameters
    ----------
    dose
        Total (Gy), on the patient's grid, 0 where OpenKBP expects none.
    judged
        Its clinical criteria.
    off_gy
        Mean absolute difference from the reference where dose may be.
    weights
        Of the bixels, beam after beam.
    ended
        Why the search ended; None of a linear program, which ends at its optimum.
    seconds
        How long all of it took.
    """

    dose: Volume
    judged: tuple[Judged, ...]
    off_gy: float
    weights: Float[Tensor, " m"]
    ended: Ended | None
    seconds: float


def planned_openkbp(
    patient: Patient, reference: Volume, machine: Machine, site: Site, how: Mimicking | None = None
) -> Achieved:
    """Fluence of standing coplanar fields that mimics a dose on a patient's own CT, and what it gives.

    Targets are to get the reference's dose, and their prescription where the reference lacks it; organs and
    tissue no more than the reference's, point by point.

    Parameters
    ----------
    patient
        As :func:`planning.predict.openkbp.read_patient` gives it.
    reference
        The dose to mimic (Gy), true or predicted, on the patient's grid.
    machine
        Whose leaves are as wide as bixels are long.
    site
        Its gantry angles are those of the beams.
    how
        Priorities and points.

    Raises
    ------
    ValueError
        If the reference lies on another grid or is no dose, or for what :func:`prepared` refuses.
    """
    start = time.monotonic()
    chosen = how or Mimicking()
    wanted = to_mimic(reference, patient)
    ready = prepared(patient, machine, site, chosen)
    found = optimise_fluence(
        ready.matrix,
        at(terms_for(patient, wanted, ready, chosen), ready.drawn),
        ready.drawn.regions,
        ready.drawn.weights,
        max_iterations=chosen.max_iterations,
        scaled=True,
    )
    dose = delivered_by(ready, found.weights, machine, chosen.n_fractions)
    off = (dose.data - reference.data)[patient.possible.data > 0].abs().mean()
    judged = judged_by_criteria(dose, patient.structures, site)
    return Achieved(dose, judged, float(off), found.weights, found.ended, time.monotonic() - start)


def to_mimic(reference: Volume, patient: Patient) -> Float[Tensor, "i j k"]:
    """Values (Gy) of a dose that a plan of a patient can be asked to mimic.

    Raises
    ------
    ValueError
        If it lies on another grid than the patient, or a dose is negative or not finite.
    """
    wanted = reference.expect(Quantity.DOSE).data[0]
    if reference.grid != patient.ct.grid:
        raise ValueError("expected a dose to mimic on the patient's grid, got another; resample it")
    if not bool(torch.isfinite(wanted).all()) or float(wanted.min()) < 0:
        raise ValueError("expected doses of 0 Gy or more to mimic, got negative ones or none")
    return wanted


def prepared(patient: Patient, machine: Machine, site: Site, how: Mimicking) -> Prepared:
    """Beams, bixels, points and influence of a patient.

    Raises
    ------
    ValueError
        If the site tells no gantry angles, the machine's leaves are not as wide as bixels, or for what
        :func:`planning.dose.bixels.covering` and :func:`planning.dose.influence.influence` refuse.
    """
    if not site.gantry:
        raise ValueError("expected a site with gantry angles to plan on, got none; tell some")
    grid = patient.ct.grid
    targets = _union([patient.structures.mask(name) for name in prescribed(patient.structures)])
    possible = patient.possible.data[0] > 0
    density = relative_electron_density(patient.ct, body_of(patient.ct) | targets)
    beams = coplanar(site.gantry, middle_of(targets, grid))
    seen = positions(grid, targets.nonzero().double().numpy())
    bixels = tuple(covering(seen, beam, machine, _MARGIN) for beam in beams)
    if any(own.width[0] != own.width[1] for own in bixels):
        raise ValueError("expected leaves as wide as bixels are long, 5 mm; choose another machine")
    inside = possible & (density.data[0] > 0)
    voxels = _regions(patient, targets, inside)
    drawn = _drawn(voxels, patient, how)
    points = _points(patient, drawn.rows)
    matrix = influence(beams, bixels, density, points, machine, cutoff=FULL_CUTOFF)
    return Prepared(density, inside, beams, bixels, voxels, drawn, matrix)


def terms_for(
    patient: Patient, wanted: Float[Tensor, "i j k"], ready: Prepared, how: Mimicking
) -> tuple[Objective, ...]:
    """What is minimised (Gy in one fraction): the voxels of every region, and the targets' prescriptions.

    Parameters
    ----------
    patient
        Whose targets have prescriptions.
    wanted
        Total dose to mimic (Gy).
    ready
        Whose regions are looked at.
    how
        Priorities.
    """
    targets = prescribed(patient.structures)
    flat = wanted.reshape(-1) / how.n_fractions
    terms: list[Objective] = []
    for name, voxels in ready.voxels.items():
        own = flat[voxels]
        if name in targets:
            least = how.anchored * targets[name] / how.n_fractions
            terms.append(Mimic(name, own, priority=how.target))
            terms.append(SquaredUnderdose(name, least, how.anchor))
        else:
            priority = how.tissue if name.startswith(BODY) else how.organ
            terms.append(Mimic(name, own, under=how.organ_under, priority=priority))
    return tuple(terms)


def delivered_by(ready: Prepared, weights: Float[Tensor, " m"], machine: Machine, n_fractions: int) -> Volume:
    """Total dose (Gy) of bixel weights, on the patient's grid, 0 where none may be."""
    grid = ready.density.grid
    points = positions(grid, ready.inside.nonzero().double().numpy())
    lattice, maps = _maps(ready.bixels, weights)
    data = torch.zeros(grid.shape)
    given = dose_of_fluence(views(ready.beams, ready.density, points, machine), maps, lattice)
    data[ready.inside] = given.clamp(min=0) * n_fractions
    return Volume(data[None], grid, Quantity.DOSE, ready.density.frame)


def _maps(bixels: Sequence[Bixels], weights: Float[Tensor, " m"]) -> tuple[Lattice, Float[Tensor, "b x y"]]:
    """The bixels of all beams on one lattice, a map for each."""
    width = bixels[0].width[0]
    every = np.concatenate([own.positions for own in bixels])
    low = every.min(axis=0)
    across, along = (np.round((every.max(axis=0) - low) / width).astype(int) + 1).tolist()
    maps = torch.zeros(len(bixels), across, along)
    for map_, own, part in zip(maps, bixels, weights.split([len(b.positions) for b in bixels]), strict=True):
        place = torch.from_numpy(np.round((own.positions - low) / width).astype(np.int64))
        map_[place[:, 0], place[:, 1]] = part.float()
    return Lattice((float(low[0]), float(low[1])), (across, along), width), maps


def _regions(patient: Patient, targets: Mask, inside: Mask) -> dict[str, Int64[Tensor, " _"]]:
    """Voxels of targets, each but what a higher one has, of organs, and of shells of tissue around them."""
    structures = patient.structures.structures
    out: dict[str, Mask] = {}
    taken = torch.zeros_like(inside)
    doses = prescribed(patient.structures)
    for name in sorted(doses, key=lambda one: -doses[one]):
        out[name] = structures[name].mask & inside & ~taken
        taken |= structures[name].mask
    for name, structure in structures.items():
        if name not in doses:
            out[name] = structure.mask & inside
            taken |= structure.mask
    away = torch.from_numpy(distance_transform_edt(~targets.numpy(), sampling=patient.ct.grid.spacing))
    for low, high in _SHELLS:
        out[f"{BODY} {low:g} to {high:g} mm"] = inside & ~taken & (away > low) & (away <= high)
    voxels = {name: mask.reshape(-1).nonzero()[:, 0] for name, mask in out.items()}
    return {name: own for name, own in voxels.items() if len(own)}


def _drawn(voxels: Mapping[str, Int64[Tensor, " _"]], patient: Patient, how: Mimicking) -> Drawn:
    targets = prescribed(patient.structures)
    shares = {}
    for name, own in voxels.items():
        other = how.n_tissue if name.startswith(BODY) else how.n_organ
        shares[name] = min((how.n_target if name in targets else other) / len(own), 1.0)
    return draw(voxels, shares)


def _points(patient: Patient, rows: Int64[Tensor, " n"]) -> Points:
    grid = patient.ct.grid
    index = np.stack(np.unravel_index(rows.numpy(), grid.shape), axis=1)
    return positions(grid, index.astype(np.float64))


def _union(masks: Sequence[Mask]) -> Mask:
    return torch.stack(list(masks)).any(dim=0)
