"""A trained generator as a diffusers pipeline: images from conditions, saved as safetensors with a card.

Loading reads JSON and safetensors of a local folder and nothing else: no pickles, no code, no network.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .flow import source
from .generator import Generator, Hints, Predicts
from .samplers import Sampler, flow_heun, noise_dpm, one_pass
from .wavelet import to_bands, to_image
from .weights import CARD

_USUAL: Mapping[Predicts, tuple[Sampler, int]] = {
    Predicts.VELOCITY: (flow_heun, 15),
    Predicts.NOISE: (noise_dpm, 25),
    Predicts.BANDS: (one_pass, 1),
}
_KINDS = (".json", ".safetensors", ".md")
_WEIGHTS = Path("net") / "diffusion_pytorch_model.safetensors"


class GeneratorPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Images from conditions.

    Parameters
    ----------
    net
        The trained network.
    """

    def __init__(self, net: Generator) -> None:
        super().__init__()
        self.register_modules(net=net)
        self.card: Mapping[str, Any] = {}

    @torch.no_grad()
    def __call__(
        self,
        condition: Float[Tensor, "b _ *s"],
        generator: torch.Generator,
        known: Float[Tensor, "b _ ..."] | None = None,
        image: Float[Tensor, "b _ ..."] | None = None,
        render: Float[Tensor, "b _ ..."] | None = None,
        n_steps: int = 0,
        guidance: float = 1.0,
        sampler: Sampler | None = None,
        half: bool = True,
    ) -> Float[Tensor, "b _ *s"]:
        """Images ``(b, c, *s)``, float32; voxels that are known come back to the bit.

        Parameters
        ----------
        condition
            Planes ``(b, K, *s)``; all zeros for none. K may be 0: the shape still says what to draw.
        generator
            Draws the noise, on the device that it is on.
        known, image
            1 where a voxel of ``image`` is given, both ``(b, c, *s)``; without them all is drawn.
        render
            A render of the labels ``(b, c, *s)``, for networks that start from one.
        n_steps, sampler
            One of `models.samplers` and its number of steps; 0 and none for what suits the network.
        guidance
            Strength of classifier-free guidance; 1 for none.
        half
            Whether the network runs in bfloat16.

        Raises
        ------
        ValueError
            If shapes do not fit the network or one another.
        """
        how, device = self.net.settings, self.net.device
        hints = self._hints(condition, known, image)
        shape = (condition.shape[0], how.bands, *[n // 2 for n in condition.shape[2:]])
        noise = torch.randn(shape, generator=generator, device=generator.device).to(device)
        bands = None if render is None else to_bands(render.to(device), how.std)
        start = source(noise, bands, how.render_share)
        usual, usual_steps = _USUAL[how.predicts]
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            drawn = (sampler or usual)(self.net, start, hints, n_steps or usual_steps, guidance)
        return torch.where(hints.known > 0.5, hints.given, to_image(drawn.float(), how.std))

    def _hints(self, condition: Tensor, known: Tensor | None, image: Tensor | None) -> Hints:
        how, device = self.net.settings, self.net.device
        b, n_planes, *sides = condition.shape
        if n_planes != how.classes or len(sides) != how.space or any(n % how.multiple for n in sides):
            raise ValueError(
                f"expected {how.classes} planes of {how.space} sides that are multiples of {how.multiple}, "
                f"got {n_planes} of {'x'.join(map(str, sides))}"
            )
        shape = (b, how.contrasts, *sides)
        if (known is None) != (image is None):
            raise ValueError("expected an image together with what is known of it, got one without the other")
        known = torch.zeros(shape) if known is None else (known > 0.5).float()
        image = torch.zeros(shape) if image is None else image
        if known.shape != shape or image.shape != shape:
            raise ValueError(f"expected an image and what is known of it of shape {shape}, got other shapes")
        given = torch.where(known > 0.5, image, 0.0)
        return Hints(condition.float().to(device), known.to(device), given.to(device))

    def save_pretrained(self, save_directory: str | Path, half: bool = False, **kwargs: Any) -> None:
        """The pipeline as a folder: weights, settings, ``card.json`` and the same card as ``README.md``.

        Parameters
        ----------
        save_directory
            The folder; one that holds a pipeline is replaced once the new one is whole.
        half
            Whether weights are kept in half precision, as those that ship are.
        kwargs
            Of diffusers' own method.

        Raises
        ------
        ValueError
            If the card leaves something out, a weight is not finite, or the folder holds something else.
        """
        folder = Path(save_directory)
        if missing := [key for key in CARD if key not in self.card]:
            raise ValueError(f"expected a card with {', '.join(CARD)}; got none for {', '.join(missing)}")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / "model_index.json").is_file():
            raise ValueError(f"expected a new folder or that of a pipeline, got {folder.name}; name another")
        kept = _copy(self.net, torch.float16 if half else torch.float32)
        if bad := [name for name, t in kept.state_dict().items() if not torch.isfinite(t).all()]:
            raise ValueError(
                f"expected finite weights, got NaN or infinity in {bad[0]}; go back a checkpoint"
            )
        part = folder.with_name(f".{os.getpid()}.part.{folder.name}")
        try:
            whole = type(self)(kept)
            super(GeneratorPipeline, whole).save_pretrained(part, **{**kwargs, "safe_serialization": True})
            (part / "card.json").write_text(_told(self.card) + "\n", encoding="utf-8")
            (part / "README.md").write_text(_readme(self.card), encoding="utf-8")
            if folder.is_dir():
                shutil.rmtree(folder)
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **kwargs: Any) -> "GeneratorPipeline":
        """The pipeline of a local folder, in float32, ready to draw.

        Raises
        ------
        ValueError
            If the folder is not that of a pipeline of ours, or holds anything but JSON, text and safetensors.
        """
        if kwargs:
            raise ValueError(f"expected a folder alone, got {', '.join(kwargs)} too; leave that out")
        folder = Path(folder)
        index, card, config = (
            _json(folder / name) for name in ("model_index.json", "card.json", "net/config.json")
        )
        strange = [p.name for p in folder.rglob("*") if p.is_symlink() or _is_strange(p)]
        if strange:
            raise ValueError(f"expected JSON, text and safetensors alone, got {strange[0]}; do not trust it")
        if index.get("_class_name") != cls.__name__ or "settings" not in config:
            raise ValueError(
                f"expected a {cls.__name__}, got {index.get('_class_name')}; take another folder"
            )
        net = Generator(config["settings"])
        try:
            net.load_state_dict({name: t.float() for name, t in load_file(folder / _WEIGHTS).items()})
        except (OSError, RuntimeError, SafetensorError):
            raise ValueError("expected weights that fit the settings, got none or others") from None
        made = cls(net.eval())
        made.card = card
        return made


