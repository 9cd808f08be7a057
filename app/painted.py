"""``spindose synth inpaint``: a tumour painted into a real scan, which stays to the bit outside the region.

The generator draws on a lattice of its own, with the scan around the region in sight.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Integer
from scipy.ndimage import binary_fill_holes, distance_transform_edt
from torch import Tensor

from imaging.atomic import new_folder
from imaging.brats import ED, ET, NCR, RC
from imaging.grid import Grid, indices, positions
from imaging.nifti import read_nifti, write_nifti
from imaging.resample import resample
from imaging.shapes import Mask, Point, Points, Voxels
from imaging.volume import Quantity, Volume
from synth.case import stage_generator
from synth.conditions import TUMOUR, planes
from synth.inpaint import from_scale, inpaint, to_scale

from .console import Progress
from .drawer import draw, drawn_by
from .filled import AskedFilled, Opened, about, one_case, opened, write_parameters
from .volume_examples import Placed

_NUMBERS = {"NCR": NCR, "ED": ED, "ET": ET, "RC": RC}
_WIDEST = 50.0  # mm of edge
_TISSUE = 0.05  # of the scale of `imaging.brightness`: less is air
_IN_HEAD = 0.9  # share of a tumour: one that grew in another head may reach over the border a little


def paint(
    asked: AskedFilled, tumour: Path, progress: Progress, at: Point | None = None, edge: float = 6.0
) -> dict[str, Any]:
    """A case with a tumour painted into its contrasts: same bits outside the region that was painted.

    The region is all within the edge's width of the tumour, so that what is drawn has wholly replaced what
    was where the tumour begins (`synth.inpaint.inpaint`).

    Parameters
    ----------
    asked
        The case, the generator, where to.
    tumour
        NIfTI file of BraTS labels in the scan's space, on any grid.
    progress
        Called with what happens now and the share of it that is done.
    at
        Where the tumour's centroid is moved to (LPS, mm); None leaves it where it is.
    edge
        Width of the blend around the tumour (mm).

    Returns
    -------
    dict
        JSON values: where the case lies, what was painted, the tumour's volumes, and the generator.

    Raises
    ------
    ValueError
        If there is not one case on one grid; if the tumour is empty, too small for the generator's voxels,
        or not in the head or the generator's box; or the generator draws other things.
    """
    if not 0 <= edge <= _WIDEST:
        raise ValueError(f"expected --edge of 0 to {_WIDEST:g} mm, got {edge:g}")
    files = one_case(asked.case)
    parts = _moved(_parts(read_nifti(tumour, Quantity.LABEL)), at)
    case = opened(files, asked, progress)
    new, seg = _laid_over(parts, case)
    here = case.on_lattice(seg)
    _expect_in_head(parts, here)
    region = _near(new.data[0] > 0, edge, case.grid)
    told = _told(new, here)
    facts = {
        "painted": list(case.scans),
        "edge_mm": edge,
        "centroid_mm": [round(x, 1) for x in _centroid(new).tolist()],
        "volumes_cc": {name: _cc(new.data == n, case.grid) for name, n in _NUMBERS.items()},
        "told_cc": {part.name: _cc(told == part, here.grid) for part in TUMOUR},
        **about(asked, case.drawer, here, {**files.contrasts, "tumour": tumour}),
    }
    known = _known(region, case.grid, here)
    with new_folder(asked.out.absolute()) as folder:
        progress("Drawing", 0.0)
        for name, signal in zip(
            case.scans, _painted(case, asked.seed, here, known, region, edge), strict=True
        ):
            write_nifti(Volume(signal[None], case.grid, Quantity.MR), asked.file(folder, name))
        write_nifti(seg, asked.file(folder, "seg"))
        write_parameters(facts, folder)
        progress("Drawing", 1.0)
    return {"case": str(asked.out), **facts}


def paint_lines(facts: Mapping[str, Any]) -> list[str]:
    """What a person reads at the end."""
    parts = ", ".join(f"{name} {cc:.1f} cc" for name, cc in facts["volumes_cc"].items() if cc)
    return [
        f"Case:     {facts['case']}",
        f"Painted:  {', '.join(facts['painted'])}, in voxels of {facts['lattice']['spacing_mm']:g} mm",
        f"Tumour:   {parts}; blended over {facts['edge_mm']:g} mm around it",
        drawn_by(facts),
    ]


def point_of(text: str) -> Point:
    """A point that is written as ``X,Y,Z`` (LPS, mm).

    Raises
    ------
    ValueError
        If there are not three numbers.
    """
    try:
        point = np.array([float(word) for word in text.split(",")])
    except ValueError:
        point = np.empty(0)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise ValueError(f"expected --at as three numbers in mm such as -30,10,45, got {text!r}")
    return point


def _painted(case: Opened, seed: int, here: Placed, known: Tensor, region: Mask, edge: float) -> Voxels:
    """The case's contrasts, painted, shape ``(c, i, j, k)``."""
    scan = torch.cat([volume.data for volume in case.scans.values()])
    _, level = to_scale(scan)
    _, level_here = to_scale(here.signal[here.present])  # coarse voxels have less bright ones
    condition = planes(here.classes[None])[0]
    noise = stage_generator(case.drawer.weights, seed, 0, "inpaint")

    def on_lattice(_condition: Tensor, _known: Tensor, _image: Tensor) -> Tensor:
        drawn = draw(case.drawer, condition, noise, known, here.image)[here.present]
        signal = Volume(from_scale(drawn, level_here), here.grid, Quantity.MR)
        shown = resample(signal, case.grid).data / level.reshape(-1, 1, 1, 1)
        return (shown / 0.75 - 1)[None]

    # What the generator is told lies on its lattice, not on the scan's grid, so no condition goes through.
    nothing = torch.zeros(0, *case.grid.shape)
    return inpaint(scan, region, nothing, on_lattice, edge, case.grid.spacing.tolist())


