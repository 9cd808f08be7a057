"""A probability per tissue from a label map, so that labels can be moved and mixed."""

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import pad

from .grid import Grid, around
from .resample import resample
from .tissue import SIMPLER, Tissue
from .volume import Quantity, Volume

N_TISSUES = len(Tissue) - len(SIMPLER)  # a scan alone tells no more apart
_RIM = 2


def tissue_maps(labels: Volume, voxels_mm: float, sigma_mm: float) -> Volume:
    """Probability of each tissue on an upright grid of cubic voxels; channel t is ``Tissue(t)``.

    Tissues that a scan alone does not tell apart count as their simpler ones.

    Around and above the labels lies a rim of outside; below them their lowest plane goes on, for
    a neck does not end where a label map does. That holds for any reader that repeats the edge.

    Parameters
    ----------
    labels
        Label map, shape ``(1, i, j, k)``, numbered as :class:`imaging.tissue.Tissue`.
    voxels_mm
        Voxel size of the result.
    sigma_mm
        Gaussian that blurs the borders between tissues.

    Raises
    ------
    ValueError
        If the volume holds no labels, or numbers that no tissue has.
    """
    labels.expect(Quantity.LABEL)
    if int(labels.data.min()) < 0 or int(labels.data.max()) >= len(Tissue):
        raise ValueError(
            f"expected tissue labels 0..{len(Tissue) - 1}, got {int(labels.data.min())}.."
            f"{int(labels.data.max())}; renumber them as imaging.tissue does"
        )
    grid = around(labels.grid, (voxels_mm,) * 3)
    sigma = sigma_mm / labels.grid.spacing
    data = torch.zeros((N_TISSUES, *grid.shape))
    tissue = torch.tensor([SIMPLER.get(t, t) for t in Tissue])[labels.data[0].long()]
    for t in range(N_TISSUES):
        share = (tissue == t).numpy()
        if share.any():
            smooth = ndimage.gaussian_filter(share.astype(np.float32), sigma, mode="nearest", truncate=3)
            data[t] = resample(
                Volume(torch.from_numpy(smooth)[None], labels.grid, Quantity.PROBABILITY), grid
            ).data[0]
    data[0] += (1 - data.sum(dim=0)).clamp(min=0)
    return _rimmed(data / data.sum(dim=0), grid)


def _rimmed(data: torch.Tensor, grid: Grid) -> Volume:
    """Maps with two voxels of outside on every side but below."""
    r = _RIM
    data = pad(data, (0, r, r, r, r, r))
    data[0, :r] = data[0, -r:] = data[0, :, :r] = data[0, :, -r:] = data[0, :, :, -r:] = 1
    affine = grid.affine.copy()
    affine[:2, 3] -= r * grid.spacing[:2]
    shape = (grid.shape[0] + 2 * r, grid.shape[1] + 2 * r, grid.shape[2] + r)
    return Volume(data, Grid(shape, affine), Quantity.PROBABILITY)
