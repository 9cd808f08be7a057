"""Stored pixels as numbers: decompression, sign, unused bits.

Pixel Data and Image Pixel module of DICOM PS3.5 section 8 and PS3.3 C.7.6.3.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from pydicom import dcmread
from pydicom.dataset import Dataset

from .attributes import numbers, whole_number

Stored = Shaped[np.ndarray, "frames rows columns"]

_BROKEN = (
    "expected whole pixel data in every image, got an image that is truncated, damaged or coded "
    "in a way that cannot be read ({})"
)
_WORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def stored(file: Path) -> tuple[Dataset, Stored]:
    """The header of an image, and its stored values before any rescaling, frame after frame.

    Raises
    ------
    ValueError
        If there are none, if they are colours or inverted, or if they cannot be decoded whole.
    """
    try:
        dataset = dcmread(file)
    except Exception:  # noqa: BLE001 - what a broken file makes pydicom raise is not a closed list
        raise ValueError(_BROKEN.format("a file that ends early")) from None
    if not any(word in dataset for word in _WORDS):
        raise ValueError(
            "expected pixel data in every image, got an image without; it is cut off or holds a header alone"
        )
    _expect_grey(dataset)
    try:
        values = dataset.pixel_array
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - every decoder raises what it likes when the stream is cut off
        syntax = getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", "unknown transfer syntax")
        raise ValueError(_BROKEN.format(syntax)) from None
    frames = whole_number(dataset, "NumberOfFrames", 1)
    shape = (frames, whole_number(dataset, "Rows", 0), whole_number(dataset, "Columns", 0))
    if values.size != np.prod(shape):
        raise ValueError(f"expected {frames} frames of pixels, got another number; the image is damaged")
    return dataset, _used_bits(values.reshape(shape), dataset)


def _expect_grey(dataset: Dataset) -> None:
    samples = whole_number(dataset, "SamplesPerPixel", 1)
    meaning = str(dataset.get("PhotometricInterpretation") or "missing")
    if samples != 1 or meaning != "MONOCHROME2":
        raise ValueError(
            f"expected grey images (MONOCHROME2, one sample per pixel), got {meaning} with {samples}; "
            "give the scan itself, not a colour or inverted picture of it"
        )


def _used_bits(values: Stored, dataset: Dataset) -> Stored:
    if values.dtype.kind == "f":
        return values
    bits = whole_number(dataset, "BitsStored", int(numbers(dataset, "BitsAllocated", 1)[0]))
    if whole_number(dataset, "HighBit", bits - 1) != bits - 1:
        raise ValueError("expected pixels in the lowest bits of each word, got another high bit")
    # Old scanners keep overlays in the bits above; they are no part of the value.
    words: np.ndarray = values.astype(np.int64 if bits > 16 else np.int32)
    words = words & ((1 << bits) - 1)
    sign = 1 << (bits - 1)
    return (words ^ sign) - sign if whole_number(dataset, "PixelRepresentation", 0) else words
