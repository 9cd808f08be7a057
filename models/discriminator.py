"""Judges of drawn images: patch discriminators on the image and on its fine detail, and their losses."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor, nn
from torch.nn.functional import relu

from .wavelet import to_bands

Images = Float[Tensor, "b c *space"]
Bands = Float[Tensor, "b n *half"]
Planes = Float[Tensor, "b k *space"]
Logits = tuple[Tensor, ...]


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Size of a pair of discriminators.

    Parameters
    ----------
    space
        2 for slices, 3 for volumes.
    contrasts
        Channels of the image.
    classes
        Planes of the condition; 0 for none.
    features
        Channels after the first layer; each further layer has twice as many.
    layers
        Layers between the first and the last of the image's discriminator: 3 makes patches of 70 voxels a
        side (Isola et al., CVPR 2017). The bands' has one less: its patches are as large in the patient.

    Raises
    ------
    ValueError
        If a count is out of range.
    """

    space: int = 3
    contrasts: int = 4
    classes: int = 12
    features: int = 32
    layers: int = 3

    def __post_init__(self) -> None:
        if self.space not in (2, 3) or self.classes < 0:
            raise ValueError(
                f"expected 2 or 3 axes of space and no negative number of classes, "
                f"got {self.space} and {self.classes}"
            )
        if min(self.contrasts, self.features) < 1 or self.layers < 2:
            raise ValueError("expected a contrast, a feature and two layers at least; raise the counts")


class Discriminators(nn.Module):
    """Two patch discriminators that see the condition beside the image (by concatenation).

    One looks at the image in full resolution, one at its high Haar bands, each divided by its standard
    deviation: blur that the first forgives is plain to the second. There is no norm: one of each instance
    hides how strong detail is, which is what blurred images lack.

    Parameters
    ----------
    config
        Their size.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        c, k, d = config.contrasts, config.classes, config.space
        self.image = _patches(d, c + k, config.features, config.layers)
        self.bands = _patches(d, c * (2**d - 1) + k, config.features, config.layers - 1)
        self.pool = nn.AvgPool2d(2) if d == 2 else nn.AvgPool3d(2)
        self.layout = torch.channels_last if d == 2 else torch.channels_last_3d

    def forward(self, image: Images, high: Bands, condition: Planes) -> Logits:
        """Logits of patches, positive for real: of the image, and of its high bands.

        Parameters
        ----------
        image, high
            Both :func:`views` of an image.
        condition
            Shape ``(b, k, *space)``, averaged over cells of two voxels for the bands.
        """
        coarse = self.pool(condition) if condition.shape[1] else high[:, :0]
        whole = torch.cat([image, condition], 1).contiguous(memory_format=self.layout)
        fine = torch.cat([high, coarse], 1).contiguous(memory_format=self.layout)
        return self.image(whole)[-1].float(), self.bands(fine)[-1].float()


def views(image: Images, band_std: Sequence[float]) -> tuple[Images, Bands]:
    """What each discriminator looks at: the image, and its high bands in units of their spread.

    Parameters
    ----------
    image
        Shape ``(b, c, *space)``, space of even sides.
    band_std
        Standard deviation of each of the ``c 2^d`` bands in the training set, as the generator has it.
    """
    return image, to_bands(image, band_std)[:, image.shape[1] :]


def _patches(space: int, channels: int, features: int, layers: int) -> nn.Module:
    net = PatchDiscriminator(space, features, channels, num_layers_d=layers, norm=None, bias=True)
    last = torch.channels_last if space == 2 else torch.channels_last_3d
    out: nn.Module = net.to(memory_format=last)
    return out


def hinge_of_discriminator(real: Logits, drawn: Logits) -> Float[Tensor, ""]:
    """Hinge loss of discriminators (Lim and Ye, arXiv 1705.02894), the mean over patches, summed over both.

    mean max(0, 1 - D(real)) + mean max(0, 1 + D(drawn)): 2 for one that cannot tell (D = 0), 0 for one that
    is right by a margin of 1.
    """
    each = [relu(1 - r).mean() + relu(1 + d).mean() for r, d in zip(real, drawn, strict=True)]
    return torch.stack(each).sum()


def hinge_of_generator(drawn: Logits) -> Float[Tensor, ""]:
    """Loss of the generator that goes with :func:`hinge_of_discriminator`: - mean D(drawn), summed."""
    return torch.stack([-d.mean() for d in drawn]).sum()


def r1(logits: Sequence[Tensor], seen: Sequence[Tensor]) -> Float[Tensor, ""]:
    """R1: squared norm of the discriminators' gradient at real images (Mescheder et al., ICML 2018).

    The mean over the batch, summed over discriminators, each with respect to what it looks at. One of n
    patches counts with the gradient of their sum, squared and divided by n: where patches do not overlap,
    that is the mean of each patch's own penalty, however large the image.

    Parameters
    ----------
    logits
        What each discriminator says of real images, shape ``(b, 1, *patches)``, in float32.
    seen
        What each of them looked at, which requires a gradient.
    """
    total = logits[0].new_zeros(())
    for said, at in zip(logits, seen, strict=True):
        (gradient,) = torch.autograd.grad(said.sum(), at, create_graph=True)
        total = total + gradient.square().sum() / said.numel()
    return total
