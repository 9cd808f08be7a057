"""U-Nets in a row that tell a dose: the second sees what the first one said.

After the cascade of Liu et al., "A cascade 3D U-Net for dose prediction in radiotherapy", Med. Phys. 48, 5574
(2021), on cells of two voxels (:mod:`models.unet`), without normalisation: how large an answer is, is what
is asked.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from .unet import MOST, CellUNet, UNetConfig, unet

STEP = 16  # sides of an input become whole numbers of these,
LEAST = 32  # and no fewer
_SHARP = 8.0  # of the softplus: a line above a few tenths
_MOST_STAGES = 3

Batch = Float[Tensor, "b _ i j k"]
Dose = Float[Tensor, "b 1 i j k"]


@dataclass(frozen=True)
class DoseUNetConfig:
    """Size of a cascade.

    Parameters
    ----------
    inputs
        Planes that go in.
    features
        Channels of the five levels of each U-Net, and of its last layer.
    stages
        U-Nets in a row.
    sharp
        Channels of two last layers of each that look at single voxels; 0 for none.
    norm
        As :class:`models.unet.UNetConfig` has it.

    Raises
    ------
    ValueError
        If a count is out of bounds, or as :class:`models.unet.UNetConfig`.
    """

    inputs: int
    features: tuple[int, ...] = (32, 48, 80, 112, 96, 32)
    stages: int = 2
    sharp: int = 0
    norm: str = "none"

    def __post_init__(self) -> None:
        if not 1 <= self.stages <= _MOST_STAGES:
            raise ValueError(f"expected 1 to {_MOST_STAGES} U-Nets in a row, got {self.stages}")
        if max(self.inputs, self.sharp, *self.features) > MOST:
            raise ValueError(f"expected a network of at most {MOST} channels, got more")
        self.stage(0)

    def stage(self, n: int) -> UNetConfig:
        """The U-Net at a place of the row."""
        return UNetConfig(self.inputs + (n > 0), 1, self.features, self.sharp, norm=self.norm)

    def as_json(self) -> dict[str, Any]:
        """What rebuilds it."""
        return asdict(self)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "DoseUNetConfig":
        """What the config of a card says of the network; other words of it are passed over.

        Raises
        ------
        ValueError
            If it says too little, or what no network has.
        """
        try:
            said = {f.name: config[f.name] for f in fields(cls)}
            return cls(**{**said, "features": tuple(said["features"])})
        except (KeyError, TypeError):
            raise ValueError(
                "expected a card whose config tells inputs, features and stages of a dose predictor, "
                "got another"
            ) from None


class ExactConv3d(nn.Conv3d):
    """In float32: bfloat16 would tell 70 Gy in steps of a quarter of a gray."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 # the base's name
        """The convolution, ``(b, c, i, j, k)``."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


class DoseUNet(nn.Module):
    """Planes ``(b, inputs, i, j, k)`` to dose as a share of the prescription, ``(b, 1, i, j, k)``."""

    def __init__(self, stages: list[CellUNet]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Batch) -> Dose:
        """The last answer; any sides."""
        return self.answers(x)[-1]

    def answers(self, x: Batch) -> list[Dose]:
        """What each U-Net of the row says."""
        sides = x.shape[2:]
        more = [side for n in reversed(sides) for side in (0, whole(n) - n)]
        x = pad(x, more)
        said: list[Tensor] = []
        for stage in self.stages:
            seen = torch.cat([x, said[-1].to(x.dtype)], dim=1) if said else x
            said.append(softplus(stage(seen).float(), beta=_SHARP))
        return [one[..., : sides[0], : sides[1], : sides[2]] for one in said]


def whole(n: int) -> int:
    """The next number of voxels along a side that a cascade works on."""
    return max(n + -n % STEP, LEAST)


def dose_unet(config: DoseUNetConfig) -> DoseUNet:
    """A cascade whose last layers begin small, so that its first answers are low doses everywhere."""
    stages = [unet(config.stage(n)) for n in range(config.stages)]
    for stage in stages:
        last = stage.inner.final_conv
        last.__class__ = ExactConv3d
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
    return DoseUNet(stages)
