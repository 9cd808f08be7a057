"""What a generator learns from and is looked at with, whatever kind of folder it comes from."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from imaging.slices import read_slices, split_by_blocks
from models.wavelet import band_std
from synth.conditions import N_BITS, planes, to_bits
from synth.drawn_boxes import fit as fit_boxes

from .console import Progress
from .slice_examples import SliceExamples, conditions, pictures
from .volume_examples import LabelExamples, Lattice, VolumeExamples, prepare_volumes

_SHOWN = 8  # conditions that a sheet shows
_REAL = 16  # real images that drawn ones are compared with
_MEASURED = 200  # images that the spread of bands is measured on


@dataclass(frozen=True, eq=False)
class Material:
    """Samples to learn from, and held-out images to look at the generator with.

    Parameters
    ----------
    samples
        Endless, ``image``, ``condition`` and ``present``.
    conditions
        Of held-out cases, shape ``(n, K, *s)``.
    real
        Their images, then more; shape ``(m, c, *s)``, m ≥ n.
    band_std
        Of the training images.
    told
        Counts and hashes for the card.
    boxes
        Where tumours of slices lie, for drawing more of them; nothing for volumes.
    """

    samples: Dataset[dict[str, Tensor]]
    conditions: Tensor
    real: Tensor
    band_std: tuple[float, ...]
    told: Mapping[str, Any]
    boxes: Mapping[str, Any] = field(default_factory=dict)


def slice_material(folder: Path, size: int, held_out: float, seed: int) -> Material:
    """Material of a folder of slices (:mod:`imaging.slices`), split by blocks of file numbers.

    Raises
    ------
    ValueError
        If the folder can't be read or split.
    """
    slices = read_slices(folder, size)
    train, test = split_by_blocks(slices, held_out, torch.Generator().manual_seed(seed))
    shown = _spread(test.classes)
    real = pictures(test)
    images = pictures(train)
    order = torch.cat([shown, _others(len(test), shown)])[:_REAL]
    told = {
        "training slices": len(train),
        "held-out slices": len(test),
        "classes": list(slices.names),
        "training hash": _hash([train.images.numpy().tobytes()]),
        "held-out numbers": _by_class(test.classes, test.numbers, slices.names),
    }
    few = images[:: max(1, len(images) // _MEASURED)]
    return Material(
        SliceExamples(train, seed),
        conditions(test.at(shown)),
        real[order],
        band_std([(few, torch.ones(len(few), 1))]),
        told,
        fit_boxes(train.classes, train.boxes).as_json(),
    )


def volume_material(
    data: Sequence[Path],
    lattice: Lattice,
    held_out: float,
    seed: int,
    out: Path,
    progress: Progress,
    labels: bool = False,
    rendered: bool = False,
) -> Material:
    """Material of folders of cases in BraTS layout or cohorts, split by case.

    Parameters
    ----------
    data
        The folders.
    lattice
        Voxels to learn on.
    held_out
        Share of the cases that training does not see; at least one.
    seed
        Of the split and the stream.
    out
        Keeps the prepared volumes.
    progress
        Called with what happens and the share that is done.
    labels
        Whether the cases' label maps are to be drawn, as analog bits without a condition, and not their MRI.
    rendered
        Whether samples bring a render of their labels.

    Raises
    ------
    ValueError
        If there are fewer than two cases.
    """
    paths = prepare_volumes(data, lattice, out, progress)
    train, test = ([paths[k] for k in part] for part in split_cases(len(paths), held_out, seed))
    # A sheet compares two at the least; where one alone is held out, one of training stands beside it.
    shown = [load_file(path) for path in [*test, train[0]][: min(max(len(test), 2), _REAL)]]
    told = {
        "training cases": len(train),
        "held-out cases": len(test),
        "training hash": _hash([path.read_bytes() for path in train[:_MEASURED]]),
        "held out": [int(path.stem) for path in test],
    }
    few = [load_file(path) for path in train[:: max(1, len(train) // _MEASURED)]]
    samples = VolumeExamples(train, seed, rendered=rendered)
    if labels:
        bits = to_bits(torch.stack([case["classes"] for case in shown]))
        spread = band_std((to_bits(case["classes"][None]), torch.ones(1, N_BITS)) for case in few)
        return Material(LabelExamples(samples), bits[:_SHOWN, :0], bits, spread, told)
    return Material(
        samples,
        torch.stack([planes(case["classes"][None])[0] for case in shown[:_SHOWN]]),
        torch.stack([case["image"].float() for case in shown]),
        band_std((case["image"].float()[None], case["present"].float()[None]) for case in few),
        told,
    )


def split_cases(n: int, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Numbers of the cases to train on, and of those held out, at least one; both in order.

    Raises
    ------
    ValueError
        If there are fewer than two cases.
    """
    if n < 2:
        raise ValueError(f"expected two cases or more, to hold one out, got {n}")
    n_out = min(max(round(held_out * n), 1), n - 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    return sorted(order[n_out:]), sorted(order[:n_out])


def _spread(classes: Tensor) -> Tensor:
    """Indices of a few slices of every class, evenly through them."""
    kinds = classes.unique().tolist()
    each = -(-_SHOWN // len(kinds))
    found = []
    for c in kinds:
        where = torch.nonzero(classes == c)[:, 0]
        found.append(where[:: max(1, len(where) // each)][:each])
    return torch.cat(found)[:_SHOWN]


def _others(n: int, taken: Tensor) -> Tensor:
    left = torch.ones(n, dtype=torch.bool)
    left[taken] = False
    where = torch.nonzero(left)[:, 0]
    return where[:: max(1, len(where) // _REAL)]


def _by_class(classes: Tensor, numbers: Tensor, names: Sequence[str]) -> dict[str, list[int]]:
    return {name: sorted(numbers[classes == c].tolist()) for c, name in enumerate(names)}


def _hash(parts: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
