r"""A volume of fractions as a DICOM Parametric Map (PS3.3 A.75), such as the deviation of a synthetic CT.

One object of many frames in 32-bit floating point, which says what its numbers are and in which unit, so that
no system can take it for an image to plan on. 3D Slicer, OHIF, DCMTK and highdicom read it.
"""

from collections.abc import Sequence as Several
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ParametricMapStorage

from imaging.atomic import new_folder
from imaging.grid import Grid, positions
from imaging.source import Source
from imaging.uids import fresh_uid, seeded_uid
from imaging.volume import Quantity, Volume, expect_finite

from .header import RESEARCH_ONLY, complete, date, decimal, new_object, save, software_version, time

_NAME = "SD0001.dcm"
_SERIES = 2


@dataclass(frozen=True)
class _Code:
    """A coded concept (PS3.3 8.8): value, scheme, meaning."""

    value: str
    scheme: str
    meaning: str


_UNIT = _Code("[hnsf'U]", "UCUM", "Hounsfield unit")
_QUANTITY = _Code("246205007", "SCT", "Quantity")
_ATTENUATION = _Code("112031", "DCM", "Attenuation Coefficient")
_DERIVED = _Code("121401", "DCM", "Derivation")
_DEVIATION = _Code("386136009", "SCT", "Standard Deviation")
_INPUT = _Code("121322", "DCM", "Source image for image processing operation")
_HOW = _Code("SD", "99SPINDOSE", "Standard deviation of synthetic CT numbers")


def write_deviation(
    deviation: Volume,
    source: Source,
    folder: Path,
    *,
    derivation: str = "Standard deviation of a synthetic CT computed from MR",
    seed: tuple[object, ...] = (),
    when: datetime | None = None,
) -> str:
    """Standard deviations (HU) of a synthetic CT as one DICOM object in a new or empty folder.

    Parameters
    ----------
    deviation
        Standard deviations in HU, one channel, shape ``(1, i, j, k)``; any orientation. Kept as ``float32``.
    source
        The scan that the CT was made from; its series is referenced as the origin.
    folder
        Where the file goes; it appears whole or not at all.
    derivation
        How it was computed.
    seed
        Words that the new UIDs follow from, always the same; fresh ones where there are none.
    when
        When it was made; now where not given.

    Returns
    -------
    str
        The SOP instance UID.

    Raises
    ------
    ValueError
        If the volume is not one channel of finite deviations in HU, or belongs to another frame of reference
        than the source.
    """
    expect_finite(deviation.expect(Quantity.HU_DEVIATION))
    if deviation.data.shape[0] != 1:
        raise ValueError(f"expected one channel of deviations, got {deviation.data.shape[0]}")
    if deviation.frame and source.frame and deviation.frame != source.frame:
        raise ValueError(
            "expected the volume in its source's frame of reference, got another; register and resample it"
        )
    words = ("series", "instance", "dimension")
    series, instance, dimension = (seeded_uid(*seed, "PM", w) if seed else fresh_uid() for w in words)
    when = when or datetime.now().astimezone()
    dataset = new_object(
        complete(source, *seed),
        sop_class=ParametricMapStorage,
        modality="OT",
        description="synthetic CT, standard deviation",
        series_uid=series,
        instance_uid=instance,
        series_number=_SERIES,
        when=when,
    )
    values = np.ascontiguousarray(deviation.data[0].detach().cpu().numpy().astype("<f4").transpose(2, 1, 0))
    _describe(dataset, when)
    _refer(dataset, source)
    _dimensions(dataset, dimension)
    shared = _shared(deviation.grid, (float(values.min()), float(values.max())), derivation)
    shared.DerivationImageSequence = Sequence([_derivation(source, derivation)])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        [_frame(deviation.grid, k) for k in range(deviation.grid.shape[2])]
    )
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = values.shape
    dataset.FloatPixelData = values.tobytes()
    with new_folder(folder) as part:
        save(dataset, part / _NAME)
    return instance


def _describe(dataset: Dataset, when: datetime) -> None:
    """Enhanced General Equipment (C.7.5.2) and Parametric Map Image (C.8.32.2)."""
    dataset.DeviceSerialNumber = software_version()
    dataset.BodyPartExamined = "HEAD"
    dataset.ContentDate, dataset.ContentTime = date(when), time(when)
    dataset.ContentLabel = "DEVIATION"
    dataset.ContentDescription = f"Standard deviation in HU. {RESEARCH_ONLY}"[:64]
    dataset.ContentCreatorName = ""
    dataset.ContentQualification = "RESEARCH"
    dataset.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]
    dataset.SamplesPerPixel, dataset.BitsAllocated = 1, 32
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.BurnedInAnnotation, dataset.RecognizableVisualFeatures = "NO", "NO"
    dataset.LossyImageCompression = "00"
    dataset.AcquisitionContextSequence = Sequence([])


