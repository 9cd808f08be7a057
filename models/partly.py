"""What networks learn from voxels of which only a set of classes is known.

Contours of a clinic name some organs: a voxel outside them may be anything else, and a voxel of an organ
that a case lacks is unknown. Every voxel has the set of classes that it may be, as bits of a whole number;
the probability of the set is the sum over its classes (marginal loss: Shi et al., Med. Image Anal. 70,
101979 (2021)). Where each set holds one class, this is :func:`models.segmentation.deep_loss`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn.functional import avg_pool3d, one_hot

Logits = Float[Tensor, "b n _ _ _"]
Allowed = Integer[Tensor, "b _ _ _"]
Sets = Integer[Tensor, " m"]
Loss = Float[Tensor, ""]


def marginal_loss(
    levels: Sequence[Logits], allowed: Allowed, weight: Float[Tensor, " n"], least: float
) -> Loss:
    """Cross-entropy and soft Dice of sets of classes, with half as much of each coarser level.

    A set weighs the mean of its classes in the cross-entropy, and the set of all classes nothing: a voxel of
    which nothing is known has no gradient. The overlap of a set counts voxels that lie in it or outside it
    for certain.

    Parameters
    ----------
    levels
        Logits of voxels, then of cells of several voxels a side, shape ``(b, n, i, j, k)`` each.
    allowed
        Bit ``c`` is set where a voxel may be of class ``c``; none of them is 0. Shape ``(b, i, j, k)``.
    weight
        Of each class.
    least
        Voxels of a set that its overlap counts above.
    """
    sets, row = torch.unique(allowed, return_inverse=True)
    n = len(weight)
    member = members(sets, n)
    heavy = (member * weight.to(sets.device)).sum(dim=1) / member.sum(dim=1)
    heavy = torch.where(member.all(dim=1), torch.zeros_like(heavy), heavy)
    log_share = levels[0].float().log_softmax(dim=1)
    known = log_share.masked_fill(~member[row].movedim(-1, 1), -torch.inf).logsumexp(dim=1)
    each = heavy[row]
    loss = -(each * known).sum() / each.sum().clamp(min=1e-9) + _overlap(log_share, sets, row, member, least)
    mass = one_hot(row, len(sets)).movedim(-1, 1).float() * heavy.view(1, -1, 1, 1, 1)
    for depth, logits in enumerate(levels[1:], start=1):
        mass = avg_pool3d(mass, mass.shape[-1] // logits.shape[-1])
        coarse = logits.float().log_softmax(dim=1)
        told = torch.stack([coarse[:, m].logsumexp(dim=1) for m in member], dim=1)
        loss = loss + 0.5**depth * (-(mass * told).sum() / mass.sum().clamp(min=1e-9))
    return loss


def members(sets: Sets, n: int) -> Bool[Tensor, "m n"]:
    """Which of ``n`` classes each set holds.

    Raises
    ------
    ValueError
        If a set holds none, or another class.
    """
    if bool((sets <= 0).any()) or bool((sets >= 1 << n).any()):
        raise ValueError(f"expected sets of {n} classes, each with one or more, got others")
    return (sets[:, None] >> torch.arange(n, device=sets.device)) & 1 > 0


def _overlap(
    log_share: Float[Tensor, "b n i j k"],
    sets: Sets,
    row: Integer[Tensor, "b i j k"],
    member: Bool[Tensor, "m n"],
    least: float,
) -> Loss:
    """1 minus the mean soft Dice (Milletari et al., 3DV 2016) of sets that are not too rare.

    Voxels are gathered by their own set first: of ``t`` that lies in ``s`` (all its classes are of ``s``),
    they count as inside; of one that shares no class with ``s`` as outside; of others not at all.
    """
    here = one_hot(row.flatten(), len(sets)).to(log_share.dtype)  # (voxels, m)
    share = log_share.exp().movedim(1, -1).flatten(0, 3)  # (voxels, n)
    mass = (here.T @ share) @ member.to(share.dtype).T  # of set s in voxels of set t: [t, s]
    inside = (sets[:, None] & ~sets[None]) == 0
    outside = (sets[:, None] & sets[None]) == 0
    count = (inside * here.sum(dim=0)[:, None]).sum(dim=0)
    both = (mass * inside).sum(dim=0)
    size = (mass * (inside | outside)).sum(dim=0) + count
    there = (count > least) & ~member.all(dim=1)
    return 1 - (2 * both[there] / size[there]).mean() if bool(there.any()) else both.sum() * 0
