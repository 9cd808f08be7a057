"""Where a beam enters the patient, and whether it can."""

import numpy as np
from jaxtyping import Float64

from imaging.grid import indices
from imaging.volume import Quantity, Volume, expect_finite
from planning.beams import Beam, bev_axes, source_position
from planning.machine import Machine, expect_in_range

from .raytrace import surface_distance


def surface(beam: Beam, positions: Float64[np.ndarray, "n 2"], density: Volume, machine: Machine) -> float:
    """Distance from the source to the surface along the ray nearest the axis that meets tissue (mm).

    Parameters
    ----------
    beam
        Its direction.
    positions
        Where rays may pass, beside the axis: on the isocentre plane (mm).
    density
        Relative electron density.
    machine
        Its source distance.

    Raises
    ------
    ValueError
        If none of the rays meets tissue.
    """
    source, axes = source_position(beam, machine.sad), bev_axes(beam)
    nearest = np.argsort(np.hypot(*positions.T), kind="stable")
    for x, y in [np.zeros(2), *positions[nearest]]:
        ssd = surface_distance(density, source, beam.isocenter + x * axes[0] + y * axes[1])
        if ssd is not None:
            return ssd
    raise ValueError(
        f"expected tissue in the beam at gantry {beam.gantry:g}, couch {beam.couch:g}, got none; "
        "check the isocentre and the body contour"
    )


def expect_geometry(beam: Beam, density: Volume, machine: Machine) -> None:
    """Nothing, unless a beam would put dose in the wrong place.

    Raises
    ------
    ValueError
        If the density is not one or not finite, the machine cannot turn to the beam's angles, or
        the isocentre is outside the scan.
    """
    expect_finite(density.expect(Quantity.DENSITY))
    expect_in_range(beam, machine)
    index = indices(density.grid, beam.isocenter[None])[0]
    if not ((index >= -0.5) & (index <= np.array(density.grid.shape) - 0.5)).all():
        raise ValueError(
            f"expected an isocentre inside the scan, got {np.round(beam.isocenter, 1)} mm (LPS); "
            "move it to the target"
        )
