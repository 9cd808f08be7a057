"""A trained generator with all that fixes what it draws."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from imaging.brats_folder import CONTRASTS
from models.generator import GeneratorConfig, Predicts
from models.pipeline import GeneratorPipeline, fingerprint
from models.samplers import (
    Sampler,
    flow_dpm,
    flow_euler,
    flow_heun,
    noise_ddim,
    noise_dpm,
    noise_euler,
    noise_heun,
    one_pass,
    shortcut,
)
from synth.conditions import N_CLASSES
from synth.render import render

from .volume_examples import Lattice

# What each kind of network can be sampled with, and in how many steps; the first is the usual one.
_SAMPLERS: Mapping[Predicts, Mapping[str, tuple[Sampler, int]]] = {
    Predicts.VELOCITY: {
        "heun": (flow_heun, 15),
        "euler": (flow_euler, 30),
        "dpm": (flow_dpm, 15),
        "shortcut": (shortcut, 4),
    },
    Predicts.NOISE: {
        "dpm": (noise_dpm, 25),
        "ddim": (noise_ddim, 50),
        "euler": (noise_euler, 30),
        "heun": (noise_heun, 15),
    },
    Predicts.BANDS: {"one-pass": (one_pass, 1)},
}
USUAL = "usual"  # what a card's configuration calls the sampler that its generator draws best with
_VOXELS = 2**27  # in one image at the most, so that a card from elsewhere cannot ask for all memory
_STRONGEST = 20.0
_LEVEL = 1000.0  # signal in files of what `imaging.brightness` brings to 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, eq=False)
class Drawer:
    """A generator, and how it is sampled.

    Parameters
    ----------
    pipeline
        With its card.
    weights
        SHA-256 of the weights.
    sampler, n_steps
        Word for the sampler, and its steps.
    guidance
        Strength of classifier-free guidance; 1 for none.
    """

    pipeline: GeneratorPipeline
    weights: str
    sampler: str
    n_steps: int
    guidance: float

    @property
    def settings(self) -> GeneratorConfig:
        """Of its network."""
        return self.pipeline.net.settings

    @property
    def name(self) -> str:
        """What its card calls it, as one short word."""
        name = self.pipeline.card.get("name", "")
        return name if isinstance(name, str) and _NAME.fullmatch(name) else "generator"

    def told(self) -> dict[str, Any]:
        """What images carry of it, as JSON values."""
        return {"name": self.name, "device": self.pipeline.net.device.type, **self.fixed()}

    def fixed(self) -> dict[str, Any]:
        """What must be the same for two images to belong to one set."""
        return {
            "weights": self.weights,
            "sampler": self.sampler,
            "n_steps": self.n_steps,
            "guidance": self.guidance,
        }


def drawn_by(facts: Mapping[str, Any]) -> str:
    """The line that tells a person of the generator in a command's answer."""
    by = facts["generator"]
    return f"Drawn by: weights {by['weights'][:16]}, {by['n_steps']} steps of {by['sampler']}"


def read_drawer(
    folder: Path, sampler: str | None = None, n_steps: int = 0, guidance: float = 1.0, device: str = "cpu"
) -> Drawer:
    """The generator in a pipeline's folder, tried on one small image.

    Parameters
    ----------
    folder
        As `models.pipeline` saves it.
    sampler
        ``heun``, ``euler``, ``dpm`` or ``shortcut`` for a flow; ``dpm``, ``ddim``, ``euler`` or ``heun`` for
        a DDPM; ``one-pass`` for a GAN's generator; None for the one that its card calls usual.
    n_steps
        Of the sampler; 0 for its usual number.
    guidance
        Strength of classifier-free guidance.
    device
        Where it draws.

    Raises
    ------
    ValueError
        If the folder holds no pipeline, the device is not there, or it can't draw so.
    """
    if not 0 <= guidance <= _STRONGEST:
        raise ValueError(f"expected --guidance of 0 to {_STRONGEST:g}, got {guidance}; 1 is none")
    pipeline = GeneratorPipeline.from_pretrained(folder)
    words = _SAMPLERS[pipeline.net.settings.predicts]
    usual, steps = _usual(pipeline.card, words)
    word = sampler or usual
    if word not in words:
        raise ValueError(f"expected --sampler {', '.join(words)} for this generator, got {word!r}")
    as_a_rule = steps if word == usual else words[word][1]
    try:
        pipeline = pipeline.to(torch.device(device))
    except (RuntimeError, AssertionError):
        raise ValueError(f"expected --device such as cpu or cuda, got {device!r} and none such") from None
    made = Drawer(pipeline, fingerprint(folder), word, n_steps or as_a_rule, guidance)
    # What a sampler refuses, it refuses here, before a folder is begun with it.
    side = 2 * made.settings.multiple
    draw(made, torch.zeros(made.settings.classes, *[side] * made.settings.space), torch.Generator())
    return made


