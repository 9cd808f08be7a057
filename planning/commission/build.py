"""A machine from a fitted beam."""

from dataclasses import replace

import numpy as np

from planning.dose.calibration import reference_dose
from planning.machine import Machine, PencilBeam

from .fit import Fitted
from .water import SAD, WIDTHS, shrink

# Every centimetre of source to surface distance that a patient can have; kernels change by 1 % between.
_SSDS = np.arange(500.0, 1101.0, 10.0)
_RADIUS = np.arange(0.0, 180.0, 0.5)


def machine_of(fitted: Fitted, geometry: Machine, name: str, gy_per_mu: float, calibration: str) -> Machine:
    """A machine with the fitted beam and the leaves and limits of another one.

    Parameters
    ----------
    fitted
        The beam.
    geometry
        Gives leaves, jaws and limits.
    name
        What plans call it, 16 characters at most.
    gy_per_mu
        Dose of one monitor unit at reference conditions: 100 mm deep in water, SSD 900 mm, a field of
        100 mm x 100 mm.
    calibration
        These conditions, in words.
    """
    beam = fitted.beam
    kernels = []
    for ssd in _SSDS:
        widths = np.array(WIDTHS)[:, None] * shrink(ssd)
        gaussians = np.exp(-((_RADIUS / widths) ** 2) / 2) / (2 * np.pi * widths**2)
        kernels.append(fitted.heights @ gaussians)
    pencil = PencilBeam(
        attenuation=beam.attenuation,
        betas=beam.betas,
        ssd=_SSDS,
        radius=_RADIUS,
        kernels=np.stack(kernels),
        penumbra_fwhm=beam.source * np.sqrt(8 * np.log(2)),
        off_axis_radius=beam.radius,
        off_axis_fluence=beam.horns,
        off_axis_depth=beam.softening,
    )
    bare = replace(geometry, name=name, beam=pencil, fluence_per_mu=1.0, calibration=calibration, sad=SAD)
    return replace(bare, fluence_per_mu=gy_per_mu / reference_dose(bare))
