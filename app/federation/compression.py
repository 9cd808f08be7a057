"""Updates in fewer bits: each block of changes as whole steps of its greatest, rounded by chance.

QSGD (Alistarh et al., NeurIPS 2017) with the greatest change of a block as its scale: what comes back is
right on average, and no change is off by more than a step of its block.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float32
from torch import Tensor

BITS = (32, 8, 4)
LEVELS, SCALES = "levels", "scales"
_BLOCK = 1024

Row = Float32[Tensor, " n"]


def compressed(row: Row, sent: Row, bits: int, generator: torch.Generator) -> dict[str, Tensor]:
    """What a row of weights has changed since it was sent, in so many bits a weight.

    Parameters
    ----------
    row, sent
        Weights, and what they began with.
    bits
        8 or 4.
    generator
        Of the chance that rounds.

    Returns
    -------
    dict
        ``levels``, bytes of one or two weights each, and ``scales``, the greatest change of each block.
    """
    blocks = _blocks(row - sent)
    most = _most(bits)
    scales = blocks.abs().amax(dim=1)
    steps = blocks * (most / scales.clamp(min=torch.finfo(torch.float32).tiny))[:, None]
    up = torch.rand(steps.shape, generator=generator)
    levels = ((steps + up).floor().clamp(-most, most) + most).to(torch.uint8).flatten()
    if bits == 4:
        levels = levels[0::2] | (levels[1::2] << 4)
    return {LEVELS: levels, SCALES: scales}


def restored(parts: Mapping[str, Tensor], sent: Row, bits: int) -> Row:
    """The row of weights of what :func:`compressed` gives.

    Raises
    ------
    ValueError
        If it is not of these weights.
    """
    n = math.ceil(len(sent) / _BLOCK)
    levels, scales = parts.get(LEVELS), parts.get(SCALES)
    if len(parts) != 2 or levels is None or scales is None or levels.dtype != torch.uint8:
        raise ValueError("expected levels and scales of an update, got something else")
    fits = levels.shape == (n * _BLOCK * bits // 8,) and scales.shape == (n,)
    if not fits or scales.dtype != torch.float32 or not bool(torch.isfinite(scales).all()):
        raise ValueError("expected levels and scales of these weights, got those of others")
    if bits == 4:
        levels = torch.stack([levels & 15, levels >> 4], dim=1).flatten()
    most = _most(bits)
    change = (levels.view(n, _BLOCK).float() - most) * (scales / most)[:, None]
    return sent + change.flatten()[: len(sent)]


def bytes_of(n: int, bits: int) -> int:
    """Bytes of an update of so many weights."""
    blocks = math.ceil(n / _BLOCK)
    return 4 * n if bits == 32 else blocks * (_BLOCK * bits // 8 + 4)


def _most(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def _blocks(change: Row) -> Float32[Tensor, "b k"]:
    short = -len(change) % _BLOCK
    return torch.nn.functional.pad(change, (0, short)).view(-1, _BLOCK)