def _parts(labels: Volume) -> Volume:
    """BraTS labels as bytes, if they are such."""
    low, high = int(labels.data.min()), int(labels.data.max())
    if low < 0 or high > max(_NUMBERS.values()):
        raise ValueError(
            "expected BraTS labels (1 NCR, 2 ED, 3 ET, 4 RC; before 2023 ET was 4), "
            f"got numbers from {low} to {high}"
        )
    return replace(labels, data=labels.data.to(torch.uint8))


def _moved(tumour: Volume, at: Point | None) -> Volume:
    """A tumour whose centroid lies at a point."""
    if not bool(tumour.data.any()):
        raise ValueError("expected a tumour with labels above 0, got an empty one; check --tumour")
    if at is None:
        return tumour
    affine = tumour.grid.affine.copy()
    affine[:3, 3] += at - _centroid(tumour)
    return replace(tumour, grid=Grid(tumour.grid.shape, affine))


def _laid_over(parts: Volume, case: Opened) -> tuple[Volume, Volume]:
    """The tumour on the scan's grid, alone and over the one that is there already."""
    new = resample(parts, case.grid)
    if not bool(new.data.any()):
        raise ValueError("expected a tumour that the scan shows, got one beyond it; move it with --at")
    if case.seg is None:
        return new, new
    old = resample(_parts(case.seg), case.grid)
    return new, replace(new, data=torch.where(new.data > 0, new.data, old.data))


def _near(tumour: Mask, edge: float, grid: Grid) -> Mask:
    """Voxels within the edge's width of a tumour; distances are only measured about it, for the time."""
    at = torch.nonzero(tumour).numpy()
    reach = np.ceil(edge / grid.spacing).astype(int)
    low, high = np.maximum(at.min(axis=0) - reach, 0), at.max(axis=0) + reach + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    far = distance_transform_edt(~tumour[box].numpy(), sampling=grid.spacing.tolist())
    out = torch.zeros_like(tumour)
    out[box] = torch.from_numpy(far <= edge)
    return out


def _known(region: Mask, grid: Grid, here: Placed) -> Tensor:
    """1 for what the generator is given: all but the region, in the contrasts that there are.

    Raises
    ------
    ValueError
        If the region reaches out of the generator's box, so that it could not draw all of it.
    """
    n = np.array(here.grid.shape)
    cells = _cells(_points(region, grid), here.grid)
    if bool(((cells < 0) | (cells >= n)).any()):
        sides = " x ".join(f"{side:g}" for side in n * here.grid.spacing)
        raise ValueError(
            f"expected a tumour with its edge inside the generator's box of {sides} mm about the brain, "
            "got one that reaches out of it; move it with --at or lower --edge"
        )
    outside = ~_reached(region, grid, here.grid)
    return (here.present[:, None, None, None] & outside).float()


def _expect_in_head(tumour: Volume, here: Placed) -> None:
    """Refuse a tumour in the air, at least of what the generator's lattice shows."""
    bright = (here.image.amax(dim=0) + 1) * 0.75 > _TISSUE
    head = binary_fill_holes(bright.numpy())
    cells = _cells(_points(tumour.data[0] > 0, tumour.grid), here.grid)
    within = ((cells >= 0) & (cells < np.array(head.shape))).all(axis=1)
    share = head[tuple(cells[within].T)].sum() / len(cells)
    if share < _IN_HEAD:
        raise ValueError(
            f"expected a tumour inside the head, got one with {share:.0%} of it there; move it with --at"
        )


def _told(new: Volume, here: Placed) -> Tensor:
    """Classes that the generator is told where the tumour is, if any of them is tumour.

    Raises
    ------
    ValueError
        If the tumour is too small to be the most of any voxel.
    """
    told = here.classes[_reached(new.data[0] > 0, new.grid, here.grid)]
    if not bool(torch.isin(told, torch.tensor(TUMOUR)).any()):
        raise ValueError(
            f"expected a tumour that voxels of {here.grid.spacing[0]:g} mm can show, got a smaller one; "
            "take a larger one, or a generator of finer voxels"
        )
    return told


def _reached(region: Mask, grid: Grid, onto: Grid) -> Bool[Tensor, "x y z"]:
    """Voxels of another grid that some of a region lies in."""
    out = np.zeros(onto.shape, dtype=bool)
    at = torch.nonzero(region).double().numpy()
    # Points of a voxel that lie no further apart than the other grid's: none of its voxels slips between.
    counts = np.ceil(grid.spacing / onto.spacing.min()).astype(int) + 1
    for offset in product(*(np.linspace(-0.499, 0.499, n) for n in counts)):
        cells = _cells(positions(grid, at + np.array(offset)), onto)
        within = ((cells >= 0) & (cells < np.array(onto.shape))).all(axis=1)
        out[tuple(cells[within].T)] = True
    return torch.from_numpy(out)


def _cells(points: Points, grid: Grid) -> Integer[np.ndarray, "n 3"]:
    """Index of the voxel that each point lies in, within the grid or not."""
    return np.floor(indices(grid, points) + 0.5).astype(np.int64)


def _points(mask: Mask, grid: Grid) -> Points:
    """Centres of a mask's voxels (LPS, mm)."""
    return positions(grid, torch.nonzero(mask).double().numpy())


def _centroid(tumour: Volume) -> Point:
    return _points(tumour.data[0] > 0, tumour.grid).mean(axis=0)


def _cc(where: Tensor, grid: Grid) -> float:
    return round(int(where.sum()) * grid.voxel_volume / 1000, 3)
