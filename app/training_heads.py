"""Heads that networks are trained on: of the built-in anatomy and of given ones, with and without tumours."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from imaging.atomic import whole_file
from imaging.grid import Grid, axial
from synth.atlas import varied
from synth.heads import AnatomyRecipe, head
from synth.lesions import TumourRecipe, with_tumour
from synth.on_the_fly import Library
from synth.subject import Subject

from .console import Progress

# Vertex to chin with room to turn; LPS mm from the anterior commissure.
_LOW, _HIGH = np.array([-98.0, -112.0, -120.0]), np.array([98.0, 112.0, 96.0])


@dataclass(frozen=True)
class Heads:
    """Which heads a library holds.

    Parameters
    ----------
    count
        How many.
    seed
        Which ones.
    given
        Share of them that vary a given anatomy, where there is one.
    spacing
        Voxel size (mm).
    anatomy, tumour
        What varies.

    Raises
    ------
    ValueError
        If the count is not positive or the share lies outside 0..1.
    """

    count: int = 32
    seed: int = 0
    given: float = 0.5
    spacing: float = 1.0
    anatomy: AnatomyRecipe = field(default_factory=AnatomyRecipe)
    tumour: TumourRecipe = field(default_factory=TumourRecipe)

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.given <= 1:
            raise ValueError(
                "expected one head or more and a share of given ones of 0 to 1, "
                f"got {self.count} and {self.given}"
            )


def kept_library(
    how: Heads, given: Sequence[Subject], path: Path, progress: Progress, organs: bool = False
) -> Library:
    """The library that ``path`` keeps, made first if it is not there or was made otherwise.

    Parameters
    ----------
    how
        Which heads.
    given
        Anatomies to vary beside the built-in one; none for the built-in one alone.
    path
        A safetensors file.
    progress
        Called with what happens and the share that is done.
    organs
        Whether it holds organs too, which take as much memory as the tissues.
    """
    key, wanted = _key(how, given), ("labels", "organs") if organs else ("labels",)
    if path.is_file():
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") == key and set(wanted) <= set(file.keys()):
                return _library({name: file.get_tensor(name) for name in wanted}, how)
    grid = axial(_LOW, _HIGH, (how.spacing,) * 3)
    made = {name: torch.empty((how.count, *grid.shape), dtype=torch.uint8) for name in wanted}
    for k in range(how.count):
        subject = one_head(how, given, k, grid)
        for name, of in made.items():
            of[k] = getattr(subject, name).data[0]
        progress("Making heads", (k + 1) / how.count)
    with whole_file(path) as part:
        save_file(made, part, metadata={"key": key})
    return _library(made, how)


def _library(made: Mapping[str, Tensor], how: Heads) -> Library:
    return Library(made["labels"], how.spacing, organs=made.get("organs"))


def one_head(how: Heads, given: Sequence[Subject], k: int, grid: Grid) -> Subject:
    """Head ``k``, which depends on the settings and ``k`` alone."""
    digest = hashlib.sha256(f"training head {how.seed} {k}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    own = not given or float(torch.rand(1, generator=generator)) >= how.given
    made = head(how.anatomy, generator, grid) if own else varied(given, how.anatomy, generator, grid)
    try:
        return with_tumour(made, how.tumour, generator)
    except ValueError:  # no room for this tumour in this head, which is then a healthy one
        return made


def _key(how: Heads, given: Sequence[Subject]) -> str:
    digest = hashlib.sha256(json.dumps(asdict(how), sort_keys=True, default=str).encode())
    for subject in given:
        digest.update(subject.labels.data.numpy().tobytes())
    return digest.hexdigest()
