"""Dose in and out as DICOM RT Dose (PS3.3 A.18, C.8.8.3)."""

from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt
from pydicom.dataset import Dataset
from pydicom.uid import RTDoseStorage, RTPlanStorage

from imaging.grid import Grid
from imaging.source import Source
from imaging.uids import fresh_uid
from imaging.volume import Quantity, Volume, expect_finite

from .header import RESEARCH_ONLY, date, decimal, new_object, save, time
from .opening import complete_object, open_object, source_of

_PLANES = 1e-3  # largest relative difference between the distances of neighbouring planes


def write_rtdose(
    dose: Volume,
    source: Source,
    path: Path,
    *,
    plan_uid: str,
    bits: int = 16,
    series_uid: str = "",
    instance_uid: str = "",
    when: datetime | None = None,
) -> str:
    """Write the dose of a whole plan; gives the SOP instance UID.

    Values are whole multiples of DoseGridScaling, which is the largest dose over the largest
    whole number, rounded up to its last decimal: rounding it down would wrap the hottest voxel.
    A value is wrong by at most half a multiple: 0.5 mGy of 60 Gy with 16 bits.

    Parameters
    ----------
    dose
        Total physical dose (Gy), one channel, shape ``(1, i, j, k)``; on any grid.
    source
        Patient, study and frame of reference.
    path
        The file; it appears whole or not at all.
    plan_uid
        SOP instance UID of the RTPLAN that delivers it.
    bits
        16 or 32 for each value. dciodvfy cannot judge 32.
    series_uid, instance_uid
        Identity of the new object; fresh where empty.
    when
        When it was made; now where not given.

    Raises
    ------
    ValueError
        If the volume is no dose, has no dose in it, or holds negative or non-finite values, or
        lies in another frame of reference than the source.
    """
    _check(dose, source, bits)
    when = when or datetime.now().astimezone()
    values, grid = _along_normal(dose.data[0].detach().float().cpu().numpy(), dose.grid)
    scaling = _scaling(float(values.max()), bits)
    dataset = new_object(
        source,
        sop_class=RTDoseStorage,
        modality="RTDOSE",
        description="dose",
        series_uid=series_uid or fresh_uid(),
        instance_uid=instance_uid or fresh_uid(),
        series_number=4,
        when=when,
    )
    dataset.ContentDate = date(when)
    dataset.ContentTime = time(when)
    _place(dataset, grid)
    dataset.DoseUnits = "GY"
    dataset.DoseType = "PHYSICAL"
    dataset.DoseComment = RESEARCH_ONLY
    dataset.DoseSummationType = "PLAN"
    dataset.TissueHeterogeneityCorrection = "IMAGE"
    plan = Dataset()
    plan.ReferencedSOPClassUID = RTPlanStorage
    plan.ReferencedSOPInstanceUID = plan_uid
    dataset.ReferencedRTPlanSequence = [plan]
    dataset.DoseGridScaling = scaling
    _store(dataset, _quantised(values, float(scaling), bits))
    save(dataset, path)
    return str(dataset.SOPInstanceUID)


def _check(dose: Volume, source: Source, bits: int) -> None:
    expect_finite(dose.expect(Quantity.DOSE))
    if dose.data.shape[0] != 1 or bits not in (16, 32):
        raise ValueError(
            f"expected one dose channel in 16 or 32 bits, got {dose.data.shape[0]} in {bits} bits"
        )
    if dose.frame and dose.frame != source.frame:
        raise ValueError("expected the dose in the source's frame of reference, got another frame")
    low, high = float(dose.data.min()), float(dose.data.max())
    if low < 0 or high <= 0:
        raise ValueError(f"expected doses from 0 Gy to above 0 Gy, got {low:g} to {high:g} Gy")


def _along_normal(
    values: Float32[np.ndarray, "i j k"], grid: Grid
) -> tuple[Float32[np.ndarray, "i j k"], Grid]:
    """The same voxels with k along i × j, as frame offsets count."""
    axes = grid.affine[:3, :3]
    if np.linalg.det(axes) > 0:
        return values, grid
    affine = grid.affine.copy()
    affine[:3, 3] += axes[:, 2] * (grid.shape[2] - 1)
    affine[:3, 2] *= -1
    return values[:, :, ::-1], Grid(grid.shape, affine)


