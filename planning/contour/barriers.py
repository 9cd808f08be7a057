"""A CTV that keeps to where tumour cells go: not through bone, falx or tentorium, nor across ventricles.

Cells spread along the tissue: what a margin reaches in a straight line is kept if it is as near by a way that
goes around a barrier, found by fast marching (Sethian, PNAS 93, 1591 (1996)), and if not, as far beyond it as
a guideline asks for. Those of ESTRO (Niyazi et al., Radiother. Oncol. 118, 35 (2016)) are 0 mm for bone and
5 mm for the others (from memory, unverified); 5 mm also cover what the alignment that places them is off by.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import SimpleITK as sitk
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from imaging.boxes import part_of
from imaging.grid import Grid
from imaging.partition import Partition
from imaging.shapes import Mask
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from .margins import expand, reached

_FURTHEST = 20.0  # mm
_ABOUT_VENTRICLE = 4.0  # mm that the alignment may be off by
_FAR = 1e6
_TOO_LONG = 0.8  # mm by which marching finds ways of a margin too long (measured)
_STEP = 0.7  # mm that ways are made of, at most


@dataclass(frozen=True)
class Barriers:
    """How far a CTV may go beyond each barrier (mm); None where it is none.

    Raises
    ------
    ValueError
        If one is negative or above 20 mm.
    """

    bone: float | None = 0.0
    falx: float | None = 5.0
    tentorium: float | None = 5.0
    ventricles: float | None = 5.0

    def __post_init__(self) -> None:
        if not all(mm is None or 0 <= mm <= _FURTHEST for mm in self.each().values()):
            raise ValueError(f"expected 0 to {_FURTHEST:g} mm beyond a barrier, got {self.each()}")

    def each(self) -> dict[str, float | None]:
        """By name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        told = [f"{name} {mm:g} mm" for name, mm in self.each().items() if mm is not None]
        return ", ".join(told) or "none"


def parse_barriers(text: str) -> Barriers:
    """Barriers as a planner writes them: ``bone,falx=5,tentorium=0``, those left out being none; or ``none``.

    Raises
    ------
    ValueError
        If a word is no barrier, or a number cannot be.
    """
    usual = Barriers().each()
    wanted: dict[str, float | None] = dict.fromkeys(usual)
    for word in (w.strip().lower() for w in text.split(",")):
        name, _, mm = word.partition("=")
        if word == "none" and "," not in text:
            return Barriers(None, None, None, None)
        try:
            wanted[name] = usual[name] if not mm else float(mm)
        except (KeyError, ValueError):
            raise ValueError(
                f"expected barriers of {', '.join(usual)}, each with =mm where it is not as usual, or none, "
                f"got {word!r}"
            ) from None
    return Barriers(**wanted)


def walls(partitions: Volume, tissues: Volume) -> dict[str, Mask]:
    """Falx, tentorium and ventricles as voxels that nothing passes through.

    Falx and tentorium are a voxel thick, without a gap between neighbours that share a face. Ventricles are
    fluid of the scan where the alignment has them, and what hangs together with it nearby.

    Parameters
    ----------
    partitions
        Flags of :class:`imaging.partition.Partition`, shape ``(1, i, j, k)``.
    tissues
        Labels of :class:`imaging.tissue.Tissue` on the same grid.

    Raises
    ------
    ValueError
        If they are no labels or lie on different grids.
    """
    flags = partitions.expect(Quantity.LABEL).data[0]
    labels = tissues.expect(Quantity.LABEL).data[0]
    if partitions.grid != tissues.grid:
        raise ValueError("expected partitions and tissues on one grid, got two; resample them")
    fluid = labels == Tissue.CSF
    core = _has(flags, Partition.VENTRICLE) & fluid
    near = expand(_has(flags, Partition.VENTRICLE), tissues.grid, _ABOUT_VENTRICLE) & fluid
    pieces, _ = ndimage.label(near.numpy())
    kept = np.isin(pieces, np.setdiff1d(np.unique(pieces[core.numpy()]), [0]))
    return {
        "falx": _border(_has(flags, Partition.LEFT), _has(flags, Partition.BY_FALX)),
        "tentorium": _border(_has(flags, Partition.BELOW), _has(flags, Partition.BY_TENTORIUM)),
        "ventricles": torch.from_numpy(kept),
    }


