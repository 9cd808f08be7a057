"""The network of all generators, for slices and volumes: MONAI's diffusion U-Net on the bands of a Haar step.

It sees noisy bands, the planes of a condition, and what of the image is given; so the same weights draw from
labels, fill in missing contrasts and paint inside a region. diffusers saves and loads it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any, NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, Integer
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn

from .sound import sound
from .wavelet import haar, to_bands

_CLOCK = 1000.0  # MONAI's embedding counts steps of Ho et al. (2020); our time runs from 0 to 1
_WHISPER = 0.1  # of noise at the source, so that a single step can draw one image or another
_GROUPS = 4  # more make the gradient of a group norm several times slower in channels-last on a CPU
_MOST = 1024  # channels of a level, so that a file from elsewhere cannot ask for all memory

Bands = Float[Tensor, "b k *h"]
PerSample = Float[Tensor, " b"]
Widths = Integer[Tensor, " b"]


class Predicts(StrEnum):
    """What the network's answer is."""

    VELOCITY = "velocity"  # source - data, diffusers' sign of flow matching
    NOISE = "noise"  # epsilon of a DDPM
    BANDS = "bands"  # source - data for the whole way at once: a GAN's generator, a shortcut of width 1


class Hints(NamedTuple):
    """What a generator is told.

    ``condition`` (b, K, *s), planes from 0 to 1; ``known`` (b, c, *s), 1 for voxels that are given;
    ``given``, the image there and 0 elsewhere.
    """

    condition: Tensor
    known: Tensor
    given: Tensor

    def rows(self, which: Tensor) -> "Hints":
        """Those of some samples of the batch, by index or mask."""
        return Hints(self.condition[which], self.known[which], self.given[which])

    def unconditional(self) -> "Hints":
        """The same without the condition, for classifier-free guidance (Ho and Salimans, 2022)."""
        return self._replace(condition=torch.zeros_like(self.condition))


