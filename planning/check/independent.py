"""A plan's dose against a second engine of another kind."""

from dataclasses import dataclass

from imaging.grid import Grid
from imaging.structures import TARGETS, StructureSet
from imaging.volume import Quantity, Volume
from planning.dose.bixel_dose import Progress
from planning.dose.superposition import superpose
from planning.machine import Machine
from planning.plan import Plan

from .compare import compare
from .gamma import GammaResult, gamma_pass

# What the engines may differ by in the mean of a target (% of the prescription): our choice, above the
# 1 to 2 % by which they differ in water.
TARGET_PERCENT = 5.0
# Points that pass 3 %/2 mm above 10 % of the maximum, global: the tolerance of AAPM TG-218, Miften et al.,
# Med. Phys. 45, e53 (2018), which is meant for measurements; the number is from memory.
GAMMA_PERCENT = 95.0


@dataclass(frozen=True, eq=False)
class IndependentCheck:
    """How far a plan's dose is from that of the second engine.

    Parameters
    ----------
    dose
        The second engine's dose (Gy).
    gamma_3_2, gamma_2_2
        Points above a tenth of the maximum that find their dose within 3 %/2 mm and 2 %/2 mm.
    differences
        For each structure what :func:`planning.check.compare.compare` gives, the second engine's dose
        as the reference.
    mean_percent
        Mean dose of each structure: the plan's less the second engine's, in percent of the prescription.
    targets
        Which of the structures are targets.
    worst
        The structure with the greatest difference.
    agrees
        Whether the mean of no target differs by more than ``TARGET_PERCENT``.
    gamma_agrees
        Whether ``GAMMA_PERCENT`` of the points pass 3 %/2 mm.
    """

    dose: Volume
    gamma_3_2: GammaResult
    gamma_2_2: GammaResult
    differences: dict[str, dict[str, float]]
    mean_percent: dict[str, float]
    targets: tuple[str, ...]
    worst: str
    agrees: bool
    gamma_agrees: bool


def independent_check(
    plan: Plan,
    density: Volume,
    structures: StructureSet,
    machine: Machine,
    dose: Volume,
    *,
    grid: Grid | None = None,
    n_points: int | None = 20_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> IndependentCheck:
    """A plan's dose against that of the collapsed cone, which knows electrons in air and bone.

    The second engine has its own physics (see :mod:`planning.dose.superposition`), but its spectrum and
    output are fitted to the machine's pencil beam in water and it shares the fluence map: it tells what
    tissue does, not whether the machine's data are right.

    Parameters
    ----------
    plan
        Beams with control points and monitor units.
    density
        Relative electron density, zero outside the body.
    structures
        Where means are compared.
    machine
        The machine that the plan names.
    dose
        Total dose of all fractions (Gy) that is to be checked.
    grid
        Where the second engine computes: the dose's own grid, or a coarser one that costs less.
    n_points
        Points of the gamma index, drawn with ``seed``; None for all.
    seed
        Seed of the draw.
    progress
        Told the share that is done, 0..1.

    Raises
    ------
    ValueError
        If the dose is not one, no structure lies on its grid, or for what
        :func:`planning.dose.superposition.superpose` refuses.
    """
    dose.expect(Quantity.DOSE)
    second = superpose(plan, density, grid or dose.grid, machine, progress=progress)
    found = compare(dose, second, structures, plan.prescription)
    if not found:
        raise ValueError("expected structures on the dose grid, got none; check the frame of the structures")
    means = {name: values["mean_difference_percent"] for name, values in found.items()}
    targets = tuple(name for name in means if structures.structures[name].kind in TARGETS)
    gamma = gamma_pass(second, dose, 3.0, 2.0, n_points=n_points, seed=seed)
    return IndependentCheck(
        second,
        gamma,
        gamma_pass(second, dose, 2.0, 2.0, n_points=n_points, seed=seed),
        found,
        means,
        targets,
        max(means, key=lambda name: abs(means[name])),
        all(abs(means[name]) <= TARGET_PERCENT for name in targets),
        gamma.pass_percent >= GAMMA_PERCENT,
    )
