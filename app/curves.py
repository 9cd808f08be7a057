"""Curves of a training as a picture."""

import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from imaging.atomic import whole_file

LOSSES = "losses.png"  # beside every card, which names it
_MEAN_OF = 50
_NOT_LOSSES = ("step", "seconds", "rate")


def draw_losses(lines: Path, picture: Path) -> None:
    """Every loss that the training loop noted, by step, with a moving mean.

    Parameters
    ----------
    lines
        ``losses.jsonl`` of `models.fit`.
    picture
        The PNG to write.
    """
    noted = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    names = [name for name in (noted[-1] if noted else {}) if name not in _NOT_LOSSES]
    figure = Figure(figsize=(7, 2.5 + 1.5 * len(names)), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(max(len(names), 1), 1, sharex=True, squeeze=False)[:, 0]
    for ax, name in zip(axes, names, strict=False):
        steps = [line["step"] for line in noted if name in line]
        losses = [line[name] for line in noted if name in line]
        n = min(_MEAN_OF, len(losses))
        smooth = [sum(losses[i - n : i]) / n for i in range(n, len(losses) + 1)]
        ax.plot(steps, losses, color="#b0c4de", linewidth=0.6)
        ax.plot(steps[n - 1 :], smooth, color="#1f4e79", label=f"mean of {n} steps")
        ax.set_ylabel("training loss" if name == "loss" else name)
        ax.legend(frameon=False)
    axes[-1].set_xlabel("step")
    figure.tight_layout()
    with whole_file(picture) as part:
        figure.savefig(part, metadata={"Software": None})