def draw(
    drawer: Drawer,
    condition: Float32[Tensor, "..."],
    generator: torch.Generator,
    known: Float32[Tensor, "..."] | None = None,
    image: Float32[Tensor, "..."] | None = None,
) -> Float32[Tensor, "..."]:
    """One image ``(c, *s)``, about -1 to 1, on the CPU.

    Images are drawn one by one: in a batch the last bits would depend on an image's neighbours.

    Parameters
    ----------
    drawer
        What draws it.
    condition
        Planes, shape ``(K, *s)``.
    generator
        Draws the noise, on the CPU whatever the device, so that it is the same everywhere.
    known, image
        1 where a voxel of ``image`` is given and comes back as it is, both ``(c, *s)``; all is drawn without.

    Raises
    ------
    ValueError
        If what it is told does not fit the network, or what it draws is not finite.
    """
    how, _ = _SAMPLERS[drawer.settings.predicts][drawer.sampler]
    start = starting_render(drawer.settings, condition, generator)
    drawn = drawer.pipeline(
        condition[None],
        generator,
        known=None if known is None else known[None],
        image=None if image is None else image[None],
        render=None if start is None else start[None],
        n_steps=drawer.n_steps,
        guidance=drawer.guidance,
        sampler=how,
    )[0].cpu()
    if not bool(torch.isfinite(drawn).all()):
        raise ValueError("expected finite images, got NaN or infinity; take less --guidance or more --steps")
    return drawn


def signal_of(image: Float32[Tensor, "..."]) -> Float32[Tensor, "..."]:
    """MR signal as files hold it: -1 to 1 stands for 0 to 1.5 of the scale of `imaging.brightness`."""
    return (image.clamp(-1, 1) + 1) * 0.75 * _LEVEL


def expect_contrasts(drawer: Drawer) -> Drawer:
    """This generator, if it draws volumes of BraTS's contrasts from classes of tissue and tumour.

    Raises
    ------
    ValueError
        Saying what it draws instead.
    """
    how = drawer.settings
    if (how.space, how.contrasts, how.classes) != (3, len(CONTRASTS), N_CLASSES):
        raise ValueError(
            f"expected a generator of volumes, {len(CONTRASTS)} contrasts from {N_CLASSES} classes, got "
            f"{how.space} axes, {how.contrasts} contrasts and {how.classes} classes; one of label maps goes "
            "to --labels of a cohort"
        )
    return drawer


def starting_render(
    settings: GeneratorConfig, condition: Float32[Tensor, "..."], generator: torch.Generator
) -> Float32[Tensor, "..."] | None:
    """The render ``(c, *s)`` of a condition's labels that a network starts from; None if it does not."""
    if settings.render_share == 0:
        return None
    return render(condition.argmax(dim=0).to(torch.uint8).cpu(), settings.contrasts, generator)


def lattice_of(drawer: Drawer) -> Lattice:
    """What a generator of volumes was trained on.

    Raises
    ------
    ValueError
        If its card does not say, or says what can't be.
    """
    told = _lattice(drawer)
    spacing = told.get("spacing")
    if isinstance(spacing, bool) or not isinstance(spacing, int | float) or not 0.2 <= spacing <= 20:
        raise ValueError(f"expected a card with a voxel size of 0.2 to 20 mm, got {spacing}; train it again")
    x, y, z = _sides(drawer, told.get("shape"))
    return Lattice((x, y, z), float(spacing))


def pixels_of(drawer: Drawer) -> tuple[int, int]:
    """Rows and columns that a generator of slices was trained on.

    Raises
    ------
    ValueError
        If its card says what can't be.
    """
    rows, columns = _sides(drawer, [_lattice(drawer).get("pixels")] * 2)
    return rows, columns


def _usual(card: Mapping[str, Any], words: Mapping[str, tuple[Sampler, int]]) -> tuple[str, int]:
    """The sampler that a generator draws best with by its card, else the first of its kind, and its steps."""
    told = _configured(card, USUAL)
    word, steps = told.get("sampler"), told.get("n_steps")
    if isinstance(word, str) and word in words and type(steps) is int and steps > 0:
        return word, steps
    first = next(iter(words))
    return first, words[first][1]


def _lattice(drawer: Drawer) -> Mapping[str, Any]:
    return _configured(drawer.pipeline.card, "lattice")


def _configured(card: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What a card's configuration says of something, which may be anything."""
    config = card.get("config")
    told = config.get(name) if isinstance(config, dict) else None
    return told if isinstance(told, dict) else {}


def _sides(drawer: Drawer, shape: Any) -> list[int]:
    """Sides that a card names, if the network can draw them."""
    how = drawer.settings
    whole = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
    if not whole or len(shape) != how.space or any(n % how.multiple for n in shape):
        raise ValueError(
            f"expected a card with a shape of {how.space} sides, multiples of {how.multiple}, got {shape}; "
            "train it again"
        )
    if math.prod(shape) * how.contrasts > _VOXELS:
        raise ValueError(
            f"expected images of at most {_VOXELS} values, got a card with more; do not trust it"
        )
    return shape
