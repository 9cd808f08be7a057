"""Where voxels lie in the patient."""

from dataclasses import dataclass

import numpy as np

from .shapes import Affine, Point, Points

# Two axes further from a right angle than this are a shear, not rounding in a header.
_SHEAR_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of voxels in the patient.

    Parameters
    ----------
    shape
        Number of voxels along i, j, k.
    affine
        Voxel indices (i, j, k, 1) to voxel centres (x, y, z, 1) in LPS mm, as in DICOM.

    Raises
    ------
    ValueError
        If the shape is not three positive counts, or the affine is not finite, has a voxel
        axis of no length, or is sheared.
    """

    shape: tuple[int, int, int]
    affine: Affine

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"expected three positive voxel counts, got {self.shape}")
        affine = np.array(self.affine, dtype=np.float64) + 0.0  # -0.0 would hash apart from 0.0
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError("expected a finite 4x4 affine; mend the geometry in the scan's header")
        if not np.array_equal(affine[3], [0, 0, 0, 1]):
            raise ValueError(f"expected an affine whose last row is 0 0 0 1, got {affine[3]}")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if lengths.min() <= 0:
            raise ValueError(f"expected voxels of positive size, got {lengths} mm")
        cosines = (affine[:3, :3] / lengths).T @ (affine[:3, :3] / lengths)
        if np.abs(cosines - np.eye(3)).max() > _SHEAR_TOLERANCE:
            raise ValueError(
                "expected voxel axes at right angles, got a sheared affine; "
                "resample the scan to a rectangular grid first"
            )
        affine.flags.writeable = False
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Grid)
            and self.shape == other.shape
            and np.array_equal(self.affine, other.affine)
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    @property
    def spacing(self) -> Point:
        """Voxel size along i, j, k (mm)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel (mm³)."""
        return float(np.prod(self.spacing))

    @property
    def center(self) -> Point:
        """Centre of the lattice (LPS, mm)."""
        return positions(self, (np.array([self.shape], dtype=np.float64) - 1) / 2)[0]


def positions(grid: Grid, indices: Points) -> Points:
    """Positions (LPS, mm) of fractional voxel indices, shape ``(n, 3)``."""
    return indices @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def indices(grid: Grid, positions: Points) -> Points:
    """Fractional voxel indices of positions (LPS, mm), shape ``(n, 3)``."""
    return (positions - grid.affine[:3, 3]) @ np.linalg.inv(grid.affine[:3, :3]).T


def corners(grid: Grid) -> Points:
    """The eight corners of the lattice (LPS, mm), at the outer faces of its voxels."""
    n = grid.shape
    index = [(a, b, c) for a in (-0.5, n[0] - 0.5) for b in (-0.5, n[1] - 0.5) for c in (-0.5, n[2] - 0.5)]
    return positions(grid, np.array(index, dtype=np.float64))


def close(grid: Grid, other: Grid, tolerance: float = 1e-3) -> bool:
    """Whether two grids have the same shape and no corner differs by more than ``tolerance`` mm."""
    return grid.shape == other.shape and bool(np.abs(corners(grid) - corners(other)).max() <= tolerance)


def axial(low: Point, high: Point, spacing: tuple[float, float, float]) -> Grid:
    """An upright grid (i along x, j along y, k along z) that covers the box ``low``..``high``.

    Parameters
    ----------
    low, high
        Corners of the box (LPS, mm); the outer faces of the voxels reach at least this far.
    spacing
        Voxel size along x, y, z (mm).
    """
    step = np.asarray(spacing, dtype=np.float64)
    counts = np.maximum(np.ceil((high - low) / step - 1e-6), 1).astype(int)
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = (low + high) / 2 - (counts - 1) / 2 * step
    return Grid((int(counts[0]), int(counts[1]), int(counts[2])), affine)


def around(grid: Grid, spacing: tuple[float, float, float]) -> Grid:
    """An upright grid that covers the whole of another one, however that one is turned."""
    points = corners(grid)
    return axial(points.min(axis=0), points.max(axis=0), spacing)
