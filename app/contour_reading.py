"""A case of MRI with contours as volumes and structures, from any of the layouts of :mod:`.contour_cases`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from imaging.brats import ED, ET, NCR, RC
from imaging.brats_folder import find_cases
from imaging.dicom.files import image_headers
from imaging.dicom.rtstruct import read_rtstruct
from imaging.dicom.series import read_series
from imaging.dicom.weighting import weighting
from imaging.folder import read_case
from imaging.nifti import read_nifti
from imaging.segmentations_reader import label_names, read_labels, read_seg_nrrd
from imaging.shapes import Mask
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.contour.classes import CONTRASTS

from .contour_cases import BRATS, CASES, LABELS, RTSTRUCT, SLICER, LabelledFiles, scans
from .contrasts import contrast_of

_OF_BRATS = dict(zip(("t1n", "t1c", "t2w", "t2f"), CONTRASTS, strict=True))
_ET_OF_OLD = 4  # before BraTS 2023
_GREY = (160, 160, 160)


@dataclass(frozen=True, eq=False)
class Labelled:
    """A case as it was scanned and drawn.

    Parameters
    ----------
    mr
        Contrasts by :data:`planning.contour.classes.CONTRASTS`, shape ``(1, i, j, k)``, each on its own grid.
    drawn
        Structures as the case names them. One without voxels says that the case has no such thing.
    """

    mr: Mapping[str, Volume]
    drawn: StructureSet


def read_labelled(case: LabelledFiles) -> Labelled:
    """The volumes and structures of a case.

    Raises
    ------
    ValueError
        If a file cannot be read, no MRI tells its contrast, or there are no structures.
    """
    read = {BRATS: _brats, RTSTRUCT: _dicom, SLICER: _slicer, LABELS: _labels, CASES: _own}[case.layout]
    found = read(case)
    if not found.mr:
        raise ValueError(f"expected MRI of {', '.join(CONTRASTS)} whose headers or names tell it, got none")
    return found


def _brats(case: LabelledFiles) -> Labelled:
    files = find_cases(case.folder)[0]
    seg = read_nifti(case.drawn, Quantity.LABEL)
    # A case of any year says where a tumour's parts are, and that they are nowhere else; only sets after
    # surgery say so of cavities.
    numbers = {"NCR": NCR, "Edema": ED, "ET": _ET_OF_OLD if files.old else ET}
    if not files.old and bool((seg.data == RC).any()):
        numbers["Cavity_Resect"] = RC
    if odd := set(torch.unique(seg.data).tolist()) - {0, *numbers.values()}:
        raise ValueError(f"expected labels of BraTS ({sorted(numbers.values())}), got {sorted(odd)[:3]} too")
    masks = {name: seg.data[0] == number for name, number in numbers.items()}
    mr = {_OF_BRATS[name]: read_nifti(path, Quantity.MR) for name, path in files.contrasts.items()}
    return Labelled(mr, _drawn(masks, seg))


def _drawn(masks: Mapping[str, Mask], like: Volume) -> StructureSet:
    return StructureSet(
        like.grid, {name: Structure(mask, RoiType.ORGAN, _GREY) for name, mask in masks.items()}
    )


def _slicer(case: LabelledFiles) -> Labelled:
    return Labelled(_scans(case.folder), _with_voxels(read_seg_nrrd(case.drawn)))


def _labels(case: LabelledFiles) -> Labelled:
    assert case.names is not None  # noqa: S101 - no label map is found without
    names = label_names(case.names)
    found = _with_voxels(read_labels(case.drawn, names))
    named = {name: s for name, s in found.structures.items() if name in names.values()}
    if not named:
        raise ValueError("expected a label map with labels that its table names, got none of them")
    return Labelled(_scans(case.folder), replace(found, structures=named))


def _own(case: LabelledFiles) -> Labelled:
    whole = read_case(case.folder)
    if whole.structures is None:
        raise ValueError("expected a case with structures, got one without; contour it first")
    mr = {
        name: volume
        for name, volume in whole.volumes.items()
        if name in CONTRASTS and volume.quantity is Quantity.MR
    }
    return Labelled(mr, _with_voxels(whole.structures))


def _scans(folder: Path) -> dict[str, Volume]:
    told = {path: contrast_of(path) for path in scans(folder)}
    first: dict[str, Path] = {}
    for path, name in told.items():
        if name is not None:
            first.setdefault(name, path)
    return {name: read_nifti(first[name], Quantity.MR) for name in CONTRASTS if name in first}


def _dicom(case: LabelledFiles) -> Labelled:
    """The series that contours were drawn on, with others of its frame of reference that show more."""
    read = _series(case.folder)
    if not read:
        raise ValueError("expected MR series that tell their contrast beside the RTSTRUCT, got none")
    drawn, own, why = None, Source(), ""
    for _, volume, source in read:
        try:
            drawn, own = read_rtstruct(case.drawn, volume.grid, source), source
            break
        except ValueError as error:
            why = str(error)
    if drawn is None:
        raise ValueError(why)
    mr = {name: volume for name, volume, source in read if source.series_uid == own.series_uid}
    for name, volume, source in read:
        if source.frame == own.frame:
            mr.setdefault(name, volume)
    return Labelled(mr, _with_voxels(drawn))


def _series(folder: Path) -> list[tuple[str, Volume, Source]]:
    """Every MR series of a folder whose header tells its contrast."""
    n = len({str(header.get("SeriesInstanceUID", "")) for _, header in image_headers(folder)})
    found = []
    for number in range(1, n + 1):
        name = weighting(folder, number)
        if name is not None:
            try:
                found.append((name, *read_series(folder, Quantity.MR, number)))
            except ValueError:  # a CT, a localiser: neither is what contours of MRI were drawn on
                continue
    return found


def _with_voxels(drawn: StructureSet) -> StructureSet:
    """Without structures that were named and never drawn: those say nothing."""
    kept = {name: s for name, s in drawn.structures.items() if bool(s.mask.any())}
    return StructureSet(drawn.grid, kept, drawn.frame)
