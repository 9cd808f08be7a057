"""The CT that a plan is made on: by the networks that ship, or of the aligned anatomy alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imaging.case import Case
from imaging.folder import read_case, write_case
from imaging.grid import Grid, around
from imaging.intensity import correct_bias, head_mask
from imaging.register import align, moved_maps
from imaging.resample import resample
from imaging.volume import Volume
from mr2ct.bulk import to_ct
from mr2ct.calibration import deviation
from mr2ct.convert import predicted
from mr2ct.domain import expect_head_scan
from mr2ct.tissue_classes import classify
from synth.anatomy import anatomy
from synth.partitions import partitions

from .console import Progress
from .ct_nets import INTERVALS, ZOO, calibration_of, read_nets, shipped
from .examined import examined, expect_adult, judged
from .request import Request
from .steps import file_hash

SIGMA, PARTITIONS = "ct_deviation", "partitions"
_CAUTIONS = "cautions.json"
_FINEST, _COARSEST = 1.0, 2.0  # mm; CT voxels beyond these change no plan, or change it
_PRIOR_VOXELS = 1.5  # mm
_REMEDY = "plan on bulk densities with --bulk"


@dataclass(frozen=True, eq=False)
class HeadCt:
    """The synthetic CT of one scan.

    Parameters
    ----------
    case
        Volumes ``ct`` (HU), ``tissues`` and ``partitions`` (labels), and ``ct_deviation`` of networks.
    cautions
        What its reader must know, one sentence each.
    """

    case: Case
    cautions: tuple[str, ...] = ()


def ct_grid(scan: Grid) -> Grid:
    """The upright grid of the synthetic CT: covers the scan, about as fine in the plane."""
    pixel = float(np.clip(scan.spacing.min(), _FINEST, _COARSEST))
    return around(scan, (pixel, pixel, _COARSEST))


def asked(request: Request) -> dict[str, object]:
    """What a CT follows from beside the scan, for the key of its step; nothing without networks."""
    if not request.networks:
        return {}
    ours = (*shipped(), ZOO / INTERVALS)
    given = (*request.ct_weights, *filter(None, (request.ct_intervals,)))
    return {"networks": [file_hash(path) for path in given or ours]}


@dataclass(frozen=True, eq=False)
class Aligned:
    """The built-in anatomy in the place of a head, on an upright grid that covers its scan.

    Parameters
    ----------
    head
        Label 1 inside the head.
    maps
        Probability of each tissue by the alignment alone (:func:`imaging.register.fit`).
    tissues
        Labels (:class:`imaging.tissue.Tissue`) that the MRI's own signal tells apart.
    partitions
        Flags (:class:`imaging.partition.Partition`) of falx, tentorium and ventricles.
    """

    head: Volume
    maps: Volume
    tissues: Volume
    partitions: Volume


def aligned(mr: Volume, progress: Progress) -> Aligned:
    """The anatomy prior of ``synth``, aligned to one contrast by ``imaging`` and read by ``mr2ct``.

    Parameters
    ----------
    mr
        MR signal, shape ``(1, i, j, k)``.
    progress
        Told what happens and the share of it that is done.

    Raises
    ------
    ValueError
        If the scan shows no head.
    """
    mr = resample(mr, ct_grid(mr.grid))
    progress("head and bias field", 0.0)
    head = head_mask(mr)
    mr = correct_bias(mr, head)
    progress("head and bias field", 1.0)
    return Aligned(head, *_tissues(mr, head, progress))


def bulk_ct(mr: Volume, progress: Progress) -> Case:
    """Synthetic CT (HU), tissues and partitions (labels) of one MRI as :func:`aligned` finds them."""
    found = aligned(mr, progress)
    return Case({"ct": to_ct(found.tissues), "tissues": found.tissues, PARTITIONS: found.partitions})


def network_ct(
    mr: Volume, progress: Progress, weights: Sequence[Path] = (), intervals: Path | None = None
) -> HeadCt:
    """The same by networks, with what the CT may be off by; tissues are the anatomy's.

    Parameters
    ----------
    mr, progress
        As for :func:`aligned`.
    weights, intervals
        The networks and what was calibrated for them; with none those that ship.

    Raises
    ------
    ValueError
        If the scan does not show the whole head of an adult.
    """
    expect_head_scan(mr)
    mr = resample(mr, ct_grid(mr.grid))
    progress("head and bias field", 0.0)
    shown = examined(mr)
    expect_adult(shown.reasons, anyway=False, remedy=_REMEDY)
    progress("head and bias field", 1.0)
    progress("CT numbers", 0.0)
    made = judged(predicted(shown.even, *read_nets(weights)), shown)
    expect_adult(made.reasons, anyway=False, remedy=_REMEDY)
    calibration = calibration_of(weights, intervals)
    sigma = made.ct.uncertainty if calibration is None else deviation(made.ct, calibration)
    progress("CT numbers", 1.0)
    assert shown.head is not None  # noqa: S101 - there would have been a reason
    _, tissues, parted = _tissues(shown.even, shown.head, progress)
    volumes = {"ct": made.ct.ct, "tissues": tissues, PARTITIONS: parted, SIGMA: sigma}
    return HeadCt(Case(volumes), made.cautions)


def head_ct(mr: Volume, request: Request, progress: Progress) -> HeadCt:
    """By networks or of the aligned anatomy, as is asked for."""
    if not request.networks:
        return HeadCt(bulk_ct(mr, progress))
    return network_ct(mr, progress, request.ct_weights, request.ct_intervals)


def write(made: HeadCt, here: Path) -> None:
    """Keep what was made."""
    write_case(made.case, here)
    (here / _CAUTIONS).write_text(json.dumps(made.cautions))


def read(here: Path) -> HeadCt:
    """What was made, as it was kept."""
    return HeadCt(read_case(here), tuple(json.loads((here / _CAUTIONS).read_text())))


def _tissues(mr: Volume, head: Volume, progress: Progress) -> tuple[Volume, Volume, Volume]:
    progress("anatomy, aligned", 0.0)
    prior = anatomy(_PRIOR_VOXELS)
    field = align(prior, mr, head)
    maps = moved_maps(prior, field, mr.grid)
    progress("anatomy, aligned", 1.0)
    progress("tissue classes", 0.0)
    tissues = classify(mr, head, maps)
    progress("tissue classes", 1.0)
    return maps, tissues, partitions(field, mr.grid)
