"""Answers as JSON may hold them."""

import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Numbers that are none become null, at any depth: JSON knows neither NaN nor infinity."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
