"""Numbers of a DICOM header, or a refusal."""

import numpy as np
from jaxtyping import Float64
from pydicom.dataset import Dataset


def numbers(dataset: Dataset, keyword: str, count: int) -> Float64[np.ndarray, " count"]:
    """An attribute of ``count`` finite numbers, shape ``(count,)``.

    Raises
    ------
    ValueError
        If the attribute is missing, has another count, or is not finite.
    """
    try:
        values = np.atleast_1d(np.array(dataset[keyword].value, dtype=np.float64))
    except Exception:  # noqa: BLE001 - what a broken value makes pydicom raise is not a closed list
        values = np.empty(0)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(
            f"expected {keyword} as {count} finite number{'s' * (count > 1)} in every image, got an image "
            "without; it is damaged or not a slice of a scan"
        )
    return values


def whole_number(dataset: Dataset, keyword: str, default: int) -> int:
    """An attribute of one whole number; ``default`` where it is missing or empty.

    Raises
    ------
    ValueError
        If it is there and is no number.
    """
    if keyword not in dataset or dataset.get_item(keyword).value in (None, b"", ""):
        return default
    return int(numbers(dataset, keyword, 1)[0])
