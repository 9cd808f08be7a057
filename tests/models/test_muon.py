"""Steps of kernels and of other weights, against those of torch's own optimisers."""

import pytest
import torch
from torch import nn

from models.muon import Muon, orthogonal

RATE, DECAY = 1e-2, 0.1


@pytest.mark.parametrize("shape", [(24, 5, 3, 3, 3), (64, 2, 3, 3, 3)])
def test_a_kernel_steps_as_the_matrix_of_it_does(shape: tuple[int, ...]) -> None:
    """Wide and tall; columns in another order, which no step depends on but for rounding."""
    g = torch.Generator().manual_seed(1)
    kernel = nn.Parameter(torch.randn(shape, generator=g).to(memory_format=torch.channels_last_3d))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    ours = Muon([kernel], RATE, (0.9, 0.999), DECAY)
    theirs = torch.optim.Muon(
        [matrix], RATE, DECAY, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    before = matrix.detach().clone()
    for _ in range(4):
        gradient = torch.randn(shape, generator=g)
        kernel.grad, matrix.grad = gradient, gradient.flatten(1).clone()
        ours.step()
        theirs.step()
    moved = (matrix - before).detach()
    off = (kernel.flatten(1) - matrix).detach()
    assert float(off.norm()) < 0.05 * float(moved.norm())
    assert float(moved.norm()) > 0.1


@pytest.mark.parametrize("shape", [(7,), (8, 9), (24, 5, 1, 1, 1), (11, 16, 3, 3, 3)])
def test_other_weights_step_as_adamw_steps_them(shape: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(2)
    one = nn.Parameter(torch.randn(shape, generator=g))
    other = nn.Parameter(one.detach().clone())
    ours = Muon([one], RATE, (0.9, 0.99), DECAY)
    theirs = torch.optim.AdamW([other], RATE, (0.9, 0.99), weight_decay=DECAY)
    for _ in range(5):
        one.grad = torch.randn(shape, generator=g)
        other.grad = one.grad.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(20, 90), (90, 20)])
def test_directions_become_alike(shape: tuple[int, int]) -> None:
    """Jordan et al.: singular values end between 0.7 and 1.2, from 1/1000 of the largest on."""
    g = torch.Generator().manual_seed(3)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=g), full_matrices=False)
    spread = torch.logspace(0, -2, 20)
    found = torch.linalg.svdvals(orthogonal(u @ torch.diag(spread) @ v))
    assert float(found.min()) > 0.6
    assert float(found.max()) < 1.3


def test_a_weight_without_gradient_stays() -> None:
    still = nn.Parameter(torch.ones(3))
    Muon([still], RATE, (0.9, 0.999), DECAY).step()
    assert torch.equal(still.detach(), torch.ones(3))
