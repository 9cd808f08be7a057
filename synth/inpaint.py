"""A tumour drawn into a region of a real scan, whose surroundings stay what they were."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from imaging.brightness import scaled

Scan = Float[Tensor, "c *space"]
Planes = Float[Tensor, "k *told"]  # shapes are compared, and refused in words, by `inpaint`
Region = Bool[Tensor, "*region"]
Draw = Callable[[Tensor, Tensor, Tensor], Tensor]  # condition, known, image -> images, each (1, …, *space)

_SIGNAL = 0.05  # of the scan's scale: less is air
_CLIP = 1.5  # where `scaled` ends


def inpaint(
    scan: Scan,
    region: Region,
    condition: Planes,
    draw: Draw,
    edge: float,
    spacing: Sequence[float],
) -> Scan:
    """A scan with a region drawn anew: same bits outside it, blended over an edge within it.

    The generator sees the scan on its own scale (:func:`to_scale`), and what it draws is brought back by
    the same factors, so that it is as bright as its surroundings.

    Parameters
    ----------
    scan
        Contrasts of MR signal in any unit, shape ``(c, *space)``.
    region
        Voxels that may change.
    condition
        What shall lie there, as the generator knows it, for the whole scan.
    draw
        A generator's pipeline with its steps, guidance and seed filled in: takes condition, known (1 where a
        voxel is given) and image, each with a batch of one, and gives the image.
    edge
        How far from the region's border what is drawn has replaced what was (in the unit of ``spacing``).
    spacing
        Size of a voxel (mm, or 1 for an edge in voxels).

    Raises
    ------
    ValueError
        If the region is empty, or leaves nothing of the scan, or touches no tissue; if the scan is not
        finite or lacks a contrast; if shapes differ; or if what is drawn is not finite.
    """
    _check(scan, region, condition)
    weight = blend_weight(region, edge, spacing).to(scan.device)
    shown, level = to_scale(scan)
    if not bool((shown.amax(dim=0)[region] > 2 * _SIGNAL / _CLIP - 1).any()):
        raise ValueError("expected a region that touches tissue, got one in air alone; move it into the head")
    known = (~region).float().expand(1, *scan.shape)
    drawn = draw(condition[None], known, shown[None] * known)[0]
    if drawn.shape != scan.shape or not bool(torch.isfinite(drawn).all()):
        raise ValueError(
            f"expected a finite image of shape {tuple(scan.shape)} from the generator, "
            f"got {tuple(drawn.shape)}; train it longer or use another"
        )
    signal = from_scale(drawn.to(scan.device, torch.float32), level).to(scan.dtype)
    blended = torch.lerp(scan, signal, weight.to(scan.dtype))
    return torch.where(region, blended, scan)


def blend_weight(
    region: Bool[Tensor, "*space"], edge: float, spacing: Sequence[float]
) -> Float[Tensor, "*space"]:
    """Share of what is drawn at each voxel: 0 outside a region, 1 from the edge's width inwards.

    Between them it rises as s²(3 - 2s) of s = distance to the nearest voxel outside / edge, which sets in
    and levels out without a kink.

    Parameters
    ----------
    region
        Voxels that may change.
    edge
        Width of the rise; 0 for none.
    spacing
        Size of a voxel along each axis, in the edge's unit.

    Raises
    ------
    ValueError
        If the edge is negative, or there is not a positive spacing for each axis.
    """
    if edge < 0 or len(spacing) != region.ndim or min(spacing) <= 0:
        raise ValueError(
            f"expected an edge of 0 or more and {region.ndim} positive spacings, got {edge:g} and "
            f"{', '.join(f'{s:g}' for s in spacing)}"
        )
    if edge == 0:
        return region.float()
    depth = torch.from_numpy(distance_transform_edt(region.cpu().numpy(), sampling=list(spacing))).float()
    s = (depth / edge).clamp(max=1)
    return s * s * (3 - 2 * s)


def to_scale(scan: Scan) -> tuple[Scan, Float[Tensor, " c"]]:
    """A scan as generators of volumes learn it, and the signal that each contrast was divided by.

    Each contrast is scaled by its own bright voxels (:func:`imaging.brightness.scaled`), then 0 to 1.5, where
    that scale is clipped, becomes -1 to 1.

    Raises
    ------
    ValueError
        If a contrast has no signal.
    """
    unit = torch.stack([scaled(one.float()) for one in scan])
    level = []
    for n, (one, seen) in enumerate(zip(scan, unit, strict=True)):
        # A voxel that was not clipped tells what it was divided by.
        at = int(torch.where(seen < _CLIP, seen, 0.0).argmax())
        if float(seen.flatten()[at]) <= 0:
            raise ValueError(f"expected signal in every contrast, got none in number {n + 1}; leave it out")
        level.append(one.flatten()[at].float() / seen.flatten()[at])
    return 2 * unit / _CLIP - 1, torch.stack(level)


def from_scale(image: Scan, level: Float[Tensor, " c"]) -> Scan:
    """MR signal of what a generator drew, none of it negative; undoes :func:`to_scale` but for its clip."""
    return ((image + 1) * _CLIP / 2).clamp(min=0) * level.reshape(-1, *(1,) * (image.ndim - 1))


def _check(scan: Tensor, region: Tensor, condition: Tensor) -> None:
    if scan.shape[1:] != region.shape or condition.shape[1:] != region.shape:
        raise ValueError(
            f"expected region and condition of the scan's shape {tuple(scan.shape[1:])}, "
            f"got {tuple(region.shape)} and {tuple(condition.shape[1:])}; resample them to it"
        )
    if not bool(torch.isfinite(scan).all()):
        raise ValueError("expected a finite scan, got NaN or infinite voxels; repair or re-export it")
    if not bool(region.any()):
        raise ValueError("expected a region with voxels inside, got an empty one")
    if bool(region.all()):
        raise ValueError("expected a region with surroundings, got the whole scan; draw a smaller one")
