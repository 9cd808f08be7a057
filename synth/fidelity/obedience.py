"""Whether a generator draws what its labels ask for.

A network that learned to segment real images labels the synthetic ones; Dice (Ecology 26, 297 (1945)) against
the conditioning labels, class by class. Its own Dice on real images is the most that can be asked for.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Integer
from torch import Tensor

Images = Float[Tensor, "n c *space"]
Labels = Integer[Tensor, "n *space"]
ByClass = Float[Tensor, "n classes"]


def obedience(
    segment: Callable[[Images], Labels], images: Images, labels: Labels, n_classes: int, chunk: int = 4
) -> ByClass:
    """Dice of each image and class, float64; NaN where neither has the class.

    Parameters
    ----------
    segment
        Takes images ``(b, c, *space)`` and gives the class of every voxel ``(b, *space)``.
    images
        Shape ``(n, c, *space)``.
    labels
        Class that each voxel was asked to be, 0 to ``n_classes - 1``, shape ``(n, *space)``.
    n_classes
        How many classes there are.
    chunk
        Images at a time.

    Raises
    ------
    ValueError
        If the segmenter gives another shape, or labels that are no class.
    """
    rows = []
    for some, asked in zip(torch.split(images, chunk), torch.split(labels, chunk), strict=True):
        with torch.no_grad():
            found = segment(some)
        if found.shape != asked.shape:
            raise ValueError(
                f"expected labels of shape {tuple(asked.shape)}, got {tuple(found.shape)}; take the argmax"
            )
        rows += [_dice(a, b, n_classes) for a, b in zip(found.cpu(), asked.cpu(), strict=True)]
    return torch.stack(rows)


def _dice(found: Integer[Tensor, "*space"], asked: Integer[Tensor, "*space"], n_classes: int) -> Tensor:
    a, b = found.long().flatten(), asked.long().flatten()
    for labels in (a, b):
        if int(labels.min()) < 0 or int(labels.max()) >= n_classes:
            raise ValueError(
                f"expected classes 0 to {n_classes - 1}, got {int(labels.min())} to {int(labels.max())}"
            )
    both = torch.bincount(a[a == b], minlength=n_classes).double()
    total = torch.bincount(a, minlength=n_classes) + torch.bincount(b, minlength=n_classes)
    return 2 * both / total  # 0 / 0 is NaN
