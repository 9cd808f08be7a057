"""Named regions of one patient on one grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from .grid import Grid
from .shapes import Mask


class RoiType(StrEnum):
    """RT ROI Interpreted Type (DICOM PS3.3 C.8.8.8.1) of the regions we use."""

    EXTERNAL = "EXTERNAL"
    GTV = "GTV"
    CTV = "CTV"
    PTV = "PTV"
    ORGAN = "ORGAN"
    AVOIDANCE = "AVOIDANCE"
    CONTROL = "CONTROL"


TARGETS = (RoiType.GTV, RoiType.CTV, RoiType.PTV)


@dataclass(frozen=True, eq=False)
class Structure:
    """One region: its voxels, what it is, how it is drawn.

    Parameters
    ----------
    mask
        True inside, shape ``(i, j, k)``.
    kind
        What the region is for.
    color
        Red, green, blue, 0..255.
    prescription_gy
        Total dose prescribed to it, where there is one.
    """

    mask: Mask
    kind: RoiType
    color: tuple[int, int, int]
    prescription_gy: float | None = None


@dataclass(frozen=True, eq=False)
class StructureSet:
    """Named structures on one grid, in the order they were drawn.

    Raises
    ------
    ValueError
        If a mask does not fit the grid.
    """

    grid: Grid
    structures: Mapping[str, Structure]
    frame: str = ""

    def __post_init__(self) -> None:
        for name, structure in self.structures.items():
            if tuple(structure.mask.shape) != self.grid.shape:
                raise ValueError(
                    f"expected structure {name} on the grid {self.grid.shape}, "
                    f"got a mask of {tuple(structure.mask.shape)}"
                )

    def mask(self, name: str) -> Mask:
        """The mask of one structure; a ValueError that lists what there is if it is missing."""
        if name not in self.structures:
            raise ValueError(f"expected a structure {name}, got only {', '.join(self.structures) or 'none'}")
        return self.structures[name].mask


def named(structures: StructureSet, kind: RoiType) -> list[str]:
    """Names of the structures of one kind."""
    return [name for name, s in structures.structures.items() if s.kind is kind]
