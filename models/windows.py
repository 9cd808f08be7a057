"""A scan looked at window by window, as training samples were."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn
from torch.nn.functional import pad

DIMMEST = 0.35  # of the scan's scale that a window's may have
OVERLAP = 0.25  # of a window's side that neighbours share: more costs much and changes little
_MARGIN = 1  # voxel of air around a scan: windows that see more of it than training samples did go wrong

Image = Float[Tensor, "c i j k"]


def through_windows(
    image: Image,
    net: nn.Module,
    answer: Callable[[Float[Tensor, "b c i j k"]], Float[Tensor, "b n i j k"]],
    shape: tuple[int, int, int],
    scaled: Callable[[Tensor, float], Tensor],
    overlap: float = OVERLAP,
) -> Float[Tensor, "n _ _ _"]:
    """What is answered of each voxel, windows blended by a Gaussian.

    Parameters
    ----------
    image
        MR signal on voxels of the network's size (:func:`imaging.resample.on_voxels`).
    net
        Whose device does the work.
    answer
        Of a batch of windows, scaled one by one as training samples are.
    shape
        Voxels of a window.
    scaled
        Brings a channel to the scale of training samples, which is never less than is said
        (:func:`imaging.brightness.scaled`).
    overlap
        Share of a window's side that neighbours share.
    """
    device = next(net.parameters()).device
    whole = torch.stack([scaled(channel, 1e-6) for channel in image])
    whole = pad(whole, (_MARGIN,) * 6)[None].to(device)

    def answered(window: Tensor) -> Tensor:
        return answer(torch.stack([torch.stack([scaled(w, DIMMEST) for w in each]) for each in window]))

    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        found = sliding_window_inference(whole, shape, 1, answered, overlap=overlap, mode="gaussian")
    m = _MARGIN
    return found[0, :, m:-m, m:-m, m:-m].float().cpu().clone()
