"""How far the patient's surface lies from the source, for each control point of a plan."""

from dataclasses import replace

from imaging.volume import Quantity, Volume

from .beams import Beam, source_position
from .dose.raytrace import surface_distance
from .machine import Machine
from .plan import Plan
from .rtplan_beam import SurfaceDistance


def surface_distances(plan: Plan, density: Volume, machine: Machine) -> dict[str, SurfaceDistance]:
    """Source to surface distance along the axis (mm), by the name of the beam, as an RTPLAN tells it.

    One number for a standing field; one for each control point of an arc, None where its axis misses the
    patient. A beam whose axis always misses is left out.

    Parameters
    ----------
    plan
        Beams with control points.
    density
        Relative electron density, zero outside the body.
    machine
        The linac.

    Raises
    ------
    ValueError
        If the volume is no density.
    """
    density.expect(Quantity.DENSITY)
    found: dict[str, SurfaceDistance] = {}
    for beam in plan.beams:
        known: dict[float, float | None] = {}
        for point in beam.control_points:
            if point.gantry not in known:
                known[point.gantry] = _distance(replace(beam, gantry=point.gantry), density, machine)
        told = [known[point.gantry] for point in beam.control_points]
        if len(known) == 1:
            told = told[:1]
        if any(distance is not None for distance in told):
            found[beam.name] = told if len(told) > 1 else told[0]
    return found


def _distance(beam: Beam, density: Volume, machine: Machine) -> float | None:
    return surface_distance(density, source_position(beam, machine.sad), beam.isocenter)
