"""Whether a patient is like those that a network learnt from: volumes, distances and overlaps beside theirs.

What a network says of a patient unlike all it has seen is a guess that looks like any other answer, and an
ensemble may agree on it. Plain descriptors of anatomy catch the common cases: a target that is larger, lies
elsewhere, or is not as many as there were.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64
from scipy import ndimage
from torch import Tensor

from imaging.shapes import Mask

from .site import Site

Traits = Mapping[str, float]
# Of a training set, for each trait: 2nd percentile, median, 98th percentile. No patient is told of.
Known = Mapping[str, Sequence[float]]

_PERCENTILES = (2.0, 50.0, 98.0)
_BEYOND = 0.25  # of the range between the percentiles, that a patient may lie beyond it
_FEWEST = 10  # patients of a training set that have a trait, or nothing is said of it


def traits_of(
    bits: Int64[Tensor, "i j k"], known: Mask, spacing: Sequence[float], site: Site
) -> dict[str, float]:
    """Descriptors of a patient, by what they are in words.

    Parameters
    ----------
    bits
        Structures of the site that a voxel is of (:class:`planning.predict.channels.Seen`).
    known
        Where dose may be.
    spacing
        Of the voxels (mm).
    site
        Tells targets from organs.

    Returns
    -------
    dict
        Volumes (cm³), distances between surfaces (mm, 0 where structures meet), shares (%), counts.
    """
    voxel_cc = float(np.prod(spacing)) / 1000
    masks = {d.name: ((bits >> n) & 1 > 0).numpy() for n, d in enumerate(site.structures)}
    targets = [d.name for d in site.targets if masks[d.name].any()]
    every = np.any([masks[name] for name in targets], axis=0) if targets else np.zeros(bits.shape, dtype=bool)
    out = {
        "volume where dose may be (cm³)": float(known.sum()) * voxel_cc,
        "number of targets": float(len(targets)),
        **{f"volume of {name} (cm³)": float(masks[name].sum()) * voxel_cc for name in targets},
    }
    away = ndimage.distance_transform_edt(~every, sampling=tuple(spacing)) if targets else None
    for drawn in site.organs:
        own = masks[drawn.name]
        if away is not None and own.any():
            out[f"distance of {drawn.name} from the targets (mm)"] = float(away[own].min())
            out[f"share of {drawn.name} in the targets (%)"] = 100 * float(every[own].mean())
    return out


def known_of(patients: Sequence[Traits]) -> dict[str, list[float]]:
    """What traits of a training set are, for its card; traits of fewer than ten patients are left out."""
    names = dict.fromkeys(name for one in patients for name in one)
    found = {name: [one[name] for one in patients if name in one] for name in names}
    return {
        name: [round(float(value), 3) for value in np.percentile(values, _PERCENTILES)]
        for name, values in found.items()
        if len(values) >= _FEWEST
    }


def unlike(traits: Traits, known: Known) -> list[str]:
    """What of a patient lies beyond the training set, one sentence each; what nobody knows is passed over.

    Parameters
    ----------
    traits
        As :func:`traits_of` gives them.
    known
        As :func:`known_of` told them in a card.
    """
    out = []
    for name, value in traits.items():
        if name not in known:
            continue
        low, _, high = known[name]
        room = _BEYOND * (high - low)
        if not low - room <= value <= high + room:
            out.append(
                f"The {name} is {value:.1f}, beyond the {low:.1f} to {high:.1f} of nearly all patients "
                "that the network learnt from."
            )
    return out
