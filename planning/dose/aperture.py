"""What passes the collimators: leaf positions, jaws and monitor units as a fluence on the isocentre plane."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from planning.beams import Beam, ControlPoint
from planning.machine import Machine, Mlc

from .bixels import Bixels
from .layers import passed, strips

# Side of a pixel (mm): leaves and bixels are whole numbers of them.
PIXEL = 1.0


@dataclass(frozen=True)
class Lattice:
    """Square pixels of the isocentre plane, x along the leaves, y across them.

    Parameters
    ----------
    origin
        Centre of pixel [0, 0] (mm, in the axes of the beam limiting device).
    shape
        Number of pixels along x and y.
    pixel
        Their side (mm).
    """

    origin: tuple[float, float]
    shape: tuple[int, int]
    pixel: float = PIXEL


@dataclass(frozen=True, eq=False)
class FluenceMap:
    """Fluence on a lattice of the isocentre plane, in weights of the pencil beam.

    Parameters
    ----------
    values
        Mean over each pixel, shape ``(nx, ny)``.
    origin
        Centre of pixel [0, 0] (mm).
    pixel
        Side of a pixel (mm).
    """

    values: Float[Tensor, "nx ny"]
    origin: tuple[float, float]
    pixel: float = PIXEL


def lattice_over(x: tuple[float, float], y: tuple[float, float], pixel: float = PIXEL) -> Lattice:
    """The fewest pixels, with edges on multiples of their side, that cover two spans (mm)."""
    starts, counts = [], []
    for low, high in (x, y):
        first, last = math.floor(low / pixel + 1e-6), math.ceil(high / pixel - 1e-6)
        starts.append((first + 0.5) * pixel)
        counts.append(max(last - first, 1))
    return Lattice((starts[0], starts[1]), (counts[0], counts[1]), pixel)


def openness(
    leaves: Float[Tensor, "b 2 n"],
    jaws_x: Float[Tensor, "b 2"],
    jaws_y: Float[Tensor, "b 2"],
    lattice: Lattice,
    machine: Machine,
) -> Float[Tensor, "b nx ny"]:
    """Share of the open fluence that each pixel gets through apertures, 0..1.

    A pixel that an edge cuts gets the share of its area, so that the share changes with leaves and
    jaws at the rate of the pixels they are passing: differentiable in all of them. Leaves let
    ``transmission`` through, jaws nothing; open leaf pairs are wider by the dosimetric leaf gap. What
    passes two layers of leaves is, at every point, the product of what passes each.

    Parameters
    ----------
    leaves
        Positions of bank A and bank B (mm at the isocentre) of each aperture, layer after layer.
    jaws_x, jaws_y
        Positions of the jaw pairs (mm at the isocentre).
    lattice
        The pixels.
    machine
        Its leaves.
    """
    mlc, (x, y) = machine.mlc, _centers(lattice, leaves)

    def opened(left: Tensor, right: Tensor, edges: np.ndarray) -> Tensor:
        left, right = torch.maximum(left, jaws_x[:, :1]), torch.minimum(right, jaws_x[:, 1:])
        at = torch.from_numpy(edges).to(leaves)
        low, high = torch.maximum(at[:-1], jaws_y[:, :1]), torch.minimum(at[1:], jaws_y[:, 1:])
        along = covered(x, lattice.pixel, left, right)
        return torch.einsum("bpx,bpy->bxy", along, covered(y, lattice.pixel, low, high))

    together, each = strips(*widened(leaves, mlc), mlc)
    inside = _between_jaws(jaws_x, jaws_y, lattice)
    return passed(inside, opened(*together), [opened(*own) for own in each], mlc)


def leakage(
    jaws_x: Float[Tensor, "b 2"], jaws_y: Float[Tensor, "b 2"], lattice: Lattice, machine: Machine
) -> Float[Tensor, "b nx ny"]:
    """What :func:`openness` is where all leaves are closed."""
    mlc = machine.mlc
    return mlc.transmission ** len(mlc.layers) * _between_jaws(jaws_x, jaws_y, lattice)


def _between_jaws(
    jaws_x: Float[Tensor, "b 2"], jaws_y: Float[Tensor, "b 2"], lattice: Lattice
) -> Float[Tensor, "b nx ny"]:
    x, y = _centers(lattice, jaws_x)
    along = covered(x, lattice.pixel, jaws_x[:, :1], jaws_x[:, 1:])
    return along.transpose(1, 2) * covered(y, lattice.pixel, jaws_y[:, :1], jaws_y[:, 1:])


def _centers(lattice: Lattice, like: Tensor) -> list[Tensor]:
    """Middles of the pixels along x and y (mm)."""
    return [
        like.new_tensor(start) + lattice.pixel * torch.arange(count, dtype=like.dtype, device=like.device)
        for start, count in zip(lattice.origin, lattice.shape, strict=True)
    ]


def covered(
    centers: Float[Tensor, " m"], width: float, low: Float[Tensor, "b n"], high: Float[Tensor, "b n"]
) -> Float[Tensor, "b n m"]:
    """Share of each pixel, along one axis, that lies between two edges."""
    ends = (
        torch.minimum(centers + width / 2, high[..., None]),
        torch.maximum(centers - width / 2, low[..., None]),
    )
    return (ends[0] - ends[1]).clamp(min=0) / width


def widened(leaves: Float[Tensor, "b 2 n"], mlc: Mlc) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Leaf ends as the beam sees them: half the dosimetric gap further open, where they are open."""
    left, right = leaves.unbind(1)
    half = mlc.dosimetric_gap / 2 * (right > left)
    return left - half, right + half