def _scaling(largest: float, bits: int) -> str:
    """Gy of one step, rounded up to ten digits."""
    exact = Decimal(largest) / (2**bits - 1)
    return f"{Context(prec=10, rounding=ROUND_CEILING).plus(exact):.9e}"


def _quantised(values: Float32[np.ndarray, "i j k"], scaling: float, bits: int) -> UInt[np.ndarray, "k j i"]:
    """Values in steps, in the order of the file: frame, row, column."""
    kind = np.uint16 if bits == 16 else np.uint32
    steps = np.empty(values.shape[::-1], dtype=kind)
    for k in range(values.shape[2]):
        steps[k] = np.rint(values[:, :, k].T.astype(np.float64) / scaling).astype(kind)
    return steps


def _place(dataset: Dataset, grid: Grid) -> None:
    """Image Plane (C.7.6.2) and Multi-frame (C.7.6.6) modules."""
    spacing = grid.spacing
    axes = grid.affine[:3, :3] / spacing
    dataset.SliceThickness = decimal(spacing[2])
    dataset.ImagePositionPatient = [decimal(v) for v in grid.affine[:3, 3]]
    dataset.ImageOrientationPatient = [decimal(v) for v in (*axes[:, 0], *axes[:, 1])]
    dataset.PixelSpacing = [decimal(spacing[1]), decimal(spacing[0])]  # between rows, between columns
    dataset.NumberOfFrames = grid.shape[2]
    dataset.FrameIncrementPointer = 0x3004000C  # Grid Frame Offset Vector
    dataset.GridFrameOffsetVector = [decimal(k * spacing[2]) for k in range(grid.shape[2])]


def _store(dataset: Dataset, steps: UInt[np.ndarray, "k j i"]) -> None:
    """Image Pixel module (C.7.6.3)."""
    bits = steps.dtype.itemsize * 8
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = steps.shape[1]
    dataset.Columns = steps.shape[2]
    dataset.BitsAllocated = bits
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = 0
    data = steps.astype(steps.dtype.newbyteorder("<")).tobytes()
    dataset.add_new("PixelData", "OW", data + b"\0" * (len(data) % 2))


def read_rtdose(path: Path, *, summation: str = "PLAN") -> tuple[Volume, Source]:
    """The dose of a whole plan (Gy), and whose it is.

    Parameters
    ----------
    path
        An RTDOSE of 16 or 32 bits in any orientation. Frames come back in ascending order
        along the normal of their planes, however the file counts them.
    summation
        What the dose must be of (DoseSummationType): a whole ``PLAN``, or one ``FRACTION``,
        ``BEAM`` and so on where that is meant.

    Raises
    ------
    ValueError
        If the file is no whole RTDOSE, holds no physical dose of that kind in Gy, has no
        scaling above 0, or planes that are missing, uneven or not at right angles.
    """
    dataset = open_object(path, RTDoseStorage)
    with complete_object("RT Dose"):
        _check_meaning(dataset, summation)
        steps = _steps(dataset)
        grid, flipped = _grid(dataset, len(steps))
        scaling = float(dataset.get("DoseGridScaling") or 0)
        source = source_of(dataset)
    if not np.isfinite(scaling) or scaling <= 0:
        raise ValueError("expected a dose grid scaling above 0, got none; export the dose again")
    if flipped:
        steps = steps[::-1]
    # (frame, row, column) is (k, j, i).
    data = np.empty((1, *grid.shape), dtype=np.float32)
    for k in range(grid.shape[2]):
        data[0, :, :, k] = steps[k].T * scaling
    return Volume(torch.from_numpy(data), grid, Quantity.DOSE, source.frame), source


def _check_meaning(dataset: Dataset, summation: str) -> None:
    """Refuse relative, biological and partial doses."""
    wanted = {"DoseUnits": "GY", "DoseType": "PHYSICAL", "DoseSummationType": summation}
    for keyword, value in wanted.items():
        found = str(dataset.get(keyword) or "none")
        if found != value:
            raise ValueError(
                f"expected the physical dose of a whole plan in Gy ({keyword} {value}), got {found}; "
                "export that dose"
            )


