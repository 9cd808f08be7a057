"""A compact three-dimensional U-Net on cells of two voxels a side.

Most of a U-Net's time goes to its first level, which sees little. Here each cell of 2×2×2 voxels is one
place with eight channels (Shi et al., CVPR 2016, take the same step at the end of a network), so that a step
of training costs about a sixth, and each voxel still gets an answer of its own.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn

from .sound import sound
from .standardised import standardised

MOST = 1024  # channels of a network that a card may tell of
MULTIPLE = 32  # sides of an input are whole numbers of these
_CELL = 2
_NORMS = ("instance", "none")

Batch = Float[Tensor, "_ _ _ _ _"]


@dataclass(frozen=True)
class UNetConfig:
    """Size of a U-Net.

    Parameters
    ----------
    inputs, outputs
        Channels that go in and out.
    features
        Channels of the five levels, and of the last layer, which must be able to hold eight answers a place.
    sharp
        Channels of two last layers that look at single voxels again, beside the input; 0 for none.
    deep
        Coarser levels that answer too while the network learns, of cells of 4, then 8 voxels a side.
    norm
        ``instance``; or ``none``, with standardised kernels (:mod:`models.standardised`), where how large an
        answer is matters.

    Raises
    ------
    ValueError
        If a count is not positive, there are not six features, or there is no such normalisation.
    """

    inputs: int = 1
    outputs: int = 10
    features: tuple[int, ...] = (32, 48, 96, 128, 128, 96)
    sharp: int = 0
    deep: int = 0
    norm: str = "instance"

    def __post_init__(self) -> None:
        if self.norm not in _NORMS:
            raise ValueError(f"expected a normalisation of {', '.join(_NORMS)}, got {self.norm!r}")
        counts = (self.inputs, self.outputs, *self.features)
        if self.deep not in (0, 1, 2):
            raise ValueError(f"expected 0 to 2 coarser levels that answer, got {self.deep}")
        if len(self.features) != 6 or min(counts) < 1 or self.sharp < 0:
            raise ValueError(
                f"expected six counts of features and channels of 1 or more, got {self.features}, "
                f"{self.inputs} in, {self.outputs} out and {self.sharp} of single voxels"
            )

    def as_json(self) -> dict[str, Any]:
        """What rebuilds it."""
        return asdict(self)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "UNetConfig":
        """What the config of a card says of the network; other words of it are passed over.

        Raises
        ------
        ValueError
            If it says too little, what no network has, or a network of more than :data:`MOST` channels: a
            card is a file of somebody's.
        """
        try:
            said = {f.name: config[f.name] for f in fields(cls) if f.name in config}
            found = cls(**{**said, "features": tuple(said["features"])})
        except (KeyError, TypeError):
            raise ValueError(
                "expected a card whose config tells inputs, outputs and features, got another"
            ) from None
        if max(found.inputs, found.outputs, *found.features, found.sharp) > MOST:
            raise ValueError(f"expected a network of at most {MOST} channels, got more in its card")
        return found


class CellUNet(nn.Module):
    """Voxels to cells, a U-Net, and back: ``(b, inputs, i, j, k)`` to ``(b, outputs, i, j, k)``.

    The channels of a place hold what it says of eight voxels, and edges within it are soon lost among them.
    A head that sees the input beside the answer puts edges back where the input has them.
    """

    def __init__(
        self, inner: BasicUNet, head: nn.Module | None = None, deep: nn.ModuleList | None = None
    ) -> None:
        super().__init__()
        self.inner = inner
        self.head = head
        self.deep = deep

    def forward(self, x: Batch) -> Batch:
        """Logits of each voxel; sides are multiples of `MULTIPLE`."""
        return self._sharpened(self.inner(_cells(x)), x)

    def levels(self, x: Batch) -> list[Batch]:
        """Logits of each voxel, then those of coarser levels (Lee et al., "Deeply-supervised nets", 2015)."""
        net = self.inner
        down = [net.conv_0(_cells(x))]
        for step in (net.down_1, net.down_2, net.down_3, net.down_4):
            down.append(step(down[-1]))
        up = down.pop()
        coarser: list[Tensor] = []
        for step in (net.upcat_4, net.upcat_3, net.upcat_2, net.upcat_1):
            up = step(up, down.pop())
            coarser.append(up)
        found = self._sharpened(net.final_conv(up), x)
        return [
            found,
            *(say(seen).float() for say, seen in zip(self.deep or (), coarser[-2::-1], strict=False)),
        ]

    def _sharpened(self, cells: Batch, x: Batch) -> Batch:
        found = to_voxels(cells.float())
        if self.head is None:
            return found
        both = torch.cat([found, x], dim=1).contiguous(memory_format=torch.channels_last_3d)
        return found + self.head(both).float()


def _cells(x: Batch) -> Batch:
    return to_cells(x).contiguous(memory_format=torch.channels_last_3d)


def to_cells(x: Batch) -> Batch:
    """Each cell's voxels as channels, ``(b, c, i, j, k)`` to ``(b, 8 c, i/2, j/2, k/2)``."""
    b, c, i, j, k = x.shape
    n = _CELL
    split = x.reshape(b, c, i // n, n, j // n, n, k // n, n)
    return split.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * n**3, i // n, j // n, k // n)


def to_voxels(x: Batch) -> Batch:
    """What :func:`to_cells` undoes."""
    b, c, i, j, k = x.shape
    n = _CELL
    split = x.reshape(b, c // n**3, n, n, n, i, j, k)
    return split.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // n**3, i * n, j * n, k * n)


def unet(config: UNetConfig) -> CellUNet:
    """MONAI's `BasicUNet` (after Falk et al., Nat. Methods 16, 67 (2019)) with trilinear upsampling.

    Takes ``(b, inputs, i, j, k)`` with sides that are multiples of 32, gives ``(b, outputs, i, j, k)``.
    Instance norm, or none, since batches are small; transposed convolutions leave a chequerboard: there are
    none.
    """
    net = BasicUNet(
        spatial_dims=3,
        in_channels=config.inputs * _CELL**3,
        out_channels=config.outputs * _CELL**3,
        features=config.features,
        act=("LeakyReLU", {"negative_slope": 0.1, "inplace": True}),
        norm=("instance", {"affine": True}) if config.norm == "instance" else None,
        upsample="nontrainable",
    )
    if config.norm == "none":
        standardised(net)
    net = net.to(memory_format=torch.channels_last_3d)  # several times faster in bf16 on a CPU
    deep = nn.ModuleList(nn.Conv3d(n, config.outputs, 1) for n in config.features[1 : 1 + config.deep])
    return sound(CellUNet(net, _head(config) if config.sharp else None, deep if config.deep else None))


def _head(config: UNetConfig) -> nn.Module:
    """Two layers on voxels that change nothing before they have learnt."""
    n = config.sharp
    last = nn.Conv3d(n, config.outputs, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    layers = (
        nn.Conv3d(config.inputs + config.outputs, n, 3, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv3d(n, n, 3, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
        last,
    )
    head: Any = nn.Sequential(*layers)
    return head.to(memory_format=torch.channels_last_3d)
