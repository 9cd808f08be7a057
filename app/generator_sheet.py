"""A picture of what a generator draws, beside the real images of the same conditions."""

from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from synth.conditions import N_CLASSES, TUMOUR, from_bits, from_drawn_bits


def sheet(drawn: Tensor, real: Tensor, conditions: Tensor, sentence: str, path: Path) -> None:
    """One row for each condition: the condition, the real image, then the drawn ones.

    Parameters
    ----------
    drawn
        Shape ``(n, draws, c, *s)``, about -1 to 1; volumes show the slice with most tumour, each contrast.
    real
        Shape ``(n, c, *s)``.
    conditions
        Planes, shape ``(n, K, *s)``.
    sentence
        Written above.
    path
        Of the PNG.
    """
    rows = [_row(*each) for each in zip(conditions, real, drawn, strict=True)]
    n, m = len(rows), max(len(row) for row in rows)
    figure = Figure(figsize=(1.6 * m, 1.6 * n + 0.4), dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.subplots(n, m, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for line, row in zip(axes, rows, strict=True):
        for ax, tile in zip(line, row, strict=False):
            ax.imshow(tile.float().numpy(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    figure.suptitle(sentence, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, format="png", metadata={"Software": None})


def _row(condition: Tensor, real: Tensor, drawn: Tensor) -> list[Tensor]:
    if len(condition) == 0:  # label maps, drawn from nothing
        maps = torch.cat([from_bits(real[None]), from_drawn_bits(drawn)]).float() / (N_CLASSES - 1) * 2 - 1
        return [one[..., one.shape[-1] // 2].T.flip(0) for one in maps]
    if real.ndim == 3:
        return [2 * condition.amax(0) - 1, real[0], *(one[0] for one in drawn)]
    tumour = condition[min(TUMOUR) :].sum((0, 1, 2))
    k = int(tumour.argmax()) if bool(tumour.any()) else real.shape[-1] // 2
    numbers = torch.linspace(-1, 1, len(condition))
    classes = (condition[..., k] * numbers[:, None, None]).sum(0)
    tiles = [classes, *(contrast[..., k] for contrast in real), *(contrast[..., k] for contrast in drawn[0])]
    return [tile.T.flip(0) for tile in tiles]
