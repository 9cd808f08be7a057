"""Slices drawn by a learned generator: a class, a box, and the picture that shows such a tumour there."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from imaging.atomic import whole_file
from synth.case import stage_generator
from synth.conditions import box_planes
from synth.drawn_boxes import BoxDensity, box_of, class_of

from .cohort_job import software
from .console import Progress
from .drawer import Drawer, draw, pixels_of
from .drawn_folder import MANIFEST, Entries, begun, enter, journal, kept, publish

_LAYOUT = "drawn slices 1"
_SHEET = "contact_sheet.png"
_ACROSS, _DOWN = 8, 6  # pictures on the sheet
_LONGEST = 64

Picture = UInt8[np.ndarray, "rows columns"]


def walk_slices(drawer: Drawer, n: int, seed: int, out: Path, progress: Progress) -> dict[str, Any]:
    """Slices in their folder, as `imaging.slices` reads them; what an earlier run finished there is kept.

    Slice k follows from the weights, the seed and k alone.

    Parameters
    ----------
    drawer
        The generator; its card tells names of classes (``data``) and the density of boxes (``boxes``).
    n
        How many.
    seed
        Which set.
    out
        Gets ``CLASS/NUMBER.png`` and ``.txt``, ``parameters.jsonl``, a contact sheet and a manifest.
    progress
        Called with what happens and the share that is done.

    Returns
    -------
    dict
        JSON values: where things lie, how many were made and kept, how many of each class.

    Raises
    ------
    ValueError
        If the card does not tell what boxes there are, or the folder holds something else.
    """
    names, density, shape = _classes(drawer), _density(drawer), pixels_of(drawer)
    about = {"seed": seed, "generator": drawer.fixed()}
    with begun(out, {"layout": _LAYOUT, "version": software(), **about}):
        entries = kept(out, n, progress)
        n_kept = len(entries)
        _swept(out, names)
        with journal(out) as file:
            for k in range(n):
                if k not in entries:
                    picture, line, traits = _slice(drawer, density, shape, seed, k)
                    path = out / names[traits["class"]] / f"{k}.png"
                    traits = {"picture": str(path.relative_to(out)), **traits}
                    _write(picture, line, path)
                    entries[k] = enter(file, out, k, [path, path.with_suffix(".txt")], traits)
                progress(f"{n} slices", len(entries) / n)
        _write_sheet(entries, out)
        publish(out, entries, about, drawer.pipeline.card.get("licence"), [out / _SHEET])
    counts = [entries[k]["traits"]["class"] for k in entries]
    return {
        "cohort": str(out),
        "cases": n,
        "made": n - n_kept,
        "kept": n_kept,
        "classes": {name: counts.count(c) for c, name in enumerate(names)},
        **about,
        "manifest": str(out / MANIFEST),
        "contact_sheets": [str(out / _SHEET)],
    }


def _classes(drawer: Drawer) -> list[str]:
    """Names of the classes, which become folders: a card from elsewhere could name any."""
    data = drawer.pipeline.card.get("data")
    names = data.get("classes") if isinstance(data, dict) else None
    found = [name for name in names if _is_plain(name)] if isinstance(names, list) else []
    if not found or found != names or len(set(found)) != len(found) or len(found) != drawer.settings.classes:
        raise ValueError(
            f"expected a card that names {drawer.settings.classes} classes by a word each, got {names}; "
            "train the generator again"
        )
    return found


def _is_plain(name: object) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(name) <= _LONGEST
        and name.isprintable()
        and not name.startswith(".")
        and not set(name) & set('/\\:*?"<>|')
    )


def _density(drawer: Drawer) -> BoxDensity:
    boxes = drawer.pipeline.card.get("boxes")
    if not isinstance(boxes, dict):
        raise ValueError(  # noqa: TRY004
            "expected a card that tells where boxes lie, got one without; train the generator again"
        )
    density = BoxDensity.from_json(boxes)
    if len(density.shares) != drawer.settings.classes or drawer.settings.contrasts != 1:
        raise ValueError(
            f"expected a generator of one contrast with boxes of its {drawer.settings.classes} classes, got "
            f"{drawer.settings.contrasts} and boxes of {len(density.shares)}"
        )
    return density


def _slice(
    drawer: Drawer, density: BoxDensity, shape: tuple[int, int], seed: int, k: int
) -> tuple[Picture, str, dict[str, Any]]:
    """A picture, the line that tells its box, and what it was drawn from."""
    start = torch.rand(1, generator=stage_generator(drawer.weights, seed, 0, "classes"), dtype=torch.float64)
    kind = class_of(density, k, float(start))
    box = box_of(density, kind, stage_generator(drawer.weights, seed, k, "box"))
    row = torch.cat([torch.tensor([float(kind)]), box.float()])
    condition = box_planes(row[None], len(density.shares), shape)
    image = draw(drawer, condition, stage_generator(drawer.weights, seed, k, "image"))
    traits = {
        "number": k,
        "seed": seed,
        "class": kind,
        "box": [round(v, 6) for v in box.tolist()],
        "generator": drawer.told(),
    }
    return _grey(image[0]), f"{kind} " + " ".join(f"{v:.6f}" for v in box.tolist()), traits


def _grey(image: Tensor) -> Picture:
    return ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def _write(picture: Picture, line: str, path: Path) -> None:
    with whole_file(path) as part:
        Image.fromarray(picture).save(part, format="PNG")
    with whole_file(path.with_suffix(".txt")) as part:
        part.write_text(line + "\n", encoding="ascii")


def _swept(out: Path, names: list[str]) -> None:
    """Takes away what a killed run left half done."""
    for name in names:
        for path in (out / name).glob(".*.part.*"):
            path.unlink(missing_ok=True)


def _write_sheet(entries: Entries, out: Path) -> None:
    """The first pictures with their boxes, one colour for each class."""
    first = [entries[k]["traits"] for k in sorted(entries)[: _ACROSS * _DOWN]]
    tiles = [_boxed(traits, out) for traits in first]
    width, height = tiles[0].size
    page = Image.new("RGB", (width * min(len(tiles), _ACROSS), height * -(-len(tiles) // _ACROSS)))
    for at, tile in enumerate(tiles):
        page.paste(tile, (width * (at % _ACROSS), height * (at // _ACROSS)))
    with whole_file(out / _SHEET) as part:
        page.save(part, format="PNG")


def _boxed(traits: Mapping[str, Any], out: Path) -> Image.Image:
    colours = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167))
    with Image.open(BytesIO((out / traits["picture"]).read_bytes()), formats=("PNG",)) as grey:
        tile = grey.convert("RGB")
    (cx, cy, w, h), (columns, rows) = traits["box"], tile.size
    edges = ((cx - w / 2) * columns, (cy - h / 2) * rows, (cx + w / 2) * columns - 1, (cy + h / 2) * rows - 1)
    low = (edges[0], edges[1])
    high = (max(edges[2], edges[0]), max(edges[3], edges[1]))  # a box of less than a pixel
    ImageDraw.Draw(tile).rectangle((*low, *high), outline=colours[traits["class"] % len(colours)])
    return tile
