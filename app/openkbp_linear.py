"""OpenKBP's patients planned by the linear models of OpenKBP-Opt, to compare other ways of mimicking with."""

import time
from dataclasses import dataclass, field

import numpy as np
import torch

from imaging.volume import Volume
from planning.machine import Machine
from planning.optimise.linear_matrix import merged, sparse, split, squares
from planning.optimise.linear_mimic import Gap, mimic_linearly
from planning.predict.criteria import judged_by_criteria
from planning.predict.patient import Patient, prescribed
from planning.predict.site import Site

from .openkbp_plans import Achieved, Mimicking, delivered_by, prepared, to_mimic


@dataclass(frozen=True)
class Linear:
    """How a linear model is made small enough to solve.

    Parameters
    ----------
    gap
        Which of the paper's four models.
    points
        Points of each region and fractions; priorities do not count here.
    side
        Of the squares that bixels are merged to (mm).
    lumped
        Of the squares whose far scatter is one (mm).
    least
        Share of a bixel's greatest dose that is scatter.
    seconds
        How long to search at most.
    """

    gap: Gap = Gap.MEAN_ABSOLUTE
    points: Mimicking = field(default_factory=lambda: Mimicking(n_target=1000, n_organ=100, n_tissue=100))
    side: float = 10.0
    lumped: float = 80.0
    least: float = 0.03
    seconds: float = 300.0


def linear_openkbp(
    patient: Patient, reference: Volume, machine: Machine, site: Site, how: Linear | None = None
) -> Achieved:
    """Fluence of standing coplanar fields from a linear model, and what it gives.

    Shells of tissue around the targets take the place of the paper's rings. Its models see all voxels, ours
    some: between few points a linear program leaves targets cold, so the comparison is fair to it only with
    as many as can be solved.

    Parameters
    ----------
    patient, reference, machine, site
        As :func:`app.openkbp_plans.planned_openkbp` takes them.
    how
        Model and size.

    Raises
    ------
    ValueError
        As :func:`app.openkbp_plans.planned_openkbp`, and
        :func:`planning.optimise.linear_mimic.mimic_linearly`.
    """
    start = time.monotonic()
    chosen = how or Linear()
    wanted = to_mimic(reference, patient).reshape(-1)
    ready = prepared(patient, machine, site, chosen.points)
    n_fractions = chosen.points.n_fractions
    groups = squares(ready.bixels, chosen.side)
    matrix = merged(sparse(ready.matrix, float(n_fractions)), groups)
    large = np.zeros(matrix.shape[1], dtype=np.int64)
    large[groups] = squares(ready.bixels, chosen.lumped)
    found = mimic_linearly(
        matrix,
        ready.drawn.regions,
        wanted[ready.drawn.rows].double().numpy(),
        prescribed(patient.structures),
        chosen.gap,
        split(matrix, large, chosen.least),
        chosen.seconds,
    )
    weights = torch.from_numpy(found.weights[groups])
    dose = delivered_by(ready, weights, machine, n_fractions)
    off = (dose.data - reference.data)[patient.possible.data > 0].abs().mean()
    judged = judged_by_criteria(dose, patient.structures, site)
    return Achieved(dose, judged, float(off), weights, None, time.monotonic() - start)
