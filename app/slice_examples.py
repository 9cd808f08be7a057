"""Slices that generators learn from: pictures between -1 and 1, and boxes as planes."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torch.utils.data import Dataset

from imaging.slices import Slices
from synth.conditions import box_planes
from synth.on_the_fly import generator_of


def pictures(slices: Slices) -> Tensor:
    """Images between -1 and 1, float32, shape ``(n, 1, rows, columns)``."""
    return slices.images.float() / 127.5 - 1


def conditions(slices: Slices) -> Tensor:
    """The box of each slice in its class's plane, shape ``(n, classes, rows, columns)``."""
    rows = torch.cat([slices.classes[:, None].float(), slices.boxes], dim=1)
    shape = (int(slices.images.shape[2]), int(slices.images.shape[3]))
    return torch.stack([box_planes(row[None], len(slices.names), shape) for row in rows])


class SliceExamples(Dataset[dict[str, Tensor]]):
    """An endless supply of slices, mirrored, shifted and zoomed; sample n is the same for any worker.

    Parameters
    ----------
    slices
        Those to learn from.
    seed
        Which stream.
    shift, zoom
        Greatest shift (share of the picture) and change of size.
    length
        Samples in an epoch.
    """

    def __init__(
        self, slices: Slices, seed: int, shift: float = 0.04, zoom: float = 0.06, length: int = 10_000_000
    ) -> None:
        self.images, self.conditions = pictures(slices), conditions(slices)
        self.seed, self.shift, self.zoom, self.length = seed, shift, zoom, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample ``index``: ``image`` (1, rows, columns) and ``condition`` (classes, rows, columns)."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        generator = generator_of(self.seed, index)
        which = int(torch.randint(len(self.images), (1,), generator=generator))
        u = 2 * torch.rand(4, generator=generator) - 1
        scale = 1 + self.zoom * float(u[0])
        flip = -1.0 if float(u[3]) < 0 else 1.0
        dy, dx = float(2 * self.shift * u[1]), float(2 * self.shift * u[2])
        turn = torch.tensor([[flip * scale, 0.0, dx], [0.0, scale, dy]])
        both = torch.cat([self.images[which] + 1, self.conditions[which]])[None]  # nothing is 0 in all
        grid = affine_grid(turn[None], list(both.shape), align_corners=False)
        moved = grid_sample(both, grid, align_corners=False)[0]
        return {"image": moved[:1] - 1, "condition": moved[1:]}
