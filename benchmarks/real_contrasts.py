"""Four contrasts of one real patient, each converted alone: how alike their synthetic CTs are.

The scans of 5.5 mm slices (`tumour_mri/tcga_fg_6692`) lie apart by a movement of the patient: each is moved
rigidly onto the T1, freed of its bias field, and converted on its own slices; CTs are then resampled. No CT
of this patient is there, so that what can be told is whether contrasts agree and whether a skull closes
around the brain.
"""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from imaging.agreement import hu_mae
from imaging.coregister import moved_onto
from imaging.intensity import correct_bias, head_mask
from imaging.nifti import read_nifti
from imaging.resample import resample
from imaging.volume import Quantity, Volume
from mr2ct.convert import SyntheticCt
from mr2ct.skull import skull
from mr2ct.unseen import shown

_SEEN = 0.99  # of a voxel of the T1 that all scans must have seen
CONTRASTS = ("t1n", "t1c", "t2w", "t2f")


def contrasts(folder: Path, by_networks: Callable[[Volume], SyntheticCt]) -> dict[str, Any]:
    """Mean absolute difference (HU) of each pair inside the head, and how far each skull closes.

    Parameters
    ----------
    folder
        Holds the four scans.
    by_networks
        Converts one contrast.
    """
    first = read_nifti(folder / f"{CONTRASTS[0]}.nii.gz", Quantity.MR)
    inside = head_mask(first).data[0] > 0
    made: dict[str, Volume] = {}
    for name in CONTRASTS:
        mr = read_nifti(folder / f"{name}.nii.gz", Quantity.MR)
        here = mr if name == CONTRASTS[0] else moved_onto(mr, first)
        seen = Volume(shown(here)[None].float(), here.grid, Quantity.PROBABILITY)
        inside &= resample(seen, first.grid).data[0] > _SEEN
        made[name] = resample(by_networks(correct_bias(here, head_mask(here))).ct, first.grid)
    pairs = {f"{a} {b}": hu_mae(made[a], made[b], inside) for a, b in combinations(CONTRASTS, 2)}
    return {
        "contrasts_pair_mae_hu": pairs,
        "contrasts_pair_mae_hu_max": max(pairs.values()),
        "contrasts_pair_mae_hu_mean": float(np.mean(list(pairs.values()))),
        "contrasts_skull_closed": {name: skull(ct).closed for name, ct in made.items()},
    }
