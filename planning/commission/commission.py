"""From measurements to a machine that has been checked against those kept out of the fit."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from planning.machine import Machine

from .build import machine_of
from .fit import Fitted, fit
from .points import REFERENCE_SIDE
from .scans import Kind, Scan, Scans
from .tank import output_factor
from .verify import Verdict, verify

Progress = Callable[[str, float], None]

# Where no absolute dose is measured: the usual calibration of a linac in isocentric conditions.
_USUAL_GY_PER_MU = 0.01
_CONDITIONS = "at the isocentre, 100 mm deep in water, SSD 900 mm, field 100 mm x 100 mm"


@dataclass(frozen=True, eq=False)
class Commissioned:
    """A machine and how it compares with measurements.

    Parameters
    ----------
    machine
        The machine.
    fitted
        What was found for its beam.
    verdicts
        Measurements beside it: those fitted, those kept out, and those of other sets by their names.
    output
        Measured output factors and the machine's, by side (mm), for each set that has them.
    notes
        What was left out or assumed.
    """

    machine: Machine
    fitted: Fitted
    verdicts: Mapping[str, tuple[Verdict, ...]]
    output: Mapping[str, Mapping[float, tuple[float, float]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


FITTED, KEPT_OUT = "fitted", "kept out"


def commission(
    measured: Scans,
    geometry: Machine,
    name: str,
    *,
    keep_out: Collection[str] = (),
    others: Mapping[str, Scans] | None = None,
    gy_per_mu: float | None = None,
    progress: Progress | None = None,
) -> Commissioned:
    """A machine fitted to some fields and compared with all.

    Parameters
    ----------
    measured
        What a folder of measurements holds.
    geometry
        A machine whose leaves, jaws and limits hold for this one too, and whose kernels guide.
    name
        What plans call it.
    keep_out
        Fields that are only compared, such as ``10x10`` (cm).
    others
        Other measurements to compare with, by name.
    gy_per_mu
        Dose of one monitor unit at reference conditions; else the measured one; else 0.01, with a note.
    progress
        Told the share of the work that is done.

    Raises
    ------
    ValueError
        If no scan, or no depth dose, is left to fit, or a field to keep out is not measured.
    """
    known = {str(scan.opening) for scan in measured.scans}
    if unknown := sorted(set(keep_out) - known):
        raise ValueError(
            f"expected fields among {', '.join(sorted(known))} to keep out, got {', '.join(unknown)}; "
            "choose measured ones"
        )
    used = [scan for scan in measured.scans if str(scan.opening) not in keep_out]
    found = fit(used, _fitted_outputs(measured, keep_out), geometry, progress)
    dose, notes = _calibration(measured, gy_per_mu)
    machine = machine_of(found, geometry, name, dose, f"1 MU gives {dose:g} Gy {_CONDITIONS}")
    sets: dict[str, Sequence[Scan]] = {
        FITTED: used,
        KEPT_OUT: [scan for scan in measured.scans if str(scan.opening) in keep_out],
        **{key: other.scans for key, other in (others or {}).items()},
    }
    outputs = {key: _outputs(other, machine) for key, other in {FITTED: measured, **(others or {})}.items()}
    return Commissioned(
        machine,
        found,
        {key: verify(scans, machine) for key, scans in sets.items() if scans},
        {key: factors for key, factors in outputs.items() if factors},
        (*measured.notes, *notes),
    )


def middle_field(measured: Scans) -> list[str]:
    """The field to keep out where nobody says which: the middle one of three or more with depth doses."""
    openings = {scan.opening for scan in measured.scans if scan.kind is Kind.DEPTH}
    ordered = sorted(openings, key=lambda opening: opening.x * opening.y)
    return [str(ordered[len(ordered) // 2])] if len(ordered) > 2 else []


def _fitted_outputs(measured: Scans, keep_out: Collection[str]) -> dict[float, float]:
    """Output factors, without those of fields that are kept out."""
    return {
        side: factor
        for side, factor in measured.output.items()
        if f"{side / 10:g}x{side / 10:g}" not in keep_out
    }


def _outputs(measured: Scans, machine: Machine) -> dict[float, tuple[float, float]]:
    return {
        side: (factor, output_factor(side, machine))
        for side, factor in measured.output.items()
        if side != REFERENCE_SIDE
    }


def _calibration(measured: Scans, given: float | None) -> tuple[float, tuple[str, ...]]:
    if given is not None:
        return given, ()
    if measured.gy_per_mu is not None:
        return measured.gy_per_mu, ()
    note = f"no absolute dose is measured: {_USUAL_GY_PER_MU:g} Gy per MU at reference conditions is assumed"
    return _USUAL_GY_PER_MU, (note,)
