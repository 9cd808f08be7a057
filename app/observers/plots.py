"""Pictures of an observer study as PNG: agreement in boxes, volumes after Bland and Altman, times."""

import io
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from app.console import RESEARCH_ONLY

from .collected import Collected
from .ranks import quartiles
from .scores import surface_name
from .summary import groups, volumes_against
from .volumes import Estimate, bland_altman

# Okabe and Ito's colours, told apart with any common colour vision deficiency; markers, hatches differ too.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "osD^vP"
_HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")
_MOST = 12  # structures in one picture of limits


def boxes(found: Collected) -> bytes:
    """Between people, and between each model and people: Dice, surface Dice and HD95 of every structure."""
    compared = ["people, pairs", *(f"{m.name} and people, pairs" for m in found.study.models)]
    first = {s: surface_name(found.study.tolerances(s)[0]) for s in found.structures}
    alike = _words(next(iter(first.values()))) if len(set(first.values())) == 1 else "Surface Dice"
    panels = [
        (dict.fromkeys(first, "dice"), "Dice"),
        (first, alike),
        (dict.fromkeys(first, "hd95_mm"), "HD95 (mm)"),
    ]
    by = {name: groups(found, name) for name in found.structures}
    figure = _figure(max(6.4, 2.2 + 0.5 * len(found.structures) * len(compared)), 8.4)
    for ax, (names, title) in zip(figure.subplots(len(panels), 1), panels, strict=True):
        for n, group in enumerate(compared):
            values = [
                [m[names[s]] for _, m in by[s].get(group, []) if not math.isnan(m[names[s]])]
                for s in found.structures
            ]
            _boxes(ax, values, n, len(compared), _between(group))
        ax.set_xticks(
            range(len(found.structures)), [_plain(s) for s in found.structures], rotation=20, ha="right"
        )
        _titled(ax, "", title)
    figure.axes[0].legend(
        frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0.0, 1.0), handlelength=2.5
    )
    return _png(figure)


def limits(found: Collected) -> bytes:
    """Volumes of each model against the mean of the people: bias, limits of agreement and their intervals."""
    shown = found.structures[:_MOST]
    across = min(3, len(shown))
    down = -(-len(shown) // across)
    figure = _figure(3.6 * across + 0.4, 2.8 * down + 0.6)
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for ax, structure in zip(axes, shown, strict=False):
        for n, observer in enumerate(found.study.models or found.study.people):
            values, others = volumes_against(found, structure, observer.name)
            color = _COLORS[(n + 1) % len(_COLORS)]
            ax.scatter(
                (values + others) / 2, values - others, s=18, color=color, marker=_marker(n + 1), zorder=3,
                label=_plain(observer.name),
            )  # fmt: skip
            if len(values) >= 3:
                at = bland_altman(values, others)
                edge = 0.98 - 0.06 * n
                _line(ax, at.bias, color, "-", "bias" if n == 0 else "", edge - 0.02)
                _line(ax, at.lower, color, "--", "95 % limits" if n == 0 else "", edge - 0.04)
                _line(ax, at.upper, color, "--", "", edge)
        ax.margins(x=0.15)
        ax.axhline(0, color="#8a949e", linewidth=0.7, zorder=1)
        ax.set_title(_plain(structure), fontsize=9)
        _titled(ax, "mean volume (cc)", "observer − people (cc)")
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    axes[0].legend(frameon=False, fontsize=7)
    return _png(figure)


def times(found: Collected) -> bytes:
    """Minutes by hand and to correct, each pair a line in its person's colour."""
    rows = found.study.times
    figure = _figure(5.6, 4.2)
    ax = figure.subplots()
    for n, person in enumerate(dict.fromkeys(t.observer for t in rows)):
        for k, t in enumerate(t for t in rows if t.observer == person):
            ax.plot(
                [0, 1], [t.manual, t.corrected], color=_COLORS[n % len(_COLORS)], marker=_marker(n),
                markersize=4, linewidth=0.9, alpha=0.75, label=_plain(person) if k == 0 else None,
            )  # fmt: skip
    for at, values in ((-0.22, [t.manual for t in rows]), (1.22, [t.corrected for t in rows])):
        ax.boxplot([values], positions=[at], widths=0.22, **_look("#56606b", ""))
        ax.annotate(
            f"median {quartiles(np.array(values))[1]:.3g}", (at, max(values)), xytext=(0, 6),
            textcoords="offset points", ha="center", fontsize=7,
        )  # fmt: skip
    ax.set_xticks([0, 1], ["by hand", "corrected"])
    ax.set_xlim(-0.5, 1.5)
    ax.set_ylim(0, 1.12 * max(t.manual for t in rows))
    _titled(ax, "", "minutes")
    ax.legend(frameon=False, fontsize=8)
    return _png(figure)


def _boxes(ax: Axes, values: list[list[float]], n: int, of: int, label: str) -> None:
    width = 0.8 / of
    at = [k - 0.4 + (n + 0.5) * width for k in range(len(values))]
    color = _COLORS[n % len(_COLORS)]
    kept = [(x, v) for x, v in zip(at, values, strict=True) if v]
    if not kept:
        return
    drawn = ax.boxplot(
        [v for _, v in kept], positions=[x for x, _ in kept], widths=0.8 * width,
        **_look(color, _HATCHES[n % len(_HATCHES)]),
    )  # fmt: skip
    drawn["boxes"][0].set_label(_plain(label))
    for x, v in kept:
        spread = np.linspace(-0.2, 0.2, len(v)) * width
        ax.scatter(x + spread, v, s=7, color=color, marker=_marker(n), alpha=0.7, zorder=3, linewidths=0)


def _look(color: str, hatch: str) -> dict[str, Any]:
    return {
        "showfliers": False,
        "patch_artist": True,
        "boxprops": {"facecolor": f"{color}33", "edgecolor": color, "hatch": hatch},
        "medianprops": {"color": "#1c2733", "linewidth": 1.6},
        "whiskerprops": {"color": color},
        "capprops": {"color": color},
    }


def _line(ax: Axes, at: Estimate, color: str, style: str, label: str, edge: float) -> None:
    # Its interval at the edge: bands of few patients would cover one another.
    across = ax.get_yaxis_transform()
    ax.plot([edge] * 2, [at.low, at.high], color=color, linewidth=3, alpha=0.45, transform=across, zorder=1)
    ax.axhline(at.value, color=color, linestyle=style, linewidth=1.2, label=label or None, zorder=2)


def _between(group: str) -> str:
    return "between people" if group.startswith("people,") else group.removesuffix(", pairs")


def _words(name: str) -> str:
    return name.replace("surface_dice_", "Surface Dice, ").replace("mm", " mm")


def _marker(n: int) -> str:
    return _MARKERS[n % len(_MARKERS)]


def _plain(text: str) -> str:
    # A dollar sign in a name from another system's file would start mathematics and may not parse.
    return text.replace("$", r"\$")


def _titled(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, fontsize=8)
    ax.set_ylabel(y, fontsize=8)
    ax.tick_params(labelsize=8)
    ax.grid(axis="y", color="#e6eaef", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.supxlabel(RESEARCH_ONLY, fontsize=7, color="#5a4100")
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def pictures(found: Collected) -> dict[str, bytes]:
    """All pictures that there is something to show of, by the name of their file."""
    drawn = {"agreement": boxes(found), "volumes": limits(found)}
    return drawn | ({"times": times(found)} if found.study.times else {})
