"""A plan's dose against a second engine of another kind."""

from dataclasses import dataclass

from imaging.structures import TARGETS, StructureSet
from imaging.volume import Quantity, Volume
from planning.dose.bixel_dose import Progress
from planning.dose.superposition import superpose
from planning.machine import Machine
from planning.plan import Plan

from .compare import compare
from .gamma import GammaResult, gamma_pass

# What the engines may differ by in a target (% of the prescription): our choice, above the 1 to 2 % by
# which they differ in water.
_ACTION_PERCENT = 5.0


@dataclass(frozen=True, eq=False)
class IndependentCheck:
    """How far a plan's dose is from that of the second engine.

    Parameters
    ----------
    dose
        The second engine's dose (Gy), on the grid of the plan's.
    gamma_3_3, gamma_2_2
        Points above a tenth of the maximum that find their dose within 3 %/3 mm and 2 %/2 mm.
    mean_percent
        Mean dose of each structure: the plan's less the second engine's, in percent of the prescription.
    targets
        Which of the structures are targets.
    worst
        The structure with the greatest difference.
    agrees
        Whether no target differs by more than 5 %.
    """

    dose: Volume
    gamma_3_3: GammaResult
    gamma_2_2: GammaResult
    mean_percent: dict[str, float]
    targets: tuple[str, ...]
    worst: str
    agrees: bool


def independent_check(
    plan: Plan,
    density: Volume,
    structures: StructureSet,
    machine: Machine,
    dose: Volume,
    *,
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
    second = superpose(plan, density, dose.grid, machine, progress=progress)
    found = compare(dose, second, structures, plan.prescription)
    if not found:
        raise ValueError("expected structures on the dose grid, got none; check the frame of the structures")
    means = {name: values["mean_difference_percent"] for name, values in found.items()}
    targets = tuple(name for name in means if structures.structures[name].kind in TARGETS)
    return IndependentCheck(
        second,
        gamma_pass(second, dose, 3.0, 3.0, n_points=n_points, seed=seed),
        gamma_pass(second, dose, 2.0, 2.0, n_points=n_points, seed=seed),
        means,
        targets,
        max(means, key=lambda name: abs(means[name])),
        all(abs(means[name]) <= _ACTION_PERCENT for name in targets),
    )
