"""Patients with accepted doses made ready for a predictor: read once, kept as planes, split by patient.

Every plane that the site knows is kept, whatever a network sees of them: trainings that see less read fewer,
so that one folder serves all of them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from imaging.atomic import whole_file
from planning.beams import Beam
from planning.predict.channels import Seen, Sees, names_of, seen
from planning.predict.lattice import Sizes
from planning.predict.patient import Patient
from planning.predict.site import Site

from .console import Progress
from .prepared import split_patients, verdict_beside
from .steps import file_hash

_FORMAT = 1  # of the files; another one makes them again


@dataclass(frozen=True)
class DoseSource:
    """Where a patient with a dose comes from.

    Parameters
    ----------
    path
        A folder or a file, whose content tells it from others.
    read
        Reads it.
    style
        Of its plan; empty where none is told.
    patient
        What plans of one patient share; the content where it is empty.
    beams
        Of its plan; the site's where none are told.
    """

    path: Path
    read: Callable[[Path], Patient]
    style: str = ""
    patient: str = ""
    beams: tuple[Beam, ...] | None = None


@dataclass(frozen=True)
class ReadyDose:
    """A patient that may teach or be tested on.

    Parameters
    ----------
    path
        Safetensors: ``planes`` (c, i, j, k) float16; ``bits`` (i, j, k) int64; ``dose`` (Gy) float32 and
        ``known`` uint8, (1, i, j, k).
    key
        Hash of what it was made of.
    patient
        What plans of one patient share.
    scale
        Highest prescription (Gy).
    spacing
        Of its voxels (mm).
    """

    path: Path
    key: str
    patient: str
    scale: float
    spacing: tuple[float, float, float]

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        x, y, z = self.spacing
        return x * y * z


@dataclass(frozen=True)
class DoseCases:
    """Patients to learn from, and held-out ones.

    Parameters
    ----------
    training, held_out
        No patient is in both.
    left_out
        Why others were left out, by their numbers among those given.
    """

    training: tuple[ReadyDose, ...]
    held_out: tuple[ReadyDose, ...]
    left_out: Mapping[str, str]

    @property
    def keys(self) -> dict[str, list[str]]:
        """What it is made of, to tell it from another."""
        return {part: sorted(c.key for c in getattr(self, part)) for part in ("training", "held_out")}


def split_doses(
    ready: Sequence[ReadyDose],
    others: Sequence[ReadyDose],
    left_out: Mapping[str, str],
    share: float,
    most: int = 0,
) -> DoseCases:
    """Patients to learn from and to hold out.

    Parameters
    ----------
    ready
        Those to learn from.
    others
        Those to hold out; with none, a share of the first.
    left_out
        Why some are in neither.
    share
        Of patients.
    most
        Patients to learn from; 0 for all. Those of a smaller number are among those of a larger one.

    Raises
    ------
    ValueError
        If a patient would be in both, or there is one patient alone and no other.
    """
    if others:
        rest, out = list(ready), list(others)
        if {r.patient for r in rest} & {r.patient for r in out}:
            raise ValueError("expected other patients to validate on than to learn from, got one in both")
    else:
        rest, out = split_patients(ready, share)
    first: dict[str, str] = {}
    for case in sorted(rest, key=lambda r: r.key):
        first.setdefault(case.patient, case.key)
    kept = set(list(first)[: most or None])
    return DoseCases(tuple(r for r in rest if r.patient in kept), tuple(out), dict(left_out))


def prepare_doses(
    sources: Sequence[DoseSource], site: Site, sizes: Sizes, out: Path, progress: Progress
) -> tuple[list[ReadyDose], dict[str, str]]:
    """Patients made ready, kept in ``out``, and why others were left out; those kept before stay.

    Parameters
    ----------
    sources
        Patients with doses.
    site, sizes
        What is shown of them, on which voxels.
    out
        Gets a file for each, and beside it what it holds.
    progress
        Called with what happens and the share that is done.

    Raises
    ------
    ValueError
        If none is left, with the reason of the first.
    """
    ready: dict[str, ReadyDose] = {}
    left_out: dict[str, str] = {}
    for n, source in enumerate(sources):
        key = _key(source, site, sizes)
        path = out / f"{key[:24]}.safetensors"
        verdict = verdict_beside(path, partial(_made, source, site, sizes, path))
        name = f"patient {n + 1}"
        if key in ready:
            left_out[name] = "it is the same as another one"
        elif why := verdict.get("left_out"):
            left_out[name] = why
        else:
            x, y, z = verdict["spacing"]
            ready[key] = ReadyDose(path, key, source.patient or key, verdict["scale"], (x, y, z))
        progress("Looking at patients", (n + 1) / len(sources))
    if not ready:
        why = next(iter(left_out.values()), "none was given")
        raise ValueError(f"expected a patient with a dose, got none of {len(sources)}; the first: {why}")
    return list(ready.values()), left_out


def read_whole(case: ReadyDose, planes: Sequence[int], device: str = "cpu") -> dict[str, Tensor]:
    """A whole patient as a batch of one (:func:`planning.predict.nets.loss_of`)."""
    with safe_open(case.path, framework="pt") as file:
        found = {name: file.get_tensor(name)[None] for name in ("planes", "bits", "dose", "known")}
    batch = {
        "image": found["planes"][:, list(planes)].float(),
        "dose": found["dose"],
        "known": found["known"] > 0,
        "bits": found["bits"],
        "scale": torch.tensor([case.scale]),
        "voxel_mm3": torch.tensor([case.voxel_mm3]),
    }
    return {name: t.to(device) for name, t in batch.items()}


def tensors_of(one: Seen) -> dict[str, Tensor]:
    """What is kept of a patient.

    Raises
    ------
    ValueError
        If there is no dose.
    """
    if one.dose is None:
        raise ValueError("expected a patient with the dose of a plan to learn from, got none")
    return {
        "planes": one.planes.half().contiguous(),
        "bits": one.bits.contiguous(),
        "dose": one.dose.float().contiguous(),
        "known": one.known[None].to(torch.uint8).contiguous(),
    }


def _made(source: DoseSource, site: Site, sizes: Sizes, path: Path) -> dict[str, Any]:
    try:
        one = seen(source.read(source.path), site, sizes, source.style, source.beams)
        tensors = tensors_of(one)
    except ValueError as error:
        return {"left_out": str(error)}
    with whole_file(path) as part:
        save_file(tensors, part)
    return {"scale": one.scale, "spacing": [round(float(mm), 6) for mm in one.grid.spacing]}


def _key(source: DoseSource, site: Site, sizes: Sizes) -> str:
    told = {
        "format": _FORMAT,
        "planes": names_of(site, Sees()),
        "site": asdict(site),
        "sizes": asdict(sizes),
        "style": source.style,
        "beams": [[b.gantry, b.couch, *b.isocenter.tolist()] for b in source.beams or ()],
        "content": file_hash(source.path),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
