"""MR signal brought to one scale, the same in training and in use."""

import torch
from jaxtyping import Float
from torch import Tensor

_AT_MOST = 100_000  # values looked at: enough for a percentile
_BRIGHT = 0.995


def scaled(image: Float[Tensor, "*n"], at_least: float = 1e-6) -> Float[Tensor, "*n"]:
    """An image whose head lies between 0 and about 1, clipped at 1.5.

    MR signal has no unit. The scale is the 99.5th percentile of the values above a twentieth of the
    greatest (Nyúl and Udupa, Magn. Reson. Med. 42, 1072 (1999) take upper percentiles, since the greatest
    value is noise); at most 100 000 values are looked at.

    Parameters
    ----------
    image
        One channel of MR signal on any device.
    at_least
        The scale is never less: a window onto air alone does not turn noise into a head.
    """
    flat = image.flatten()
    some = flat[:: max(1, flat.numel() // _AT_MOST)].float()
    seen = some[some > 0.05 * some.max()]
    if seen.numel() == 0:
        return torch.zeros_like(image)
    rank = max(round(_BRIGHT * seen.numel()), 1)
    level = torch.sort(seen).values[rank - 1].clamp(min=at_least)
    return (image / level).clamp(0, 1.5)
