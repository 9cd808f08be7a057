"""Synthetic patients that no network learnt from, and plans for them: what claims of a CT rest on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from imaging.grid import Grid
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.structures import StructureSet
from imaging.tissue import Tissue
from imaging.volume import Volume
from planning.plan import Plan
from synth.case import make

from .cohort import read_recipe
from .console import Progress
from .head_ct import ct_grid
from .optimised import optimised
from .patient import contoured
from .request import Request

_GROSS = (Tissue.NECROSIS, Tissue.ENHANCING, Tissue.CAVITY)
_KERNELS = ("soft", "standard")
_LEAST_CC = 0.5  # of gross tumour: what is less is no target for fractions of 2 Gy


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One synthetic patient.

    Parameters
    ----------
    scans
        MRI by contrast, on one grid.
    truth
        The true CT (HU) on it.
    tissues
        The true tissues on it.
    traits
        What was drawn, as :class:`synth.case.Made` has it.
    structures
        The true contours on it, as :func:`synth.case.structures` draws them.
    """

    scans: Mapping[str, Volume]
    truth: Volume
    tissues: Volume
    traits: Mapping[str, Any] = field(default_factory=dict)
    structures: StructureSet | None = None


def held_out(seed: int, k: int, contrasts: Sequence[str] = ("t1",), recipe: str = "default") -> HeldOut:
    """Patient ``k`` of a stream that no training draws from.

    Its true CT is one to plan on, with a soft or standard kernel: those for bone overshoot at its edges,
    which no density explains.

    Parameters
    ----------
    seed
        Which stream.
    k
        Which patient of it.
    contrasts
        Names of :data:`synth.looks.SEQUENCES`.
    recipe
        Of a cohort, one of those that come along.
    """
    of = read_recipe(recipe)
    mri = replace(of.mri, contrasts=tuple(contrasts))
    made = make(replace(of, mri=mri, ct=replace(of.ct, kernels=_KERNELS)), seed, k)
    volumes = made.case.volumes
    scans = {name: volumes[name] for name in contrasts}
    return HeldOut(scans, volumes["ct"], volumes["labels"], made.traits, made.case.structures)


def gross_tumour(patient: HeldOut, grid: Grid) -> Mask:
    """Core of the tumour and cavity on a grid.

    Raises
    ------
    ValueError
        If there is too little to be planned for.
    """
    labels = resample(patient.tissues, grid).data[0]
    gtv = torch.isin(labels, torch.tensor([int(t) for t in _GROSS], dtype=labels.dtype))
    if float(gtv.sum()) * float(grid.spacing.prod()) < 1000 * _LEAST_CC:
        raise ValueError(f"expected a patient with {_LEAST_CC} cc of tumour or more, got less; take another")
    return gtv


def planned_on(
    ct: Volume, patient: HeldOut, request: Request, progress: Progress
) -> tuple[Plan, StructureSet]:
    """A plan on some CT of a patient, organs and target being the true ones: only CT numbers may be wrong.

    Parameters
    ----------
    ct
        HU on the patient's grid; its own body is the plan's.
    patient
        Whose tissues and tumour.
    request
        What is asked for.
    progress
        Told what happens and the share of it that is done.

    Raises
    ------
    ValueError
        As :func:`gross_tumour`.
    """
    grid = ct_grid(ct.grid)
    here = resample(ct, grid)
    structures = contoured(resample(patient.tissues, grid), gross_tumour(patient, grid), request, here)
    return optimised(here, structures, request, progress), structures
