"""A plan as one picture: what each beam opens, from its first control point to its last."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from .plan_view import BeamView, PlanView, window

_COLUMNS = 8
_SIDE = 1.75  # inches of a panel
_BELOW = 0.56  # inches of words with it
_OPEN, _JAW, _LINE, _ACCENT = "#fff3c4", "#31485f", "#54657a", "#1f5f8b"
_LAYERS = ("#9fb0c3", "#c2a9cf")  # the upper layer, the lower one
_DIAL = 0.11  # radius of the gantry's dial, as a share of the panel


@dataclass(frozen=True)
class Panel:
    """One picture of a beam: the control point that it shows, and what is delivered until the next one.

    Parameters
    ----------
    beam
        Which beam, from 0.
    point
        Which of its control points.
    start, stop
        Shares of its monitor units.
    """

    beam: int
    point: int
    start: float
    stop: float


def strip(view: PlanView) -> bytes:
    """The picture as PNG: up to eight panels of each beam, as the source sees them."""
    rows = _rows([panels(shown, n) for n, shown in enumerate(view.beams)])
    columns = max(len(row) for row in rows)
    size = (columns * _SIDE + 0.3, len(rows) * (_SIDE + _BELOW) + 0.3)
    figure = Figure(figsize=size, dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    for r, row in enumerate(rows):
        for c, panel in enumerate(row):
            left, bottom = 0.15 + c * _SIDE, size[1] - (r + 1) * (_SIDE + _BELOW)
            side = _SIDE - 0.12
            place = left / size[0], (bottom + 0.12) / size[1], side / size[0], side / size[1]
            axes = figure.add_axes(place)
            _draw(axes, view.beams[panel.beam], panel)
    made = io.BytesIO()
    figure.savefig(made, format="png", metadata={"Software": "Spindose"})
    return made.getvalue()


def panels(shown: BeamView, beam: int) -> list[Panel]:
    """What is shown of a beam: its segments, or points of its arc, as many as there is room for."""
    shares = shown.shares
    every = np.arange(len(shares)) if shown.is_arc else np.flatnonzero(np.diff(shares) > 0)
    chosen = every[np.unique(np.linspace(0, len(every) - 1, _COLUMNS).round().astype(int))]
    ends = [*(shares[n] for n in chosen[1:]), shares[-1]]
    return [Panel(beam, int(n), float(shares[n]), float(end)) for n, end in zip(chosen, ends, strict=True)]


def _rows(parts: Sequence[Sequence[Panel]]) -> list[list[Panel]]:
    """Beams side by side where they are short, each in its own row where not."""
    rows: list[list[Panel]] = [[]]
    for part in parts:
        if len(rows[-1]) + len(part) > _COLUMNS or len(part) > _COLUMNS // 2:
            rows.append([])
        rows[-1].extend(part)
    return [row for row in rows if row]


def _draw(axes: Axes, shown: BeamView, panel: Panel) -> None:
    x, y, half = window(shown)
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half), xticks=[], yticks=[], facecolor=_OPEN)
    ends = (x - half, x + half), (y - half, y + half)
    for edges, leaves, color in zip(shown.edges, shown.layers(panel.point), _LAYERS, strict=False):
        shapes = _leaves(edges, leaves, ends[0])
        axes.add_collection(
            PolyCollection(shapes, facecolor=color, edgecolor=_LINE, linewidth=0.25, alpha=0.85)
        )
    point = shown.beam.control_points[panel.point]
    for axis, (low, high) in (("x", point.jaws_x), ("y", point.jaws_y)):
        if axis in shown.jaws:
            for a, b in ((-1e4, low), (high, 1e4)):
                span = axes.axvspan if axis == "x" else axes.axhspan
                span(a, b, facecolor=_JAW, alpha=0.55, linewidth=0)
    axes.plot([0], [0], marker="+", color=_ACCENT, markersize=6, markeredgewidth=0.8)
    _dial(axes, shown, panel)
    _words(axes, shown, panel)


def _leaves(
    edges: Float64[np.ndarray, " edges"], leaves: Float64[np.ndarray, "2 pairs"], ends: tuple[float, float]
) -> list[Float64[np.ndarray, "4 2"]]:
    """Outlines of the leaves, from the side of the picture to their tips."""
    shapes = []
    for side, tips in zip(ends, leaves, strict=True):
        for low, high, tip in zip(edges[:-1], edges[1:], tips, strict=True):
            shapes.append(np.array([(side, low), (tip, low), (tip, high), (side, high)]))
    return shapes


def _dial(axes: Axes, shown: BeamView, panel: Panel) -> None:
    """Where the gantry stands, seen by who faces it: 0 above."""
    center = np.array([1 - 1.35 * _DIAL, 1 - 1.35 * _DIAL])
    angle = np.deg2rad(shown.gantry[panel.point])
    source = center + _DIAL * np.array([np.sin(angle), np.cos(angle)])
    how: dict[str, Any] = {"transform": axes.transAxes, "zorder": 5}
    face = Circle((center[0], center[1]), _DIAL, facecolor="white", edgecolor=_LINE, linewidth=0.7, **how)
    axes.add_patch(face)
    axes.plot(*np.stack([center, source]).T, color=_ACCENT, linewidth=1.2, **how)
    axes.plot(*source[:, None], marker="o", color=_ACCENT, markersize=2.6, **how)


def _words(axes: Axes, shown: BeamView, panel: Panel) -> None:
    """Angle, monitor units until the next panel, and which share of the beam's they are, as a bar."""
    mu = (panel.stop - panel.start) * shown.beam.mu
    how: dict[str, Any] = {"transform": axes.transAxes, "fontsize": 6.6, "va": "bottom", "color": "#1c2733"}
    if panel.point == 0:
        name = shown.beam.name if len(shown.beam.name) <= 22 else f"{shown.beam.name[:21]}…"
        axes.text(0, 1.13, f"{name}: {shown.beam.mu:.0f} MU", fontweight="bold", parse_math=False, **how)
    axes.text(0, 1.02, f"G {shown.gantry[panel.point]:.1f}°   {mu:.1f} MU", **how)
    width = axes.get_xlim()[1] - axes.get_xlim()[0]
    axes.text(1, 1.02, f"{width:.0f} mm", ha="right", **{**how, "color": _LINE})
    bar: dict[str, Any] = {"transform": axes.transAxes, "linewidth": 3, "clip_on": False}
    axes.plot([0, 1], [-0.035, -0.035], color="#d8dee6", solid_capstyle="butt", **bar)
    axes.plot([panel.start, panel.stop], [-0.035, -0.035], color=_ACCENT, solid_capstyle="butt", **bar)
