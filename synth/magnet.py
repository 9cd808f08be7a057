"""What the magnet does to the images of one subject: it draws tissue elsewhere and takes signal away."""

from dataclasses import dataclass

from imaging.grid import Grid
from imaging.tissue import Tissue
from imaging.volume import Volume

from .distortion import (
    Lattice,
    Vectors,
    compression,
    gradient_displacement,
    isocenter,
    kept_signal,
    pulled,
    susceptibility_displacement,
    undone,
    unfolded,
)
from .field_map import field_map
from .sampling import Image, interpolated


class OffResonance:
    """Off-resonance of a subject, worked out once and only where it is needed."""

    def __init__(self, labels: Volume, tesla: float) -> None:
        self.metal = bool((labels.data == Tissue.METAL).any())
        self._labels, self._tesla = labels, tesla
        self._known: dict[bool, tuple[Lattice, Grid]] = {}

    def map(self, *, metal: bool) -> tuple[Lattice, Grid]:
        """Off-resonance (Hz) on a lattice; with metal the field of its dipoles as well."""
        if metal not in self._known:
            self._known[metal] = field_map(self._labels, self._tesla, metal=metal)
        return self._known[metal]


@dataclass(frozen=True, eq=False)
class Bent:
    """A displacement and its inverse on a lattice.

    Parameters
    ----------
    field
        Displacement u (mm): tissue at x appears at x + u(x).
    inverse
        Inverse v: what appears at y lies at y + v(y).
    lattice
        Where both are known.
    """

    field: Vectors
    inverse: Vectors
    lattice: Grid


def bent(
    field: OffResonance, axis: int, bandwidth: float, gradient_error: float, grid: Grid
) -> tuple[Bent, float]:
    """Displacement by air in tissue and by the gradients.

    Metal takes the signal of its surroundings away; where it would fold tissue none is left.

    Parameters
    ----------
    field
        Off-resonance of the subject.
    axis
        Readout axis.
    bandwidth
        Of the readout (Hz/mm), with the sense of its gradient.
    gradient_error
        Displacement by gradients 100 mm from the isocentre along the bore (mm).
    grid
        What is imaged; the isocentre is its middle.

    Returns
    -------
    Bent
        The displacement and its inverse.
    float
        Share of the displacement by susceptibility that does not fold tissue: the bandwidth has to be
        wider by its inverse.
    """
    hertz, lattice = field.map(metal=False)
    step = float(lattice.spacing[0])
    u, factor = unfolded(susceptibility_displacement(hertz, axis, bandwidth), step)
    u, rest = unfolded(u + gradient_displacement(lattice, isocenter(grid), gradient_error), step)
    return Bent(u, undone(u, lattice), lattice), factor * rest


def kept(field: OffResonance, bend: Bent | None, grid: Grid, te: float) -> Image | None:
    """What an uneven field leaves of the signal, and how it squeezes it, where it is drawn.

    Parameters
    ----------
    field
        Off-resonance of the subject.
    bend
        Displacement of its images, if there is any.
    grid
        Voxels of the image.
    te
        Echo time of a gradient echo (ms), 0 for a spin echo.

    Returns
    -------
    Image or None
        Factor on the image; none where it is 1 everywhere.
    """
    share: Lattice | None = None
    lattice = bend.lattice if bend is not None else grid
    if te > 0 or field.metal:
        hertz, lattice = field.map(metal=field.metal)
        i, j, k = (float(s) for s in grid.spacing)
        share = kept_signal(hertz, float(lattice.spacing[0]), (i, j, k), te)
    if bend is not None:
        squeezed = compression(bend.inverse, float(bend.lattice.spacing[0]))
        share = squeezed if share is None else squeezed * pulled(share, bend.inverse, lattice)
    return None if share is None else interpolated(share, lattice, grid)