def _refer(dataset: Dataset, source: Source) -> None:
    """Common Instance Reference (C.12.2): the series that it was computed from."""
    if not (source.sop_class and source.series_uid and source.instance_uids):
        return
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ReferencedInstanceSequence = Sequence(_images(source))
    dataset.ReferencedSeriesSequence = Sequence([series])


def _images(source: Source, purpose: _Code | None = None) -> list[Dataset]:
    images = []
    for uid in dict.fromkeys(source.instance_uids) if source.sop_class else ():
        image = Dataset()
        image.ReferencedSOPClassUID = source.sop_class
        image.ReferencedSOPInstanceUID = uid
        if purpose is not None:
            image.PurposeOfReferenceCodeSequence = _coded(purpose)
        images.append(image)
    return images


def _dimensions(dataset: Dataset, uid: str) -> None:
    """Multi-frame Dimension (C.7.6.17): frames are ordered by where they lie in their stack."""
    organisation, index = Dataset(), Dataset()
    organisation.DimensionOrganizationUID = index.DimensionOrganizationUID = uid
    index.DimensionIndexPointer = 0x00209057  # in-stack position number
    index.FunctionalGroupPointer = 0x00209111  # frame content sequence
    dataset.DimensionOrganizationSequence = Sequence([organisation])
    dataset.DimensionIndexSequence = Sequence([index])


def _shared(grid: Grid, ends: tuple[float, float], derivation: str) -> Dataset:
    """What all frames have in common (C.7.6.16.2)."""
    shared = Dataset()
    measures, orientation, identity, kind, window = (Dataset() for _ in range(5))
    measures.SliceThickness = measures.SpacingBetweenSlices = decimal(grid.spacing[2])
    measures.PixelSpacing = [decimal(grid.spacing[1]), decimal(grid.spacing[0])]
    directions = grid.affine[:3, :3] / grid.spacing
    orientation.ImageOrientationPatient = [decimal(x) for x in (*directions[:, 0], *directions[:, 1])]
    identity.RescaleIntercept, identity.RescaleSlope, identity.RescaleType = "0", "1", "US"
    kind.FrameType = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]
    window.WindowCenter, window.WindowWidth = decimal(ends[1] / 2), decimal(max(ends[1], 1.0))
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([identity])
    shared.FrameVOILUTSequence = Sequence([window])
    shared.ParametricMapFrameTypeSequence = Sequence([kind])
    shared.RealWorldValueMappingSequence = Sequence([_mapping(ends, derivation)])
    return shared


def _mapping(ends: tuple[float, float], derivation: str) -> Dataset:
    """Real World Value Mapping (C.7.6.16.2.11): stored numbers are standard deviations in HU."""
    mapping = Dataset()
    mapping.LUTLabel = "HU SD"
    mapping.LUTExplanation = derivation[:64]
    mapping.MeasurementUnitsCodeSequence = _coded(_UNIT)
    mapping.DoubleFloatRealWorldValueFirstValueMapped = ends[0]
    mapping.DoubleFloatRealWorldValueLastValueMapped = ends[1]
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, 1.0
    said: Several[tuple[_Code, _Code]] = ((_QUANTITY, _ATTENUATION), (_DERIVED, _DEVIATION))
    mapping.QuantityDefinitionSequence = Sequence([_said(name, value) for name, value in said])
    return mapping


def _said(name: _Code, value: _Code) -> Dataset:
    """A content item (PS3.3 10.2) of a coded name and value."""
    item = Dataset()
    item.ValueType = "CODE"
    item.ConceptNameCodeSequence = _coded(name)
    item.ConceptCodeSequence = _coded(value)
    return item


def _derivation(source: Source, derivation: str) -> Dataset:
    """Derivation Image (C.7.6.16.2.6)."""
    item = Dataset()
    item.DerivationDescription = f"{derivation}; RESEARCH USE ONLY"
    item.DerivationCodeSequence = _coded(_HOW)
    item.SourceImageSequence = Sequence(_images(source, _INPUT))
    return item


def _frame(grid: Grid, k: int) -> Dataset:
    """What a frame has for itself: its place."""
    content, position, frame = Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber = "1", k + 1
    content.DimensionIndexValues = [k + 1]
    place = positions(grid, np.array([[0.0, 0.0, k]]))[0]
    position.ImagePositionPatient = [decimal(x) for x in place]
    frame.FrameContentSequence = Sequence([content])
    frame.PlanePositionSequence = Sequence([position])
    return frame


def _coded(code: _Code) -> Sequence[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return Sequence([item])
