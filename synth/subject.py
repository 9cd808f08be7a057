"""One synthetic head before it is scanned: what each voxel is, and how it came to be so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imaging.volume import Quantity, Volume


@dataclass(frozen=True, eq=False)
class Subject:
    """A head on a fine grid.

    Parameters
    ----------
    labels
        Tissues (`imaging.tissue.Tissue`), uint8, shape ``(1, i, j, k)``.
    organs
        Organs (`imaging.organ.Organ`) on the same grid, uint8, shape ``(1, i, j, k)``.
    traits
        What was drawn to make it, as JSON values under the name of each stage
        (``anatomy``, ``tumour``, ``surgery``, ``mri``, ``ct``).

    Raises
    ------
    ValueError
        If tissues and organs are not labels on one grid.
    """

    labels: Volume
    organs: Volume
    traits: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels.expect(Quantity.LABEL).grid != self.organs.expect(Quantity.LABEL).grid:
            raise ValueError("expected tissues and organs on one grid; resample one to the other")
