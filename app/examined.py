"""What is found on an MRI before and after a synthetic CT is made of it: reasons not to, and cautions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from imaging.dicom.gaps import slice_gap
from imaging.grid import positions
from imaging.intensity import correct_bias, head_mask
from imaging.shapes import Mask, Point
from imaging.volume import Volume
from mr2ct.convert import SyntheticCt, unsureness
from mr2ct.domain import explained, unlike_adult, unlike_head_ct, unseen_in_mr
from mr2ct.lie import lie
from mr2ct.skull import skull
from mr2ct.unseen import beyond, cut_sides, deep_air, doubted, removed, seen_box, voids
from synth.anatomy import anatomy

_PRIOR_VOXELS = 4.0  # mm
_THICK = 4.0  # mm: slices further apart smear the bone between them
_GAP = 0.05  # of the distance between slices that may lie between them unseen
_MANY = 3  # voids that are told one by one
_SIDES = (("right of", "left of"), ("in front of", "behind"), ("below", "above"))


@dataclass(frozen=True, eq=False)
class Examined:
    """What a scan shows and does not show.

    Parameters
    ----------
    head
        Label 1 inside the head; None where none was found.
    even
        The first contrast, without its bias field where a head was found and that was asked for.
    reasons
        What tells it from an adult's head, clauses.
    cut
        Sides of the patient where it ends inside the head.
    cautions
        What the reader of its CT must know, one sentence each.
    unknown
        Voxels that it says nothing of.
    """

    head: Volume | None
    even: Volume
    reasons: tuple[str, ...]
    cut: tuple[str, ...]
    cautions: tuple[str, ...]
    unknown: Mask


def examined(mr: Volume, bias_correction: bool = True) -> Examined:
    """What the first contrast of a scan shows, freed of its bias field first if that is asked for."""
    first = replace(mr, data=mr.data[:1])
    nothing = torch.zeros(mr.grid.shape, dtype=torch.bool)
    try:
        head = head_mask(first)
    except ValueError as error:
        # Its sentence says what was expected instead; what was found stands between comma and semicolon.
        found = str(error).partition(", ")[2].partition(";")[0]
        return Examined(None, first, (f"in which no whole head is found ({found})",), (), (), nothing)
    box = seen_box(first)
    cut = cut_sides(head, box)
    even = correct_bias(first, head) if bias_correction else first
    reasons = unlike_adult(even, head, cut)
    sides = sorted(set(cut) - {"neck"})
    return Examined(head, even, reasons, tuple(cut), _of_cuts(sides), beyond(mr.grid, box, cut))


@dataclass(frozen=True, eq=False)
class Judged:
    """What is found on a synthetic CT.

    Parameters
    ----------
    ct
        On the scan's grid, unsure where nothing is known.
    reasons
        What tells it from the CT of a head, clauses.
    cautions
        What its reader must know, one sentence each.
    """

    ct: SyntheticCt
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]


def judged(found: SyntheticCt, shown: Examined) -> Judged:
    """What is found on a synthetic CT of an examined scan, and the CT on its voxels.

    A thin skull is looked for on the networks' voxels, before slices of the scan smear it.
    """
    grid = shown.even.grid
    prior, here = anatomy(_PRIOR_VOXELS), found.on(grid)
    # The networks answer beside oblique slices too, with air that would seem to have been seen.
    fits = lie(here.ct, prior)
    whole = shown.head is not None and not set(shown.cut) - {"neck"}
    unknown, cautions = shown.unknown, []
    reasons = unlike_head_ct(skull(found.ct, grid), fits, unsureness(found), whole)
    if shown.head is not None:
        reasons += unseen_in_mr(explained(shown.even, here.ct, shown.head))
    if shown.head is not None and not (shown.reasons or reasons):
        empty = voids(shown.even, shown.head, prior, fits.offset)
        middle = positions(grid, shown.head.data[0].nonzero().double().numpy()).mean(axis=0)
        cautions = [_of_void(void.cc, _where(void.middle - middle)) for void in empty[:_MANY]]
        for void in empty:
            unknown = unknown | void.mask
        airs = deep_air(here.ct, prior, fits.offset)
        cautions += [_of_deep_air(air.cc, _where(air.middle - middle)) for air in airs[:_MANY]]
        for air in airs:
            unknown = unknown | air.mask
        if (gone := removed(shown.even, prior, fits.offset)) is not None:
            unknown = unknown | gone
            there = positions(grid, gone.nonzero().double().numpy()).mean(axis=0) - middle
            cautions.append(_of_removed(float(gone.sum()) * grid.voxel_volume / 1000, _where(there)))
    return Judged(doubted(here, unknown), reasons, tuple(cautions))


def without_bias(mr: Volume, head: Volume) -> Volume:
    """Contrasts without their bias fields, found inside the head (label 1) by N4."""
    each = [correct_bias(replace(mr, data=channel[None]), head).data for channel in mr.data]
    return replace(mr, data=torch.cat(each))


def _of_cuts(sides: Sequence[str]) -> tuple[str, ...]:
    said = (
        f"The scan ends inside the head ({', '.join(sides)}): what lies beyond is not known, so no beam "
        "may enter there."
    )
    return (said,) if sides else ()


def _where(away: Point) -> str:
    """Which way from the head's middle (LPS, mm), in words."""
    axis = int(np.abs(away).argmax())
    return _SIDES[axis][int(away[axis] > 0)]


def _of_void(cc: float, where: str) -> str:
    return (
        f"A void of {cc:.0f} cm³ without signal lies {where} the head's middle, where heads have no air: "
        "metal, a cavity or a dropout; its CT numbers are not known."
    )


def _of_deep_air(cc: float, where: str) -> str:
    return (
        f"The synthetic CT has {cc:.1f} cm³ of air {where} the head's middle, deep in the head, where heads "
        "have none: fluid that this contrast nulls, or a dropout; give another contrast beside it."
    )


def _of_removed(cc: float, where: str) -> str:
    return (
        f"About {cc:.0f} cm³ {where} the head's middle are blank, as where a face was removed: the CT has "
        "air there and ends too early, so no beam may enter there."
    )


def of_slices(mr: Volume, path: Path, series: int | None) -> tuple[str, ...]:
    """Cautions of slices that are thick or leave gaps, as only DICOM can say."""
    apart = float(mr.grid.spacing.max())
    said = []
    if apart > _THICK:
        said.append(
            f"The scan's slices lie {apart:.1f} mm apart: thinner bone and air are smeared over them."
        )
    if not path.name.endswith((".nii", ".nii.gz")):
        thickness, gap = slice_gap(path, series)
        if gap > _GAP * (thickness + gap):
            said.append(
                f"The scan's slices are {thickness:.1f} mm thick and leave gaps of {gap:.1f} mm: what lies "
                "in them was never measured."
            )
    return tuple(said)


def expect_adult(
    reasons: Sequence[str], anyway: bool, remedy: str = "convert it all the same with --anyway"
) -> tuple[str, ...]:
    """Reasons as cautions where all is to be done anyway, and a refusal with its remedy where not.

    Raises
    ------
    ValueError
        With all of the reasons.
    """
    if reasons and not anyway:
        raise ValueError(
            f"expected an MRI of an adult's head, got one {'; '.join(reasons)}; check it, or {remedy}"
        )
    return tuple(f"Made all the same of what is no MRI of an adult's head: one {each}." for each in reasons)
