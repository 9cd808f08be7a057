"""The review page: one HTML file that opens anywhere, offline, and asks for nothing."""

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from imaging.atomic import whole_file
from imaging.planes import target_center
from imaging.resample import resample, resample_structures
from imaging.show import Wash, dose_color, palette, three_planes
from imaging.volume import Quantity, Volume

from .encode import encode_masks, encode_volume, page_grid
from .facts import Curve, ReviewPage
from .tables import checks_table, fact_list, goals_table, provenance_block

_SCRIPTS = ("vendor/niivue.umd.js", "vendor/plotly-basic.min.js", "contours.js", "viewer.js", "dvh.js")
_ISODOSES = (0.2, 0.5, 0.8, 0.95, 1.0, 1.07)  # shares of the prescription
_FULL = 1.1  # end of the dose colours, as a share of the prescription
_DIFFERENCE_FULL = 0.03  # end of the colours of a dose difference, as a share of the prescription
_COLOR_STEPS = 32
_CURVE_POINTS = 400


def write_page(path: Path, page: ReviewPage) -> None:
    """A review page as one HTML file, written whole or not at all.

    Three planes that scroll, with contours and dose; dose–volume histograms; goals; provenance.
    The file holds everything that it shows, and its content security policy forbids every
    request to anywhere, so it opens offline and nothing in it leaves the machine. Where a
    browser has no WebGL, and on paper, a still picture stands in for the planes. The same
    content gives the same bytes.

    Parameters
    ----------
    path
        Where to write, usually ``review.html``.
    page
        What to show. Its texts may come from anywhere: they are escaped.
    """
    scripts = [_script(_asset(name)) for name in _SCRIPTS]
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        "img-src data: blob:; font-src data:; style-src 'unsafe-inline'; "
        f"script-src {' '.join(_hash(script) for script in scripts)}"
    )
    html = Template(_asset("review.html")).substitute(
        policy=escape(policy),
        title=escape(page.title),
        style=_asset("review.css"),
        facts=fact_list(_facts(page)),
        still=_source(_still(page)),
        goals=goals_table(page.goals),
        checks=_checks(page),
        provenance=provenance_block(page.provenance),
        data=_json(_data(page)),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )
    with whole_file(path) as part:
        part.write_text(html, encoding="utf-8", newline="\n")


def _facts(page: ReviewPage) -> dict[str, str]:
    return {"Prescription": f"{page.prescription_gy:g} Gy", **page.facts}


def _checks(page: ReviewPage) -> str:
    if not page.checks and len(page.doses) < 2:
        return ""
    heading = "Checks" if page.checks else "Comparison"
    table = checks_table(page.checks) if page.checks else ""
    picture = _difference(page) if len(page.doses) > 1 else ""
    return f'<section aria-labelledby="c"><h2 id="c">{heading}</h2>{table}{picture}</section>'


def _difference(page: ReviewPage) -> str:
    """The second dose less the first, as a still picture."""
    (first_name, first), (second_name, second) = list(page.doses.items())[:2]
    less = resample(second, first.grid).data - first.data
    difference = Volume(less, first.grid, Quantity.DOSE, first.frame)
    full = _DIFFERENCE_FULL * page.prescription_gy
    wash = Wash(full, full / 6, opacity=0.7, signed=True)
    scan = next(iter(page.scans.values()))
    title = f"{second_name} less {first_name} (from {full / 6:.1f} Gy up)"
    png = three_planes(scan, page.structures, difference, wash, page.center, title)
    return f'<img alt="{escape(title)}, in three planes" src="{_source(png)}">'


def _still(page: ReviewPage) -> bytes:
    scan_name, scan = next(iter(page.scans.items()))
    dose_name, dose = next(iter(page.doses.items()))
    rx = page.prescription_gy
    wash = Wash(_FULL * rx, _ISODOSES[0] * rx, tuple(level * rx for level in _ISODOSES))
    return three_planes(scan, page.structures, dose, wash, page.center, f"{dose_name} over {scan_name}")


def _data(page: ReviewPage) -> dict[str, object]:
    grid = page_grid(page.structures, next(iter(page.scans.values())))
    structures = resample_structures(page.structures, grid)
    center = target_center(page.structures) if page.center is None else page.center
    center = grid.center if center is None else center
    colors = palette(page.structures)
    return {
        "shape": grid.shape,
        "origin": grid.affine[:3, 3].tolist(),
        "spacing": grid.spacing.tolist(),
        "center": center.tolist(),
        "prescription": page.prescription_gy,
        "isodoses": [
            {
                "level": round(f * page.prescription_gy, 4),
                "percent": round(100 * f),
                "color": dose_color(f / _FULL),
            }
            for f in _ISODOSES
        ],
        "full": _FULL * page.prescription_gy,
        "ramp": [dose_color(n / (_COLOR_STEPS - 1)) for n in range(_COLOR_STEPS)],
        "scans": [encode_volume(name, volume, grid) for name, volume in page.scans.items()],
        "doses": [
            encode_volume(name, volume.expect(Quantity.DOSE), grid) for name, volume in page.doses.items()
        ],
        "structures": [
            {"name": name, "kind": s.kind.value, "safe": colors[name], "drawn": _hex(s.color)}
            for name, s in structures.structures.items()
        ],
        "masks": encode_masks([s.mask for s in structures.structures.values()]),
        "curves": [
            {"on": on, "curves": [_curve(curve) for curve in curves]} for on, curves in page.curves.items()
        ],
    }


def _hex(color: tuple[int, int, int]) -> str:
    return f"#{bytes(min(max(c, 0), 255) for c in color).hex()}"


def _curve(curve: Curve) -> dict[str, object]:
    # A screen shows no more points than this; a histogram is monotonic, so none is missed between.
    dose, volume = np.asarray(curve.dose_gy), np.asarray(curve.volume_percent)
    if len(dose) > _CURVE_POINTS:
        fewer = np.linspace(dose[0], dose[-1], _CURVE_POINTS)
        dose, volume = fewer, np.interp(fewer, dose, volume)
    return {
        "name": curve.structure,
        "dose": [round(float(x), 3) for x in dose],
        "volume": [round(float(x), 3) for x in volume],
    }


def _source(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _asset(name: str) -> str:
    return files("app.review").joinpath(name).read_text(encoding="utf-8")


def _script(text: str) -> str:
    # Inside a string "<\/" is "</": the parser must not see the end of the element there.
    return text.replace("</script", "<\\/script")


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest())
    return f"'sha256-{digest.decode('ascii')}'"


def _json(data: object) -> str:
    # "<" written as an escape can neither close the element nor open a comment.
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace(
        "<", "\\u003c"
    )
