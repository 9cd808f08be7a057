"""Pictures of scans: three planes with contours and dose, as PNG."""

import io
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .planes import AXES, Pixels, Plane, cut, extent, target_center
from .shapes import Point
from .structures import RoiType, StructureSet
from .volume import Quantity, Volume

# Colours told apart by people with any of the common colour vision deficiencies, bright enough
# on black and dark enough on white; after Okabe and Ito, "Color universal design" (2008).
_KINDS = {RoiType.EXTERNAL: "#9a9a9a", RoiType.GTV: "#d55e00", RoiType.CTV: "#e69f00", RoiType.PTV: "#e0529c"}
_OTHERS = ("#2f9be0", "#009e73", "#b8a626", "#7fc8f0", "#9467d8", "#66c2a5", "#a6761d", "#5b8cbf")
DOSE_COLORS = "viridis"
_DIFFERENCE_COLORS = "PuOr_r"
_HU_WINDOW = (-160.0, 240.0)

# Letters at the left, right, top and bottom of a plane.
_LETTERS = {
    Plane.AXIAL: ("R", "L", "A", "P"),
    Plane.CORONAL: ("R", "L", "S", "I"),
    Plane.SAGITTAL: ("A", "P", "S", "I"),
}
_NAMES = "xyz"


@dataclass(frozen=True)
class Wash:
    """How a dose is drawn over a scan.

    Parameters
    ----------
    full_gy
        Dose at the upper end of the colours.
    threshold_gy
        Dose below which nothing is drawn.
    levels_gy
        Isodose lines, ascending.
    opacity
        Of the wash, 0..1.
    signed
        Whether it is a difference of doses, whose colours run from ``-full_gy`` to ``full_gy``.
    """

    full_gy: float
    threshold_gy: float
    levels_gy: tuple[float, ...] = ()
    opacity: float = 0.35
    signed: bool = False


def palette(structures: StructureSet) -> dict[str, str]:
    """A colour-blind-safe colour (``#rrggbb``) for each structure, the same for the same names and kinds."""
    rest = [name for name, s in structures.structures.items() if s.kind not in _KINDS]
    return {
        name: _KINDS[s.kind] if s.kind in _KINDS else _OTHERS[rest.index(name) % len(_OTHERS)]
        for name, s in structures.structures.items()
    }


def dose_color(fraction: float) -> str:
    """Colour (``#rrggbb``) of a dose, given as a fraction of the upper end of the colours."""
    return to_hex(colormaps[DOSE_COLORS](float(np.clip(fraction, 0, 1))))


def _color(wash: Wash, gy: float) -> str:
    if wash.signed:
        return to_hex(colormaps[_DIFFERENCE_COLORS](0.5 + gy / wash.full_gy / 2))
    return dose_color(gy / wash.full_gy)


def window(volume: Volume) -> tuple[float, float]:
    """Values drawn black and white: soft tissue in HU, otherwise 1st to 98th percentile above zero."""
    if volume.quantity is Quantity.HU:
        return _HU_WINDOW
    # Two million voxels say enough about a percentile, and numpy sorts them fast.
    flat = volume.data.flatten()
    some = flat[:: max(1, flat.numel() // 2_000_000)]
    values = some[some > 0].float().numpy()
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, [1.0, 98.0])
    return float(low), float(max(high, low + 1e-6))


def three_planes(
    scan: Volume,
    structures: StructureSet | None = None,
    dose: Volume | None = None,
    wash: Wash | None = None,
    at: Point | None = None,
    title: str = "",
) -> bytes:
    """A PNG of the axial, coronal and sagittal planes through a point.

    Parameters
    ----------
    scan
        Background; CT in HU is shown in a soft-tissue window.
    structures
        Drawn as outlines in the colours of ``palette``.
    dose, wash
        Dose in Gy and how to draw it; by default colours up to its maximum, from a fifth of it.
    at
        Where the planes meet (LPS, mm); by default the target's centre, or else the scan's.
    title
        Written above the planes.
    """
    if at is None:
        center = target_center(structures) if structures else None
        at = scan.grid.center if center is None else center
    low, high = extent(scan, structures)
    size = high - low
    widths = [size[AXES[plane][0]] for plane in Plane]
    figure = Figure(figsize=(12, 12 * max(size[1], size[2]) / sum(widths) + 0.75), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3, width_ratios=widths)
    wash = _wash(dose, wash)
    for ax, plane in zip(axes, Plane, strict=True):
        _draw(ax, plane, scan, structures, dose, wash, at, (low, high))
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    _legend(figure, structures, wash if dose is not None else None)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.1, top=0.92, wspace=0.02)
    return _png(figure)