@dataclass(frozen=True)
class GeneratorConfig:
    """Size and meaning of a generator.

    Parameters
    ----------
    space
        2 for slices, 3 for volumes.
    contrasts
        Channels of an image.
    classes
        Planes of a condition; 0 for a generator without one.
    embedded
        Channels that those planes are mixed to; as many as planes where each class must be told at once.
    channels
        Of the levels of the U-Net, whole multiples of 16 and of ``head``.
    blocks
        Residual blocks of a level on the way down; one more on the way up.
    head
        Channels of an attention head at the lowest level.
    predicts
        What the answer is.
    widths
        Step sizes 1, 1/2, 1/4, ... that a shortcut model learns; 0 for none.
    render_share
        How much of the source is a render of the labels, 0 (noise alone) to below 1.
    band_std
        Standard deviation of each band in the training set (`models.wavelet.band_std`); empty for ones.
    spread
        Standard deviation that is left in a band, of 1, once the condition is known: the U-Net then answers
        only what the noisy bands do not foretell of a velocity by themselves. 0 for an answer as it is.
    waves
        Waves along each axis that tell the network where in the image a band lies, the first of them half a
        period long: what has no condition has no other way to know. 0 for none.

    Raises
    ------
    ValueError
        If a number makes no network.
    """

    space: int = 2
    contrasts: int = 1
    classes: int = 3
    embedded: int = 4
    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 2
    head: int = 16
    predicts: Predicts = Predicts.VELOCITY
    widths: int = 0
    render_share: float = 0.0
    band_std: tuple[float, ...] = ()
    spread: float = 0.0
    waves: int = 0

    def __post_init__(self) -> None:
        if self.space not in (2, 3) or not 1 <= self.contrasts <= 64 or not 0 <= self.classes <= 256:
            raise ValueError(
                f"expected 2 or 3 axes, 1 to 64 contrasts and 0 to 256 classes, got {self.space}, "
                f"{self.contrasts} and {self.classes}"
            )
        if not 1 <= self.embedded <= 256:
            raise ValueError(f"expected planes mixed to 1 to 256 channels, got {self.embedded}")
        sizes = all(0 < n <= _MOST and n % 16 == 0 for n in self.channels) and 1 <= len(self.channels) <= 6
        if not sizes or not 1 <= self.blocks <= 8 or self.head < 1 or self.channels[-1] % self.head:
            raise ValueError(
                f"expected 1 to 6 levels of channels in multiples of 16, 1 to 8 blocks and heads that share "
                f"the last level evenly, got {self.channels}, {self.blocks} and {self.head}"
            )
        if not 0 <= self.widths <= 12 or not 0 <= self.render_share < 1:
            raise ValueError(
                f"expected 0 to 12 widths and a render's share from 0 to below 1, got {self.widths} and "
                f"{self.render_share}"
            )
        if not 0 <= self.spread <= 10 or (self.spread and self.predicts is Predicts.NOISE):
            raise ValueError(f"expected a spread from 0 to 10, and 0 of noise, got {self.spread}")
        if not 0 <= self.waves <= 16:
            raise ValueError(f"expected 0 to 16 waves along an axis, got {self.waves}")
        if len(self.band_std) not in (0, self.bands) or not all(0 < s < 1e6 for s in self.band_std):
            raise ValueError(f"expected {self.bands} positive deviations of bands, got {self.band_std}")

    @property
    def bands(self) -> int:
        """Channels of the bands of an image."""
        return self.contrasts * 2**self.space

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each band, ones where none was measured."""
        return self.band_std or (1.0,) * self.bands

    @property
    def multiple(self) -> int:
        """Sides of an image are whole multiples of this."""
        return int(2 ** len(self.channels))

    def as_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "GeneratorConfig":
        """The config that a file holds.

        Raises
        ------
        ValueError
            If a key is unknown, or a value is not of its kind.
        """
        kinds = {f.name: f.type for f in fields(cls)}
        if unknown := [key for key in values if key not in kinds]:
            raise ValueError(f"expected settings {', '.join(kinds)} of a generator, got {unknown[0]!r}")
        try:
            made = {key: _as(kinds[key], value) for key, value in values.items()}
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"expected numbers as settings of a generator, got {dict(values)}") from None
        return cls(**made)


# 128² slices, 4 × 64³ volumes, 4 × 128³ volumes, and label maps of either, which say less than an MRI.
SLICES = GeneratorConfig(channels=(32, 64, 96, 96), blocks=1, widths=7)
SMALL = GeneratorConfig(
    space=3, contrasts=4, classes=12, embedded=12, channels=(32, 48, 64), blocks=1, widths=7, spread=0.2
)
FULL = replace(SMALL, channels=(64, 96, 128))
LABELS = replace(SMALL, classes=0, channels=(16, 32, 32), spread=1.0, waves=4)


class Generator(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Bands to bands of the same shape, told the time, the step's width and the hints.

    Parameters
    ----------
    settings
        A :class:`GeneratorConfig` as JSON.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.settings = how = GeneratorConfig.from_json(settings)
        cell = 2**how.space
        conv = nn.Conv2d if how.space == 2 else nn.Conv3d
        self.pool = nn.AvgPool2d(2) if how.space == 2 else nn.AvgPool3d(2)
        # Without a bias no condition is nothing at all.
        self.embed = conv(how.classes, how.embedded, 1, bias=False) if how.classes else None
        embedded = how.embedded * cell if how.classes else 0
        inner = DiffusionModelUNet(
            spatial_dims=how.space,
            in_channels=2 * how.bands + how.contrasts + embedded + 2 * how.waves * how.space,
            out_channels=how.bands,
            channels=how.channels,
            num_res_blocks=how.blocks,
            attention_levels=(False,) * len(how.channels),  # it stays in the middle block
            norm_num_groups=_GROUPS,
            num_head_channels=how.head,
            num_class_embeds=how.widths + 1,
            use_flash_attention=True,
        )
        layout = torch.channels_last if how.space == 2 else torch.channels_last_3d
        self.net = sound(inner.to(memory_format=layout))  # several times faster in bf16 on a CPU
        self.layout = layout

    def forward(
        self,
        bands: Bands,
        time: PerSample,
        width: Widths,
        condition: Float[Tensor, "b _ *s"],
        known: Float[Tensor, "b c *s"],
        given: Float[Tensor, "b c *s"],
    ) -> Bands:
        """The network's answer, float32, of the shape of ``bands``.

        Parameters
        ----------
        bands
            Noisy bands, ``(b, c 2^d, *s/2)``, scaled as `models.wavelet.to_bands` does.
        time
            1 at the source, 0 at the data.
        width
            0 for a velocity of the moment; k for a step of ``2^(1-k)``.
        condition, known, given
            The :class:`Hints`, at full size.
        """
        spread = self.settings.spread
        t = time.reshape(-1, *[1] * (bands.ndim - 1))
        heard = bands * _trust(t, spread) if spread else bands
        seen = [heard, to_bands(given, self.settings.std), self.pool(known)]
        if self.embed is not None:
            seen.append(haar(self.embed(condition)).to(bands.dtype))
        if self.settings.waves:
            seen.append(_places(bands, self.settings.waves))
        x = torch.cat(seen, dim=1).contiguous(memory_format=self.layout)
        answer: Tensor = self.net(x, timesteps=time * _CLOCK, class_labels=width).float().contiguous()
        return _velocity(answer, bands, t, spread) if spread else answer


def _places(bands: Bands, waves: int) -> Float[Tensor, "b _ *h"]:
    """Sines and cosines of where each band lies along each axis, alike for all of a batch."""
    told = []
    for axis, n in enumerate(bands.shape[2:], start=2):
        at = torch.linspace(-math.pi / 2, math.pi / 2, n, device=bands.device, dtype=bands.dtype)
        phases = torch.arange(1, waves + 1, device=bands.device)[:, None] * at
        each = torch.cat([phases.sin(), phases.cos()])
        shape = [1, 2 * waves] + [1] * (bands.ndim - 2)
        shape[axis] = n
        told.append(each.reshape(shape).expand(len(bands), -1, *bands.shape[2:]))
    return torch.cat(told, dim=1)


def _trust(t: Tensor, spread: float) -> Tensor:
    """How loud noisy bands are heard: as far as data speak through the noise, and a little at the source.

    The root of the share of their variance that data of the standard deviation ``spread`` have. Nothing is
    known of the image at the source, but a network whose time is added to its features is long in learning
    not to listen there.
    """
    data = spread * (1 - t)
    return _WHISPER + (1 - _WHISPER) * data / (data**2 + t**2).sqrt()


def _velocity(answer: Bands, bands: Bands, t: Tensor, spread: float) -> Bands:
    """The velocity that noisy bands and the U-Net's answer make together.

    Karras et al., "Elucidating the design space of diffusion-based generative models" (NeurIPS 2022),
    section 5, for straight paths: data are guessed as a share of the noisy bands, the best one if data have
    the standard deviation ``spread``, plus the answer. It is scaled to have variance 1 if data have, which
    is so for what the condition does not tell and for what it does together. At the source the answer is
    the image, its sign turned; near the data it is what is left of the noise.
    """
    data = spread**2 * (1 - t)
    variance = data * (1 - t) + t**2
    return ((t - data) * bands + (t**2 + data**2).sqrt() * answer) / variance


def build(config: GeneratorConfig, seed: int = 0) -> Generator:
    """A generator with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(config.as_json())


def _as(kind: Any, value: Any) -> Any:
    if kind is int or kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or kind(value) != value:
            raise ValueError
        return kind(value)
    if kind is Predicts:
        return Predicts(value)
    (one, _) = kind.__args__
    return tuple(_as(one, v) for v in value)