def delivered(beam: Beam, machine: Machine, pixel: float = PIXEL) -> list[tuple[Beam, FluenceMap]]:
    """The beam at each of its gantry angles, with the fluence that it delivers there.

    Between two control points leaves and jaws move evenly and the gantry stands at the middle of its
    way; weights are monitor units times the machine's ``fluence_per_mu``.

    Raises
    ------
    ValueError
        If the meterset does not rise from 0 to 1, jaws or leaves contradict themselves, or there is
        not one leaf position for each leaf of the machine.
    """
    points = beam.control_points
    shares = [point.meterset for point in points]
    if len(points) < 2 or shares[0] != 0 or abs(shares[-1] - 1) > 1e-4 or sorted(shares) != shares:
        raise ValueError(
            f"expected control points whose meterset rises from 0 to 1 in beam {beam.name}, "
            f"got {len(points)}; sequence the plan first"
        )
    lattice = _lattice(beam, machine, pixel)
    maps: dict[float, Tensor] = {}
    for first, last in pairwise(points):
        if last.meterset > first.meterset:
            weight = beam.mu * (last.meterset - first.meterset) * machine.fluence_per_mu
            turn = (last.gantry - first.gantry + 180) % 360 - 180
            angle = (first.gantry + turn / 2) % 360
            part = weight * _moving(first, last, lattice, machine)
            maps[angle] = maps[angle] + part if angle in maps else part
    return [
        (
            Beam(angle, beam.couch, beam.collimator, beam.isocenter, beam.name),
            FluenceMap(m.float(), lattice.origin, pixel),
        )
        for angle, m in maps.items()
    ]


def _lattice(beam: Beam, machine: Machine, pixel: float) -> Lattice:
    """All pixels that the jaws of a beam ever open on."""
    spans = []
    for jaws in ([p.jaws_x for p in beam.control_points], [p.jaws_y for p in beam.control_points]):
        low, high = min(j[0] for j in jaws), max(j[1] for j in jaws)
        if not -machine.max_jaw <= low < high <= machine.max_jaw:
            raise ValueError(
                f"expected jaws that open within {machine.max_jaw:g} mm in beam {beam.name}, "
                f"got {low:g} to {high:g} mm"
            )
        spans.append((low, high))
    return lattice_over(spans[0], spans[1], pixel)


def _moving(
    first: ControlPoint, last: ControlPoint, lattice: Lattice, machine: Machine
) -> Float[Tensor, "nx ny"]:
    """Mean share of the open fluence while leaves and jaws travel from one control point to the next."""
    for point in (first, last):
        expect_leaves(point.leaves, machine)
    ends = [
        [torch.from_numpy(np.array(value, dtype=np.float64)) for value in (p.leaves, p.jaws_x, p.jaws_y)]
        for p in (first, last)
    ]
    furthest = max(float((b - a).abs().max()) for a, b in zip(*ends, strict=True))
    n_steps = max(1, math.ceil(furthest / lattice.pixel))
    way = (torch.arange(n_steps, dtype=torch.float64) + 0.5) / n_steps
    leaves, jaws_x, jaws_y = (
        torch.lerp(a[None], b[None], way.reshape(-1, *[1] * a.ndim)) for a, b in zip(*ends, strict=True)
    )
    # Where no leaf ever opens, and that is most of what a machine without jaws shows, only leakage is.
    n_jaws = n_steps if (jaws_x[0] != jaws_x[-1]).any() or (jaws_y[0] != jaws_y[-1]).any() else 1
    whole = leakage(jaws_x[:n_jaws], jaws_y[:n_jaws], lattice, machine).mean(dim=0)
    span, part = _opening(torch.stack([ends[0][0], ends[1][0]]), lattice, machine.mlc)
    if part is not None:
        whole[span] = openness(leaves, jaws_x, jaws_y, part, machine).mean(dim=0)
    return whole