def fingerprint(folder: str | Path) -> str:
    """SHA-256 of a pipeline's weights, as every image that it draws carries it.

    Raises
    ------
    ValueError
        If the folder has no weights.
    """
    path = Path(folder) / _WEIGHTS
    if not path.is_file():
        raise ValueError(f"expected the folder of a pipeline, got {Path(folder).name} without weights")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(net: Generator, kind: torch.dtype) -> Generator:
    copy = Generator(net.settings.as_json())
    copy.load_state_dict(net.state_dict())
    nn.Module.to(copy, kind)  # diffusers' own would log that no module has to stay in float32
    return copy


def _is_strange(path: Path) -> bool:
    return path.is_file() and path.suffix not in _KINDS


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"expected the folder of a pipeline with {path.name}, got none or no JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"expected {path.name} to hold an object, got something else")  # noqa: TRY004
    return found


def _told(value: Any) -> str:
    """JSON to read: a line for each value, and for each list of numbers."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return re.sub(r"\[\n([-+.,\deE\s]+)\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def _readme(card: Mapping[str, Any]) -> str:
    """A card as people read it, with the header that model hubs read."""
    lines = [
        "---",
        "library_name: diffusers",
        "tags: [medical, mri, synthetic]",
        "---",
        "",
        f"# {card['name']}",
    ]
    for key, value in card.items():
        if key == "name":
            continue
        text = value if isinstance(value, str) else f"```json\n{_told(value)}\n```"
        lines += ["", f"## {key.replace('_', ' ').capitalize()}", "", text]
    return "\n".join(lines) + "\n"
