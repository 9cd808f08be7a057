"""Plots of a commissioned machine beside its measurements, as PNG."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from planning.dose.pencil_beam import off_axis
from planning.machine import Machine

from .scans import Kind
from .verify import HIGH_PERCENT, Verdict

# Colours told apart by people with the common colour vision deficiencies; after Okabe and Ito (2008).
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DOT = {"linestyle": "none", "marker": "o", "markersize": 2.2, "alpha": 0.45}
_SHOWN_SSD = 900.0


def depth_plot(verdicts: Sequence[Verdict]) -> bytes:
    """Depth doses and their differences."""
    own = [verdict for verdict in verdicts if verdict.scan.kind is Kind.DEPTH]
    figure, (dose, difference) = _figure(2, (9.0, 3.4))
    for verdict, color in zip(own, _COLORS * len(own), strict=False):
        at, name = verdict.scan.at, f"{verdict.scan.opening} cm, SSD {verdict.scan.ssd:g} mm"
        dose.plot(at, verdict.scan.dose, color=color, **_DOT)  # type: ignore[arg-type] # options of a line
        dose.plot(at, verdict.model, color=color, linewidth=1.2, label=name)
        difference.plot(at[verdict.high], verdict.error[verdict.high], color=color, linewidth=1.2)
    dose.set(xlabel="Depth (mm)", ylabel="Dose / dose at 100 mm")
    dose.legend(frameon=False, fontsize=8)
    _limits(difference)
    difference.set(xlabel="Depth (mm)", ylabel="Model less measured (% of the dose)")
    return _png(figure)


def profile_plot(verdicts: Sequence[Verdict]) -> bytes:
    """The profiles of one field, crossline and inline, and their differences in the high dose."""
    figure, axes = _figure(2, (9.0, 5.6), rows=2)
    for column, kind in enumerate((Kind.CROSSLINE, Kind.INLINE)):
        own = [verdict for verdict in verdicts if verdict.scan.kind is kind]
        dose, difference = axes[column], axes[2 + column]
        for verdict, color in zip(own, _COLORS * len(own), strict=False):
            at = verdict.scan.at
            dose.plot(at, verdict.scan.dose, color=color, **_DOT)  # type: ignore[arg-type]
            dose.plot(at, verdict.model, color=color, linewidth=1.2, label=f"{verdict.scan.depth:g} mm deep")
            high = np.where(verdict.high, verdict.error, np.nan)
            difference.plot(at, high, color=color, linewidth=1.2)
        dose.set(xlabel="", ylabel="Dose / dose at 100 mm", title=kind.value)
        if own:
            dose.legend(frameon=False, fontsize=8)
        _limits(difference)
        difference.set(xlabel="From the axis (mm)", ylabel="Difference, high dose (%)")
    return _png(figure)


def beam_plot(machine: Machine) -> bytes:
    """Lateral kernels, horns and softening."""
    figure, (kernels, off) = _figure(2, (9.0, 3.2))
    beam = machine.beam
    nearest = int(np.abs(beam.ssd - _SHOWN_SSD).argmin())
    for n, (kernel, beta) in enumerate(zip(beam.kernels[nearest], beam.betas, strict=True)):
        kernels.plot(beam.radius, np.abs(kernel), color=_COLORS[n], label=f"β = {beta:.3g} / mm")
    kernels.set(xlabel="From the axis (mm)", ylabel="|kernel| (1/mm²)", yscale="log", xlim=(0, 150))
    kernels.legend(frameon=False, fontsize=8)
    radius = np.linspace(0, 220, 221)
    for n, (values, name) in enumerate(
        zip(off_axis(beam, radius), ("open fluence", "factor on the depth"), strict=True)
    ):
        off.plot(radius, values, color=_COLORS[n], label=name)
    off.set(xlabel="From the axis (mm)", ylabel="Relative to the axis")
    off.legend(frameon=False, fontsize=8)
    return _png(figure)


def _limits(axes: Axes) -> None:
    for limit in (-HIGH_PERCENT, HIGH_PERCENT):
        axes.axhline(limit, color="#888888", linewidth=0.8, linestyle="--")
    axes.set_ylim(-2.5 * HIGH_PERCENT, 2.5 * HIGH_PERCENT)


def _figure(columns: int, size: tuple[float, float], rows: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = [figure.add_subplot(rows, columns, n + 1) for n in range(rows * columns)]
    for ax in axes:
        ax.grid(color="#dddddd", linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})
    return out.getvalue()
