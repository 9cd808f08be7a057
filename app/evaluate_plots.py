"""Pictures of an evaluation as PNG: spectra, brightness by class, images of both sets, nearest pairs."""

import io

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from synth.fidelity.histograms import tissue_histograms
from synth.fidelity.spectrum import radial_spectra

from .evaluated_sets import ImageSet, Sets

# Told apart with any of the common colour vision deficiencies (Okabe and Ito 2008), and by the dashes.
_REAL, _SYNTHETIC = "#0072b2", "#d55e00"
_BINS = 64
_LEAST = 160  # pixels a side that a picture is enlarged to
_GAP = 4


def spectra(sets: Sets) -> bytes:
    """Radial spectra of the held-out and the synthetic set: mean, and 95 % of the images."""
    figure = _figure(4.2 * len(sets.contrasts), 3.0)
    axes = figure.subplots(1, len(sets.contrasts), squeeze=False)[0]
    for each, color, name in _both(sets):
        values = radial_spectra(each.images)
        n = values.shape[2]
        at = (np.arange(n) + 0.5) / (2 * n)
        low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
        for c, ax in enumerate(axes):
            ax.fill_between(at, low[c].numpy(), high[c].numpy(), color=color, alpha=0.15, linewidth=0)
            ax.plot(at, values[:, c].mean(dim=0).numpy(), label=name, **_line(color))
            _titled(ax, sets.contrasts[c], "cycles per voxel", "power (dB)")
    axes[0].legend(frameon=False, fontsize=8)
    return _png(figure)


def brightness(sets: Sets) -> bytes:
    """Brightness within each class of voxel that a set has, for each contrast."""
    counts = [
        tissue_histograms(each.images, each.labels, len(sets.labels), -1.0, 1.0, _BINS).sum(dim=0)
        for each, _, _ in _both(sets)
    ]
    there = [k for k in range(len(sets.labels)) if any(float(count[k].sum()) > 0 for count in counts)]
    across = len(sets.contrasts) if len(sets.contrasts) > 1 else min(len(there), 4)
    panels = [(k, c) for k in there for c in range(len(sets.contrasts))]
    down = -(-len(panels) // across)
    figure = _figure(3.4 * across, 1.9 * down + 0.3)
    axes = figure.subplots(down, across, squeeze=False).flatten()
    at = -1 + (np.arange(_BINS) + 0.5) * 2 / _BINS
    for ax, (k, c) in zip(axes, panels, strict=False):
        for count, (_, color, name) in zip(counts, _both(sets), strict=True):
            total = float(count[k, c].sum())
            if total > 0:
                ax.plot(at, (count[k, c] / total).numpy(), label=name, **_line(color))
        _titled(ax, f"{sets.labels[k]}, {sets.contrasts[c]}", "", "share of voxels")
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    axes[0].legend(frameon=False, fontsize=8)
    return _png(figure)


def some(sets: Sets, which: ImageSet, n: int = 10) -> bytes:
    """A row of images of one set, evenly through it."""
    chosen = torch.linspace(0, len(which) - 1, min(n, len(which))).round().long().tolist()
    return _pixels([shown(sets, which, k) for k in chosen])


def pair(sets: Sets, synthetic: int, train: int) -> bytes:
    """A synthetic image at the left, and a training image at the right."""
    return _pixels([shown(sets, sets.synthetic, synthetic), shown(sets, sets.train, train)])


def shown(sets: Sets, which: ImageSet, number: int) -> np.ndarray:
    """A slice, or the axial plane through the middle of a volume's tumour in its last contrast, 0 to 255.

    Volumes are stored along left, posterior and superior: rows run to posterior and columns to the left, so
    that it looks as radiologists look at it.
    """
    image = which.images[number]
    if sets.kind == "volumes":
        box = which.boxes
        k = image.shape[3] // 2 if box is None else int(box[number, 2].mean().clamp(0, image.shape[3] - 1))
        picture = image[-1, :, :, k].T
    else:
        picture = image[0]
    return ((picture.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


def _pixels(pictures: list[np.ndarray]) -> bytes:
    """Pictures beside one another, each pixel as a whole square."""
    times = max(1, -(-_LEAST // min(pictures[0].shape)))
    large = [np.kron(p, np.ones((times, times), dtype=np.uint8)) for p in pictures]
    gap = np.full((large[0].shape[0], _GAP), 255, dtype=np.uint8)
    parts = [part for p in large for part in (p, gap)][:-1]
    buffer = io.BytesIO()
    Image.fromarray(np.hstack(parts)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _both(sets: Sets) -> list[tuple[ImageSet, str, str]]:
    return [(sets.held_out, _REAL, "real, held out"), (sets.synthetic, _SYNTHETIC, "synthetic")]


def _line(color: str) -> dict[str, object]:
    return {"color": color, "linewidth": 1.6, "linestyle": "-" if color == _REAL else "--"}


def _titled(ax: Axes, title: str, x: str, y: str) -> None:
    # A dollar sign in a folder's name would start mathematics and may not parse.
    ax.set_title(title.replace("$", r"\$"), fontsize=9)
    ax.set_xlabel(x, fontsize=8)
    ax.set_ylabel(y, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.grid(color="#e6eaef", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