def plane_picture(
    scan: Volume,
    plane: Plane,
    structures: StructureSet | None = None,
    dose: Volume | None = None,
    wash: Wash | None = None,
    at: Point | None = None,
) -> bytes:
    """A PNG of one plane of a scan with contours and dose; parameters as in ``three_planes``."""
    if at is None:
        center = target_center(structures) if structures else None
        at = scan.grid.center if center is None else center
    low, high = extent(scan, structures)
    across, along, _ = AXES[plane]
    shape = (high - low)[[across, along]]
    figure = Figure(figsize=(6, 6 * shape[1] / shape[0]), dpi=110)
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    _draw(ax, plane, scan, structures, dose, _wash(dose, wash), at, (low, high))
    return _png(figure)


def _draw(
    ax: Axes,
    plane: Plane,
    scan: Volume,
    structures: StructureSet | None,
    dose: Volume | None,
    wash: Wash,
    at: Point,
    box: tuple[Point, Point],
) -> None:
    across, along, through = AXES[plane]
    low, high = box
    black, white = window(scan)
    # From low to high along the rows: what is drawn below is turned by the axis limits.
    place = (low[across], high[across], low[along], high[along])
    gray = cut(scan, plane, at, low, high)
    ax.imshow(
        gray, cmap="gray", vmin=black, vmax=white, extent=place, origin="lower", interpolation="bilinear"
    )
    if dose is not None:
        gy = cut(dose, plane, at, low, high)
        shown = np.ma.masked_where((np.abs(gy) if wash.signed else gy) < wash.threshold_gy, gy)
        ax.imshow(
            shown,
            cmap=_DIFFERENCE_COLORS if wash.signed else DOSE_COLORS,
            vmin=-wash.full_gy if wash.signed else 0,
            vmax=wash.full_gy,
            extent=place,
            origin="lower",
            alpha=wash.opacity,
        )
        for level in wash.levels_gy:
            _outline(ax, gy, level, place, _color(wash, level), 0.8)
    if structures is not None:
        for name, color in palette(structures).items():
            mask = Volume(structures.mask(name)[None].float(), structures.grid, Quantity.PROBABILITY)
            _outline(ax, cut(mask, plane, at, low, high), 0.5, place, color, 1.4)
    _letters(ax, plane, f"{plane}, {_NAMES[through]} = {at[through]:.1f} mm")
    ax.set_xlim(low[across], high[across])
    # Anterior and superior are up; y grows towards posterior, so the axial plane is turned.
    ax.set_ylim((high[along], low[along]) if plane is Plane.AXIAL else (low[along], high[along]))


def _outline(
    ax: Axes,
    values: Pixels,
    level: float,
    place: tuple[float, float, float, float],
    color: str,
    width: float,
) -> None:
    if not values.min() < level < values.max():
        return
    rows, columns = values.shape
    x = place[0] + (np.arange(columns) + 0.5) * (place[1] - place[0]) / columns
    y = place[2] + (np.arange(rows) + 0.5) * (place[3] - place[2]) / rows
    ax.contour(x, y, values, levels=[level], colors=[color], linewidths=width)


def _letters(ax: Axes, plane: Plane, caption: str) -> None:
    ax.set_axis_off()
    ax.set_aspect("equal")
    left, right, top, bottom = _LETTERS[plane]
    spots = ((left, 0.02, 0.5), (right, 0.98, 0.5), (top, 0.5, 0.97), (bottom, 0.5, 0.03))
    for letter, x, y in spots:
        ax.text(x, y, letter, color="white", ha="center", va="center", transform=ax.transAxes, fontsize=10)
    ax.text(0.02, 0.02, caption, color="white", transform=ax.transAxes, fontsize=7)


def _legend(figure: Figure, structures: StructureSet | None, wash: Wash | None) -> None:
    lines = [
        Line2D([], [], color=color, linewidth=2, label=_plain(name))
        for name, color in (palette(structures) if structures else {}).items()
    ]
    lines += _dose_legend(wash) if wash else []
    if lines:
        n_rows = -(-len(lines) // 11)
        columns = -(-len(lines) // n_rows)
        figure.legend(handles=lines, loc="lower center", ncols=columns, fontsize=8, frameon=False)


def _dose_legend(wash: Wash) -> list[Line2D]:
    full = wash.full_gy
    levels = (-full, -full / 2, full / 2, full) if wash.signed else wash.levels_gy
    width = 6 if wash.signed else 1
    label = "{:+.2g} Gy" if wash.signed else "{:g} Gy"
    return [Line2D([], [], color=_color(wash, gy), linewidth=width, label=label.format(gy)) for gy in levels]


def _wash(dose: Volume | None, wash: Wash | None) -> Wash:
    if wash is not None or dose is None:
        return wash or Wash(1.0, 1.0)
    highest = max(float(dose.expect(Quantity.DOSE).data.max()), 1e-6)
    return Wash(highest, highest / 5)


def _plain(text: str) -> str:
    # A dollar sign in a name from another system's file would start mathematics and may not parse.
    return text.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # No version and no date inside: the same picture is the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
