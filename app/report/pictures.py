"""Pictures of a plan report: the dose in three planes, its histograms, and what the beams open."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from app.plan_view import plan_view
from app.plan_view_strip import panels, strip
from imaging.shapes import Point
from imaging.show import Wash, palette, three_planes
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.check.dvh import Dvh, curve

from .facts import Picture

_ISODOSES = (0.2, 0.5, 0.8, 0.95, 1.0, 1.07)  # shares of the prescription, as on the review page
_FULL = 1.1
_POINTS = 400
_PANELS = 8  # of a beam, side by side, fill the width of a page


def dose_planes(
    ct: Volume, structures: StructureSet, dose: Volume, isocenter: Point, prescription_gy: float
) -> Picture:
    """The dose with isodose lines over the CT, in the planes through the isocentre.

    Parameters
    ----------
    ct, structures, dose
        What is drawn.
    isocenter
        Where the planes meet (LPS, mm).
    prescription_gy
        What the isodoses are shares of (Gy).
    """
    levels = tuple(round(share * prescription_gy, 4) for share in _ISODOSES)
    wash = Wash(_FULL * prescription_gy, _ISODOSES[0] * prescription_gy, levels)
    png = three_planes(ct, structures, dose, wash, isocenter)
    x, y, z = isocenter
    return Picture(
        png, f"Dose and contours in the planes through the isocentre ({x:.1f}, {y:.1f}, {z:.1f}) mm"
    )


def dvh_plot(
    dvhs: Mapping[str, Dvh],
    structures: StructureSet,
    prescription_gy: float,
    others: Mapping[str, Dvh] | None = None,
) -> Picture:
    """Cumulative histograms: of the plan drawn solid, of the same plan on the true CT dashed.

    Parameters
    ----------
    dvhs
        By structure.
    structures
        Give them their colours, the same as on every other picture.
    prescription_gy
        Marked by a line (Gy).
    others
        A second set.
    """
    figure = Figure(figsize=(7.6, 3.6), dpi=170, facecolor="white")
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.065, 0.125, 0.735, 0.855))
    highest = max(float(dvh.doses[-1]) for dvh in dvhs.values())
    doses = np.linspace(0.0, 1.04 * max(highest, prescription_gy), _POINTS)
    colors = palette(structures)
    for name, dvh in dvhs.items():
        # A dollar sign in another system's name would start mathematics.
        label = name.replace("$", r"\$")
        ax.plot(doses, curve(dvh, doses), color=colors.get(name, "black"), linewidth=1.4, label=label)
        if others and name in others:
            ax.plot(
                doses, curve(others[name], doses), color=colors.get(name, "black"), linewidth=1.0, ls="--"
            )
    ax.axvline(prescription_gy, color="#566573", linewidth=0.8, linestyle=":")
    ax.set(xlim=(0, doses[-1]), ylim=(0, 101), xlabel="Dose (Gy)", ylabel="Volume (%)")
    ax.grid(color="#d8dee6", linewidth=0.6)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
    dashed = "; dashed: the same plan on the true CT" if others else ""
    return Picture(_png(figure), f"Cumulative dose–volume histograms{dashed}; dotted: the prescription")


def apertures(rtplan: Path) -> tuple[Picture, ...]:
    """What each beam of an RTPLAN opens, as its source sees it: a picture a beam."""
    view = plan_view(rtplan)
    return tuple(
        Picture(
            strip(replace(view, beams=(shown,))),
            f"Beam {shown.beam.name}, {shown.beam.mu:.1f} MU",
            min(1.0, len(panels(shown, 0)) / _PANELS),
        )
        for shown in view.beams
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # No version and no date inside: the same picture is the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
