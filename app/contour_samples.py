"""Training samples of real cases with contours, varied anew each time, and a mixture with synthetic ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate
from torch.utils.data import Dataset

from imaging.brightness import scaled
from planning.contour.classes import CONTRASTS, Classes
from synth.on_the_fly import generator_of, shown
from synth.poses import places_of
from synth.quick_scan import Scan, scanned
from synth.randomisation import Randomisation

from .contour_material import ReadyCase

_OTHER_STREAM = 3_000_017  # of real samples than of synthetic ones, and of which kind a sample is
_ABOUT = 0.75  # share of samples that are centred on a structure
_CLEANER = 0.5  # share of the synthetic samples' artefacts: a real scan has its own


@dataclass(frozen=True, eq=False)
class RealContours(Dataset[dict[str, Tensor]]):
    """An endless supply of parts of real cases; sample ``n`` depends on the seed and ``n`` alone.

    Each is moved, turned, stretched, bent and mirrored as synthetic heads are (:func:`places_of`), its
    contrasts are shaded, blurred, made noisier and thicker as another scanner might, and some are left out.
    Image and classes are read at the same places, classes at the nearest voxel. Only the part of one file
    that is needed is read.

    Parameters
    ----------
    cases
        What :func:`app.contour_material.prepare_cases` made, on voxels of ``how.spacing``.
    how
        Lattice and how far samples differ.
    seed
        Which stream.
    device
        Does the work.
    length
        Samples in an epoch.
    """

    cases: Sequence[ReadyCase]
    how: Randomisation
    seed: int
    device: str = "cpu"
    length: int = 1_000_000

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample ``index``: ``image`` (c, i, j, k) float32; ``allowed`` (i, j, k) int32, bits of classes."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        generator = generator_of(self.seed + _OTHER_STREAM, index)
        case = self.cases[int(torch.randint(len(self.cases), (1,), generator=generator))]
        mr, allowed = self._part(case, generator)
        noise = torch.Generator(self.device).manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        image = torch.zeros((len(CONTRASTS), *self.how.shape), device=self.device)
        for n in shown(len(mr), self.how.missing, generator):
            scan = Scan.drawn(_CLEANER * self.how.artefacts, self.how.spacing, generator, self.how.thick)
            image[CONTRASTS.index(case.contrasts[n])] = scaled(scanned(mr[n].contiguous(), scan, noise))
        return {"image": image, "allowed": allowed}

    def _part(
        self, case: ReadyCase, generator: torch.Generator
    ) -> tuple[Float[Tensor, "c _ _ _"], Int32[Tensor, "_ _ _"]]:
        with safe_open(case.path, framework="pt") as file:
            size = file.get_slice("allowed").get_shape()
            some = file.get_tensor("places")
            drawn = torch.rand(2, generator=generator).tolist()
            about = some[int(drawn[1] * len(some))].float() if len(some) and drawn[0] < _ABOUT else None
            coarse = places_of(size, self.how.spacing, self.how, generator, about)
            fine = interpolate(coarse[None], size=self.how.shape, mode="trilinear", align_corners=True)[0]
            low, high = _reach(fine, size)
            i, j, k = (slice(a, b) for a, b in zip(low, high, strict=True))
            mr, allowed = file.get_slice("mr")[:, i, j, k].float(), file.get_slice("allowed")[i, j, k]
        at = (fine - torch.tensor(low).view(3, 1, 1, 1)).to(self.device)
        return _read(mr.to(self.device), at), _nearest(allowed.to(self.device), at)


@dataclass(frozen=True, eq=False)
class MixedContours(Dataset[dict[str, Tensor]]):
    """Real and synthetic samples in one stream; which sample ``n`` is depends on the seed and ``n`` alone.

    Parameters
    ----------
    synthetic
        Gives ``image``, ``labels`` and perhaps ``organs``, all of whose classes are known.
    real
        Gives ``image`` and ``allowed``.
    classes
        What tissues and organs of synthetic samples are.
    share
        Of real samples, 0 to 1.
    seed
        Which stream.
    """

    synthetic: Dataset[dict[str, Tensor]]
    real: Dataset[dict[str, Tensor]]
    classes: Classes
    share: float
    seed: int

    def __len__(self) -> int:
        return min(len(self.synthetic), len(self.real))  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample ``index`` of either supply: ``image`` and ``allowed``."""
        if self.is_real(index):
            return self.real[index]
        return known_everywhere(self.synthetic[index], self.classes)

    def is_real(self, index: int) -> bool:
        """Whether sample ``index`` is of a real case."""
        generator = generator_of(self.seed + 2 * _OTHER_STREAM, index)
        return float(torch.rand(1, generator=generator)) < self.share


def known_everywhere(sample: dict[str, Tensor], classes: Classes) -> dict[str, Tensor]:
    """A synthetic sample as a real one is: the bit of each voxel's class."""
    wanted = classes.wanted(sample["labels"], sample.get("organs"))
    return {"image": sample["image"], "allowed": (1 << wanted).to(torch.int32)}


def _reach(fine: Float[Tensor, "3 _ _ _"], size: Sequence[int]) -> tuple[list[int], list[int]]:
    """First voxel of a case that a sample reads along each axis, and the one after the last; one at least."""
    last = torch.tensor(size)
    low = fine.amin(dim=(1, 2, 3)).floor().long().clamp(min=torch.zeros(3, dtype=torch.long), max=last - 1)
    high = (fine.amax(dim=(1, 2, 3)).ceil().long() + 1).clamp(min=low + 1, max=last)
    return low.tolist(), high.tolist()


def _read(values: Float[Tensor, "c i j k"], at: Float[Tensor, "3 a b d"]) -> Float[Tensor, "c a b d"]:
    """Values, trilinear, at places in voxels; 0 beyond them."""
    n = torch.tensor(values.shape[1:], device=values.device).view(3, 1, 1, 1)
    unit = ((2 * at + 1) / n - 1).movedim(0, -1).flip(-1)
    return grid_sample(values[None], unit[None], padding_mode="zeros", align_corners=False)[0]


def _nearest(allowed: Int32[Tensor, "i j k"], at: Float[Tensor, "3 a b d"]) -> Int32[Tensor, "a b d"]:
    """Sets of classes at the nearest voxel; beyond the file there is class 0 alone."""
    size = torch.tensor(allowed.shape, device=allowed.device).view(3, 1, 1, 1)
    index = (at + 0.5).floor().long()
    inside = ((index >= 0) & (index < size)).all(dim=0)
    i, j, k = index.clamp(min=torch.zeros_like(size), max=size - 1).unbind(0)
    return torch.where(inside, allowed[i, j, k], 1).to(torch.int32)