def _steps(dataset: Dataset) -> UInt[np.ndarray, "k j i"]:
    """The stored whole numbers, shape ``(frame, row, column)``."""
    bits = int(dataset.get("BitsAllocated") or 0)
    if bits not in (16, 32) or int(dataset.get("PixelRepresentation") or 0) != 0:
        raise ValueError(f"expected doses as unsigned whole numbers of 16 or 32 bits, got {bits} bits")
    n_rows, n_columns = _numbers(dataset, "Rows", 1)[0], _numbers(dataset, "Columns", 1)[0]
    shape = (int(dataset.get("NumberOfFrames") or 1), int(n_rows), int(n_columns))
    data = dataset.get("PixelData") or b""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if data and syntax is not None and (syntax.is_compressed or not syntax.is_little_endian):
        return np.asarray(dataset.pixel_array).reshape(shape)
    n_bytes = int(np.prod(shape)) * bits // 8
    if len(data) < n_bytes:
        raise ValueError(f"expected {n_bytes} bytes of dose, got {len(data)}; export the whole dose again")
    return np.frombuffer(data[:n_bytes], dtype=f"<u{bits // 8}").reshape(shape)


def _numbers(dataset: Dataset, keyword: str, n: int) -> Float64[np.ndarray, " n"]:
    """A list of ``n`` finite numbers from the header."""
    value = dataset.get(keyword)
    values = np.atleast_1d(np.array([] if value is None else value, dtype=np.float64))
    if len(values) != n or not np.isfinite(values).all():
        raise ValueError(f"expected {n} numbers in {keyword}, got {len(values)}; export the dose again")
    return values


def _grid(dataset: Dataset, n_frames: int) -> tuple[Grid, bool]:
    """Where the dose lies, and whether its frames run against the normal of their planes."""
    origin = _numbers(dataset, "ImagePositionPatient", 3)
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    row_step, column_step = _numbers(dataset, "PixelSpacing", 2)
    along_i, along_j = orientation[:3], orientation[3:]
    if np.abs([along_i @ along_i - 1, along_j @ along_j - 1, along_i @ along_j]).max() > 1e-3:
        raise ValueError("expected rows and columns at right angles, got others; export the dose again")
    normal = np.cross(along_i, along_j)
    offsets = _offsets(dataset, n_frames, origin, normal)
    step = (offsets[-1] - offsets[0]) / (n_frames - 1) if n_frames > 1 else _thickness(dataset)
    flipped = step < 0
    first = offsets[-1] if flipped else offsets[0]
    affine = np.eye(4)
    affine[:3, 0] = along_i * column_step
    affine[:3, 1] = along_j * row_step
    affine[:3, 2] = normal * abs(step)
    affine[:3, 3] = origin + normal * first
    return Grid((int(dataset.Columns), int(dataset.Rows), n_frames), affine), bool(flipped)


def _offsets(
    dataset: Dataset, n_frames: int, origin: Float64[np.ndarray, "3"], normal: Float64[np.ndarray, "3"]
) -> Float64[np.ndarray, " n"]:
    """Distance of each frame from the first one's position, along the normal (mm).

    The vector is relative when it begins with 0; otherwise it holds patient z, which the
    standard allows for transverse planes alone (C.8.8.3.2).
    """
    if n_frames == 1:
        return np.zeros(1)
    offsets = _numbers(dataset, "GridFrameOffsetVector", n_frames)
    if offsets[0] != 0:
        if abs(abs(normal[2]) - 1) > 1e-3 or abs(offsets[0] - origin[2]) > 0.01:
            raise ValueError(
                "expected frame offsets that begin with 0 or with the position of a transverse first plane, "
                f"got {offsets[0]:g}; export the dose again"
            )
        offsets = (offsets - offsets[0]) * np.sign(normal[2])
    steps = np.diff(offsets)
    if steps[0] == 0 or np.abs(steps / steps.mean() - 1).max() > _PLANES:
        raise ValueError("expected evenly spaced dose planes, got uneven ones; export the dose again")
    return offsets


def _thickness(dataset: Dataset) -> float:
    """The only spacing that a single plane can have."""
    thickness = float(dataset.get("SliceThickness") or 0)
    if thickness <= 0:
        raise ValueError("expected a slice thickness for a dose of one plane, got none; export a dose volume")
    return thickness
