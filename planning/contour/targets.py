"""Target volumes: from a sphere or a mask to GTV, CTV and PTV.

Margins of the ESTRO-EANO guideline for glioblastoma (Niyazi et al., Radiother. Oncol. 184, 109663
(2023)): CTV = GTV + 15 mm inside the brain, PTV = CTV + 3 mm.
"""

from collections.abc import Mapping

import numpy as np
import torch

from imaging.grid import Grid, indices
from imaging.shapes import Mask, Point
from imaging.structures import RoiType, Structure, StructureSet
from imaging.warp import lattice

from .barriers import Barriers, kept_within
from .margins import expand

CTV_MARGIN_MM = 15.0
PTV_MARGIN_MM = 3.0
# Rounding where a mask moved between grids, not a target in the wrong place.
_OUTSIDE_SHARE = 0.01
_COLORS = {RoiType.GTV: (255, 0, 0), RoiType.CTV: (255, 128, 0), RoiType.PTV: (0, 96, 255)}


def sphere(grid: Grid, center: Point, radius_mm: float) -> Mask:
    """Voxels whose centre lies within a radius (mm) of a point (LPS, mm).

    Raises
    ------
    ValueError
        If the radius is not positive, the centre lies outside the grid, or the sphere holds no
        voxel centre.
    """
    if not np.isfinite(center).all() or not np.isfinite(radius_mm) or radius_mm <= 0:
        raise ValueError(
            f"expected a target x,y,z,r in mm with a radius above 0, got a radius of {radius_mm}"
        )
    index = indices(grid, center[None])[0]
    if (index < -0.5).any() or (index > np.array(grid.shape) - 0.5).any():
        raise ValueError(
            f"expected a target inside the scan, got its centre at {np.round(center, 1).tolist()} mm, "
            "outside; give x,y,z in LPS mm (left, posterior, superior positive)"
        )
    away = (lattice(grid) - torch.from_numpy(center).float()).norm(dim=1)
    return _some((away <= radius_mm).reshape(grid.shape), "target")


def gtv_to_ctv(
    gtv: Mask,
    brain: Mask,
    grid: Grid,
    margin_mm: float = CTV_MARGIN_MM,
    walls: Mapping[str, Mask] | None = None,
    barriers: Barriers | None = None,
) -> Mask:
    """The GTV with its margin, cut at barriers as :func:`planning.contour.barriers.kept_within` does."""
    return kept_within(_some(gtv, "GTV"), brain, grid, margin_mm, walls or {}, barriers or Barriers())


def ctv_to_ptv(ctv: Mask, grid: Grid, margin_mm: float = PTV_MARGIN_MM) -> Mask:
    """The CTV with its margin for setup and delivery."""
    return expand(_some(ctv, "CTV"), grid, margin_mm)


def add_target(
    structures: StructureSet,
    gtv: Mask,
    ctv_margin_mm: float = CTV_MARGIN_MM,
    ptv_margin_mm: float = PTV_MARGIN_MM,
    prescription_gy: float | None = None,
    walls: Mapping[str, Mask] | None = None,
    barriers: Barriers | None = None,
) -> StructureSet:
    """The structures with GTV, CTV and PTV drawn last; the PTV carries the prescription.

    Parameters
    ----------
    structures
        Holds ``Body`` and ``Brain``.
    gtv
        The visible tumour, shape ``(i, j, k)``, on the structures' grid.
    ctv_margin_mm, ptv_margin_mm
        Margins (mm).
    prescription_gy
        Total dose prescribed to the PTV.
    walls
        Falx, tentorium and ventricles, as :func:`planning.contour.barriers.walls` gives them.
    barriers
        Which of them, and the bone, cut the CTV; all with none given.

    Raises
    ------
    ValueError
        If the target is empty, does not fit the grid or reaches outside the body, or a margin
        is negative.
    """
    grid = structures.grid
    if tuple(gtv.shape) != grid.shape:
        raise ValueError(f"expected a target on the grid {grid.shape}, got {tuple(gtv.shape)}; resample it")
    if min(ctv_margin_mm, ptv_margin_mm) < 0:
        raise ValueError(f"expected margins of at least 0 mm, got {ctv_margin_mm} and {ptv_margin_mm}")
    body = structures.mask("Body")
    _in_body(_some(gtv, "target"), body, grid)
    gtv = gtv & body
    ctv = gtv_to_ctv(gtv, structures.mask("Brain"), grid, ctv_margin_mm, walls, barriers) & body
    ptv = ctv_to_ptv(ctv, grid, ptv_margin_mm) & body
    drawn = dict(structures.structures)
    for kind, mask in ((RoiType.GTV, gtv), (RoiType.CTV, ctv), (RoiType.PTV, ptv)):
        dose = prescription_gy if kind is RoiType.PTV else None
        drawn[kind.value] = Structure(mask, kind, _COLORS[kind], dose)
    return StructureSet(grid, drawn, structures.frame)


def _some(mask: Mask, what: str) -> Mask:
    if not mask.any():
        raise ValueError(f"expected a {what} with voxels inside, got an empty one; draw it on this scan")
    return mask


def _in_body(gtv: Mask, body: Mask, grid: Grid) -> None:
    """Refuse a target that reaches outside the body: dose there would treat nobody."""
    outside_cc = int((gtv & ~body).sum()) * grid.voxel_volume / 1000
    whole_cc = int(gtv.sum()) * grid.voxel_volume / 1000
    if outside_cc > _OUTSIDE_SHARE * whole_cc:
        raise ValueError(
            f"expected a target inside the body, got {outside_cc:.2f} of {whole_cc:.2f} cm³ outside it; "
            "check that target and scan share one frame"
        )
