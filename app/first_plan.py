"""A plan that was made before, and its patient where a second MRI shows them."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imaging.case import Case
from imaging.coregister import degrees_turned, motion_onto
from imaging.folder import read_case
from imaging.grid import Grid, indices, positions
from imaging.intensity import head_mask
from imaging.local_shift import local_shifts
from imaging.resample import resample, resample_structures
from imaging.structures import RoiType, StructureSet
from imaging.volume import Volume
from planning.contour.body import body_of

from . import goal_sheet, head_ct
from .asked import request_of
from .console import Progress
from .head_ct import HeadCt, ct_grid
from .paired_alignment import SHIFTED_MM
from .patient import kept_structures
from .report.seal import expect_sealed
from .request import Request

_TARGETS = (RoiType.GTV, RoiType.CTV, RoiType.PTV)
# Share of blocks of a head out of place. One head twice, a synthetic CT of it: 4 %; two heads: 55 % and 58 %.
_CHANGED, _ANOTHER = 0.1, 0.25
_UNSEEN_CC = 50.0  # of a patient that the first scan did not show: less is a shoulder


@dataclass(frozen=True, eq=False)
class First:
    """What another day's plan begins with.

    Parameters
    ----------
    scan
        The first MRI (volume ``mr``) and whose it is.
    head
        Its synthetic CT and what belongs to it.
    structures
        Organs and targets, on the CT's grid.
    request
        What was asked for.
    seal
        Hash of everything in the folder.
    """

    scan: Case
    head: HeadCt
    structures: StructureSet
    request: Request
    seal: str


def read_first(folder: Path) -> First:
    """The plan in a folder of ``spindose plan``, ``demo`` or ``adapt``, unaltered since.

    Raises
    ------
    ValueError
        If the folder holds no sealed plan, a file changed, or the plan cannot be asked for again.
    """
    told = expect_sealed(folder)
    facts = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    request = request_of(facts.get("request", {}))
    return First(
        read_case(folder / "scan"),
        head_ct.read(folder / "synthetic_ct"),
        kept_structures(read_case(folder / "contours")),
        replace(request, goal_sheet=goal_sheet.kept(folder / "delivery")),
        str(told["seal"]),
    )


def expect_same_patient(first: First, scan: Case) -> None:
    """Refuses a scan whose header names another patient than the first one's.

    Raises
    ------
    ValueError
        If both have a header and they differ.
    """
    one, other = first.scan.source, scan.source
    if one.modality and other.modality and one.patient_id != other.patient_id:
        raise ValueError(
            "expected a second MRI of the patient of the first plan, got another patient's; plan it by itself"
        )


def moved(first: First, mr: Volume, progress: Progress) -> HeadCt:
    """The first synthetic CT and structures where a second MRI shows the head, on its upright grid.

    Rigid, as :func:`imaging.coregister.motion_onto` finds it between the two MRI; then blocks of the CT are
    looked for in the second MRI (:func:`imaging.local_shift.local_shifts`), which tells a patient who
    changed, and another one, whatever the contrasts.

    Parameters
    ----------
    first
        What is moved.
    mr
        The second MRI.
    progress
        Told what happens and the share of it that is done.

    Returns
    -------
    HeadCt
        The same volumes as the first one's; structures are all of the first plan's, its targets too.

    Raises
    ------
    ValueError
        If the second MRI shows no head or another one.
    """
    progress("first MRI moved onto the second", 0.0)
    before = first.scan.volumes["mr"]
    motion = motion_onto(before, mr)
    progress("first MRI moved onto the second", 1.0)
    grid = ct_grid(mr.grid)
    volumes = {
        name: resample(_placed(volume, motion, mr.frame), grid)
        for name, volume in first.head.case.volumes.items()
    }
    placed = replace(first.structures, grid=_moved(first.structures.grid, motion), frame=mr.frame)
    progress("places of its parts", 0.0)
    cautions = _looked_at(volumes["ct"], mr, motion, placed.grid)
    progress("places of its parts", 1.0)
    return HeadCt(Case(volumes, resample_structures(placed, grid)), (*cautions, *first.head.cautions))


def without_targets(structures: StructureSet) -> StructureSet:
    """The organs of a structure set."""
    organs = {name: one for name, one in structures.structures.items() if one.kind not in _TARGETS}
    return replace(structures, structures=organs)


def _looked_at(ct: Volume, mr: Volume, motion: np.ndarray, whole: Grid) -> tuple[str, ...]:
    """What the reader must know of a CT that was moved; ``whole`` is the grid that it was on."""
    body = body_of(ct)
    shifts = local_shifts(ct, mr, body)
    share = float((shifts > SHIFTED_MM).float().mean()) if len(shifts) else 1.0
    off = (
        f"{100 * share:.0f} % of the head lies more than {SHIFTED_MM:g} mm from where the earlier plan has it"
    )
    if share > _ANOTHER:
        raise ValueError(
            f"expected a second MRI of the same head, got one of which {off}; check whose it is, or plan it "
            "by itself"
        )
    middle = positions(ct.grid, body.nonzero().double().mean(dim=0)[None].numpy())
    shift = np.linalg.norm(middle - (middle - motion[:3, 3]) @ motion[:3, :3])
    unseen = _unseen(mr, whole)
    always = (
        "Adapted from an earlier plan: its synthetic CT and organs, which no network made anew, were moved "
        f"rigidly ({shift:.1f} mm at the middle of the head, {degrees_turned(motion):.1f} degrees) onto this "
        "scan."
    )
    changed = f"The patient changed: {off}; look at organs and CT, or plan this scan by itself."
    beyond = f"This scan shows {unseen:.0f} cm³ of the patient that the earlier one did not: air to the dose."
    return (always, *((changed,) if share > _CHANGED else ()), *((beyond,) if unseen > _UNSEEN_CC else ()))


def _unseen(mr: Volume, grid: Grid) -> float:
    """How much (cm³) of the head in a scan lies beyond another grid."""
    head = head_mask(mr)
    inside = (head.data[0] > 0).nonzero().double().numpy()
    at = indices(grid, positions(head.grid, inside))
    beyond = ((at < -0.5) | (at > np.array(grid.shape) - 0.5)).any(axis=1)
    return float(beyond.sum()) * head.grid.voxel_volume / 1000


def _placed(volume: Volume, motion: np.ndarray, frame: str) -> Volume:
    return replace(volume, grid=_moved(volume.grid, motion), frame=frame)


def _moved(grid: Grid, motion: np.ndarray) -> Grid:
    return Grid(grid.shape, motion @ grid.affine)
