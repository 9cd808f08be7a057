r"""CT and MR series written slice by slice from a volume.

CT Image and MR Image of DICOM PS3.3 A.3 and A.4. A synthetic CT says of itself that it was
derived (``DERIVED\SECONDARY``, C.8.2.1.1.1), how, from which images, and that it is for research only.
"""

import dataclasses
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, MRImageStorage

from imaging.atomic import new_folder
from imaging.grid import Grid, positions
from imaging.source import Source
from imaging.uids import fresh_uid, seeded_uid
from imaging.volume import Quantity, Volume, expect_finite

from .header import complete, date, decimal, new_object, save, time

# Stored words count from here, so that they are never negative: software that takes them for
# unsigned still reads the right HU.
_INTERCEPT_HU = -1024.0
_HIGHEST = 32767


def write_ct(
    ct: Volume,
    source: Source,
    folder: Path,
    *,
    description: str = "synthetic CT",
    derivation: str = "Synthetic CT computed from MR",
    seed: tuple[object, ...] = (),
    when: datetime | None = None,
) -> Source:
    """A synthetic CT as a DICOM series of one file per slice, in a new or empty folder.

    Whole HU from -1024 to 31743 are kept exactly; fractions are rounded, values beyond clipped.

    Parameters
    ----------
    ct
        HU; any orientation. Its frame of reference is the one of the series.
    source
        Whose scan it was made from; its series is referenced as the origin.
    folder
        Where the files go; it appears whole or not at all.
    description
        Series description, after "RESEARCH ONLY".
    derivation
        How it was computed.
    seed
        Words that the new UIDs follow from, always the same; fresh ones where there are none.
    when
        When it was made; now where not given.

    Returns
    -------
    Source
        Of the new series, for structures, plan and dose that refer to it: ``instance_uids[k]``
        is slice k of ``ct``.

    Raises
    ------
    ValueError
        If the volume is not one channel of finite HU, has fewer than two slices, or belongs to
        another frame of reference than the source.
    """
    ct.expect(Quantity.HU)
    target = _target(ct, source, CTImageStorage, "CT", seed)
    stored = (ct.data[0].double().round() - _INTERCEPT_HU).clamp(0, _HIGHEST)
    words = stored.to(torch.int16).cpu().numpy()
    origin = _origin(source)
    with new_folder(folder) as part:
        for dataset, pixels in _slices(words, ct.grid, target, description, when):
            dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
            dataset.DerivationDescription = f"{derivation}; RESEARCH USE ONLY"
            if origin:
                dataset.SourceImageSequence = origin
            dataset.KVP = None
            dataset.RescaleIntercept = decimal(_INTERCEPT_HU)
            dataset.RescaleSlope = "1"
            dataset.RescaleType = "HU"
            dataset.WindowCenter, dataset.WindowWidth = "40", "400"
            dataset.PixelData = pixels
            save(dataset, part / f"CT{dataset.InstanceNumber:04d}.dcm")
    return target