def _opening(
    leaves: Float[Tensor, "b 2 n"], lattice: Lattice, mlc: Mlc
) -> tuple[tuple[slice, slice], Lattice | None]:
    """The pixels that any of the apertures, or one between them, may open on; None if there are none."""
    left, right = widened(leaves, mlc)
    is_open = right > left
    if not bool(is_open.any()):
        return (slice(0), slice(0)), None
    pairs = is_open.any(dim=0).numpy()
    low, high = (np.concatenate([e[end] for e in mlc.layers])[pairs] for end in (slice(-1), slice(1, None)))
    spans = ((float(left[is_open].min()), float(right[is_open].max())), (low.min(), high.max()))
    slices, origin = [], []
    for (start, stop), first, count in zip(spans, lattice.origin, lattice.shape, strict=True):
        edge = first - lattice.pixel / 2
        n_before = min(max(math.floor((start - edge) / lattice.pixel), 0), count)
        n_until = min(max(math.ceil((stop - edge) / lattice.pixel), n_before), count)
        slices.append(slice(n_before, n_until))
        origin.append(first + n_before * lattice.pixel)
    shape = (slices[0].stop - slices[0].start, slices[1].stop - slices[1].start)
    part = Lattice((origin[0], origin[1]), shape, lattice.pixel) if min(shape) else None
    return (slices[0], slices[1]), part


def expect_leaves(leaves: Float64[np.ndarray, "2 n"], machine: Machine) -> None:
    """Nothing, if there is one position for each leaf and none overlap.

    Raises
    ------
    ValueError
        If not.
    """
    if leaves.shape[1] != machine.mlc.n_pairs:
        raise ValueError(f"expected {machine.mlc.n_pairs} leaf pairs, got {leaves.shape[1]}")
    if (leaves[1] < leaves[0] - 1e-6).any():
        raise ValueError("expected leaves of bank A left of bank B, got leaves that overlap")


def transmitted(
    leaves: Float64[np.ndarray, "2 n"],
    jaws_x: tuple[float, float],
    jaws_y: tuple[float, float],
    bixels: Bixels,
    machine: Machine,
) -> Float64[np.ndarray, " m"]:
    """Share of the open fluence that each bixel gets through one aperture, 0..1, as in :func:`openness`.

    Raises
    ------
    ValueError
        If there is not one leaf position for each leaf of the machine, or leaves overlap.
    """
    expect_leaves(leaves, machine)
    mlc, half = machine.mlc, np.array(bixels.width) / 2
    x, y = bixels.positions.T
    in_x = _overlap(x - half[0], x + half[0], *jaws_x) / bixels.width[0]
    in_y = _overlap(y - half[1], y + half[1], *jaws_y) / bixels.width[1]

    def opened(left: Tensor, right: Tensor, edges: np.ndarray) -> np.ndarray:
        # Rows: bixels; columns: leaf pairs.
        low, high = np.clip(edges[:-1], *jaws_y), np.clip(edges[1:], *jaws_y)
        across = _overlap((y - half[1])[:, None], (y + half[1])[:, None], low, high) / bixels.width[1]
        start, end = np.clip(np.stack([left[0].numpy(), right[0].numpy()]), *jaws_x)
        along = _overlap((x - half[0])[:, None], (x + half[0])[:, None], start, end) / bixels.width[0]
        return np.asarray((across * along).sum(axis=1))

    together, each = strips(*widened(torch.from_numpy(leaves)[None], mlc), mlc)
    return passed(in_x * in_y, opened(*together), [opened(*own) for own in each], mlc)


def _overlap(
    low: np.ndarray, high: np.ndarray, start: np.ndarray | float, end: np.ndarray | float
) -> np.ndarray:
    """Length that low..high and start..end have in common."""
    return np.clip(np.minimum(high, end) - np.maximum(low, start), 0, None)
