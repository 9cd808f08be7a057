"""Pictures of a cohort: a strip of slices for each case, and pages of strips."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.image as mpimg
import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from imaging.atomic import whole_file
from imaging.grid import indices
from imaging.show import window
from imaging.tissue import TUMOUR, Tissue
from imaging.volume import Quantity, Volume
from synth.case import Made

Tile = UInt8[np.ndarray, "_ _ 3"]
Strip = UInt8[np.ndarray, "_ _ 3"]

_TILE = 128  # pixels along the edge of a tile
ROWS, PAGES = 20, 10  # cases on a page, and pages at the most

# Colours of tissues, red, green, blue; greys for what is normal, colours of Okabe & Ito for the rest.
_COLORS = {
    Tissue.SCALP: (96, 72, 60),
    Tissue.FAT: (140, 120, 84),
    Tissue.SKULL: (236, 236, 220),
    Tissue.MARROW: (196, 180, 150),
    Tissue.TOOTH: (255, 255, 255),
    Tissue.CSF: (34, 60, 110),
    Tissue.DURA: (120, 90, 140),
    Tissue.GREY: (128, 128, 128),
    Tissue.WHITE: (190, 190, 190),
    Tissue.BRAINSTEM: (160, 160, 180),
    Tissue.EYE: (60, 110, 160),
    Tissue.LENS: (150, 210, 240),
    Tissue.NERVE: (230, 210, 120),
    Tissue.GLAND: (200, 140, 120),
    Tissue.FLUID: (40, 120, 130),
    Tissue.NECROSIS: (120, 20, 20),
    Tissue.OEDEMA: (0, 158, 115),
    Tissue.ENHANCING: (230, 85, 0),
    Tissue.INFILTRATION: (230, 170, 0),
    Tissue.CAVITY: (86, 180, 233),
    Tissue.METAL: (255, 0, 255),
    Tissue.SHUNT: (255, 120, 255),
}


def strip(made: Made) -> bytes:
    """A PNG of one case: axial slices of every contrast, CT and tissues, then tissues from front and left.

    Slices run through the middle of the tumour, or of the scan where there is none.

    Parameters
    ----------
    made
        The case.
    """
    volumes = made.case.volumes
    labels = volumes["labels"]
    at = _middle(labels)
    scans = [v for v in volumes.values() if v.quantity in (Quantity.MR, Quantity.HU)]
    tiles = [_gray(volume, at) for volume in scans]
    palette = _palette()
    tiles += [_square(palette[_slice(labels, at, axis)], _pixel(labels, axis)) for axis in (2, 1, 0)]
    buffer = io.BytesIO()
    # A fixed word in place of the library's version: the same picture is the same bytes.
    mpimg.imsave(buffer, np.concatenate(tiles, axis=1), format="png", metadata={"Software": "Spindose"})
    return buffer.getvalue()


def write_sheets(strips: Sequence[tuple[str, Path]], folder: Path) -> list[Path]:
    """Pages of captions and strips as ``contact_sheet_01.png`` and so on; no more pages than ten.

    Parameters
    ----------
    strips
        Caption and strip of each case; beyond the last page's they are left out.
    folder
        Where pages go.
    """
    paths = []
    for page in range(min(-(-len(strips) // ROWS), PAGES)):
        here = strips[page * ROWS : (page + 1) * ROWS]
        path = folder / f"contact_sheet_{page + 1:02d}.png"
        with whole_file(path) as part:
            part.write_bytes(_page(here))
        paths.append(path)
    return paths


def _page(strips: Sequence[tuple[str, Path]]) -> bytes:
    rows = [_read(path) for _, path in strips]
    width = max(row.shape[1] for row in rows)
    scale = 100.0  # dots per inch: a pixel of a strip is a pixel of the page
    caption = 170
    figure = Figure(
        figsize=((width + caption) / scale, len(rows) * _TILE / scale), dpi=scale, facecolor="black"
    )
    FigureCanvasAgg(figure)
    for n, (row, (text, _)) in enumerate(zip(rows, strips, strict=True)):
        bottom = 1 - (n + 1) / len(rows)
        place = (caption / (width + caption), bottom, row.shape[1] / (width + caption), 1 / len(rows))
        ax = figure.add_axes(place)
        ax.imshow(row, interpolation="nearest", aspect="auto")
        ax.set_axis_off()
        figure.text(0.006, bottom + 0.5 / len(rows), text, color="white", va="center", fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="black", metadata={"Software": None})
    return buffer.getvalue()


def _read(path: Path) -> Strip:
    return (mpimg.imread(path)[:, :, :3] * 255).round().astype(np.uint8)


def _middle(labels: Volume) -> np.ndarray:
    """Where slices meet (LPS, mm): the tumour's middle, or the grid's."""
    table = np.zeros(256, dtype=bool)
    table[[*(t for t in TUMOUR if t is not Tissue.OEDEMA), Tissue.CAVITY]] = True
    inside = np.argwhere(table[labels.data[0].numpy()])
    if len(inside) == 0:
        return labels.grid.center
    return labels.grid.affine[:3, :3] @ np.median(inside, axis=0) + labels.grid.affine[:3, 3]


def _slice(volume: Volume, at: np.ndarray, axis: int) -> np.ndarray:
    """The nearest slice across one axis of the grid, with what is anterior or superior up."""
    index = int(np.clip(np.rint(indices(volume.grid, at[None])[0, axis]), 0, volume.grid.shape[axis] - 1))
    plane = volume.data[0].select(axis, index).numpy().T
    # Rows run along y in an axial slice, where anterior is up already, and along z in the others.
    return plane if axis == 2 else plane[::-1]


def _gray(volume: Volume, at: np.ndarray) -> Tile:
    low, high = window(volume)
    if volume.quantity is Quantity.MR:
        low = 0.0
    plane = _slice(volume, at, 2).astype(np.float64)
    gray = np.clip((plane - low) / (high - low), 0, 1)
    return _square(np.repeat((gray * 255).astype(np.uint8)[..., None], 3, axis=2), _pixel(volume, 2))


def _pixel(volume: Volume, axis: int) -> tuple[float, float]:
    """Height and width (mm) of the pixels of a slice across an axis."""
    across, along = [float(volume.grid.spacing[a]) for a in range(3) if a != axis]
    return along, across


def _square(image: Tile, pixel: tuple[float, float]) -> Tile:
    """An image on a black square tile, its pixels square, nearest neighbours."""
    rows, columns = image.shape[0] * pixel[0], image.shape[1] * pixel[1]
    scale = (_TILE - 2) / max(rows, columns)
    out = np.zeros((_TILE, _TILE, 3), dtype=np.uint8)
    n_rows, n_columns = max(int(rows * scale), 1), max(int(columns * scale), 1)
    i = np.minimum(((np.arange(n_rows) + 0.5) * image.shape[0] / n_rows).astype(int), image.shape[0] - 1)
    j = np.minimum(
        ((np.arange(n_columns) + 0.5) * image.shape[1] / n_columns).astype(int), image.shape[1] - 1
    )
    top, left = (_TILE - n_rows) // 2, (_TILE - n_columns) // 2
    out[top : top + n_rows, left : left + n_columns] = image[i][:, j]
    return out


def _palette() -> np.ndarray:
    table = np.zeros((256, 3), dtype=np.uint8)
    for tissue, color in _COLORS.items():
        table[tissue] = color
    return table
