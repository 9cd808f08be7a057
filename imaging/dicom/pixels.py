"""Stored pixels as numbers: decompression, sign, unused bits.

Pixel Data and Image Pixel module of DICOM PS3.5 section 8 and PS3.3 C.7.6.3.
"""

import numpy as np
from jaxtyping import Shaped
from pydicom.dataset import Dataset

Stored = Shaped[np.ndarray, "frames rows columns"]

_WORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def stored(dataset: Dataset) -> Stored:
    """The stored values of an image, one frame after another, before any rescaling.

    Raises
    ------
    ValueError
        If there are none, if they are colours or inverted, or if they cannot be decoded whole.
    """
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
        syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
        raise ValueError(
            "expected whole pixel data in every image, got an image that is truncated, damaged or coded "
            f"in a way that cannot be read ({getattr(syntax, 'name', 'unknown transfer syntax')})"
        ) from None
    frames = int(dataset.get("NumberOfFrames") or 1)
    shape = (frames, int(dataset.Rows), int(dataset.Columns))
    if values.size != np.prod(shape):
        raise ValueError(f"expected {frames} frames of pixels, got another number; the image is damaged")
    return _used_bits(values.reshape(shape), dataset)


def _expect_grey(dataset: Dataset) -> None:
    samples = int(dataset.get("SamplesPerPixel") or 1)
    meaning = str(dataset.get("PhotometricInterpretation") or "missing")
    if samples != 1 or meaning != "MONOCHROME2":
        raise ValueError(
            f"expected grey images (MONOCHROME2, one sample per pixel), got {meaning} with {samples}; "
            "give the scan itself, not a colour or inverted picture of it"
        )


def _used_bits(values: Stored, dataset: Dataset) -> Stored:
    if values.dtype.kind == "f":
        return values
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    if int(dataset.get("HighBit", bits - 1)) != bits - 1:
        raise ValueError("expected pixels in the lowest bits of each word, got another high bit")
    # Old scanners keep overlays in the bits above; they are no part of the value.
    words: np.ndarray = values.astype(np.int64 if bits > 16 else np.int32)
    words = words & ((1 << bits) - 1)
    sign = 1 << (bits - 1)
    return (words ^ sign) - sign if int(dataset.get("PixelRepresentation", 0)) else words
