"""Real pairs made ready for a network: looked at, brought to its voxels, and split by patient.

Each pair is read once and kept as one safetensors file, so that any number of pairs trains in little memory;
files are named for the content of what they were made of, so that a pair is never made twice, nor one in
place of another.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import max_pool3d

from imaging.atomic import whole_file
from imaging.brightness import scaled
from imaging.grid import axial, positions
from imaging.resample import averaged
from imaging.volume import Quantity, Volume
from synth.ct import HIGHEST, LOWEST

from .console import Progress
from .paired_alignment import unfit
from .paired_cases import Pair, PairFiles, read_pair
from .prepared import verdict_beside
from .steps import file_hash

_FORMAT = 1  # of the files and of the checks; another one makes them again
_MARGIN = 12.0  # mm of air around the body
_PLACES = 4096  # of the body that samples may be centred on
_AIR = -1000.0


@dataclass(frozen=True)
class Ready:
    """A pair that may teach or be tested on.

    Parameters
    ----------
    files
        Where it came from.
    path
        Its safetensors file.
    key
        Hash of what it was made of.
    contrasts
        Which of its contrasts fit the CT.
    """

    files: PairFiles
    path: Path
    key: str
    contrasts: tuple[int, ...]

    @property
    def patient(self) -> str:
        """A hash that pairs of one patient share."""
        return self.files.patient


@dataclass(frozen=True)
class Material:
    """Pairs to learn from, pairs of other patients to be tested on, and what was left out.

    Parameters
    ----------
    training, held_out
        No patient is in both.
    left_out
        Why a pair, or a contrast of one, was left out, by its neutral name.
    skipped
        How many cases were no pairs of heads, by the reason.
    """

    training: tuple[Ready, ...]
    held_out: tuple[Ready, ...]
    left_out: Mapping[str, str]
    skipped: Mapping[str, int]

    @property
    def keys(self) -> dict[str, list[str]]:
        """What it is made of, to tell it from another."""
        return {part: sorted(p.key for p in getattr(self, part)) for part in ("training", "held_out")}


def prepare_pairs(
    cases: Sequence[PairFiles], spacing: float, out: Path, progress: Progress
) -> tuple[list[Ready], dict[str, str]]:
    """Pairs that fit, kept in ``out``, and why others were left out; those kept before stay.

    Parameters
    ----------
    cases
        What :func:`app.paired_cases.paired_cases` found.
    spacing
        Voxels of the network (mm).
    out
        Gets one file for each pair, and beside it what the checks said.
    progress
        Called with what happens and the share that is done.

    Raises
    ------
    ValueError
        If no pair is left, with the reason of the first.
    """
    ready: dict[str, Ready] = {}
    left_out: dict[str, str] = {}
    for n, case in enumerate(cases):
        key = _key(case, spacing)
        path = out / f"{key[:24]}.safetensors"
        verdict = verdict_beside(path, partial(_made, case, spacing, path))
        fits = tuple(int(c) for c in verdict["contrasts"])
        left_out |= {f"{case.name}{which}": why for which, why in verdict["left_out"].items()}
        if key in ready:
            left_out[case.name] = f"it is the same as {ready[key].files.name}"
        elif fits:
            ready[key] = Ready(case, path, key, fits)
        progress("Looking at pairs", (n + 1) / len(cases))
    if not ready:
        name, why = next(iter(left_out.items()))
        raise ValueError(f"expected a pair or more that fits, got none of {len(cases)}; {name}: {why}")
    return list(ready.values()), left_out


def _made(case: PairFiles, spacing: float, path: Path) -> dict[str, object]:
    """Looks at one pair and keeps it if it fits."""
    try:
        pair = read_pair(case)
        reasons = {c: unfit(mr, pair.ct) for c, mr in enumerate(pair.mr)}
    except ValueError as error:
        return {"contrasts": [], "left_out": {"": str(error)}}
    fits = [c for c, why in reasons.items() if not why]
    if fits:
        tensors = tensors_of(Pair(tuple(pair.mr[c] for c in fits), pair.ct, pair.body), spacing)
        with whole_file(path) as part:
            save_file(tensors, part)
    one = len(reasons) == 1
    told = {"" if one else f", contrast {c + 1}": why for c, why in reasons.items() if why}
    return {"contrasts": fits, "left_out": told}


def tensors_of(pair: Pair, spacing: float) -> dict[str, Tensor]:
    """A pair on upright voxels about its body, each the mean of its eight parts, as conversion has them.

    What no contrast sees is no body and is air, as in samples of synthetic heads.

    Parameters
    ----------
    pair
        As it was scanned.
    spacing
        Side of a voxel (mm).

    Returns
    -------
    dict
        ``mr`` (c, i, j, k) float16, scaled; ``ct`` (i, j, k) int16 in HU; ``body`` and ``seen`` (i, j, k)
        uint8; ``places`` (n, 3) int32, voxels of the body spread evenly.

    Raises
    ------
    ValueError
        If the MRI sees nothing of the body.
    """
    at = positions(pair.ct.grid, torch.nonzero(pair.body).double().numpy())
    grid = axial(at.min(axis=0) - _MARGIN, at.max(axis=0) + _MARGIN, (spacing,) * 3)
    half = spacing / 2
    channels = torch.cat([averaged(mr, grid, half).data.float().clamp(min=0) for mr in pair.mr])
    inside = Volume(pair.body[None].float(), pair.ct.grid, Quantity.PROBABILITY)
    seen = torch.stack([averaged(_field_of_view(mr), grid, half).data[0] > 0.5 for mr in pair.mr]).any(dim=0)
    body = (averaged(inside, grid, half).data[0] > 0.5) & seen
    places = torch.nonzero(body)
    if len(places) == 0:
        raise ValueError("expected an MRI that sees the body of its CT, got one beside it; leave it out")
    near = max_pool3d(body[None].float(), 3, 1, 1)[0] > 0  # the skin's voxels are part air
    hu = torch.where(near & seen, averaged(pair.ct, grid, half).data[0], torch.tensor(_AIR))
    return {
        "mr": torch.stack([scaled(channel) for channel in channels]).half().contiguous(),
        "ct": hu.clamp(LOWEST, HIGHEST).round().to(torch.int16).contiguous(),
        "body": body.to(torch.uint8),
        "seen": seen.to(torch.uint8),
        "places": places[:: max(1, len(places) // _PLACES)].to(torch.int32).contiguous(),
    }


def _field_of_view(mr: Volume) -> Volume:
    """1 where a scan shows something: whole planes of 0 at its faces were filled in after scanning."""
    shown = mr.data[0] > 0
    ones = torch.zeros(mr.grid.shape)
    at = torch.nonzero(shown)
    if len(at):
        low, high = at.amin(dim=0).tolist(), at.amax(dim=0).tolist()
        ones[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = 1.0
    return Volume(ones[None], mr.grid, Quantity.PROBABILITY)


def _key(case: PairFiles, spacing: float) -> str:
    files = [file_hash(path) for path in (*case.mr, case.ct, *([case.mask] if case.mask else []))]
    text = json.dumps({"format": _FORMAT, "spacing": spacing, "contrasts": len(case.mr), "files": files})
    return hashlib.sha256(text.encode()).hexdigest()
