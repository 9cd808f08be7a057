"""Training samples of real pairs, varied anew each time, and a mixture of them with synthetic ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import grid_sample
from torch.utils.data import Dataset

from imaging.brightness import scaled
from synth.on_the_fly import generator_of
from synth.quick_scan import Scan, scanned
from synth.randomisation import Randomisation

KEYS = ("image", "ct", "body")  # of a sample that both kinds have: real CTs have no tissue labels
_OTHER_STREAM = 2_000_003  # of real samples than of synthetic ones, and of which kind a sample is
_BESIDE = 0.25  # of a sample's side that its middle may lie from a place in the body
_CLEANER = 0.5  # share of the synthetic samples' artefacts: a real scan has its own
_AIR = -1000.0

Matrix = Float[Tensor, "3 3"]


@dataclass(frozen=True, eq=False)
class RealPairs(Dataset[dict[str, Tensor]]):
    """An endless supply of parts of real pairs; sample ``n`` depends on the seed and ``n`` alone.

    Each is turned, scaled and mirrored a little, its contrasts are shaded, blurred and made noisier as
    another scanner might, some of them are left out, and they stand in any order. Only the part of one file
    that is needed is read.

    Parameters
    ----------
    paths
        Files of :func:`app.paired_material.prepare_pairs`.
    how
        Lattice, turn, scale, share of artefacts and of missing contrasts, and how many contrasts there may
        be, as of synthetic samples.
    seed
        Which stream.
    device
        Does the work.
    length
        Samples in an epoch.
    """

    paths: Sequence[Path]
    how: Randomisation
    seed: int
    device: str = "cpu"
    length: int = 1_000_000

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample ``index``: ``image`` (c, i, j, k); ``ct`` in HU and ``body``, 0 or 1, (1, i, j, k)."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        generator = generator_of(self.seed + _OTHER_STREAM, index)
        which = int(torch.randint(len(self.paths), (1,), generator=generator))
        mr, ct, body, seen = self._part(self.paths[which], generator)
        noise = torch.Generator(self.device).manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        n = max(len(self.how.contrasts), 1)
        image = torch.zeros((n, *self.how.shape), device=self.device)
        for channel, contrast in enumerate(_shown(len(mr), n, self.how.missing, generator)):
            scan = Scan.drawn(_CLEANER * self.how.artefacts, self.how.spacing, generator)
            image[channel] = scaled(scanned(mr[contrast].contiguous(), scan, noise) * seen)
        return {"image": image, "ct": ct[None], "body": body[None]}

    def _part(self, path: Path, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """MR (c, i, j, k), CT, body and what was seen of one part of a pair."""
        with safe_open(path, framework="pt") as file:
            size = file.get_slice("ct").get_shape()
            places = file.get_tensor("places")
            u = torch.rand(4, generator=generator)
            middle = places[int(u[3] * len(places))].float()
            middle = middle + _BESIDE * torch.tensor(self.how.shape) * (2 * u[:3] - 1)
            turn = _turn(self.how, generator)
            low, high = _reach(turn, middle, self.how.shape, size)
            i, j, k = (slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
            mr = file.get_slice("mr")[:, i, j, k].float()
            # Air is 0 while it is read, so that what lies beyond the file is air.
            ct = file.get_slice("ct")[i, j, k].float() - _AIR
            body, seen = (file.get_slice(name)[i, j, k].float() for name in ("body", "seen"))
        values = torch.cat([mr, torch.stack([ct, body, seen])]).to(self.device)
        read = _read(values, turn.to(self.device), (middle - low).to(self.device), self.how.shape)
        body, seen = (read[-2] > 0.5).float(), (read[-1] > 0.5).float()
        return read[:-3], read[-3] + _AIR, body, seen


@dataclass(frozen=True, eq=False)
class Mixed(Dataset[dict[str, Tensor]]):
    """Real and synthetic pairs in one stream; which kind sample ``n`` is depends on the seed and ``n`` alone.

    Parameters
    ----------
    synthetic, real
        Give ``image``, ``ct`` and ``body``, and whatever else, which is left out.
    share
        Of real samples, 0 to 1.
    seed
        Which stream.
    """

    synthetic: Dataset[dict[str, Tensor]]
    real: Dataset[dict[str, Tensor]]
    share: float
    seed: int

    def __len__(self) -> int:
        return min(len(self.synthetic), len(self.real))  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample ``index`` of either supply."""
        sample = (self.real if self.is_real(index) else self.synthetic)[index]
        return {name: sample[name] for name in KEYS}

    def is_real(self, index: int) -> bool:
        """Whether sample ``index`` is of a real pair."""
        generator = generator_of(self.seed + 2 * _OTHER_STREAM, index)
        return float(torch.rand(1, generator=generator)) < self.share


def _shown(n: int, most: int, missing: float, generator: torch.Generator) -> list[int]:
    """Contrasts that a sample has, in any order: each but for a share that is missing, never none."""
    draws = torch.rand(n, generator=generator)
    there = draws >= missing
    there[draws.argmax()] = True
    order = torch.randperm(n, generator=generator)
    return [int(c) for c in order if there[c]][:most]


def _turn(how: Randomisation, generator: torch.Generator) -> Matrix:
    """Voxels of a sample to voxels of a pair about their middles: a turn, a scale, a mirror."""
    u = 2 * torch.rand(7, generator=generator) - 1
    out = torch.diag(1 / (1 + how.scale * u[:3]))
    for axis, angle in enumerate((how.rotation * u[3:6]).tolist()):
        a, b = (n for n in range(3) if n != axis)
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        one = torch.eye(3)
        one[a, a], one[a, b], one[b, a], one[b, b] = c, -s, s, c
        out = one @ out
    out[0] *= 1.0 if float(u[6]) < 0 else -1.0  # no side of a head is special; i runs from right to left
    return out


def _reach(
    turn: Matrix, middle: Float[Tensor, "3"], shape: tuple[int, int, int], size: Sequence[int]
) -> tuple[Int[Tensor, "3"], Int[Tensor, "3"]]:
    """First voxel of a pair that a sample reads along each axis, and the one after the last; one at least."""
    half = turn.abs() @ (torch.tensor(shape) / 2)
    last = torch.tensor(size)
    low = (middle - half).floor().long().clamp(min=torch.zeros(3, dtype=torch.long), max=last - 1)
    high = (middle + half).ceil().long() + 2
    return low, high.clamp(min=low + 1, max=last)


def _read(
    values: Float[Tensor, "c i j k"], turn: Matrix, middle: Float[Tensor, "3"], shape: tuple[int, int, int]
) -> Float[Tensor, "c _ _ _"]:
    """Values, trilinear, where the voxels of a sample lie; 0 beyond them."""
    axes = [torch.arange(n, device=values.device) - (n - 1) / 2 for n in shape]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ turn.T + middle
    n = torch.tensor(values.shape[1:], device=values.device)
    unit = (2 * at + 1) / n - 1
    return grid_sample(values[None], unit.flip(-1)[None], padding_mode="zeros", align_corners=False)[0]
