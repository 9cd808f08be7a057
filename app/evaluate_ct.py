"""``spindose evaluate ct``: a synthetic CT beside the true one, in figures and as a picture."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from imaging.agreement import dice
from imaging.atomic import whole_file
from imaging.case import Case
from imaging.coregister import misalignment
from imaging.grid import positions
from imaging.nifti import read_nifti
from imaging.planes import Plane, cut, extent
from imaging.resample import resample
from imaging.scan import read_scan
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume
from mr2ct.quality import baselines, quality
from planning.contour.body import body_of

from . import ct_dose_figures
from .console import RESEARCH_ONLY, Progress
from .ct_baselines import from_mri
from .ct_dose import Given, Made, made_and_recomputed, recomputed, seen
from .head_ct import aligned
from .steps import file_hash

_WINDOW = (-400.0, 1200.0)  # HU, bone and soft tissue together
_DIFFERENCE = 600.0  # HU at either end of the colours
_SAME_HEAD = 0.9  # Dice of two bodies that lie in one place
_BONE = "150 HU"


@dataclass(frozen=True)
class Asked:
    """What is to be evaluated.

    Parameters
    ----------
    ct
        The synthetic CT, NIfTI or DICOM.
    truth
        The true CT, registered to it.
    mri
        What the synthetic CT was made of, for the alignment and for baselines from it; or None.
    mask
        Where to score (NIfTI), as SynthRAD's masks; the body of the true CT for None.
    picture
        A PNG file to draw, or None.
    dose
        A plan to compute on both CTs, or to make on the synthetic one; or None.
    """

    ct: Path
    truth: Path
    mri: Path | None = None
    mask: Path | None = None
    picture: Path | None = None
    dose: Given | Made | None = None


def evaluate_ct(asked: Asked, progress: Progress) -> dict[str, Any]:
    """Figures of a synthetic CT and of baselines, on the grid of the true CT, and of a plan on both.

    Parameters
    ----------
    asked
        What is to be evaluated.
    progress
        Told what happens now and the share of it that is done.

    Raises
    ------
    ValueError
        If files cannot be read, or do not show one head in one place, or there is no MRI to draw the organs
        of a plan from.
    """
    if asked.picture is not None and asked.picture.suffix != ".png":
        raise ValueError(f"expected --picture to end in .png, got {asked.picture.name}")
    if isinstance(asked.dose, Made) and asked.mri is None:
        raise ValueError(
            "expected the MRI to draw the organs of a plan from, got none; add --mri, or a plan with --plan"
        )
    given, source = read_scan(asked.ct, Quantity.HU)
    truth, true_source = read_scan(asked.truth, Quantity.HU)
    ct = resample(given, truth.grid)
    ct = replace(ct, frame=truth.frame)
    outline = body_of(truth)
    body = outline if asked.mask is None else _mask(asked.mask, truth)
    overlap = dice(outline, body_of(ct))
    if overlap < _SAME_HEAD:
        raise ValueError(
            f"expected a true CT that lies where the synthetic one does, got bodies of Dice {overlap:.2f}; "
            "register it"
        )
    found: dict[str, Any] = {
        **quality(ct, truth, body).as_json(),
        "baselines": {name: quality(v, truth, body).as_json() for name, v in baselines(truth, body).items()},
        "inputs": {"ct": file_hash(asked.ct), "truth": file_hash(asked.truth)},
    }
    if isinstance(asked.dose, Given):
        found["dose"] = recomputed(asked.dose, ct, truth, (source, true_source), progress)
        found["inputs"]["plan"] = file_hash(asked.dose.plan)
    if asked.mri is not None:
        _with_mri(found, asked.mri, asked.dose, ct, truth, body, progress)
    if asked.picture is not None:
        drawn = picture(ct, truth, body, found["mae"])
        with whole_file(asked.picture) as part:
            part.write_bytes(drawn)
        found["picture"] = str(asked.picture)
    return found


def _with_mri(
    found: dict[str, Any],
    path: Path,
    dose: Given | Made | None,
    ct: Volume,
    truth: Volume,
    body: Mask,
    progress: Progress,
) -> None:
    """Adds what takes the MRI: alignment, baselines that are made of it, and a plan with its organs."""
    mr, source = read_scan(path, Quantity.MR)
    scan = Case({"mr": mr}, source=source)
    if isinstance(dose, Made):
        seen(dose, scan, truth)
    found["inputs"]["mri"] = file_hash(path)
    found["alignment_mm"] = {
        "synthetic CT": misalignment(ct, mr, body),
        "true CT": misalignment(truth, mr, body),
    }
    others = aligned(mr, progress)
    for name, one in from_mri(others).items():
        found["baselines"][name] = quality(resample(one, truth.grid), truth, body).as_json()
    if isinstance(dose, Made):
        found["dose"] = made_and_recomputed(dose, ct, truth, scan, others.tissues, progress)


def lines(found: Mapping[str, Any]) -> list[str]:
    """The figures for a person."""
    told = [
        f"MAE {found['mae']:.1f} HU, bias {found['bias']:+.1f} HU, PSNR {found['psnr']:.2f} dB",
        f"SSIM {found['ssim']:.4f}, MS-SSIM {found['ms_ssim']:.4f}",
        *(
            f"  {name}, {100 * one['share']:.1f} %: {one['mae']:.1f} HU, bias {one['bias']:+.1f} HU"
            for name, one in found["tissues"].items()
        ),
        "Bone: " + ", ".join(f"Dice {value:.3f} at {level}" for level, value in found["bone_dice"].items()),
    ]
    if found["bone_surface_mm"] is not None:
        mean, most = found["bone_surface_mm"], found["bone_surface_95_mm"]
        told.append(f"  surfaces {mean:.2f} mm apart, 95 % within {most:.2f} mm")
    if found["air_dice"] is not None:
        told.append(f"Cavities: Dice {found['air_dice']:.3f}")
    if "alignment_mm" in found:
        told.append("From the MRI: " + ", ".join(f"{k} {v:.2f} mm" for k, v in found["alignment_mm"].items()))
    told += [
        f"Beside {name}: MAE {one['mae']:.1f} HU, bone Dice {one['bone_dice'][_BONE]:.3f}"
        for name, one in found["baselines"].items()
    ]
    told += ct_dose_figures.lines(found["dose"]) if "dose" in found else []
    return told + ([f"Picture: {found['picture']}"] if "picture" in found else [])


def picture(ct: Volume, truth: Volume, body: Mask, mae: float) -> bytes:
    """Synthetic CT, true CT and their difference through the middle of the body, as PNG."""
    at = positions(truth.grid, body.nonzero().double().mean(dim=0).numpy()[None])[0]
    low, high = extent(truth)
    figure = Figure(figsize=(10, 10), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 3)
    for column, plane in zip(axes.T, Plane, strict=True):
        ours, theirs = (cut(volume, plane, at, low, high) for volume in (ct, truth))
        origin: Literal["upper", "lower"] = "upper" if plane is Plane.AXIAL else "lower"
        for ax, shown in zip(column[:2], (ours, theirs), strict=True):
            ax.imshow(shown, cmap="gray", vmin=_WINDOW[0], vmax=_WINDOW[1], origin=origin)
        column[2].imshow(ours - theirs, cmap="RdBu_r", vmin=-_DIFFERENCE, vmax=_DIFFERENCE, origin=origin)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, title in zip(axes[:, 0], ("synthetic CT", "true CT", "difference"), strict=True):
        ax.set_title(title, fontsize=9, loc="left")
    told = f"MAE {mae:.0f} HU; difference of ±{_DIFFERENCE:g} HU, red too dense. {RESEARCH_ONLY}"
    figure.suptitle(told, fontsize=9)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _mask(path: Path, truth: Volume) -> Mask:
    mask = resample(read_nifti(path, Quantity.LABEL), truth.grid).data[0] > 0
    if not mask.any():
        raise ValueError("expected a mask with voxels inside the true CT, got none; check where it lies")
    return mask