def kept_within(
    gtv: Mask,
    brain: Mask,
    grid: Grid,
    margin_mm: float,
    known: Mapping[str, Mask],
    barriers: Barriers,
) -> Mask:
    """The GTV with its margin, cut at each barrier; the GTV itself is never cut.

    Parameters
    ----------
    gtv, brain
        Shape ``(i, j, k)``, not empty.
    grid
        Where they lie.
    margin_mm
        How far cells go (mm).
    known
        Walls by their names in :class:`Barriers`, on the grid; those that are not known cut nothing.
    barriers
        Which count, and how far beyond each the CTV may go.
    """
    box = reached(gtv, grid, margin_mm + 1.0)
    seed, here = gtv[box], part_of(grid, box)
    grown = expand(seed, here, margin_mm)
    room = torch.ones_like(seed) if barriers.bone is None else brain[box] | seed
    out = grown & (room if not barriers.bone else expand(room, here, barriers.bone))
    reach = margin_mm + _TOO_LONG
    near = {name: known[name][box] for name in known if bool((known[name][box] & grown).any())}
    cut = [(near[name], mm) for name, mm in barriers.each().items() if mm is not None and name in near]
    rooms = [room, *(room & (~wall | seed) for wall, _ in cut)] if cut else []  # the first for straight ways
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ways = list(pool.map(lambda free: _way(seed, free, here, margin_mm), rooms))
    for (_, beyond), way in zip(cut, ways[1:], strict=True):
        open_to = grown & (way <= ways[0].clamp(min=reach))
        out &= expand(open_to, here, beyond) if beyond else open_to
    whole = gtv.clone()
    whole[box] |= out
    return whole


def _way(seed: Mask, room: Mask, grid: Grid, margin_mm: float) -> Float[Tensor, "i j k"]:
    """Length (mm) of the shortest way through a room from the middles of a seed's outer voxels."""
    parts = [int(np.ceil(mm / _STEP)) for mm in grid.spacing]
    inside = _split(seed.numpy(), parts)
    rim = inside & ~ndimage.binary_erosion(inside)
    # From the rim outwards: no shortest way leads through the seed.
    speed = sitk.GetImageFromArray((_split((room & ~seed).numpy(), parts) | rim).astype(np.float32))
    speed.SetSpacing([float(mm) / n for mm, n in zip(grid.spacing, parts, strict=True)][::-1])
    march = sitk.FastMarchingImageFilter()
    march.SetTrialPoints([[int(n) for n in at[::-1]] for at in np.argwhere(rim)])
    march.SetStoppingValue(2 * margin_mm)
    away = np.minimum(sitk.GetArrayFromImage(march.Execute(speed)), _FAR)
    i, j, k = seed.shape
    whole = away.reshape(i, parts[0], j, parts[1], k, parts[2]).mean(axis=(1, 3, 5))
    return torch.from_numpy(whole.astype(np.float32))


def _split(mask: np.ndarray, parts: list[int]) -> np.ndarray:
    """Each voxel as so many along each axis: ways among fine ones are nearer to the true one."""
    for axis, n in enumerate(parts):
        mask = mask.repeat(n, axis=axis)
    return mask


def _has(flags: Tensor, flag: Partition) -> Mask:
    return (flags & int(flag)) > 0


def _border(side: Mask, near: Mask) -> Mask:
    """Voxels near a sheet that lie on one side and share a face with the other one."""
    other = ndimage.binary_dilation((~side).numpy(), structure=ndimage.generate_binary_structure(3, 1))
    return side & torch.from_numpy(other) & near
