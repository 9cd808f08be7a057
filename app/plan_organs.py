"""Organs at risk of a plan: by the contouring networks where a clinic has approved them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from imaging.case import Case
from imaging.folder import read_case, write_case
from imaging.grid import Grid
from imaging.resample import resample_structures
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.contour.template import read_template, structure_set

from .approved import MARK
from .console import Progress
from .contour_models import contour_models
from .contoured import contourer_of, facts
from .contrasts import CT, contrast_of, in_channels
from .request import Request
from .steps import Walk, file_hash

_CAUTIONS = "cautions.json"
_TUMOUR = ("GTV", "Oedema", "Cavity")  # a target is the planner's to give
_ALIGNED = "Organs are those of the aligned anatomy, body, brain, skull, brainstem and eyes alone: "


@dataclass(frozen=True, eq=False)
class Organs:
    """What the networks drew, or an earlier plan had.

    Parameters
    ----------
    structures
        By TG-263 names with risk volumes, on the grid of the synthetic CT; None where no network drew any.
    cautions
        What a reader must look at, one sentence each.
    whole
        Whether these are all, and none need be taken from the tissues.
    """

    structures: StructureSet | None
    cautions: tuple[str, ...] = ()
    whole: bool = False


def with_contours(
    request: Request, mri: Path, contrast: str = "", series: int | None = None, allow_unapproved: bool = False
) -> Request:
    """A request with the networks that draw its organs, or why there are none.

    Parameters
    ----------
    request
        What is asked for.
    mri, series
        The scan, whose header or name tells its contrast.
    contrast
        What it is, where these do not tell.
    allow_unapproved
        Whether networks that nobody has approved may draw; every output says so then.

    Raises
    ------
    ValueError
        If an approved model's files were altered, or there is no such contrast.
    """
    if not request.networks:
        return request
    models = contour_models()
    if models.mark and not allow_unapproved:
        return replace(request, contour_note=f"{_ALIGNED}no contouring models are approved.")
    told = contrast or contrast_of(mri, series)
    if told is None:
        return replace(
            request, contour_note=f"{_ALIGNED}the scan does not tell its contrast, which --contrast does."
        )
    if told == CT:
        raise ValueError("expected an MRI to plan from, got a CT; compare it with --true-ct")
    mark = MARK if models.mark else request.mark
    return replace(request, contour_files=dict(models.files), contrast=told, mark=mark)


def organs(walk: Walk, mr: Volume, grid: Grid, request: Request) -> Organs:
    """The organs of one scan, kept as a step of the walk; errors as :func:`app.contoured.contour_scans`.

    Parameters
    ----------
    walk
        Whose steps ``scan`` and ``synthetic_ct`` have been walked.
    mr
        The scan.
    grid
        Of the synthetic CT.
    request
        What is asked for.
    """
    if not request.contour_files:
        return Organs(None, (request.contour_note,) if request.contour_note else ())
    return walk.step(
        "organs",
        "Organs at risk",
        {
            "contrast": request.contrast,
            "networks": {name: file_hash(path) for name, path in request.contour_files.items()},
        },
        lambda: drawn(mr, grid, request.contour_files, request.contrast, walk.inside),
        _write,
        _read,
        after=("scan", "synthetic_ct"),
    )


def drawn(mr: Volume, grid: Grid, files: Mapping[str, Path], contrast: str, progress: Progress) -> Organs:
    """Organs by networks, on a grid.

    Parameters
    ----------
    mr
        MR signal, shape ``(1, i, j, k)``.
    grid
        Where they are wanted.
    files
        Networks, as :attr:`app.contour_models.ContourModels.files` has them.
    contrast
        What the scan is.
    progress
        Told what happens and the share of it that is done.
    """
    nets = contourer_of(files)
    progress("networks", 0.0)
    made = nets(in_channels([mr], [contrast]))
    progress("networks", 1.0)
    masks = {name: mask for name, mask in made.masks.items() if name not in _TUMOUR}
    told = facts(made, nets.quality, mr.grid.voxel_volume, [contrast])
    looked = [
        f"Look at {name}: it {'; it '.join(of['why'])}."
        for name, of in told["structures"].items()
        if of["look"] and name in masks
    ]
    missing = [f"No {name} is drawn: it {why}." for name, why in made.missing.items()]
    there = structure_set(masks, mr.grid, read_template(), mr.frame)
    return Organs(resample_structures(there, grid), (*looked, *missing))


def _write(made: Organs, here: Path) -> None:
    write_case(Case({}, made.structures), here)
    (here / _CAUTIONS).write_text(json.dumps(made.cautions))


def _read(here: Path) -> Organs:
    return Organs(read_case(here).structures, tuple(json.loads((here / _CAUTIONS).read_text())))
