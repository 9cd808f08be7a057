"""What a plan made on MRI alone would be on water, and on the true CT where there is one."""

from collections.abc import Callable
from dataclasses import dataclass

from imaging.structures import TARGETS, StructureSet
from imaging.volume import Quantity, Volume
from planning.dose.forward import calculate
from planning.machine import Machine
from planning.plan import Plan

from .compare import compare

# A head of water alone gives doses that differ from the CT's by up to 4 to 5 % in the head and neck
# (Karotki et al., J. Appl. Clin. Med. Phys. 12(4), 97 (2011)): a synthetic CT that is further from water in
# the mean of a target is none.
WATER_PERCENT = 5.0
# What the mean of a target may differ by from the true CT (% of the prescription): our acceptance.
TRUTH_PERCENT = 1.0


@dataclass(frozen=True, eq=False)
class MriOnlyCheck:
    """How far a plan's dose on the synthetic CT is from that on water and on the true CT.

    Parameters
    ----------
    water
        Dose (Gy) with the whole body as water.
    from_water, from_truth
        For each structure what :func:`planning.check.compare.compare` gives, the plan's dose less that on
        water or on the true CT; ``from_truth`` is None where there is no true CT.
    targets
        Which of the structures are targets.
    water_agrees, truth_agrees
        Whether the mean of no target differs by more than ``WATER_PERCENT`` and ``TRUTH_PERCENT``.
    """

    water: Volume
    from_water: dict[str, dict[str, float]]
    from_truth: dict[str, dict[str, float]] | None
    targets: tuple[str, ...]
    water_agrees: bool
    truth_agrees: bool | None


def mri_only_check(
    plan: Plan,
    density: Volume,
    structures: StructureSet,
    machine: Machine,
    dose: Volume,
    *,
    true_dose: Volume | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> MriOnlyCheck:
    """A plan's dose on the synthetic CT beside the same plan's on bulk water and on the true CT.

    Parameters
    ----------
    plan
        Beams with control points and monitor units.
    density
        Relative electron density of the synthetic CT, zero outside the body.
    structures
        Where doses are compared.
    machine
        The machine that the plan names.
    dose
        Total dose (Gy) on the synthetic CT.
    true_dose
        Total dose (Gy) of the same plan on the true CT, where there is one.
    progress
        Told the share that is done, 0..1.

    Raises
    ------
    ValueError
        If a volume is not a dose, or no structure lies on its grid.
    """
    for volume in (dose, *(() if true_dose is None else (true_dose,))):
        volume.expect(Quantity.DOSE)
    water = calculate(plan, bulk_water(density), dose.grid, machine, progress=progress)
    from_water = compare(dose, water, structures, plan.prescription)
    if not from_water:
        raise ValueError("expected structures on the dose grid, got none; check the frame of the structures")
    from_truth = None if true_dose is None else compare(dose, true_dose, structures, plan.prescription)
    targets = tuple(name for name in from_water if structures.structures[name].kind in TARGETS)
    return MriOnlyCheck(
        water,
        from_water,
        from_truth,
        targets,
        _within(from_water, targets, WATER_PERCENT),
        None if from_truth is None else _within(from_truth, targets, TRUTH_PERCENT),
    )


def bulk_water(density: Volume) -> Volume:
    """Water wherever there is body, its air and bone too."""
    body = (density.expect(Quantity.DENSITY).data > 0).float()
    return Volume(body, density.grid, Quantity.DENSITY, density.frame)


def _within(found: dict[str, dict[str, float]], targets: tuple[str, ...], percent: float) -> bool:
    return all(abs(found[name]["mean_difference_percent"]) <= percent for name in targets if name in found)
