"""An optimiser that sees a convolution's kernel as a matrix, and makes all directions of its step alike.

Adam scales each number of a gradient by itself; most of what then moves a kernel are a few directions. Muon
(Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024) steps by the nearest
orthogonal matrix instead, so that rare directions learn as fast as common ones. Its steps are as large as
Adam's (Liu et al., arXiv:2502.16982), so that one rate serves both.
`torch.optim.Muon` takes matrices alone, and a network has other weights beside them.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic; Jordan et al. chose them for a steep slope at 0
_NEWTON_SCHULZ = 5
_AS_ADAM = 0.2  # root mean square of Adam's steps (Liu et al.)
_FEWEST = 16  # outputs below which a kernel has too few directions
_EPS = 1e-8


class Muon(torch.optim.Optimizer):
    """Muon for kernels of three-dimensional convolutions, AdamW for what else there is.

    Parameters
    ----------
    weights
        Of a network, in order.
    lr, betas, weight_decay
        As AdamW takes them; a kernel's momentum is 0.95, whatever the betas say.
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        super().__init__(weights, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step along the gradients that there are."""
        if closure is not None:
            raise ValueError("expected gradients that are there, got a closure; call backward before")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                by = self._kernel if _is_kernel(weight) else self._other
                by(weight, weight.grad, group)

    def _kernel(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        mean = self._kept(weight, "exp_avg")
        mean.lerp_(gradient, 1 - _MOMENTUM)
        ahead = gradient.lerp(mean, _MOMENTUM)
        out, into, *sides = weight.shape
        # Kernels lie in memory with channels last: this order of columns costs no copy, and none matters.
        matrix = ahead.permute(0, 2, 3, 4, 1).reshape(out, -1)
        step = orthogonal(matrix).mul_(_AS_ADAM * max(matrix.shape) ** 0.5)
        weight.add_(step.view(out, *sides, into).permute(0, 4, 1, 2, 3), alpha=-group["lr"])

    def _other(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        first, second = group["betas"]
        mean, square = self._kept(weight, "exp_avg"), self._kept(weight, "exp_avg_sq")
        steps = self.state[weight].setdefault("step", torch.zeros(()))
        steps += 1
        mean.lerp_(gradient, 1 - first)
        square.lerp_(gradient.square(), 1 - second)
        n = float(steps)
        size = (square / (1 - second**n)).sqrt_().add_(_EPS)
        weight.addcdiv_(mean, size, value=-group["lr"] / (1 - first**n))

    def _kept(self, weight: Tensor, name: str) -> Tensor:
        kept: Tensor = self.state[weight].setdefault(name, torch.zeros_like(weight))
        return kept


def orthogonal(matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Near the orthogonal matrix nearest to one: singular values of 0.7 to 1.2, by Newton–Schulz steps.

    Parameters
    ----------
    matrix
        Worked on in bfloat16.
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(_NEWTON_SCHULZ):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


def _is_kernel(weight: Tensor) -> bool:
    return weight.ndim == 5 and weight.shape[0] >= _FEWEST and max(weight.shape[2:]) > 1
