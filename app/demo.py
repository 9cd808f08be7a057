"""``spindose demo``: an embedded synthetic patient, planned from its MRI, checked on its true CT."""

from pathlib import Path

from imaging.case import Case
from imaging.grid import Grid
from imaging.resample import resample, resample_structures
from imaging.shapes import Mask
from imaging.tissue import Tissue
from planning.plan import Prescription
from synth.patient import patient

from .approved import with_models
from .console import Progress
from .patient import Planned, kept_structures, plan_patient
from .publish import Summary, Truth, publish
from .request import Request, Technique
from .steps import Walk
from .truth import truth

_SAME_MAKER = (
    "This patient and the anatomy prior of its synthetic CT were made by the same code: "
    "figures on real scans are worse."
)


def walk_demo(
    out: Path,
    seed: int,
    progress: Progress,
    spacing: float = 1.0,
    technique: Technique = Technique.IMRT,
) -> Summary:
    """The whole walk on a patient made by code, and the plan computed again on the true CT.

    Parameters
    ----------
    out
        Where results go; an earlier run there is gone on with.
    seed
        Which patient; two runs with one seed give the same files.
    progress
        Called with what happens now and the share of it that is done.
    spacing
        Voxel size of the patient's scans (mm).
    technique
        Standing fields or an arc.
    """
    walk = Walk(out, progress)
    # A patient made by code: nobody has to approve what it is tried on.
    request = with_models(Request(Prescription(60.0, 30), seed=seed, technique=technique), True)
    made = walk.case(
        "patient", "Synthetic patient", {"seed": seed, "spacing": spacing}, lambda: patient(seed, spacing)
    )
    scan = walk.case(
        "scan",
        "Reading the MRI",
        {},
        lambda: Case({"mr": made.volumes["t1"]}, source=made.source),
        after=("patient",),
    )
    tumour = kept_structures(made)

    def gtv(grid: Grid) -> Mask:
        return resample_structures(tumour, grid).mask("GTV")

    planned = plan_patient(walk, scan, "GTV of the synthetic patient", gtv, request)
    inputs = {"synthetic patient": walk.keys["patient"]}
    return publish(walk, planned, request, inputs, _truth(walk, planned, made), (_SAME_MAKER,))


def _truth(walk: Walk, planned: Planned, made: Case) -> Truth:
    """The plan on the true CT with the true body, beside the plan on the synthetic CT."""
    ct = resample(made.volumes["ct"], planned.ct.grid)
    body = resample(made.volumes["labels"], ct.grid).data[0] > Tissue.OUTSIDE
    return truth(walk, planned, ct, body, {"patient": walk.keys["patient"]})
