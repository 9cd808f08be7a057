"""Tumours cut out of images, all of one size."""

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor
from torch.nn import functional

_CHUNK = 64


def boxes_of(masks: Bool[Tensor, "_ ..."]) -> Float[Tensor, "_ _ 2"]:
    """First and last edge (voxels, half open) of each mask ``(n, *space)`` along each axis: ``(n, d, 2)``.

    Raises
    ------
    ValueError
        If a mask is empty.
    """
    n_axes = masks.ndim - 1
    empty = (~masks.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"expected a tumour in every mask, got none in {empty}; leave those images out")
    edges = []
    for axis in range(1, n_axes + 1):
        others = [other for other in range(1, n_axes + 1) if other != axis]
        inside = masks.sum(others) > 0 if others else masks
        first = inside.int().argmax(1)
        last = inside.shape[1] - inside.flip(1).int().argmax(1)
        edges.append(torch.stack([first, last], 1))
    return torch.stack(edges, 1).float()


def crops(
    images: Float[Tensor, "_ _ ..."], boxes: Real[Tensor, "_ _ 2"], side: int = 32, margin: float = 0.25
) -> Float[Tensor, "_ _ ..."]:
    """Each image's box, widened to a square or cube and brought to ``side`` voxels by linear interpolation.

    The longest side sets the size, so that a tumour keeps its shape: stretched to fill its box,
    every tumour would look like every other.

    Parameters
    ----------
    images
        Images ``(n, c, *space)``.
    boxes
        First and last edge along each axis (voxels, half open), shape ``(n, d, 2)``.
    side
        Voxels of a crop along each axis.
    margin
        Surroundings kept on each side, as a share of the box.

    Raises
    ------
    ValueError
        If there is not one box with room in it for each image.
    """
    space = torch.tensor(images.shape[2:], dtype=torch.float32, device=images.device)
    if boxes.shape != (len(images), len(space), 2):
        wanted = (len(images), len(space), 2)
        raise ValueError(
            f"expected boxes of shape {wanted}, got {tuple(boxes.shape)}; give one for each image"
        )
    edges = boxes.to(space)
    if bool((edges[..., 1] <= edges[..., 0]).any()):
        raise ValueError("expected boxes that end after they begin, got an empty one; leave its image out")
    extent = (edges[..., 1] - edges[..., 0]).amax(1, keepdim=True) * (1 + 2 * margin)
    # Torch's sampling counts axes backwards and runs from −1 to 1 between an image's outer edges.
    scale, offset = (extent / space).flip(1), (edges.mean(-1) * 2 / space - 1).flip(1)
    theta = torch.cat([torch.diag_embed(scale), offset[..., None]], dim=-1)
    shape = [images.shape[1], *[side] * len(space)]
    parts = []
    for part, where in zip(torch.split(images, _CHUNK), torch.split(theta, _CHUNK), strict=True):
        grid = functional.affine_grid(where, [len(part), *shape], align_corners=False)
        parts.append(functional.grid_sample(part.float(), grid, padding_mode="border", align_corners=False))
    return torch.cat(parts)
