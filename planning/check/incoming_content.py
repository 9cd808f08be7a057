"""Whether structures and dose hold what their plan needs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from imaging.dicom.rtdose import read_rtdose
from imaging.grid import Grid, indices
from planning.rtplan_machine import treatment_beams

from .findings import Finding, flagged, refused
from .incoming_beams import n_fractions, prescribed
from .incoming_set import IncomingSet, text

# The hottest voxel of a plan over what is prescribed: less would not treat, and even a dose prescribed to
# the 50 % isodose is not hotter. Our choice.
_COLDEST, _HOTTEST = 0.8, 2.5
# The same for the dose of one fraction, of at least so many that the two cannot be mixed up.
_ONE_FRACTION = (0.8, 1.6)
_FEWEST_FRACTIONS = 3


def structure_findings(came: IncomingSet) -> Iterator[Finding]:
    """Whether what the plan prescribes to is drawn, and a body and a target are."""
    if came.structures is None:
        return
    rois = {int(roi.ROINumber) for roi in came.structures.get("StructureSetROISequence") or []}
    drawn = {
        int(c.ReferencedROINumber)
        for c in came.structures.get("ROIContourSequence") or []
        if c.get("ContourSequence")
    }
    for reference in came.plan.get("DoseReferenceSequence") or []:
        number = reference.get("ReferencedROINumber")
        if number is not None and int(number) not in drawn:
            lacks = "which has no contours" if int(number) in rois else "which the structure set lacks"
            yield refused(
                f"expected structure {int(number)} that the plan prescribes to among the structures, got "
                f"one {lacks}; take the structures that the plan was made on"
            )
    kinds = {
        text(o, "RTROIInterpretedType")
        for o in came.structures.get("RTROIObservationsSequence") or []
        if int(o.ReferencedROINumber) in drawn
    }
    for wanted, what in (({"EXTERNAL"}, "a body outline"), ({"GTV", "CTV", "PTV"}, "a target")):
        if not kinds & wanted:
            yield flagged(
                f"expected {what} among the structures ({', '.join(sorted(wanted))}), got none with "
                "contours; name one before the plan is judged"
            )


def _isocenters(plan: Dataset, grid: Grid) -> Iterator[Finding]:
    """Whether the beams meet where the dose lies: a frame of reference can be right by name alone."""
    for beam in treatment_beams(plan):
        points = beam.get("ControlPointSequence") or []
        place = points[0].get("IsocenterPosition") if points else None
        if not place:
            continue
        (index,) = indices(grid, np.asarray(place, dtype=np.float64)[None])
        if (index < -0.5).any() or (index > np.array(grid.shape) - 0.5).any():
            yield flagged(
                f"expected the isocentre of beam {int(beam.BeamNumber)} inside the dose, got one outside it; "
                "look whether plan and dose belong together"
            )
            return


def dose_findings(path: Path, plan: Dataset) -> Iterator[Finding]:
    """Whether the dose is the whole plan's, in Gy, and of the size of what is prescribed."""
    dose, _ = read_rtdose(path)
    yield from _isocenters(plan, dose.grid)
    hottest = float(dose.data.max())
    if hottest <= 0:
        yield refused("expected a dose above 0 Gy somewhere, got none; export the dose again")
        return
    wanted, fractions = prescribed(plan), n_fractions(plan)
    if wanted is None or _COLDEST <= hottest / wanted <= _HOTTEST:
        return
    share = hottest / wanted * (fractions or 1)
    if fractions and fractions >= _FEWEST_FRACTIONS and _ONE_FRACTION[0] <= share <= _ONE_FRACTION[1]:
        yield refused(
            f"expected the dose of all {fractions} fractions, about {wanted:g} Gy, got one of at most "
            f"{hottest:.3g} Gy as of one fraction; export the dose of the whole plan"
        )
        return
    yield refused(
        f"expected a greatest dose near the prescribed {wanted:g} Gy, got {hottest:.3g} Gy: its scaling is "
        "lost or it is another dose; export the dose again"
    )
