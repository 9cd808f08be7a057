"""A scan on the voxels of a network, and looked at window by window as training samples were."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, pad

from imaging.brightness import scaled
from imaging.grid import Grid, around
from imaging.resample import resample
from imaging.volume import Volume

DIMMEST = 0.35  # of the scan's scale that a window's may have
OVERLAP = 0.25  # of a window's side that neighbours share: more costs much and changes little
_MARGIN = 1  # voxel of air around a scan: windows that see more of it than training samples did go wrong

Image = Float[Tensor, "c i j k"]


def on_voxels(mr: Volume, spacing: float) -> tuple[Image, Grid]:
    """MR signal on an upright grid of cubes that covers it, each the mean of its eight parts.

    Parameters
    ----------
    mr
        MR signal, any orientation.
    spacing
        Side of a cube (mm).
    """
    fine = around(mr.grid, (spacing / 2,) * 3)
    image = avg_pool3d(resample(mr, fine).data.float().clamp(min=0)[None], 2, ceil_mode=True)[0]
    affine = fine.affine.copy()
    affine[:3, 3] += spacing / 4
    affine[:3, :3] *= 2
    return image, Grid((image.shape[1], image.shape[2], image.shape[3]), affine)


def through_windows(
    image: Image,
    net: nn.Module,
    answer: Callable[[Float[Tensor, "b c i j k"]], Float[Tensor, "b n i j k"]],
    shape: tuple[int, int, int],
    overlap: float = OVERLAP,
) -> Float[Tensor, "n _ _ _"]:
    """What is answered of each voxel, windows blended by a Gaussian.

    Parameters
    ----------
    image
        As :func:`on_voxels` gives it.
    net
        Whose device does the work.
    answer
        Of a batch of windows, scaled one by one as training samples are.
    shape
        Voxels of a window.
    overlap
        Share of a window's side that neighbours share.
    """
    device = next(net.parameters()).device
    whole = pad(torch.stack([scaled(channel) for channel in image]), (_MARGIN,) * 6)[None].to(device)

    def answered(window: Tensor) -> Tensor:
        return answer(torch.stack([torch.stack([scaled(w, DIMMEST) for w in each]) for each in window]))

    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        found = sliding_window_inference(whole, shape, 1, answered, overlap=overlap, mode="gaussian")
    m = _MARGIN
    return found[0, :, m:-m, m:-m, m:-m].float().cpu().clone()
