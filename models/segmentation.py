"""What networks that name voxels learn from: cross-entropy, overlap, and the same of coarser levels."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import avg_pool3d, one_hot

Logits = Float[Tensor, "b n _ _ _"]
Classes = Int64[Tensor, "b _ _ _"]
Loss = Float[Tensor, ""]


def segmentation_loss(logits: Logits, wanted: Classes, weight: Float[Tensor, " n"], least: float) -> Loss:
    """Weighted cross-entropy plus soft Dice (Milletari et al., 3DV 2016) over classes that are not too rare.

    Parameters
    ----------
    logits
        Of each class, shape ``(b, n, i, j, k)``.
    wanted
        The class of each voxel, shape ``(b, i, j, k)``.
    weight
        Of each class in the cross-entropy.
    least
        Voxels of a class that its overlap counts above: of a few, it would outweigh all others.
    """
    log_share = logits.float().log_softmax(dim=1)
    truth = log_share.gather(1, wanted[:, None])[:, 0]
    each = weight.to(logits.device)[wanted]
    return -(each * truth).sum() / each.sum() + _dice_loss(log_share, truth, wanted, least)


def deep_loss(levels: Sequence[Logits], wanted: Classes, weight: Float[Tensor, " n"], least: float) -> Loss:
    """The loss of voxels, and half as much of each coarser level than of the one before.

    A coarse cell holds several classes: it learns its shares of them by cross-entropy.

    Parameters
    ----------
    levels
        Logits of voxels, then of cells of several voxels a side.
    wanted, weight, least
        As :func:`segmentation_loss` takes them.
    """
    loss = segmentation_loss(levels[0], wanted, weight, least)
    if len(levels) == 1:
        return loss
    weight = weight.to(wanted.device)
    mass = one_hot(wanted, len(weight)).movedim(-1, 1).float() * weight.view(1, -1, 1, 1, 1)
    for depth, logits in enumerate(levels[1:], start=1):
        mass = avg_pool3d(mass, mass.shape[-1] // logits.shape[-1])
        surprise = -(mass * logits.float().log_softmax(dim=1)).sum() / mass.sum()
        loss = loss + 0.5**depth * surprise
    return loss


def _dice_loss(
    log_share: Float[Tensor, "b n i j k"], truth: Float[Tensor, "b i j k"], wanted: Classes, least: float
) -> Loss:
    n = log_share.shape[1]
    both = torch.zeros(n, device=truth.device).index_add(0, wanted.flatten(), truth.exp().flatten())
    count = torch.bincount(wanted.flatten(), minlength=n)
    size = log_share.exp().sum((0, 2, 3, 4)) + count
    there = count > least
    return 1 - (2 * both[there] / size[there]).mean()
