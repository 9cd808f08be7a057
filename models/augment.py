"""Differentiable augmentation of what a discriminator sees, of slices and of volumes.

After Zhao et al., NeurIPS 2020 (arXiv 2006.10738): real and drawn images are altered by the same kind of
chance before they are judged, and gradients pass through, so that a discriminator cannot learn a small
training set by heart and the generator does not learn the alterations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import pad

Images = Float[Tensor, "b c *space"]
Planes = Float[Tensor, "b k *space"]


@dataclass(frozen=True)
class Augmentation:
    """How far images are altered; the paper's policy "color, translation, cutout" by default.

    MR signal has no colours, so there is no saturation. All contrasts of an image are brightened alike, as
    the paper does with red, green and blue: what one contrast is to the other stays to be judged.

    Parameters
    ----------
    brightness
        What is added, at the most, for images of about -1 to 1.
    contrast
        How far the distance from the image's mean is stretched or pressed, at the most, as a share.
    translation
        Greatest shift along each axis, as a share of the side.
    cutout
        Sides of the box that is blanked, as a share of the image's sides.

    Raises
    ------
    ValueError
        If a share is not within 0 to 1, or the brightness is negative.
    """

    brightness: float = 0.5
    contrast: float = 0.5
    translation: float = 0.125
    cutout: float = 0.5

    def __post_init__(self) -> None:
        shares = (self.contrast, self.translation, self.cutout)
        if self.brightness < 0 or min(shares) < 0 or max(shares) > 1:
            raise ValueError(
                f"expected contrast, translation and cutout within 0 to 1 and a brightness of 0 or more, "
                f"got {shares} and {self.brightness}"
            )


def augmented(
    image: Images, condition: Planes, how: Augmentation, generator: torch.Generator
) -> tuple[Images, Planes]:
    """Images and their conditions, altered by chance; each of a batch in its own way.

    Brightness, contrast and the blanked box alter the image alone; a shift moves image and condition alike.

    Parameters
    ----------
    image
        Contrasts of about -1 to 1, shape ``(b, c, *space)``, space of two or three axes.
    condition
        Planes of the same voxels, shape ``(b, k, *space)``; k may be 0.
    how
        How far.
    generator
        Draws on its own device.
    """
    b, space = len(image), tuple(image.shape[2:])
    drawn = torch.rand(2, b, generator=generator, device=generator.device).to(image.device)
    image = brightened(image, how.brightness * (2 * drawn[0] - 1), 1 + how.contrast * (2 * drawn[1] - 1))
    shift = _drawn_shifts(b, space, how.translation, generator)
    image, condition = shifted(image, shift), shifted(condition, shift)
    hole = _drawn_holes(b, space, how.cutout, generator).to(image.device)
    return image * ~hole, condition


def brightened(image: Images, amount: Float[Tensor, " b"], stretch: Float[Tensor, " b"]) -> Images:
    """Images with an amount added, then stretched about their own mean."""
    ones = (1,) * (image.ndim - 1)
    bright = image + amount.reshape(-1, *ones)
    mean = bright.mean(dim=tuple(range(1, image.ndim)), keepdim=True)
    share = stretch.reshape(-1, *ones)
    return bright * share + mean * (1 - share)


def shifted(x: Images, shift: Int64[Tensor, "b axes"]) -> Images:
    """Each of a batch moved by whole voxels towards higher indices; what comes in from beyond is 0.

    Parameters
    ----------
    x
        Shape ``(b, c, *space)``.
    shift
        Voxels along each axis of space, negative towards lower indices.
    """
    most = shift.abs().amax(dim=0).tolist()
    sides = x.shape[2:]
    room = pad(x, [m for most_here in reversed(most) for m in (most_here, most_here)])
    return torch.stack([_window(one, most, by, sides) for one, by in zip(room, shift.tolist(), strict=True)])


def _window(one: Tensor, most: Sequence[int], by: Sequence[int], sides: Sequence[int]) -> Tensor:
    for axis, (m, s, n) in enumerate(zip(most, by, sides, strict=True), start=1):
        one = one.narrow(axis, m - s, n)
    return one


def _drawn_shifts(
    b: int, space: Sequence[int], share: float, generator: torch.Generator
) -> Int64[Tensor, "b axes"]:
    most = torch.tensor([int(share * n + 0.5) for n in space])
    drawn = torch.rand(b, len(space), generator=generator, device=generator.device).cpu()
    return torch.minimum((drawn * (2 * most + 1)).long(), 2 * most) - most


def _drawn_holes(
    b: int, space: Sequence[int], share: float, generator: torch.Generator
) -> Bool[Tensor, "b 1 *space"]:
    """True inside a box of the given share of each side, part of which may lie beyond the border."""
    drawn = torch.rand(b, len(space), generator=generator, device=generator.device).cpu()
    hole = torch.ones(b, 1, *space, dtype=torch.bool)
    for axis, n in enumerate(space):
        size = int(share * n + 0.5)
        # Its middle lies anywhere in the image, as in the paper, so that borders are not spared.
        low = (drawn[:, axis] * (n + 1 - size % 2)).long() - size // 2
        at = torch.arange(n)
        inside = (at >= low[:, None]) & (at < low[:, None] + size)
        hole &= inside.reshape(b, 1, *(n if a == axis else 1 for a in range(len(space))))
    return hole
