"""What the processes of one training agree on (Accelerate's)."""

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, reduce

from .checkpoint import Part


def average_gradients(part: Part) -> None:
    """The mean over all processes; a weight that had no part in this loss has no gradient in any of them."""
    if PartialState().num_processes == 1:
        return
    there = [p.grad for p in part.weights() if p.grad is not None]
    mean = reduce(torch.cat([g.flatten() for g in there]), "mean")
    for grad, own in zip(there, mean.split([g.numel() for g in there]), strict=True):
        grad.copy_(own.view_as(grad))


def agreed(seconds: float, here: PartialState) -> float:
    """The first process's clock, so that all stop at the same step."""
    if here.num_processes == 1:
        return seconds
    return float(broadcast(torch.tensor([seconds], dtype=torch.float64, device=here.device)))
