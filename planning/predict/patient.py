"""One patient as a dose predictor sees it."""

from dataclasses import dataclass

from imaging.structures import StructureSet
from imaging.volume import Quantity, Volume


@dataclass(frozen=True, eq=False)
class Patient:
    """What a plan is made for, and the dose of one that was.

    Parameters
    ----------
    ct
        HU, measured or synthetic, shape ``(1, i, j, k)``.
    structures
        Targets (kind PTV) with their prescriptions, organs and, where it was drawn, the body (EXTERNAL).
    possible
        Label 1 where dose may be, 0 elsewhere: the body, or what a data set says.
    dose
        Gy, of a plan that a planner accepted; None where it is to be predicted.

    Raises
    ------
    ValueError
        If values are of another kind, lie on other grids than the CT, or no target has a prescription.
    """

    ct: Volume
    structures: StructureSet
    possible: Volume
    dose: Volume | None = None

    def __post_init__(self) -> None:
        self.ct.expect(Quantity.HU)
        self.possible.expect(Quantity.LABEL)
        grids = [self.structures.grid, self.possible.grid]
        if self.dose is not None:
            grids.append(self.dose.expect(Quantity.DOSE).grid)
        if any(grid != self.ct.grid for grid in grids):
            raise ValueError(
                "expected CT, structures, possible-dose mask and dose on one grid, got several; resample them"
            )
        if not prescribed(self.structures):
            raise ValueError("expected a target with a prescription, got none; tell what it shall receive")


def prescribed(structures: StructureSet) -> dict[str, float]:
    """Total dose (Gy) of each structure that has a prescription, in the order they were drawn."""
    told = structures.structures.items()
    return {name: s.prescription_gy for name, s in told if s.prescription_gy is not None}
