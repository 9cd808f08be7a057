"""What a finished plan is held against: an earlier run's folder, and the errors that may be."""

from dataclasses import dataclass, replace
from pathlib import Path

from imaging.folder import read_case
from imaging.nifti import read_nifti
from imaging.nifti_vectors import read_displacement
from imaging.structures import RoiType, StructureSet, named
from imaging.volume import Quantity, Volume
from planning.check.first_failure import ErrorKind
from planning.density import relative_electron_density
from planning.displacement import expect_displacement, most_of
from planning.distortion import Scanner, distortion
from planning.goals import Comparison, Goal, brain_goals, read_sheet, same_name
from planning.hu_deviation import density_deviation
from planning.machine import Machine, load_machine
from planning.plan import Plan
from planning.plan_file import read_plan
from planning.scenarios import (
    corner_scenarios,
    density_scenarios,
    distortion_scenarios,
    expect_deviation,
    setup_scenarios,
)

from .optimised import BODY
from .patient import kept_structures


@dataclass(frozen=True)
class Errors:
    """What a plan shall be held against.

    Parameters
    ----------
    setup_mm
        How far the patient may lie from where the plan has them; 0 for no such error.
    density_uncertainty, hu_uncertainty
        NIfTI file of one standard deviation of the relative electron density, or of the HU.
    distortion
        NIfTI file of the MR scanner's displacements (mm): tissue at x appears at x + u(x).
    scanner
        A model of them where none were measured; either way round, as the readout's sense is not known.

    Raises
    ------
    ValueError
        If there is no error, or one is told twice.
    """

    setup_mm: float = 3.0
    density_uncertainty: Path | None = None
    hu_uncertainty: Path | None = None
    distortion: Path | None = None
    scanner: Scanner | None = None

    def __post_init__(self) -> None:
        if self.density_uncertainty is not None and self.hu_uncertainty is not None:
            raise ValueError("expected the uncertainty of the density or of the HU, got both; give one")
        if self.distortion is not None and self.scanner is not None:
            raise ValueError("expected a measured distortion or a model of the scanner, got both; give one")
        if not self.setup_mm and not self.files and self.scanner is None:
            raise ValueError("expected at least one kind of error, got none; give --setup-error or a file")

    @property
    def files(self) -> dict[str, Path]:
        """Every file by what it is."""
        told = {
            "density's standard deviation": self.density_uncertainty,
            "HU's standard deviation": self.hu_uncertainty,
            "MR distortion": self.distortion,
        }
        return {name: path for name, path in told.items() if path is not None}


@dataclass(frozen=True, eq=False)
class Finished:
    """A plan as an earlier run left it, and what may be wrong with it."""

    plan: Plan
    density: Volume
    structures: StructureSet
    goals: tuple[Goal, ...]
    dose: Volume
    machine: Machine
    deviation: Volume | None
    distortion: Volume | None


def finished(planned: Path, errors: Errors) -> Finished:
    """What an earlier run kept, with what may be wrong with it.

    Raises
    ------
    ValueError
        If the folder holds no finished run, or a file of errors cannot be one of its patient.
    """
    kept = {name: planned / name for name in ("synthetic_ct", "contours", "delivery", "dose")}
    if not all(folder.is_dir() for folder in kept.values()):
        raise ValueError(
            "expected the folder of a finished 'spindose plan' or 'spindose demo', got another; plan first"
        )
    ct = read_case(kept["synthetic_ct"]).volumes["ct"]
    structures = kept_structures(read_case(kept["contours"]))
    density = relative_electron_density(ct, structures.mask(BODY))
    plan = read_plan(kept["delivery"] / "plan.json")
    own = kept["delivery"] / "goals.toml"
    return Finished(
        plan,
        density,
        structures,
        of_the_ctv(
            read_sheet(own.read_text(encoding="utf-8")) if own.is_file() else brain_goals(), structures
        ),
        read_case(kept["dose"]).volumes["dose"],
        load_machine(plan.machine),
        _deviation(errors, ct, density),
        _distortion(errors, density),
    )


def of_the_ctv(goals: tuple[Goal, ...], structures: StructureSet) -> tuple[Goal, ...]:
    """Goals, and the coverage that they ask of the PTV asked of the CTV as well.

    The margin of a PTV is there to be used up by errors: whether a plan holds shows in the CTV.
    """
    more = [
        replace(goal, structure=name, source=f"What is asked of the {goal.structure}, for the CTV in it")
        for name in named(structures, RoiType.CTV)
        for goal in goals
        if goal.comparison is Comparison.AT_LEAST
        and any(same_name(goal.structure, ptv) for ptv in named(structures, RoiType.PTV))
    ]
    return (*goals, *(one for one in more if not any(_same(one, other) for other in goals)))


def _same(goal: Goal, other: Goal) -> bool:
    return same_name(goal.structure, other.structure) and goal.text == other.text


def error_kinds(here: Finished, errors: Errors) -> tuple[ErrorKind, ...]:
    """The kinds of errors, with the ways in which each comes."""
    kinds = []
    if errors.setup_mm:
        ways = (*setup_scenarios(errors.setup_mm)[1:], *corner_scenarios(errors.setup_mm)[1:])
        kinds.append(ErrorKind("Set-up shift", errors.setup_mm, "mm", ways))
    if here.deviation is not None:
        ways = density_scenarios()[1:]
        kinds.append(ErrorKind("Density of the synthetic CT", 1.0, "standard deviations", ways))
    if here.distortion is not None:
        ways = distortion_scenarios((1.0,) if errors.scanner is None else (-1.0, 1.0))[1:]
        kinds.append(ErrorKind("MR distortion", 1.0, "times the field", ways, most_of(here.distortion)))
    return tuple(kinds)


def parameters(errors: Errors, here: Finished) -> dict[str, str]:
    """What a plan was held against, in words."""
    rx = here.plan.prescription
    told = {
        "prescription": f"{rx.dose_gy:g} Gy in {rx.n_fractions} fractions",
        "machine": here.plan.machine,
        "dose grid": f"{max(here.dose.grid.spacing):g} mm",
    }
    if errors.setup_mm:
        told["set-up error"] = f"{errors.setup_mm:g} mm along each axis and towards each corner"
    if here.deviation is not None:
        told["density error"] = "1 standard deviation either way, everywhere alike"
    if errors.distortion is not None:
        told["MR distortion"] = "the field that was given"
    if errors.scanner is not None:
        s = errors.scanner
        told["MR distortion"] = (
            f"model, either way round: {s.tesla:g} T, {s.hz_per_mm:g} Hz/mm read along {s.readout}, "
            f"gradients {s.gradient_mm:g} mm at 100 mm from the middle of the head"
        )
    return told


def _deviation(errors: Errors, ct: Volume, density: Volume) -> Volume | None:
    if errors.density_uncertainty is not None:
        return expect_deviation(read_nifti(errors.density_uncertainty, Quantity.DENSITY), density)
    if errors.hu_uncertainty is not None:
        sigma = read_nifti(errors.hu_uncertainty, Quantity.HU_DEVIATION)
        return expect_deviation(density_deviation(sigma, ct), density)
    return None


def _distortion(errors: Errors, density: Volume) -> Volume | None:
    if errors.distortion is not None:
        return expect_displacement(read_displacement(errors.distortion))
    return None if errors.scanner is None else expect_displacement(distortion(density, errors.scanner))
