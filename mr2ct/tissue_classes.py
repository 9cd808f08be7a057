"""The tissue of each voxel of an MRI, from its intensity and an aligned prior.

Bayes' rule with one intensity histogram per tissue, learned from the scan by expectation
maximisation under the warped prior, so that no contrast is assumed (Van Leemput et al., IEEE
Trans. Med. Imaging 18, 897 (1999); histograms instead of Gaussians, because scalp and bone are
anything but Gaussian), and a mean-field Markov field that lets neighbours agree (same place).
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import ndimage
from torch import Tensor

from imaging.grid import Grid
from imaging.resample import resample
from imaging.shapes import Floats, Labels, Mask
from imaging.tissue import Tissue
from imaging.tissue_maps import N_TISSUES
from imaging.volume import Quantity, Volume

_N_BINS = 64
_N_ROUNDS = 4
_NEIGHBOURS = 1.0


def classify(mr: Volume, head: Volume, aligned: Volume) -> Volume:
    """Tissue label of each voxel of an MRI (:class:`imaging.tissue.Tissue`), on the MRI's grid.

    Works on the grid of the aligned prior; the probabilities, not the labels, go to the MRI's
    grid, so borders stay as sharp as the MRI shows them.

    Parameters
    ----------
    mr
        MR signal without its bias field, any contrast, shape ``(1, i, j, k)``.
    head
        Label 1 inside the head, on any grid; outside it every label is 0.
    aligned
        Probability of each tissue before the MRI is looked at, channel t for ``Tissue(t)``, as
        :func:`imaging.register.fit` gives.

    Raises
    ------
    ValueError
        If a volume holds something else than it should, or the head is empty.
    """
    mr.expect(Quantity.MR)
    head.expect(Quantity.LABEL)
    aligned.expect(Quantity.PROBABILITY)
    if aligned.data.shape[0] != N_TISSUES:
        raise ValueError(
            f"expected a probability for each of {N_TISSUES} tissues, got {aligned.data.shape[0]} channels"
        )
    grid = aligned.grid
    inside = _inside(head, grid)
    bins = _bins(resample(mr, grid).data[0], inside)
    found = Volume(_posterior(bins, aligned.data, inside), grid, Quantity.PROBABILITY)
    labels = _likeliest(found, mr.grid)
    labels[resample(head, mr.grid).data == 0] = Tissue.OUTSIDE
    return Volume(labels, mr.grid, Quantity.LABEL, mr.frame)


def _inside(head: Volume, grid: Grid) -> Mask:
    share = Volume(head.data.float(), head.grid, Quantity.PROBABILITY)
    inside = resample(share, grid).data[0] >= 0.5
    if not inside.any():
        raise ValueError("expected a head mask with voxels inside, got an empty one")
    return inside


def _bins(signal: Float[Tensor, "i j k"], inside: Mask) -> Int64[Tensor, "i j k"]:
    """Intensity bin of each voxel, between the head's 0.5th and 99.5th percentile."""
    low, high = np.percentile(signal[inside].numpy(), [0.5, 99.5])
    unit = ((signal - float(low)) / max(float(high - low), 1e-6)).clamp(0, 1)
    return (unit * (_N_BINS - 1)).round().long()


def _posterior(bins: Int64[Tensor, "i j k"], expected: Floats, inside: Mask) -> Floats:
    """Probability of each tissue given intensity, prior and neighbours."""
    kinds = [t for t in range(1, N_TISSUES) if expected[t].max() > 0.05]
    at = expected[kinds][:, inside] + 1e-6
    at = at / at.sum(dim=0)
    here = bins[inside]
    share = at
    neighbours = torch.ones_like(at)
    whole = torch.zeros((len(kinds), *inside.shape))
    for _ in range(_N_ROUNDS):
        histogram = torch.zeros((_N_BINS, len(kinds))).index_add(0, here, share.T) + 1e-3
        smooth = torch.from_numpy(ndimage.gaussian_filter1d(histogram.numpy(), 1.5, axis=0, mode="nearest"))
        likely = (smooth / smooth.sum(dim=0))[here].T
        share = at * likely * neighbours
        share = share / share.sum(dim=0)
        whole[:, inside] = share
        near = torch.stack([torch.from_numpy(ndimage.gaussian_filter(w.numpy(), 1.0)) for w in whole])
        neighbours = torch.exp(_NEIGHBOURS * 4 * near[:, inside])
    out = torch.zeros((N_TISSUES, *inside.shape))
    out[kinds] = whole
    out[0, ~inside] = 1
    return out


def _likeliest(found: Volume, grid: Grid) -> Labels:
    """Label of the greatest probability at each voxel of a grid."""
    best = torch.zeros((1, *grid.shape))
    labels = torch.zeros((1, *grid.shape), dtype=torch.uint8)
    for t in range(1, N_TISSUES):
        if not found.data[t].any():
            continue
        share = resample(Volume(found.data[t][None], found.grid, Quantity.PROBABILITY), grid).data
        labels[share > best] = t
        best = torch.maximum(best, share)
    return labels
