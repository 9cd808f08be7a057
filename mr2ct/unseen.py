"""What an MRI does not show: where it ends inside the head, what was taken out, where metal leaves a void."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from imaging.grid import Grid, around, positions
from imaging.resample import resample
from imaging.shapes import Mask, Point
from imaging.volume import Quantity, Volume

from .convert import SyntheticCt
from .lie import natural_air, natural_tissue

UNKNOWN = 500.0  # HU: deviation of a voxel that may as well be air as tissue or bone
_NOTHING = 1e-3  # of the greatest value: a plane below it is padding
_SMALLEST_CUT = 400.0  # mm²: a nose or an ear at the edge is no cut
_SIDES = (("right", "left"), ("front", "back"), ("neck", "top"))
_MM = 4.0
_REMOVED_CC = 10.0  # of the average head that must be blank before anything is thought to be taken out
_SURELY = 12.0  # mm below the average skin: where heads of any size have tissue
_DARK = 0.12  # of the way from air to tissue: less signal than cerebrospinal fluid and bone's marrow give
_THICK = 9.0  # mm, radius of the largest ball in a void: bone of the vault is thinner than 15 mm
_HUGE = 20.0  # mm: no air space of a head holds such a ball
_NEAR_AIR = 16.0  # mm around the average head's air where a void is thought to be air
_BODY_HU, _NO_FLUID_HU = -300.0, -100.0  # below the first lies no tissue, below the second no fluid
_WITHIN, _LEAST_AIR_CC = 25.0, 0.5  # mm below the skin, and cm³, from which air in the brain is told
_DEEP = 45.0  # mm below the skin: dark fluid in ventricles, which some contrasts null


@dataclass(frozen=True, eq=False)
class Void:
    """A part of a head without signal that is neither bone nor an air space.

    Parameters
    ----------
    middle
        Where it is thickest (LPS, mm).
    cc
        Its volume (cm³).
    mask
        Its voxels, on the scan's grid, and what lies within one coarse voxel of them.
    """

    middle: Point
    cc: float
    mask: Mask


def seen_box(mr: Volume) -> tuple[tuple[int, int], ...]:
    """First and last plane with signal in it along each axis, of any channel."""
    shown = ~_blank(mr)
    ends = []
    for axis in range(3):
        planes = torch.nonzero(shown.any(dim=_others(axis)[1]).any(dim=_others(axis)[0]))[:, 0]
        ends.append((int(planes[0]), int(planes[-1])))
    return tuple(ends)


def shown(mr: Volume) -> Mask:
    """Where a scan has planes with signal and was not blanked from its edge on, as faces are.

    What its field of view leaves out, and what was taken out of it, nobody can tell.
    """
    pieces, _ = ndimage.label(_blank(mr).numpy())
    ends = [pieces.take((0, -1), axis=axis).ravel() for axis in range(3)]
    outer = np.setdiff1d(np.concatenate(ends), 0)
    return _within(mr) & ~torch.from_numpy(np.isin(pieces, outer))


def removed(mr: Volume, prior: Volume, offset: Point) -> Mask | None:
    """What was taken out of a head in planes that have signal, such as its face; None where nothing was.

    Parameters
    ----------
    mr
        MR signal, shape ``(c, i, j, k)``.
    prior, offset
        The average head, and the way from a position in the scan to one in it
        (:func:`mr2ct.lie.lie`).
    """
    # Noise is 0 here and there; what was blanked is 0 throughout.
    solid = ndimage.binary_opening(_blank(mr).numpy(), np.ones((3, 3, 3), dtype=bool))
    blank = torch.from_numpy(solid) & _within(mr)
    least = 1000 * _REMOVED_CC / mr.grid.voxel_volume
    # Most scans have noise everywhere: no average head is needed to tell that nothing is gone.
    if (
        int(blank.sum()) < least
        or int((blank & natural_tissue(prior, offset, mr.grid, _SURELY)).sum()) < least
    ):
        return None
    return blank & natural_tissue(prior, offset, mr.grid, 0.0)


def _within(mr: Volume) -> Mask:
    """Planes with signal, and what lies between them."""
    within = torch.zeros(mr.grid.shape, dtype=torch.bool)
    (a, b), (c, d), (e, f) = seen_box(mr)
    within[a : b + 1, c : d + 1, e : f + 1] = True
    return within


def _blank(mr: Volume) -> Mask:
    values = mr.data.abs().amax(dim=0).float()
    return values <= _NOTHING * values.max()


def _others(axis: int) -> tuple[int, int]:
    first, second = (n for n in range(3) if n != axis)
    return first, second


def cut_sides(head: Volume, box: tuple[tuple[int, int], ...]) -> dict[str, tuple[int, int]]:
    """Sides of the patient where signal ends inside the head, each with its axis and last plane.

    Parameters
    ----------
    head
        Label 1 inside the head, on the scan's grid.
    box
        Planes with signal, as :func:`seen_box` gives them.
    """
    grid, inside = head.grid, head.data[0] > 0
    cut = {}
    for axis, ends in enumerate(box):
        area = grid.voxel_volume / float(grid.spacing[axis])
        for plane, sign in zip(ends, (-1.0, 1.0), strict=True):
            if float(inside.select(axis, plane).sum()) * area > _SMALLEST_CUT:
                direction = sign * grid.affine[:3, axis]
                along = int(np.abs(direction).argmax())
                cut[_SIDES[along][int(direction[along] > 0)]] = (axis, plane)
    return cut


def beyond(grid: Grid, box: tuple[tuple[int, int], ...], cut: dict[str, tuple[int, int]]) -> Mask:
    """Voxels in planes of padding behind a cut: nothing is known of them."""
    unknown = torch.zeros(grid.shape, dtype=torch.bool)
    for axis, plane in cut.values():
        after = plane == box[axis][1]
        there = slice(plane + 1, None) if after else slice(0, plane)
        unknown[tuple(there if n == axis else slice(None) for n in range(3))] = True
    return unknown


def doubted(found: SyntheticCt, unknown: Mask) -> SyntheticCt:
    """The same CT, unsure by :data:`UNKNOWN` or more in voxels that nothing is known of."""
    noise = found.aleatoric
    raised = torch.where(unknown[None], noise.data.clamp(min=UNKNOWN), noise.data)
    return replace(found, aleatoric=replace(noise, data=raised))


def voids(mr: Volume, head: Volume, prior: Volume, offset: Point) -> list[Void]:
    """Voids of one channel that no head has by nature, the largest first.

    Parameters
    ----------
    mr
        MR signal, shape ``(1, i, j, k)``.
    head
        Label 1 inside the head, on the same grid.
    prior, offset
        The average head, and the way from a position in the scan to one in it
        (:func:`mr2ct.lie.lie`).
    """
    grid = around(mr.grid, (_MM,) * 3)
    signal = resample(mr, grid).data[0].float().numpy()
    inside = resample(Volume(head.data.float(), head.grid, Quantity.PROBABILITY), grid).data[0].numpy() > 0.5
    tissue = float(np.median(signal[inside]))
    air = float(np.median(signal[~inside])) if (~inside).any() else 0.0
    dark = inside & (ndimage.gaussian_filter(signal, 0.5) < air + _DARK * (tissue - air))
    thick = ndimage.distance_transform_edt(np.pad(dark, 1))[1:-1, 1:-1, 1:-1] * _MM
    skin = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1, 1:-1] * _MM
    natural = natural_air(prior, offset, grid, _NEAR_AIR).numpy()
    pieces, n = ndimage.label(dark)
    found = []
    for piece in range(1, n + 1):
        here = pieces == piece
        middle = np.unravel_index(int(np.where(here, thick, 0).argmax()), thick.shape)
        unlike_air = not natural[middle] and skin[middle] < _DEEP
        if thick[middle] >= _HUGE or (thick[middle] >= _THICK and unlike_air):
            found.append(_void(here, middle, grid, mr.grid))
    return sorted(found, key=lambda void: -void.cc)


def deep_air(ct: Volume, prior: Volume, offset: Point) -> list[Void]:
    """Air that a synthetic CT has deep in a head, where heads have none, the largest first.

    Fluid that a contrast nulls is as dark as air, and networks may take it for air in spite of its place.

    Parameters
    ----------
    ct
        The synthetic CT (HU), shape ``(1, i, j, k)``.
    prior, offset
        As :func:`voids` takes them.
    """
    grid = around(ct.grid, (_MM / 2,) * 3)
    hu = resample(ct, grid).data[0].float().numpy()
    whole = np.stack([ndimage.binary_fill_holes(hu[:, :, k] > _BODY_HU) for k in range(hu.shape[2])], axis=2)
    skin = ndimage.distance_transform_edt(np.pad(whole, 1))[1:-1, 1:-1, 1:-1] * _MM / 2
    natural = natural_air(prior, offset, grid, _NEAR_AIR).numpy()
    pieces, n = ndimage.label((hu < _NO_FLUID_HU) & (skin > _WITHIN) & ~natural)
    found = []
    for piece in range(1, n + 1):
        here = pieces == piece
        if float(here.sum()) * grid.voxel_volume > 1000 * _LEAST_AIR_CC:
            middle = tuple(np.argwhere(here).mean(axis=0).round().astype(np.intp))
            found.append(_void(here, middle, grid, ct.grid))
    return sorted(found, key=lambda void: -void.cc)


def _void(here: np.ndarray, middle: tuple[np.intp, ...], grid: Grid, scan: Grid) -> Void:
    place = positions(grid, np.array([middle], dtype=np.float64))[0]
    grown = torch.from_numpy(ndimage.binary_dilation(here, iterations=2))[None].float()
    mask = resample(Volume(grown, grid, Quantity.PROBABILITY), scan).data[0] > 0.5
    return Void(place, float(here.sum()) * grid.voxel_volume / 1000, mask)
