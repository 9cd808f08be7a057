"""Where the voxels of a training sample lie in a head: turned, stretched, shifted and bent, never folded."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from .randomisation import Randomisation

_KNOTS = 24.0  # between knots of the deformation (mm)
_STEP = 8  # voxels between places where the map of positions is worked out
_BESIDE = 30.0  # how far from what a sample is centred on the middle may lie (mm)
_STEEPEST = 0.9  # of the displacement's change in a millimetre: below 1 nothing folds

Labels = UInt8[Tensor, "i j k"]


def places_of(
    shape: Sequence[int],
    spacing: float,
    how: Randomisation,
    generator: torch.Generator,
    about: Tensor | None = None,
) -> Float[Tensor, "3 a b c"]:
    """Voxel of a head of so many voxels (fractional) for every eighth voxel of the sample.

    An affine map of the lattice, then a smooth displacement that changes by less than 0.9 mm in a
    millimetre, so that the map has a positive Jacobian everywhere.
    """
    counts = [math.ceil((n - 1) / _STEP) + 1 for n in how.shape]
    axes = [
        torch.linspace(-(n - 1) / 2, (n - 1) / 2, c) * how.spacing
        for n, c in zip(how.shape, counts, strict=True)
    ]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    moved = torch.einsum("ab,bijk->aijk", _turn(how, generator), at)
    if how.deformation > 0:
        moved = moved + _displacement(counts, how, generator)
    shift = how.shift * (2 * torch.rand(3, generator=generator) - 1)
    middle = torch.tensor([(n - 1) / 2 for n in shape]) if about is None else about
    shift = shift if about is None else shift.clamp(-_BESIDE, _BESIDE)
    return (moved + shift[:, None, None, None]) / spacing + middle[:, None, None, None]


def read_labels(
    head: Labels, places: Float[Tensor, "3 a b c"], shape: tuple[int, int, int]
) -> UInt8[Tensor, "_ _ _"]:
    """Nearest labels at places between which the map is linear; outside the head's box is OUTSIDE."""
    fine = interpolate(places[None], size=shape, mode="trilinear", align_corners=True)[0]
    index = torch.zeros(shape, dtype=torch.int32, device=head.device)
    inside = torch.ones(shape, dtype=torch.bool, device=head.device)
    for axis, n in enumerate(head.shape):
        at = fine[axis].round_()
        # A neck goes on below its last plane; everywhere else there is air.
        inside &= (at < n) if axis == 2 else (at >= 0) & (at < n)
        index.mul_(n).add_(at.clamp_(0, n - 1).int())
    read = head.flatten().index_select(0, index.flatten()).view(shape)
    return torch.where(inside, read, torch.zeros_like(read))


def _turn(how: Randomisation, generator: torch.Generator) -> Float[Tensor, "3 3"]:
    angles = torch.deg2rad(how.rotation * (2 * torch.rand(3, generator=generator) - 1))
    scale = 1 + how.scale * (2 * torch.rand(3, generator=generator) - 1)
    out = torch.diag(1 / scale)
    for axis, angle in enumerate(angles.tolist()):
        a, b = [n for n in range(3) if n != axis]
        turn = torch.eye(3)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        out = turn @ out
    # A head is mirrored as often as not: no side is special.
    out[0] *= 1.0 if float(torch.rand(1, generator=generator)) < 0.5 else -1.0
    return out


def _displacement(counts: Sequence[int], how: Randomisation, generator: torch.Generator) -> Tensor:
    size = [n * how.spacing for n in how.shape]
    knots = [max(math.ceil(s / _KNOTS), 2) + 1 for s in size]
    strength = how.deformation * float(torch.rand(1, generator=generator))
    field = strength * torch.randn(1, 3, *knots, generator=generator)
    field = interpolate(field, size=tuple(counts), mode="trilinear", align_corners=True)[0]
    steps = [s / (c - 1) for s, c in zip(size, counts, strict=True)]
    change = sum(
        float(torch.linalg.vector_norm(field.diff(dim=a + 1), dim=0).max()) ** 2 / steps[a] ** 2
        for a in range(3)
    )
    return field * min(1.0, _STEEPEST * (1 - how.scale) / max(math.sqrt(change), 1e-6))
