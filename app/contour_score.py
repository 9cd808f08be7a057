"""Contours of a head whose true ones are known: Dice of each, tumour regions as BraTS scores them, sides."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imaging.agreement import dice
from imaging.atomic import whole_file
from imaging.brats import ED, ET, NCR, RC, to_brats
from imaging.shapes import Mask
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.contour.classes import CONTRASTS
from planning.contour.convert import Contoured
from planning.contour.on_ct import in_place_of_t1, with_numbers_of
from planning.contour.organs import RULES

from .contoured import Contourer
from .contrasts import CT, in_channels
from .held_out import held_out

# What contours are called here and in synthetic cases.
_TRUE_NAME = {"Body": "External"}
# Regions of BraTS: whole tumour, tumour core, enhancing tumour; and the resection cavity by itself.
REGIONS = {"WT": (NCR, ED, ET), "TC": (NCR, ET), "ET": (ET,), "RC": (RC,)}
_DRAWN = ("Body", "Brain", "Skull", *(name for rule in RULES for name in rule.names), "GTV")
# What a patient is seen in.
SETS = {"all": CONTRASTS, "t1": ("t1",), "t1c+flair": ("t1c", "flair")}
_LEAST_CC = 0.5  # of a true region: Dice of a speck says nothing


@dataclass(frozen=True)
class Scored:
    """How contours of one head agree with the true ones.

    Parameters
    ----------
    dice
        By structure; 0 where a true one was not found.
    regions
        Dice of the tumour's regions that are there.
    agreement
        What the contours' own agreement was, by structure.
    swapped
        Structures that overlap more with the true one of the other side than with their own.
    """

    dice: Mapping[str, float]
    regions: Mapping[str, float]
    agreement: Mapping[str, float]
    swapped: tuple[str, ...]


def scored(made: Contoured, truth: StructureSet, tissues: Volume) -> Scored:
    """Scores of one head.

    Parameters
    ----------
    made
        Its contours.
    truth
        The true ones, on the same grid, named as synthetic cases name them.
    tissues
        True tissues on that grid.
    """
    there = {name: truth.structures[_TRUE_NAME.get(name, name)].mask for name in _names(truth)}
    found = {
        name: dice(made.masks[name], mask) if name in made.masks else 0.0 for name, mask in there.items()
    }
    swapped = [
        name
        for name, mask in made.masks.items()
        if name in there and (other := _other(name)) in there and dice(mask, there[other]) > found[name]
    ]
    labels, voxel_cc = to_brats(tissues).data[0], tissues.grid.voxel_volume / 1000
    regions = {}
    for region, numbers in REGIONS.items():
        own = _any(labels, numbers)
        if float(own.sum()) * voxel_cc >= _LEAST_CC:
            regions[region] = dice(_any(made.tumour.data[0], numbers), own)
    return Scored(found, regions, dict(made.agreement), tuple(swapped))


def scored_patient(seed: int, k: int, nets: Contourer, keep: Path) -> dict[str, Any]:
    """Scores of a synthetic patient by each of :data:`SETS` and by its CT, or what an earlier run kept.

    Parameters
    ----------
    seed, k
        Which patient, of a stream that no training draws from.
    nets
        The networks.
    keep
        A folder for ``SEED_K.json``.

    Returns
    -------
    dict
        Fields of :class:`Scored`, and ``missing``: why organs have no contour; by what was seen.
    """
    kept = keep / f"{seed}_{k}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    patient = held_out(seed, k, CONTRASTS)
    if patient.structures is None:
        raise ValueError("expected a patient with true contours, got none")
    seen = {name: in_channels([patient.scans[c] for c in of], of) for name, of in SETS.items()}
    seen[CT] = in_place_of_t1(patient.truth)
    told: dict[str, Any] = {}
    for name, shown in seen.items():
        made = nets(shown)
        made = with_numbers_of(patient.truth, made) if name == CT else made
        one = scored(made, patient.structures, patient.tissues)
        told[name] = asdict(one) | {"missing": dict(made.missing)}
    keep.mkdir(parents=True, exist_ok=True)
    with whole_file(kept) as part:
        part.write_text(json.dumps(told))
    return told


def _names(truth: StructureSet) -> list[str]:
    """True contours that the networks draw too."""
    ours = {_TRUE_NAME.get(name, name): name for name in _DRAWN}
    return [ours[name] for name in truth.structures if name in ours]


def _other(name: str) -> str:
    return name[:-1] + {"L": "R", "R": "L"}[name[-1]] if name.endswith(("_L", "_R")) else ""


def _any(labels: Tensor, numbers: tuple[int, ...]) -> Mask:
    return torch.isin(labels, torch.tensor(numbers, dtype=labels.dtype))
