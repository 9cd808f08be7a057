"""Structures out to a DICOM RT Structure Set (PS3.3 A.19)."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from imaging.contours import Polygon, to_polygons
from imaging.grid import Grid, close, positions
from imaging.source import Source
from imaging.structures import TARGETS, Structure, StructureSet
from imaging.uids import fresh_uid

from .header import RESEARCH_ONLY, date, new_object, save, time
from .rtstruct_reader import read_rtstruct

__all__ = ["read_rtstruct", "write_rtstruct"]

# Detached Study Management, retired, yet what RT Referenced Study Sequence still names a study by.
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_DECIMALS = 4  # contour points to 1e-4 mm
_CONTOUR_DATA = Tag("ContourData")


def write_rtstruct(
    structures: StructureSet,
    source: Source,
    image_grid: Grid,
    path: Path,
    *,
    label: str = "SPINDOSE",
    algorithm: str = "AUTOMATIC",
    series_uid: str = "",
    instance_uid: str = "",
    when: datetime | None = None,
) -> str:
    """Write structures as contours on the slices of a series; gives the SOP instance UID.

    Every contour is CLOSED_PLANAR on one slice and names its image; holes are keyholes
    (:func:`imaging.contours.to_polygons`). The set is unapproved.

    Parameters
    ----------
    structures
        What to write. ROIs are numbered from 1 in their order.
    source
        The series that the contours are drawn on, with one instance UID for each slice along k.
    image_grid
        The grid of that series.
    path
        The file; it appears whole or not at all.
    label
        Structure set label, at most 16 characters.
    algorithm
        How the contours were made: ``AUTOMATIC``, ``SEMIAUTOMATIC`` or ``MANUAL``.
    series_uid, instance_uid
        Identity of the new object; fresh where empty.
    when
        When it was made; now where not given.

    Raises
    ------
    ValueError
        If the structures lie on another grid or in another frame than the series, the series
        does not name one image for each slice, or a target is empty.
    """
    _check(structures, source, image_grid)
    when = when or datetime.now().astimezone()
    dataset = new_object(
        source,
        sop_class=RTStructureSetStorage,
        modality="RTSTRUCT",
        description="structures",
        series_uid=series_uid or fresh_uid(),
        instance_uid=instance_uid or fresh_uid(),
        series_number=2,
        when=when,
    )
    # With explicit VR a contour could hold no more than 64 kB, some 2000 points.
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.StructureSetLabel = label[:16]
    dataset.StructureSetDescription = RESEARCH_ONLY
    dataset.StructureSetDate = date(when)
    dataset.StructureSetTime = time(when)
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame(source)]
    items = list(enumerate(structures.structures.items(), start=1))
    dataset.StructureSetROISequence = [_roi(n, name, source.frame, algorithm) for n, (name, _) in items]
    dataset.ROIContourSequence = [_contours(n, s, image_grid, source) for n, (_, s) in items]
    dataset.RTROIObservationsSequence = [_observation(n, s) for n, (_, s) in items]
    dataset.ApprovalStatus = "UNAPPROVED"
    save(dataset, path)
    return str(dataset.SOPInstanceUID)


def _check(structures: StructureSet, source: Source, image_grid: Grid) -> None:
    if not structures.structures:
        raise ValueError("expected at least one structure to write, got none")
    if not close(structures.grid, image_grid):
        raise ValueError(
            "expected structures on the grid of the series that they refer to, got another grid; "
            "resample them with resample_structures"
        )
    if structures.frame and structures.frame != source.frame:
        raise ValueError("expected structures in the frame of reference of the series, got another frame")
    if not source.series_uid or len(source.instance_uids) != image_grid.shape[2] or not source.sop_class:
        raise ValueError(
            f"expected a series with one image for each of the {image_grid.shape[2]} slices, "
            f"got {len(source.instance_uids)}; write the series first and pass its source"
        )
    for name, structure in structures.structures.items():
        if not 0 < len(name) <= 64 or "\\" in name or name != name.strip():
            raise ValueError(
                f"expected structure names of 1 to 64 characters without backslash, got {name!r}"
            )
        if structure.kind in TARGETS and not bool(structure.mask.any()):
            raise ValueError(f"expected target {name} to hold at least one voxel, got an empty mask")


def _image(source: Source, uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.sop_class
    item.ReferencedSOPInstanceUID = uid
    return item


def _referenced_frame(source: Source) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ContourImageSequence = [_image(source, uid) for uid in source.instance_uids]
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_CLASS
    study.ReferencedSOPInstanceUID = source.study_uid
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = source.frame
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(number: int, name: str, frame: str, algorithm: str) -> Dataset:
    item = Dataset()
    item.ROINumber = number
    item.ReferencedFrameOfReferenceUID = frame
    item.ROIName = name
    item.ROIGenerationAlgorithm = algorithm
    item.ROIGenerationDescription = f"Spindose. {RESEARCH_ONLY}"
    return item


def _contours(number: int, structure: Structure, grid: Grid, source: Source) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = list(structure.color)
    mask = structure.mask.cpu().numpy()
    contours = [
        _contour(polygon, int(k), grid, source)
        for k in np.flatnonzero(mask.any(axis=(0, 1)))
        for polygon in to_polygons(mask[:, :, k])
    ]
    if contours:
        item.ContourSequence = contours
    item.ReferencedROINumber = number
    return item


def _contour(polygon: Polygon, k: int, grid: Grid, source: Source) -> Dataset:
    points = positions(grid, np.column_stack([polygon, np.full(len(polygon), float(k))]))
    item = Dataset()
    item.ContourImageSequence = [_image(source, source.instance_uids[k])]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points)
    item[_CONTOUR_DATA] = _raw_decimals(points.ravel().tolist())
    return item


def _raw_decimals(values: Sequence[float]) -> RawDataElement:
    """Decimal strings as the bytes of the file: pydicom takes ten times as long value by value."""
    texts = (f"{v:.{_DECIMALS}f}".rstrip("0").rstrip(".") for v in values)
    data = "\\".join("0" if text == "-0" else text for text in texts).encode("ascii")
    data += b" " * (len(data) % 2)
    return RawDataElement(_CONTOUR_DATA, "DS", len(data), data, 0, True, True)


def _observation(number: int, structure: Structure) -> Dataset:
    item = Dataset()
    item.ObservationNumber = number
    item.ReferencedROINumber = number
    item.RTROIInterpretedType = structure.kind.value
    item.ROIInterpreter = ""
    return item
