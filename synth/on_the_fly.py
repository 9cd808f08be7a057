"""Training samples made as they are needed: heads of a library, deformed and scanned anew each time.

Sample ``n`` depends on the seed and ``n`` alone, whoever makes it, so that any number of workers gives one
stream. Everything heavy runs on the device that holds the library.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor
from torch.nn.functional import interpolate, max_pool3d
from torch.utils.data import Dataset

from imaging.brightness import scaled
from imaging.shapes import Mask
from imaging.tissue import BRAIN, TUMOUR, Tissue

from .grafts import grafted
from .looks import N_CLUSTERS, Look, physical_look, random_look
from .poses import Labels, places_of, read_labels
from .quick_scan import Scan, scanned
from .randomisation import ANY, Randomisation
from .subject import Subject

_PLACES = 200  # of a tumour, and of cavities, that samples may be centred on
_PLACES_OF_EACH = 40  # organ

Image = Float[Tensor, "i j k"]
Images = Float[Tensor, "c i j k"]


@dataclass(frozen=True, eq=False)
class Library:
    """Label maps that samples are drawn from.

    Parameters
    ----------
    labels
        Tissues of each head, shape ``(n, i, j, k)``, uint8, on any device.
    spacing
        Voxel size (mm), the same along each axis.
    lesions
        Some voxels of each head's tumour, shape ``(m, 3)``, found when it is made; none where it is healthy.
    cavities
        The same of the air in it.
    organs
        Organs (`imaging.organ.Organ`) of each head, as ``labels``; None where nobody asks for them.
    about
        Some voxels of each head's organs, as many of small ones as of large ones; none without organs.
    """

    labels: UInt8[Tensor, "n i j k"]
    spacing: float
    lesions: tuple[Tensor, ...] = field(init=False)
    cavities: tuple[Tensor, ...] = field(init=False)
    organs: UInt8[Tensor, "n i j k"] | None = None
    about: tuple[Tensor, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name, kinds in (("lesions", (*TUMOUR, Tissue.CAVITY)), ("cavities", (Tissue.AIR,))):
            object.__setattr__(self, name, tuple(_some(head, kinds) for head in self.labels))
        nowhere = (torch.zeros(0, 3, dtype=torch.long),) * len(self.labels)
        about = nowhere if self.organs is None else tuple(_some_of_each(organs) for organs in self.organs)
        object.__setattr__(self, "about", about)


def library(subjects: Sequence[Subject], device: str = "cpu") -> Library:
    """Subjects on one upright grid of cubic voxels, ready to be drawn from.

    Raises
    ------
    ValueError
        If there are none, or they lie on different grids.
    """
    if not subjects:
        raise ValueError("expected at least one subject to draw samples from, got none")
    first = subjects[0].labels.grid
    if any(s.labels.grid.shape != first.shape for s in subjects):
        raise ValueError("expected subjects on one grid; make them with one recipe")
    labels = torch.stack([s.labels.data[0] for s in subjects])
    return Library(labels.to(device), float(first.spacing[0]))


class OnTheFly(Dataset[dict[str, Tensor]]):
    """An endless supply of samples as a torch dataset.

    Parameters
    ----------
    heads
        Where they are drawn from.
    how
        How much they differ.
    seed
        Which stream.
    length
        Samples in an epoch.
    """

    def __init__(self, heads: Library, how: Randomisation, seed: int, length: int = 1_000_000) -> None:
        self.heads, self.how, self.seed, self.length = heads, how, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample ``index``: ``image`` (c, i, j, k) float32, ``labels`` and ``organs`` (i, j, k) uint8."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        image, labels, organs = organ_sample(self.heads, self.how, generator_of(self.seed, index))
        return {"image": image, "labels": labels, **({} if organs is None else {"organs": organs})}


def generator_of(seed: int, index: int) -> torch.Generator:
    """The generator of one sample; neighbouring seeds and indices give unrelated streams."""
    mixed = (seed * 0x9E3779B97F4A7C15 + (index + 1) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 29
    return torch.Generator().manual_seed(mixed & 0x7FFFFFFFFFFFFFFF)


def sample(heads: Library, how: Randomisation, generator: torch.Generator) -> tuple[Images, Labels]:
    """One image, of one contrast or several, and its tissues.

    Parameters
    ----------
    heads
        Where the head is drawn from; its device does the work.
    how
        How much samples differ.
    generator
        Draws everything; on the CPU.

    Returns
    -------
    tuple
        Image of shape ``(c, *how.shape)``, each channel scaled by :func:`imaging.brightness.scaled`, and
        labels.
    """
    image, labels, _ = organ_sample(heads, how, generator)
    return image, labels


def organ_sample(
    heads: Library, how: Randomisation, generator: torch.Generator
) -> tuple[Images, Labels, Labels | None]:
    """What :func:`sample` gives, with the organs where the library knows them."""
    device = heads.labels.device
    n = int(torch.randint(len(heads.labels), (1,), generator=generator))
    head = heads.labels[n]
    about = _about((heads.lesions[n], heads.cavities[n], heads.about[n]), how, generator)
    places = places_of(head.shape, heads.spacing, how, generator, about).to(device)
    labels = read_labels(head, places, how.shape)
    organs = None if heads.organs is None else read_labels(heads.organs[n], places, how.shape)
    if how.grafted > 0:
        labels = grafted(labels, heads.labels, heads.lesions, heads.spacing, how, generator)
    if how.hollow > 0:
        labels = _hollowed(labels, how.hollow, generator)
    noise = torch.Generator(device).manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
    brain = _brain(labels) if float(torch.rand(1, generator=generator)) < how.stripped else None
    names = how.contrasts or (ANY,)
    image = torch.zeros((len(names), *how.shape), device=device)
    for channel in shown(len(names), how.missing, generator):
        image[channel] = _scan(labels, brain, names[channel], how, generator, noise)
    _cut([image, labels] if organs is None else [image, labels, organs], how, generator)
    return torch.stack([scaled(channel) for channel in image]), labels, organs


def _hollowed(labels: Labels, share: float, generator: torch.Generator) -> Labels:
    """Labels whose cavities reach a voxel into bone in a share of draws, two in a quarter of these."""
    drawn, further = torch.rand(2, generator=generator).tolist()
    for _ in range(0 if drawn >= share else 2 if further < 1 / 4 else 1):
        air = (labels == Tissue.AIR).float()[None, None]
        near = max_pool3d(air, 3, stride=1, padding=1)[0, 0] > 0
        bone = (labels == Tissue.SKULL) | (labels == Tissue.MARROW)
        labels = torch.where(near & bone, torch.full_like(labels, Tissue.AIR), labels)
    return labels


def _scan(
    labels: Labels,
    brain: Mask | None,
    name: str,
    how: Randomisation,
    generator: torch.Generator,
    noise: torch.Generator,
) -> Image:
    random = float(torch.rand(1, generator=generator)) < how.randomised
    sequence = how.sequences[_whole(generator, len(how.sequences))] if name == ANY else name
    look = random_look(generator) if random else physical_look(generator, sequence)
    image = rendered(labels, look, noise)
    image = image if brain is None else image * brain
    return scanned(image, Scan.drawn(how.artefacts, how.spacing, generator, how.thick), noise)


def shown(n: int, missing: float, generator: torch.Generator) -> list[int]:
    """Channels that a sample has of so many: each but for a share that is missing, never none."""
    draws = torch.rand(n, generator=generator)
    there = draws >= missing
    there[draws.argmax()] = True
    return torch.nonzero(there)[:, 0].tolist()


def _whole(generator: torch.Generator, n: int) -> int:
    return int(torch.randint(n, (1,), generator=generator))


def _cut(volumes: Sequence[Tensor], how: Randomisation, generator: torch.Generator) -> None:
    """Leaves out planes at the faces of half of the samples, in place."""
    u = torch.rand(7, generator=generator).tolist()
    if how.cut == 0 or u[6] < 0.5:
        return
    for axis, n in enumerate(how.shape):
        # Most faces stay whole: squares of uniform numbers are small.
        for share, first in ((u[2 * axis], True), (u[2 * axis + 1], False)):
            planes = min(int(share**2 * how.cut / how.spacing), n // 4)
            for volume in volumes:
                volume.narrow(axis - 3, 0 if first else n - planes, planes).zero_()


def rendered(labels: Labels, look: Look, noise: torch.Generator) -> Image:
    """Brightness of each voxel: its tissue's and sub-cluster's mean, and a texture of its own."""
    rows = labels.int() * N_CLUSTERS + _clusters(labels.shape, noise)
    image = look.mean.to(labels.device).flatten().index_select(0, rows.flatten()).view(labels.shape)
    spread = look.spread.to(labels.device).flatten().index_select(0, rows.flatten()).view(labels.shape)
    grain = torch.randn(labels.shape, generator=noise, device=labels.device)
    return image.addcmul(spread, grain).clamp_(min=0)


def _clusters(shape: torch.Size, noise: torch.Generator) -> Int32[Tensor, "i j k"]:
    """Which sub-cluster each voxel belongs to: smooth noise cut at two levels."""
    coarse = [max(math.ceil(n / 10), 2) for n in shape]
    values = torch.randn(1, 1, *coarse, generator=noise, device=noise.device)
    smooth = interpolate(values, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]
    return (smooth > -0.25).int() + (smooth > 0.25).int()


def _brain(labels: Labels) -> Mask:
    """Brain with the fluid in it."""
    table = torch.zeros(max(Tissue) + 1, dtype=torch.bool, device=labels.device)
    table[[*BRAIN, Tissue.CSF, Tissue.CAVITY, Tissue.NERVE]] = True
    return table[labels.long()]


def _some(head: Labels, kinds: Sequence[Tissue]) -> Tensor:
    """About two hundred of a head's voxels of some tissues, evenly through their list."""
    table = torch.zeros(max(Tissue) + 1, dtype=torch.bool, device=head.device)
    table[[*kinds]] = True
    found = torch.nonzero(table[head.int()])
    return found[:: max(1, len(found) // _PLACES)].cpu()


def _some_of_each(organs: Labels) -> Tensor:
    """About forty voxels of each of a head's organs."""
    found = torch.nonzero(organs)
    kinds = organs[tuple(found.T)]
    each = [found[kinds == kind] for kind in torch.unique(kinds)]
    return torch.cat([f[:: max(1, len(f) // _PLACES_OF_EACH)] for f in each] or [found]).cpu()


def _about(places: Sequence[Tensor], how: Randomisation, generator: torch.Generator) -> Tensor | None:
    """A place to look at, in the tumour, a cavity or an organ, or nothing."""
    wanted, place = torch.rand(2, generator=generator).tolist()
    first = 0.0
    for some, share in zip(places, (how.lesions, how.cavities, how.organs), strict=True):
        if len(some) and first <= wanted < first + share:
            return some[int(place * len(some))].float()
        first += share
    return None
