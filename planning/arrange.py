"""Where the beams of a plan come from."""

from collections.abc import Sequence

import numpy as np
import torch

from imaging.grid import positions
from imaging.shapes import Point
from imaging.structures import RoiType, StructureSet, named

from .arcs import Arc, parse_arc
from .beams import Beam

MOST_BEAMS, MOST_ARCS = 36, 4
# Collimator angles of the first, second .. arc (degrees).
_TURNED = (10, 350, 45, 315)


def arrange(structures: StructureSet, n_beams: int = 9) -> tuple[Beam, ...]:
    """Evenly spaced coplanar beams around the middle of the planning target.

    The usual arrangement of fixed-field intensity modulation in the brain: an odd number of beams, so
    that no two oppose each other, the first from the front (gantry 0), couch and collimator at 0.

    Parameters
    ----------
    structures
        Holds the planning target, the only structure of kind PTV.
    n_beams
        How many beams.

    Raises
    ------
    ValueError
        If there is not exactly one planning target, it is empty, or the count is not 1..36.
    """
    if not 1 <= n_beams <= MOST_BEAMS:
        raise ValueError(f"expected 1 to {MOST_BEAMS} beams, got {n_beams}")
    isocenter = middle(structures, target_of(structures))
    return tuple(Beam(n * 360.0 / n_beams, 0.0, 0.0, isocenter, str(n + 1)) for n in range(n_beams))


def arrange_arcs(structures: StructureSet, n_arcs: int = 1, written: Sequence[str] = ()) -> tuple[Arc, ...]:
    """Arcs around the middle of the planning target: full coplanar ones to and fro, or those written.

    The gantry turns clockwise first and back with every second arc; collimators stand at 10 and 350
    degrees, and further apart from the third arc on, so that no strip between leaves is the same all
    around. Control points are 2 degrees apart; with several arcs as far as 4, as all together say what is
    delivered.

    Parameters
    ----------
    structures
        Holds the planning target, the only structure of kind PTV.
    n_arcs
        How many full arcs, where none are written.
    written
        Arcs as :func:`planning.arcs.parse_arc` reads them.

    Raises
    ------
    ValueError
        If there is not exactly one planning target, it is empty, the count is not 1..4, or for what
        ``parse_arc`` refuses.
    """
    if not written and not 1 <= n_arcs <= MOST_ARCS:
        raise ValueError(f"expected 1 to {MOST_ARCS} arcs, got {n_arcs}")
    isocenter = middle(structures, target_of(structures))
    full = [f"{'181:179:cw' if n % 2 == 0 else '179:181:ccw'}:0:{_TURNED[n]}" for n in range(n_arcs)]
    chosen = written or full
    step = min(2.0 * len(chosen), 4.0)
    return tuple(parse_arc(text, isocenter, step, str(n + 1)) for n, text in enumerate(chosen))


def target_of(structures: StructureSet) -> str:
    """Name of the planning target; a ValueError unless there is exactly one."""
    targets = named(structures, RoiType.PTV)
    if len(targets) != 1:
        raise ValueError(
            f"expected one planning target (kind PTV), got {', '.join(targets) or 'none'}; "
            "contour a target, or leave the others out"
        )
    return targets[0]


def middle(structures: StructureSet, name: str) -> Point:
    """Mean position of a structure's voxels (LPS, mm), in whole tenths of a millimetre."""
    voxels = torch.nonzero(structures.mask(name)).numpy().astype(np.float64)
    if len(voxels) == 0:
        raise ValueError(f"expected voxels in {name}, got an empty structure; contour it again")
    # Rounded, so that the isocentre that is written, shown and computed with is one number.
    return np.round(positions(structures.grid, voxels.mean(axis=0, keepdims=True))[0], 1)
