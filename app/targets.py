"""A target that somebody drew, as a mask on whatever grid is asked for."""

from collections.abc import Callable

from imaging.case import Case
from imaging.dicom.rtstruct_reader import read_rtstruct
from imaging.grid import Grid
from imaging.nifti import read_nifti
from imaging.resample import resample, resample_structures
from imaging.shapes import Mask
from imaging.structures import RoiType, StructureSet, named
from imaging.volume import Quantity, Volume
from planning.contour.targets import sphere

from .request import Sphere, Target, TargetFile
from .steps import file_hash


def target_key(target: Target) -> str:
    """What a plan's target follows from: the sphere in words, or the hash of its file."""
    if isinstance(target, Sphere):
        x, y, z = target.center
        return f"sphere {x:g},{y:g},{z:g} radius {target.radius:g} mm"
    return f"{file_hash(target.path)} {target.roi}".strip()


def gtv_of(target: Target, scan: Case) -> Callable[[Grid], Mask]:
    """The gross tumour on any grid.

    Parameters
    ----------
    target
        What the planner gave.
    scan
        The scan (volume ``mr``) that a drawn target belongs to.

    Raises
    ------
    ValueError
        If the file cannot be read, is empty, or belongs to another patient or frame.
    """
    if isinstance(target, Sphere):
        return lambda grid: sphere(grid, target.center, target.radius)
    if target.path.name.endswith((".nii", ".nii.gz")):
        drawn = read_nifti(target.path, Quantity.MR)
        if not bool((drawn.data > 0).any()):
            raise ValueError("expected a target mask with voxels above 0, got an empty one; draw the target")
        share = Volume((drawn.data > 0).float(), drawn.grid, Quantity.PROBABILITY)
        return lambda grid: resample(share, grid).data[0] >= 0.5
    structures = _roi(target, scan)
    name = next(iter(structures.structures))
    return lambda grid: resample_structures(structures, grid).mask(name)


def expect_seen(gtv: Mask) -> None:
    """Refuses a target that the scan does not show, before anybody waits for a synthetic CT.

    Raises
    ------
    ValueError
        If the mask, on the grid of the scan, is empty.
    """
    if not bool(gtv.any()):
        raise ValueError(
            "expected a target inside the scan, got one that lies outside; check that it is in LPS mm "
            "and was drawn on this patient"
        )


def _roi(target: TargetFile, scan: Case) -> StructureSet:
    grid = scan.volumes["mr"].grid
    if target.roi:
        return read_rtstruct(target.path, grid, scan.source, [target.roi], other_series=True)
    found = read_rtstruct(target.path, grid, scan.source, other_series=True)
    targets = named(found, RoiType.GTV)
    if len(targets) != 1:
        raise ValueError(
            f"expected one GTV in the structure set, got {len(targets)} among "
            f"{', '.join(found.structures)}; name the target with --roi"
        )
    return StructureSet(found.grid, {targets[0]: found.structures[targets[0]]}, found.frame)