def write_mr(
    mr: Volume,
    source: Source,
    folder: Path,
    *,
    description: str = "synthetic MR",
    seed: tuple[object, ...] = (),
    when: datetime | None = None,
) -> Source:
    """A synthetic MR as a DICOM series of one file per slice, in a new or empty folder.

    Whole signals from -32768 to 32767 are kept exactly. Others are scaled so that the greatest
    becomes 32767: MR signal has no unit, and the MR Image has no rescale slope to keep one.
    Parameters and errors are those of :func:`write_ct`, with MR signal in place of HU.
    """
    mr.expect(Quantity.MR)
    target = _target(mr, source, MRImageStorage, "MR", seed)
    words = _as_words(mr.data[0].double()).cpu().numpy()
    low, high = float(words.min()), float(np.percentile(words[:: max(1, words.shape[0] // 64)], 99.5))
    with new_folder(folder) as part:
        for dataset, pixels in _slices(words, mr.grid, target, description, when):
            dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
            dataset.DerivationDescription = "Computed image; RESEARCH USE ONLY"
            # "RM", research mode, is DICOM's word for a sequence that no scanner ran.
            dataset.ScanningSequence, dataset.SequenceVariant = "RM", "NONE"
            dataset.ScanOptions, dataset.MRAcquisitionType = "", "3D"
            dataset.RepetitionTime, dataset.EchoTime, dataset.EchoTrainLength = None, None, None
            dataset.WindowCenter = decimal((low + high) / 2)
            dataset.WindowWidth = decimal(max(high - low, 1.0))
            dataset.PixelData = pixels
            save(dataset, part / f"MR{dataset.InstanceNumber:04d}.dcm")
    return target


def _target(
    volume: Volume, source: Source, sop_class: str, modality: str, seed: tuple[object, ...]
) -> Source:
    """The identity of the series to be written."""
    expect_finite(volume)
    channels, n_slices = volume.data.shape[0], volume.grid.shape[2]
    if channels != 1 or n_slices < 2:
        raise ValueError(f"expected one channel of at least 2 slices, got {channels} of {n_slices}")
    if volume.frame and source.frame and volume.frame != source.frame:
        raise ValueError(
            "expected the volume in its source's frame of reference, got another; register and resample it"
        )
    uids = ["series", *range(n_slices)]
    new = [seeded_uid(*seed, modality, word) if seed else fresh_uid() for word in uids]
    filed = complete(dataclasses.replace(source, frame=volume.frame or source.frame), *seed)
    return dataclasses.replace(
        filed, series_uid=new[0], instance_uids=tuple(new[1:]), sop_class=sop_class, modality=modality
    )


def _slices(
    words: np.ndarray, grid: Grid, target: Source, description: str, when: datetime | None
) -> Iterator[tuple[Dataset, bytes]]:
    """The data set and the pixels of every slice, without what only CT or only MR has."""
    when = when or datetime.now().astimezone()
    directions = grid.affine[:3, :3] / grid.spacing
    for k in range(grid.shape[2]):
        dataset = new_object(
            target,
            sop_class=target.sop_class,
            modality=target.modality,
            description=description,
            series_uid=target.series_uid,
            instance_uid=target.instance_uids[k],
            instance_number=k + 1,
            when=when,
        )
        dataset.AcquisitionDate = dataset.ContentDate = date(when)
        dataset.AcquisitionTime = dataset.ContentTime = time(when)
        dataset.AcquisitionNumber = 1
        dataset.BodyPartExamined = target.body_part or "HEAD"
        dataset.PatientPosition = target.position or "HFS"
        position = positions(grid, np.array([[0.0, 0.0, k]]))[0]
        dataset.ImagePositionPatient = [decimal(x) for x in position]
        dataset.ImageOrientationPatient = [decimal(x) for x in (*directions[:, 0], *directions[:, 1])]
        dataset.PixelSpacing = [decimal(grid.spacing[1]), decimal(grid.spacing[0])]
        dataset.SliceThickness = decimal(grid.spacing[2])
        dataset.SliceLocation = decimal(position @ np.cross(directions[:, 0], directions[:, 1]))
        _describe_pixels(dataset, grid)
        yield dataset, np.ascontiguousarray(words[:, :, k].T).astype("<i2").tobytes()


def _describe_pixels(dataset: Dataset, grid: Grid) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = grid.shape[1], grid.shape[0]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"


def _origin(source: Source) -> Sequence:
    """The images that a slice was computed from: all of them, for a network sees them all."""
    images = []
    for uid in dict.fromkeys(source.instance_uids) if source.sop_class else ():
        image = Dataset()
        image.ReferencedSOPClassUID = source.sop_class
        image.ReferencedSOPInstanceUID = uid
        images.append(image)
    return Sequence(images)


def _as_words(signal: torch.Tensor) -> torch.Tensor:
    whole = torch.equal(signal, signal.round()) and float(signal.abs().max()) <= _HIGHEST
    if not whole:
        signal = signal * (_HIGHEST / max(float(signal.abs().max()), 1e-30))
    return signal.round().to(torch.int16)
