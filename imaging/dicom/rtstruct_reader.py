"""Structures in from a DICOM RT Structure Set (PS3.3 A.19)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from imaging.grid import Grid
from imaging.roi_contours import (
    OFF_PLANE,
    ContourSet,
    Planes,
    RoiContours,
    flatness,
    planes_on,
    rasterised,
)
from imaging.shapes import Mask, Points
from imaging.source import Source
from imaging.structures import TARGETS, RoiType, Structure, StructureSet

from .opening import complete_object, open_object

# XOR is what the newer standard calls the even-odd rule that everybody reads CLOSED_PLANAR by.
_CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}
_FARTHEST = 10_000.0  # mm from the origin: what lies beyond was never in a scanner
_GREY = (160, 160, 160)


def read_rtstruct(
    path: Path, grid: Grid, source: Source, names: Sequence[str] | None = None, *, other_series: bool = False
) -> StructureSet:
    """The structures of an RTSTRUCT as masks on the grid of a scan.

    A voxel belongs to a structure when its centre lies inside an odd number of its contours,
    so keyholes and separate inner contours both make holes. A contour stands for the slab of
    one contour spacing around its plane: on the slices it was drawn on it counts as drawn, on
    other slices the nearest one counts that is at most half a spacing away.

    Parameters
    ----------
    path
        The file.
    grid
        Where masks are wanted; its slices must be parallel to the contours.
    source
        The scan that the grid belongs to: patient, frame of reference and series must be
        those of the structure set.
    names
        The ROIs wanted; all with contours where None.
    other_series
        Accept contours drawn on another series of the same frame of reference, such as the
        T1 with contrast for a plan on the T1.

    Raises
    ------
    ValueError
        If the file is not a whole RTSTRUCT; if it belongs to another patient, frame of
        reference or series; if a wanted ROI is missing, has a name that occurs twice, has no
        contours, contours that are not closed, or not parallel to the slices; if a target is
        empty or reaches beyond the grid.
    """
    drawn = read_contours(path, source, names, other_series=other_series)
    planes = {name: planes_on(roi.polygons, grid, name) for name, roi in drawn.rois.items()}
    spacing = _contour_spacing(planes.values())
    structures = {
        name: Structure(_mask(planes[name], roi.kind, name, grid, spacing), roi.kind, roi.color)
        for name, roi in drawn.rois.items()
    }
    return StructureSet(grid, structures, source.frame)


def read_contours(
    path: Path,
    source: Source | None = None,
    names: Sequence[str] | None = None,
    *,
    other_series: bool = False,
) -> ContourSet:
    """The structures of an RTSTRUCT as they were drawn: planar polygons in the patient.

    Parameters
    ----------
    path
        The file.
    source
        What the structure set must belong to, as in :func:`read_rtstruct`. Where None, nothing is
        compared: the caller holds the frame of reference against that of the dose or scan.
    names
        The ROIs wanted; all with contours where None.
    other_series
        Accept contours drawn on another series of the same frame of reference.

    Raises
    ------
    ValueError
        If the file is not a whole RTSTRUCT; if it belongs elsewhere than the source, or to more
        than one frame of reference; if a wanted ROI is missing, has a name that occurs twice, has
        no contours, or contours that are not closed, not planar, or farther away than any scanner.
    """
    dataset = open_object(path, RTStructureSetStorage)
    with complete_object("RT Structure Set"):
        if source is not None:
            _check_belonging(dataset, source, other_series=other_series)
        frames = _frames(dataset)
        if len(frames) > 1:
            raise ValueError(
                f"expected structures in one frame of reference, got {len(frames)}; export them apart"
            )
        return ContourSet(_rois(dataset, names), next(iter(frames), ""))


def _rois(dataset: Dataset, names: Sequence[str] | None) -> dict[str, RoiContours]:
    """The wanted ROIs by name; contours, kinds and names belong together by ROI number."""
    contours = {int(c.ReferencedROINumber): c for c in dataset.get("ROIContourSequence") or []}
    kinds = {
        int(o.ReferencedROINumber): str(o.get("RTROIInterpretedType") or "")
        for o in dataset.get("RTROIObservationsSequence") or []
    }
    rois = {}
    for name, number in _wanted(dataset, names).items():
        kind = _kind(kinds.get(number, ""), name)
        contour = contours.get(number)
        items = (contour.get("ContourSequence") or []) if contour is not None else []
        drawn = _drawn(items, name, required=names is not None or kind in TARGETS)
        if drawn:
            polygons = tuple(_points(item, name) for item in drawn)
            rois[name] = RoiContours(polygons, kind, _color(contour))
    return rois


def _frames(dataset: Dataset) -> set[str]:
    """Frames of reference that a structure set names."""
    referenced = dataset.get("ReferencedFrameOfReferenceSequence") or []
    rois = dataset.get("StructureSetROISequence") or []
    return {str(f.FrameOfReferenceUID) for f in referenced} | {
        str(roi.ReferencedFrameOfReferenceUID) for roi in rois
    }


def _check_belonging(dataset: Dataset, source: Source, *, other_series: bool) -> None:
    """Refuse a structure set of another patient, frame of reference or series."""
    if str(dataset.get("PatientID") or "") != source.patient_id:
        raise ValueError(
            "expected a structure set of the scan's patient, got one of another patient; "
            "check that both files belong together"
        )
    frames = _frames(dataset)
    if not source.frame or frames != {source.frame}:
        raise ValueError(
            "expected a structure set in the scan's frame of reference, got "
            f"{'none' if not frames else 'another one'}; register the scans and redraw the structures"
        )
    series = {
        str(s.SeriesInstanceUID): s
        for f in dataset.get("ReferencedFrameOfReferenceSequence") or []
        for study in f.get("RTReferencedStudySequence") or []
        for s in study.get("RTReferencedSeriesSequence") or []
    }
    if other_series:
        return
    if not series:
        raise ValueError(
            "expected a structure set that names the series it was drawn on, got one without; "
            "allow contours of another series of the same frame of reference if that is meant"
        )
    if source.series_uid not in series:
        raise ValueError(
            "expected a structure set drawn on this series, got one drawn on another; give that series, or "
            "allow contours of another series of the same frame of reference"
        )
    images = {
        str(i.ReferencedSOPInstanceUID) for i in series[source.series_uid].get("ContourImageSequence") or []
    }
    missing = len(images - set(source.instance_uids))
    if source.instance_uids and missing:
        raise ValueError(
            f"expected all images that the structure set was drawn on, but {missing} of {len(images)} "
            "are not in the series; give the whole series"
        )


def _wanted(dataset: Dataset, names: Sequence[str] | None) -> dict[str, int]:
    """ROI numbers of the wanted names, in the order of the file."""
    pairs = [
        (str(roi.get("ROIName") or "").strip(), int(roi.ROINumber))
        for roi in dataset.get("StructureSetROISequence") or []
    ]
    wanted = {name for name, _ in pairs} if names is None else set(names)
    if not pairs or wanted - {name for name, _ in pairs}:
        missing = ", ".join(sorted(wanted - {name for name, _ in pairs})) or "any"
        raise ValueError(
            f"expected ROI {missing} in the structure set, got {', '.join(n for n, _ in pairs) or 'none'}"
        )
    chosen = [(name, number) for name, number in pairs if name in wanted]
    if len(dict(chosen)) < len(chosen):
        raise ValueError("expected ROI names that occur once, got the same name twice; rename one of them")
    return dict(chosen)


def _kind(interpreted: str, name: str) -> RoiType:
    """What an ROI is for; by the first letters of its name (AAPM TG-263) where the file is silent."""
    if interpreted in RoiType.__members__:
        return RoiType(interpreted)
    for target in TARGETS:
        if not interpreted and name.upper().startswith(target.value):
            return target
    if not interpreted and name.upper() in {"BODY", "EXTERNAL"}:
        return RoiType.EXTERNAL
    return RoiType.ORGAN


def _color(contour: Dataset) -> tuple[int, int, int]:
    value = contour.get("ROIDisplayColor")
    return (int(value[0]), int(value[1]), int(value[2])) if value else _GREY


def _drawn(items: Sequence[Dataset], name: str, *, required: bool) -> list[Dataset]:
    """The contours of an ROI; an ROI that is empty or a marker is none, unless it was asked for.

    Some systems leave contours of one or two points behind: they enclose nothing and are dropped.
    """
    items = [
        item for item in items if "POINT" in str(item.get("ContourGeometricType")) or _n_points(item) > 2
    ]
    kinds = {str(item.get("ContourGeometricType") or "") for item in items}
    if kinds and kinds <= _CLOSED:
        return list(items)
    if not required and kinds <= {"POINT"}:
        return []
    if not kinds:
        raise ValueError(f"expected contours for {name}, got an empty structure; draw it or leave it out")
    raise ValueError(
        f"expected closed planar contours for {name}, got {', '.join(sorted(kinds - _CLOSED)) or 'none'}; "
        "redraw it on the slices"
    )


def _n_points(item: Dataset) -> int:
    return int(item.get("NumberOfContourPoints") or 3)


def _points(item: Dataset, name: str) -> Points:
    """Points of one contour (LPS, mm)."""
    element = item.get_item("ContourData")
    try:
        # The raw bytes where pydicom has not looked yet: ten times as fast, value by value.
        raw = element.value if isinstance(element, RawDataElement) else item.ContourData
        values = raw.decode("ascii").rstrip(" \0").split("\\") if isinstance(raw, bytes) else list(raw)
        points = np.array(values, dtype=np.float64).reshape(-1, 3)
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f"expected contours of x, y, z for {name}, got data that are not; export again"
        ) from None
    if len(points) != int(item.get("NumberOfContourPoints") or len(points)) or not np.isfinite(points).all():
        raise ValueError(
            f"expected contours of {name} with as many finite points as they say, got others; export it again"
        )
    if np.abs(points).max() > _FARTHEST or flatness(points) > OFF_PLANE:
        raise ValueError(
            f"expected contours of {name} each in one plane and within {_FARTHEST / 1000:g} m, got others; "
            "redraw it on the slices"
        )
    return points


def _contour_spacing(rois: Iterable[Planes]) -> float:
    """Distance between the slices that contours were drawn on (slices of the grid).

    The smallest gap inside any ROI: an ROI that skips slices stays as it was drawn.
    """
    gaps = [float(np.diff(sorted(planes)).min()) for planes in rois if len(planes) > 1]
    return min(gaps, default=1.0)


def _mask(planes: Planes, kind: RoiType, name: str, grid: Grid, spacing: float) -> Mask:
    """The mask of an ROI; a target is refused that the grid does not hold whole."""
    mask = rasterised(planes, grid, spacing)
    if kind in TARGETS:
        _check_target(planes, name, grid, spacing, empty=not bool(mask.any()))
    return mask


def _check_target(planes: Planes, name: str, grid: Grid, spacing: float, *, empty: bool) -> None:
    """Refuse a target that the grid does not hold whole."""
    points = np.concatenate([p for polygons in planes.values() for p in polygons])
    low = np.array([*points.min(axis=0), min(planes)])
    high = np.array([*points.max(axis=0), max(planes)])
    slack = np.array([0.5, 0.5, max(spacing / 2, 0.5)]) + 1e-3
    if (low < -slack).any() or (high > np.array(grid.shape) - 1 + slack).any():
        raise ValueError(f"expected target {name} inside the scan, got one that reaches beyond it")
    if empty:
        raise ValueError(
            f"expected target {name} to hold at least one voxel, got one smaller than the voxels of the scan"
        )
