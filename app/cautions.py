"""What the reader of a plan must know beside its figures."""

import numpy as np

from imaging.grid import Grid
from imaging.resample import resample
from imaging.structures import StructureSet
from imaging.volume import Quantity, Volume

from .optimised import BODY

# The sides of a patient by LPS axis, in the axis' negative and positive direction.
_SIDES = (("right", "left"), ("front", "back"), ("neck", "top"))
_SMALLEST_MM2 = 100.0  # a nose or an ear that touches the edge of the scan changes no dose


def cut_off(scan: Grid, structures: StructureSet) -> tuple[str, ...]:
    """A caution where the scan ends inside the head; that it ends in the neck is usual.

    Parameters
    ----------
    scan
        The grid of the MRI, however it is turned.
    structures
        Holds the body.
    """
    body = Volume(structures.mask(BODY)[None].float(), structures.grid, Quantity.PROBABILITY)
    seen = resample(body, scan).data[0] >= 0.5
    cut = []
    for axis in range(3):
        area = scan.voxel_volume / float(scan.spacing[axis])
        outward = scan.affine[:3, axis]
        for face, direction in ((0, -outward), (-1, outward)):
            side = _side(direction)
            if side != "neck" and float(seen.select(axis, face).sum()) * area > _SMALLEST_MM2:
                cut.append(side)
    caution = (
        f"The scan ends inside the head ({', '.join(sorted(set(cut)))}): the dose knows no tissue beyond, "
        "so beams that enter there are computed as if through air."
    )
    return (caution,) if cut else ()


def _side(direction: np.ndarray) -> str:
    """The side of the patient that a direction (LPS) points to."""
    axis = int(np.abs(direction).argmax())
    return _SIDES[axis][int(direction[axis] > 0)]
