"""Folders of single slices with a box around each tumour, as detection sets are laid out.

``CLASS/NUMBER.jpg`` (or png) with ``CLASS/NUMBER.txt`` beside it: lines of ``class cx cy w h``, the box's
middle and size as shares of the picture. Such files have lost their place in the patient, so they are not
volumes: rows and columns, and no millimetres.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

_PICTURES = (".jpg", ".jpeg", ".png")
_LARGEST = 4096  # pixels a side
_MOST = 200_000


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices of one size.

    Parameters
    ----------
    images
        Shape ``(n, 1, rows, columns)``, 0 to 255.
    classes
        Class of each slice's tumour, from 0; shape ``(n,)``.
    boxes
        ``cx, cy, w, h`` of the tumour, shares of columns and rows; shape ``(n, 4)``.
    numbers
        File number of each, shape ``(n,)``.
    names
        Of the classes.
    """

    images: UInt8[Tensor, "n 1 r c"]
    classes: Int64[Tensor, " n"]
    boxes: Float32[Tensor, "n 4"]
    numbers: Int64[Tensor, " n"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def at(self, which: Int64[Tensor, " _"]) -> "Slices":
        """Some of them."""
        return Slices(
            self.images[which], self.classes[which], self.boxes[which], self.numbers[which], self.names
        )


def read_slices(folder: Path, size: int) -> Slices:
    """Every slice of a folder that has a box, in order of class and number, as ``size`` pixels a side.

    Parameters
    ----------
    folder
        With one folder for each class.
    size
        Rows and columns to bring all pictures to, each the mean of what it covers.

    Raises
    ------
    ValueError
        If the folder holds no such slices, or one of them can't be read.
    """
    found = sorted(
        (path for path in folder.glob("*/*") if path.suffix.lower() in _PICTURES),
        key=lambda p: (p.parent.name, _number(p)),
    )
    found = [path for path in found if path.with_suffix(".txt").is_file()]
    if not 0 < len(found) <= _MOST:
        raise ValueError(
            f"expected CLASS/NUMBER.jpg with CLASS/NUMBER.txt beside it, 1 to {_MOST} times, got "
            f"{len(found)}; name the folder that holds the classes"
        )
    boxes = [_box(path.with_suffix(".txt")) for path in found]
    return Slices(
        torch.from_numpy(np.stack([_picture(path, size) for path in found]))[:, None],
        torch.tensor([b[0] for b in boxes]),
        torch.tensor([b[1:] for b in boxes]),
        torch.tensor([_number(path) for path in found]),
        _names(found, [b[0] for b in boxes]),
    )


def split_by_blocks(
    slices: Slices, held_out: float, generator: torch.Generator, block: int = 60
) -> tuple[Slices, Slices]:
    """Training and held-out slices: whole blocks of file numbers, a share of each class.

    Neighbouring numbers show one patient, so slices of a block never part.

    Parameters
    ----------
    slices
        All of them.
    held_out
        Share of each class's blocks to hold out; at least one is, and one is left.
    generator
        Draws the blocks.
    block
        Numbers in a block.

    Raises
    ------
    ValueError
        If a class has fewer than two blocks.
    """
    test = torch.zeros(len(slices), dtype=torch.bool)
    for c in slices.classes.unique().tolist():
        blocks = (slices.numbers[slices.classes == c] // block).unique()
        if len(blocks) < 2:
            raise ValueError(
                f"expected two blocks or more of each class, got one of {slices.names[c]}; take smaller ones"
            )
        n = min(max(round(held_out * len(blocks)), 1), len(blocks) - 1)
        drawn = blocks[torch.randperm(len(blocks), generator=generator)[:n]]
        test |= (slices.classes == c) & torch.isin(slices.numbers // block, drawn)
    where = torch.arange(len(slices))
    return slices.at(where[~test]), slices.at(where[test])


def _number(path: Path) -> int:
    if not path.stem.isascii() or not path.stem.isdigit() or len(path.stem) > 12:
        raise ValueError("expected pictures that are named by number, such as 17.jpg, got another name")
    return int(path.stem)


def _picture(path: Path, size: int) -> np.ndarray:
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            if max(picture.size) > _LARGEST:
                raise ValueError(f"expected pictures of at most {_LARGEST} pixels a side, got a larger one")
            gray = picture.convert("L").resize((size, size), Image.Resampling.BOX)
    except OSError:
        raise ValueError(f"expected a JPEG or PNG picture, got a damaged one: {path.name}") from None
    return np.asarray(gray)


def _box(path: Path) -> tuple[int, float, float, float, float]:
    line = path.read_text(encoding="ascii", errors="replace").splitlines()[:1]
    words = line[0].split() if line else []
    try:
        kind, (x, y, w, h) = int(words[0]), (float(word) for word in words[1:])
    except (ValueError, IndexError):
        raise ValueError(f"expected a line of class cx cy w h, got another: {path.name}") from None
    if not (0 <= kind < 256 and 0 <= x <= 1 and 0 <= y <= 1 and 0 < w <= 1 and 0 < h <= 1):
        raise ValueError(f"expected a box inside the picture as shares of it, got another: {path.name}")
    return kind, x, y, w, h


def _names(found: list[Path], kinds: list[int]) -> tuple[str, ...]:
    by_kind: dict[int, str] = {}
    for path, kind in zip(found, kinds, strict=True):
        if by_kind.setdefault(kind, path.parent.name) != path.parent.name:
            raise ValueError(
                f"expected each class in one folder, got class {kind} in two; mend {path.stem}.txt"
            )
    if sorted(by_kind) != list(range(len(by_kind))):
        raise ValueError(f"expected classes numbered from 0 without a gap, got {sorted(by_kind)}")
    return tuple(by_kind[k] for k in range(len(by_kind)))
