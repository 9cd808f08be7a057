"""Real cases made ready for a network that contours: brought to its voxels, kept on disk, split by patient.

Each case is read once and kept as one safetensors file that samples read parts of, so that any number of
cases trains in little memory; files are named for the content of what they were made of.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from imaging.atomic import whole_file
from imaging.brightness import scaled
from imaging.grid import Grid
from imaging.resample import averaged, on_voxels, resample
from imaging.volume import Quantity, Volume
from planning.contour.classes import CONTRASTS
from planning.contour.known import Allowed, Meaning, allowed, base_of, bits, matched

from .console import Progress
from .contour_cases import LabelledFiles
from .contour_reading import Labelled, read_labelled
from .prepared import split_patients, verdict_beside
from .steps import file_hash

_FORMAT = 1  # of the files; another one makes them again
_MARGIN = 12.0  # mm of air that is kept around a head
_HEAD = 0.05  # of the scale of what is bright
_PLACES = 200  # of each structure that samples may be centred on


@dataclass(frozen=True)
class Task:
    """What a network is to learn from cases.

    Parameters
    ----------
    known
        What structures mean to it (:mod:`planning.contour.known`).
    n_classes
        How many it tells apart.
    spacing
        Its voxels (mm).
    synonyms
        Other words for structures.
    """

    known: Mapping[str, Meaning]
    n_classes: int
    spacing: float
    synonyms: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class ReadyCase:
    """A case that may teach or be tested on.

    Parameters
    ----------
    files
        Where it came from.
    path
        Its safetensors file: ``mr`` (c, i, j, k) float16, scaled; ``allowed`` (i, j, k) int32, as
        :func:`planning.contour.known.allowed`; ``places`` (n, 3) int32, voxels of its structures.
    key
        Hash of what it was made of.
    contrasts
        Of its channels.
    structures
        Classes that lie inside each of its structures, as bits, by name without side.
    """

    files: LabelledFiles
    path: Path
    key: str
    contrasts: tuple[str, ...]
    structures: Mapping[str, int]

    @property
    def patient(self) -> str:
        """A hash that cases of one patient share."""
        return self.files.patient


@dataclass(frozen=True)
class Cases:
    """Cases to learn from, to watch while learning, and to be tested on.

    Parameters
    ----------
    training, watched, held_out
        No patient is in two; none are watched where there are few.
    left_out
        Why a case was left out, by its neutral name.
    """

    training: tuple[ReadyCase, ...]
    watched: tuple[ReadyCase, ...]
    held_out: tuple[ReadyCase, ...]
    left_out: Mapping[str, str]

    @property
    def keys(self) -> dict[str, list[str]]:
        """What it is made of, to tell it from another."""
        parts = ("training", "watched", "held_out")
        return {part: sorted(c.key for c in getattr(self, part)) for part in parts}


def split_cases(ready: Sequence[ReadyCase], left_out: Mapping[str, str], share: float) -> Cases:
    """Cases split by patient: a share held out, and of the rest one more share watched if four are left.

    Raises
    ------
    ValueError
        If there is one patient alone.
    """
    rest, held_out = split_patients(ready, share)
    watched: list[ReadyCase] = []
    if len({case.patient for case in rest}) >= 4:
        rest, watched = split_patients(rest, share)
    return Cases(tuple(rest), tuple(watched), tuple(held_out), dict(left_out))


def prepare_cases(
    cases: Sequence[LabelledFiles], task: Task, out: Path, progress: Progress
) -> tuple[list[ReadyCase], dict[str, str]]:
    """Cases made ready, kept in ``out``, and why others were left out; those kept before stay.

    Parameters
    ----------
    cases
        What :func:`app.contour_cases.labelled_cases` found.
    task
        Which structures, on which voxels.
    out
        Gets one file for each case, and beside it what it holds.
    progress
        Called with what happens and the share that is done.

    Raises
    ------
    ValueError
        If no case is left, with the reason of the first.
    """
    ready: dict[str, ReadyCase] = {}
    left_out: dict[str, str] = {}
    for n, case in enumerate(cases):
        key = _key(case, task)
        path = out / f"{key[:24]}.safetensors"
        verdict = verdict_beside(path, partial(_made, case, task, path))
        if key in ready:
            left_out[case.name] = f"it is the same as {ready[key].files.name}"
        elif why := verdict.get("left_out"):
            left_out[case.name] = why
        else:
            ready[key] = ReadyCase(case, path, key, tuple(verdict["contrasts"]), verdict["structures"])
        progress("Looking at cases", (n + 1) / len(cases))
    if not ready:
        name, why = next(iter(left_out.items()))
        raise ValueError(f"expected a case or more to learn from, got none of {len(cases)}; {name}: {why}")
    return list(ready.values()), left_out


def _made(case: LabelledFiles, task: Task, path: Path) -> dict[str, Any]:
    try:
        labelled = read_labelled(case)
        tensors, structures = tensors_of(labelled, task)
    except ValueError as error:
        return {"left_out": str(error)}
    with whole_file(path) as part:
        save_file(tensors, part)
    return {"contrasts": [c for c in CONTRASTS if c in labelled.mr], "structures": structures}


def tensors_of(case: Labelled, task: Task) -> tuple[dict[str, Tensor], dict[str, int]]:
    """A case on upright voxels about its head, as :class:`ReadyCase` describes them, and its structures.

    What lies beyond every scan is of class 0, as in samples of synthetic heads; what lies beyond the grid of
    the contours is unknown.

    Raises
    ------
    ValueError
        If it has none of the structures, or two under one name.
    """
    names = matched(tuple(case.drawn.structures), tuple(task.known), task.synonyms)
    if len(set(names.values())) < len(names):
        raise ValueError("expected every structure once, got two names for one; change the synonyms")
    masks = {known: case.drawn.structures[name].mask for name, known in names.items()}
    told = allowed(masks, task.known, task.n_classes)
    every = (1 << task.n_classes) - 1
    scans = [case.mr[c] for c in CONTRASTS if c in case.mr]
    _, grid = on_voxels(scans[0], task.spacing)
    channels = [averaged(mr, grid, task.spacing / 2).data[0].float().clamp(min=0) for mr in scans]
    image = torch.stack([scaled(channel) for channel in channels])
    here = resample(Volume(told[None], case.drawn.grid, Quantity.LABEL), grid).data[0]
    seen = torch.stack([_seen(mr, grid) for mr in scans]).any(dim=0)
    here = torch.where(seen, torch.where(here == 0, every, here), 1).to(torch.int32)
    box = _about_head(image, task.spacing)
    here, image = here[box], image[(slice(None), *box)]
    structures = {base: bits(task.known[base].may) for base in map(base_of, masks)}
    return {
        "mr": image.half().contiguous(),
        "allowed": here.contiguous(),
        "places": _places(here, structures.values(), task.n_classes),
    }, structures


def _seen(mr: Volume, grid: Grid) -> Tensor:
    inside = Volume(torch.ones(1, *mr.grid.shape, dtype=torch.uint8), mr.grid, Quantity.LABEL)
    return resample(inside, grid).data[0] > 0


def _about_head(image: Float[Tensor, "c i j k"], spacing: float) -> tuple[slice, slice, slice]:
    """The box of what is bright, with some air."""
    bright = (image > _HEAD).any(dim=0)
    at = torch.nonzero(bright)
    if len(at) == 0:
        raise ValueError("expected an MRI that shows something, got one that is dark throughout")
    margin = int(np.ceil(_MARGIN / spacing))
    low, high = (at.amin(dim=0) - margin).clamp(min=0).tolist(), (at.amax(dim=0) + margin + 1).tolist()
    i, j, k = (slice(a, b) for a, b in zip(low, high, strict=True))
    return i, j, k


def _places(here: Allowed, inside: Collection[int], n_classes: int) -> Tensor:
    """As many voxels of small structures as of large ones; of those that hold most classes none."""
    found = []
    for may in sorted(set(inside)):
        if 2 * may.bit_count() <= n_classes:
            at = torch.nonzero((here & ~may) == 0)
            found.append(at[:: max(1, len(at) // _PLACES)][:_PLACES])
    return torch.cat([*found, torch.zeros(0, 3, dtype=torch.long)]).to(torch.int32).contiguous()


def _key(case: LabelledFiles, task: Task) -> str:
    told = {
        "format": _FORMAT,
        "spacing": task.spacing,
        "classes": task.n_classes,
        "known": {name: [bits(m.may), bits(m.only)] for name, m in task.known.items()},
        "synonyms": {name: list(words) for name, words in task.synonyms.items()},
        "files": [file_hash(path) for path in case.files],
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
