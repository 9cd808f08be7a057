"""How bright each tissue is in one image: by a scanner's physics, or at random.

A look is a table with a row for each tissue and a column for each sub-cluster of it. The random one
follows SynthSeg (Billot et al., Med. Image Anal. 86, 102789 (2023)): a mean for each label, drawn
without any physics, so that a network learns shapes and no contrast.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from imaging.tissue import BONE, BRAIN, TUMOUR, Tissue

from . import contrast
from .tissues import FIELDS, column

N_CLUSTERS = 3
SEQUENCES = ("t1", "t1c", "t2", "pd", "flair")
_N = max(Tissue) + 1

Table = Float[Tensor, "tissues clusters"]


@dataclass(frozen=True, eq=False)
class Look:
    """Brightness of tissues in one image.

    Parameters
    ----------
    mean
        Of each tissue and sub-cluster, shape ``(tissues, clusters)``; white matter lies near 1.
    spread
        Standard deviation within it, same shape.
    """

    mean: Table
    spread: Table


def physical_look(generator: torch.Generator, sequence: str = "") -> Look:
    """A look by signal equations, with a scanner and a subject drawn.

    Parameters
    ----------
    generator
        Draws field strength, times of the sequence, and each tissue's own deviation.
    sequence
        ``t1`` (spin echo, spoiled gradient echo or MPRAGE), ``t1c``, ``t2``, ``pd`` or ``flair``; drawn
        where empty.
    """
    kind = sequence or ("t1", "t1", "t1c", "t2", "flair", "pd")[_whole(generator, 6)]
    field = FIELDS[_whole(generator, 2)]
    t1, t2, pd = (_varied(column(name, field), generator, 0.08) for name in ("t1", "t2", "pd"))
    if kind == "t1c":
        t1 = contrast.with_agent(t1, _varied(column("uptake"), generator, 0.3))
    signal = _signal(kind, pd, t1, t2, field, generator)
    # Scalp is skin, muscle and septa at once; cortical bone is never quite without signal.
    signal = signal / signal[Tissue.WHITE].clamp(min=1e-3)
    signal[list(BONE)] = signal[list(BONE)] + 0.04 * torch.rand(len(BONE), generator=generator)
    clusters = 1 + 0.05 * torch.randn(_N, N_CLUSTERS, generator=generator)
    loose = [Tissue.SCALP, Tissue.MARROW, Tissue.FAT, Tissue.FLUID, *TUMOUR]
    clusters[loose] += 0.13 * torch.randn(len(loose), N_CLUSTERS, generator=generator)
    mean = (signal[:, None] * clusters).clamp(min=0)
    return Look(mean, (0.02 + 0.05 * torch.rand(_N, 1, generator=generator)) * mean)


def random_look(generator: torch.Generator) -> Look:
    """A look without physics: any brightness for any tissue, and for each of its sub-clusters.

    Outside stays dark in nine images of ten, and air inside the head is as dark as the air outside.
    """
    mean = torch.rand(_N, 1, generator=generator)
    # Neighbours in kind are often alike: bone with its marrow, the parts of the brain.
    for alike, share in ((BONE, 0.3), (BRAIN[:3], 0.15), ((Tissue.SCALP, Tissue.FAT, Tissue.GLAND), 0.4)):
        if float(torch.rand(1, generator=generator)) < share:
            mean[list(alike)] = float(mean[alike[0]])
    mean = mean + 0.1 * torch.rand(1, generator=generator) * torch.randn(_N, N_CLUSTERS, generator=generator)
    dark = float(torch.rand(1, generator=generator)) < 0.9
    mean[Tissue.OUTSIDE] = 0.0 if dark else 0.3 * float(torch.rand(1, generator=generator))
    mean[Tissue.AIR] = mean[Tissue.OUTSIDE]
    spread = 0.1 * torch.rand(_N, 1, generator=generator).expand(_N, N_CLUSTERS).clone()
    spread[[Tissue.OUTSIDE, Tissue.AIR]] *= 0.2
    return Look(mean.clamp(min=0), spread)


def _signal(
    kind: str, pd: Tensor, t1: Tensor, t2: Tensor, field: float, generator: torch.Generator
) -> Tensor:
    if kind in ("t1", "t1c"):
        which = _whole(generator, 3)
        if which == 0:
            echo = contrast.SpinEcho(_between(generator, 400.0, 750.0), _between(generator, 8.0, 17.0))
            return contrast.spin_echo(pd, t1, t2, echo)
        if which == 1:
            gradient = contrast.SpoiledGradientEcho(
                tr=_between(generator, 140.0, 280.0),
                te=_between(generator, 2.0, 6.0),
                flip=_between(generator, 60.0, 85.0),
            )
            return contrast.spoiled_gradient_echo(pd, t1, contrast.t2_star(t2, field), gradient)
        inversion = contrast.Mprage(
            tr=_between(generator, 1900.0, 2500.0),
            ti=_between(generator, 800.0, 1100.0),
            flip=_between(generator, 7.0, 12.0),
        )
        return contrast.mprage(pd, t1, t2, inversion)
    if kind == "flair":
        tr = _between(generator, 7000.0, 11000.0)
        ti = contrast.null_time(float(t1[Tissue.CSF]), tr) * _between(generator, 0.95, 1.05)
        return contrast.inversion_recovery(
            pd, t1, t2, contrast.InversionRecovery(tr, _between(generator, 80.0, 140.0), ti)
        )
    te = (80.0, 120.0) if kind == "t2" else (12.0, 30.0)
    echo = contrast.SpinEcho(_between(generator, 2500.0, 6000.0), _between(generator, *te))
    return contrast.spin_echo(pd, t1, t2, echo)


def _varied(values: Tensor, generator: torch.Generator, sd: float) -> Tensor:
    return values * torch.exp(sd * torch.randn(len(values), generator=generator).clamp(-2, 2))


def _between(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator))


def _whole(generator: torch.Generator, n: int) -> int:
    return int(torch.randint(n, (1,), generator=generator))
