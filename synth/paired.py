"""Training pairs made as they are needed: an MRI of any contrast, and the CT of the same head.

As :mod:`synth.on_the_fly` makes samples, with the CT that :mod:`synth.ct` would image with care: the CT
numbers of one subject, textured, and mixed at borders as a voxel and a standard kernel mix them. It has no
noise, which no network could foretell.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from imaging.tissue import Tissue

from .cells import N_LEVELS, deviations
from .ct import HIGHEST, LOWEST, CtRecipe, ct_numbers
from .on_the_fly import Library, generator_of, sample
from .poses import Labels
from .quick_scan import blurred
from .randomisation import Randomisation

_TEXTURE = 3.0  # mm between knots of the texture
_BONE_SD = 0.1  # of how dense a subject's bone is, as `synth.heads.AnatomyRecipe` has it
_KERNEL = 0.45  # mm, standard deviation of the standard kernel's response (`synth.ct.KERNELS`)


@dataclass(frozen=True, eq=False)
class Pairs(Dataset[dict[str, Tensor]]):
    """An endless supply of pairs as a torch dataset.

    Parameters
    ----------
    heads
        Where they are drawn from.
    how
        How much they differ.
    seed
        Which stream.
    ct
        How subjects differ to a CT scanner; its noise and kernels count for nothing here.
    length
        Pairs in an epoch.
    """

    heads: Library
    how: Randomisation
    seed: int
    ct: CtRecipe = field(default_factory=CtRecipe)
    length: int = 1_000_000

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Pair ``index``: ``image`` (c, i, j, k), ``ct`` (HU) and ``body`` (1, i, j, k), and ``labels``."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        generator = generator_of(self.seed, index)
        image, labels = sample(self.heads, self.how, generator)
        # Contrasts stand in any order, those that are missing last.
        image = image[(image.flatten(1).amax(dim=1) == 0).int().argsort(stable=True)]
        ct = quick_ct(labels, self.how.spacing, self.ct, generator)
        body = (labels != Tissue.OUTSIDE)[None].float()
        return {"image": image, "ct": ct[None], "body": body, "labels": labels}


def quick_ct(
    labels: Labels, spacing: float, recipe: CtRecipe, generator: torch.Generator
) -> Float[Tensor, "i j k"]:
    """CT (HU) of a label map without noise.

    Parameters
    ----------
    labels
        Tissues (`imaging.tissue.Tissue`).
    spacing
        Voxel size (mm).
    recipe
        How subjects differ.
    generator
        Draws the subject; on the CPU.
    """
    bone = 1 + _BONE_SD * float(torch.randn(1, generator=generator).clamp(-2, 2))
    table, _ = ct_numbers(recipe, bone, generator)
    knots = [max(math.ceil(n * spacing / _TEXTURE), 2) for n in labels.shape]
    coarse = torch.randn(1, 1, *knots, generator=generator).to(labels.device)
    smooth = interpolate(coarse, size=tuple(labels.shape), mode="trilinear", align_corners=True)[0, 0]
    step = float(deviations()[1] - deviations()[0]) * float(smooth.std())
    level = (smooth / step + (N_LEVELS - 1) / 2).round_().clamp_(0, N_LEVELS - 1).int()
    codes = labels.int() * N_LEVELS + level
    hu = table.to(labels.device).flatten().index_select(0, codes.flatten()).view(labels.shape)
    # A voxel is a box as well.
    sigma = math.sqrt((_KERNEL / spacing) ** 2 + 1 / 12)
    return (blurred(hu + 1000, (sigma,) * 3) - 1000).clamp_(LOWEST, HIGHEST)
