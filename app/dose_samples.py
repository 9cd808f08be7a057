"""Training samples of patients with doses: windows of them, mirrored, shifted, turned and stretched."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import grid_sample
from torch.utils.data import Dataset

from synth.on_the_fly import generator_of

from .dose_material import ReadyDose

_STREAM = 5_000_011
_HALF = 0.5


@dataclass(frozen=True)
class Varied:
    """How far samples differ from the patients that they are of.

    Parameters
    ----------
    turned
        Share of samples that are turned and stretched; others keep their voxels.
    degrees
        Greatest turn about the long axis.
    stretch
        Greatest change of size, as a share.

    Raises
    ------
    ValueError
        If a number is negative, or the share above 1.
    """

    turned: float = 0.5
    degrees: float = 6.0
    stretch: float = 0.06

    def __post_init__(self) -> None:
        if not 0 <= self.turned <= 1 or not 0 <= self.degrees <= 45 or not 0 <= self.stretch < 0.5:
            raise ValueError(
                "expected a share of 0 to 1, a turn of 0 to 45 degrees and a stretch of 0 to below 0.5"
            )


@dataclass(frozen=True, eq=False)
class DoseSamples(Dataset[dict[str, Tensor]]):
    """An endless supply of windows; sample ``n`` depends on the seed and ``n`` alone.

    All patients come once before one comes again. A window lies anywhere in the patient, and the patient
    anywhere in a window that is wider. What lies beyond is air, far from everything.

    Parameters
    ----------
    cases
        Patients.
    planes
        Which of their planes are seen, and which of these are distances.
    distances
        Whether each plane is one.
    shape
        Voxels of a window.
    varied
        How far samples differ.
    seed
        Which stream.
    length
        Samples in an epoch.
    """

    cases: Sequence[ReadyDose]
    planes: Sequence[int]
    distances: Sequence[bool]
    shape: tuple[int, int, int]
    varied: Varied
    seed: int
    length: int = 1_000_000

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample ``index``, as :func:`planning.predict.nets.loss_of` takes it but for the batch's axis."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        generator = generator_of(self.seed + _STREAM, index)
        turn, n = divmod(index, len(self.cases))
        order = torch.randperm(len(self.cases), generator=generator_of(self.seed + 2 * _STREAM, turn))
        case = self.cases[int(order[n])]
        drawn = torch.rand(7, generator=generator)
        read = self._turned if float(drawn[0]) < self.varied.turned else self._window
        image, dose, known, bits = read(case, drawn[1:6])
        if float(drawn[6]) < _HALF:
            image, dose, known, bits = (t.flip(-3) for t in (image, dose, known, bits))
        return {
            "image": image.contiguous(),
            "dose": dose.contiguous(),
            "known": known.contiguous(),
            "bits": bits.contiguous(),
            "scale": torch.tensor(case.scale),
            "voxel_mm3": torch.tensor(case.voxel_mm3),
        }

    def _window(self, case: ReadyDose, drawn: Float[Tensor, "5"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Voxels as they are, read from a part of the file."""
        with safe_open(case.path, framework="pt") as file:
            size = file.get_slice("bits").get_shape()
            low = _corner(size, self.shape, drawn[:3])
            there, here = [], []
            for a, n, m in zip(low, size, self.shape, strict=True):
                there.append(slice(max(a, 0), min(a + m, n)))
                here.append(slice(max(-a, 0), max(-a, 0) + min(a + m, n) - max(a, 0)))
            i, j, k = there
            planes = file.get_slice("planes")[:, i, j, k][list(self.planes)].float()
            parts = [
                planes,
                file.get_slice("dose")[:, i, j, k],
                file.get_slice("known")[:, i, j, k] > 0,
                file.get_slice("bits")[i, j, k],
            ]
        out = [torch.zeros((*p.shape[:-3], *self.shape), dtype=p.dtype) for p in parts]
        out[0] += self._far()
        for whole, part in zip(out, parts, strict=True):
            i, j, k = here
            whole[..., i, j, k] = part
        return out[0], out[1], out[2], out[3]

    def _turned(self, case: ReadyDose, drawn: Float[Tensor, "5"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Voxels read where a turned and stretched lattice lies in the patient."""
        with safe_open(case.path, framework="pt") as file:
            planes = file.get_tensor("planes")[list(self.planes)].float()
            dose, known, bits = (file.get_tensor(name) for name in ("dose", "known", "bits"))
        angle = torch.deg2rad(self.varied.degrees * (2 * drawn[3] - 1))
        stretch = float(1 + self.varied.stretch * (2 * drawn[4] - 1))
        unit = self._places(case, bits.shape, drawn[:3], angle, stretch)
        share = known.float()
        both = torch.cat([planes - self._far(), dose * share, share])
        read = grid_sample(both[None], unit[None], padding_mode="zeros", align_corners=False)[0]
        image = read[:-2] + self._far()
        # Stretched distances: what is twice as large is twice as far.
        of_distance = torch.tensor(list(self.distances))
        image[of_distance] = (image[of_distance] * stretch).clamp(-1, 1)
        inside = read[-1:] > _HALF
        near = grid_sample(
            _halves(bits), unit[None], mode="nearest", padding_mode="zeros", align_corners=False
        )[0]
        whole = (near[0].long() << 24) | near[1].long()
        return image, torch.where(inside, read[-2:-1] / read[-1:].clamp(min=_HALF), 0.0), inside, whole

    def _places(
        self,
        case: ReadyDose,
        size: Sequence[int],
        drawn: Float[Tensor, "3"],
        angle: Float[Tensor, ""],
        stretch: float,
    ) -> Float[Tensor, "i j k 3"]:
        """Where each voxel of the window is read, in units of `grid_sample`."""
        mm = torch.tensor(case.spacing)
        low = _corner(list(size), self.shape, drawn)
        middle = torch.tensor([a + (m - 1) / 2 for a, m in zip(low, self.shape, strict=True)])
        axes = [torch.arange(m) - (m - 1) / 2 for m in self.shape]
        x, y, z = (
            axis * side / stretch for axis, side in zip(torch.meshgrid(*axes, indexing="ij"), mm, strict=True)
        )
        cos, sin = torch.cos(angle), torch.sin(angle)
        at = torch.stack([x * cos - y * sin, x * sin + y * cos, z], dim=-1) / mm + middle
        return ((2 * at + 1) / torch.tensor(size) - 1).flip(-1)

    def _far(self) -> Float[Tensor, "c 1 1 1"]:
        """What planes are beyond a patient."""
        return torch.tensor(list(self.distances)).float().view(-1, 1, 1, 1)


def _corner(size: Sequence[int], shape: Sequence[int], drawn: Float[Tensor, "3"]) -> list[int]:
    """First voxel of the window; negative where it is wider than the patient."""
    out = []
    for n, m, share in zip(size, shape, drawn.tolist(), strict=True):
        slack = abs(n - m)
        shift = min(int(share * (slack + 1)), slack)
        out.append(shift if n >= m else -shift)
    return out


def _halves(bits: Tensor) -> Float[Tensor, "1 2 _ _ _"]:
    """Bits as two numbers that float32 holds without loss."""
    low = bits & ((1 << 24) - 1)
    return torch.stack([bits >> 24, low])[None].float()
