"""A domain-randomised render of a condition: where a generator may start from instead of noise.

Every class has any brightness, as in SynthSeg (Billot et al., Med. Image Anal. 86, 102789 (2023)): shapes are
there from the start, and what is left to learn is how tissues look.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from imaging.brightness import scaled

from .conditions import tissues_of
from .looks import random_look
from .on_the_fly import rendered
from .quick_scan import Scan, scanned

_SOFT = Scan(blur=(0.6, 0.6, 0.6))


def render(
    classes: UInt8[Tensor, "i j k"], contrasts: int, generator: torch.Generator
) -> Float[Tensor, "c i j k"]:
    """Images of -1 to 1, as generators learn them, each contrast with brightnesses of its own.

    Parameters
    ----------
    classes
        Of each voxel (:class:`synth.conditions.ConditionClass`).
    contrasts
        How many.
    generator
        Draws brightnesses and grain, on the CPU.
    """
    labels = tissues_of(classes)
    each = [
        scanned(rendered(labels, random_look(generator), generator), _SOFT, generator)
        for _ in range(contrasts)
    ]
    return torch.stack([scaled(image) for image in each]) / 0.75 - 1
