"""Which contrast an MR series has, by what its header says of the sequence."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset

from .attributes import numbers
from .files import choose_series, image_headers, modality

# Times (ms) that tell weightings apart at 1.5 and 3 T, as textbooks of MRI have them.
_LONG_TE, _SHORT_TE, _SHORT_TE_OF_ECHOES = 60.0, 30.0, 12.0
_LONG_TR = 1500.0
_FLUID_NULLED = 1500.0  # inversion time from which fluid gives no signal
_GRADIENT = "GR"
# Of classic images, and of enhanced ones.
_ECHO, _REPETITION = ("EchoTime", "EffectiveEchoTime"), ("RepetitionTime",)
_INVERSION = ("InversionTime", "InversionTimes")


_TIMES = ("MRTimingAndRelatedParametersSequence", "MREchoSequence", "MRModifierSequence")


def weighting(path: Path, series: int | None = None) -> str | None:
    """``t1``, ``t1c`` (with contrast agent), ``t2`` or ``flair``; None where the header does not tell.

    By the echo, repetition and inversion times, the scanning sequence and the contrast agent (DICOM PS3.3
    C.8.3.1 and C.7.6.4), never by a description that somebody typed.

    Parameters
    ----------
    path, series
        As :func:`imaging.dicom.series.read_series` takes them.

    Raises
    ------
    ValueError
        If there is no such series.
    """
    return weighting_of(_header(path, series))


def is_ct(path: Path, series: int | None = None) -> bool:
    """Whether a series is a CT's; errors as :func:`weighting`."""
    return modality(_header(path, series)) == "CT"


def _header(path: Path, series: int | None) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about odd values quote them
        return choose_series(image_headers(path), series)[0][1]


def weighting_of(dataset: Dataset) -> str | None:
    """The same by one image's header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        te, tr, ti = (_time(dataset, names) for names in (_ECHO, _REPETITION, _INVERSION))
        sequence = f"{dataset.get('ScanningSequence') or ''} {dataset.get('EchoPulseSequence') or ''}"
        agent = str(dataset.get("ContrastBolusAgent") or dataset.get("ContrastBolusAgentSequence") or "")
    if te is None:
        return None
    echoes = _GRADIENT in sequence
    if te >= _LONG_TE and not echoes:
        return "flair" if (ti or 0.0) >= _FLUID_NULLED else "t2"
    short = te <= (_SHORT_TE_OF_ECHOES if echoes else _SHORT_TE)
    if short and (echoes or ti or (tr or 0.0) < _LONG_TR):
        return "t1c" if agent.strip() else "t1"
    return None


def _time(dataset: Dataset, names: tuple[str, ...]) -> float | None:
    for item in (dataset, *_groups(dataset)):
        for name in names:
            try:
                return float(numbers(item, name, 1)[0])
            except ValueError:
                continue
    return None


def _groups(dataset: Dataset) -> Iterator[Dataset]:
    """Items in which an enhanced image keeps its times."""
    for group in dataset.get("SharedFunctionalGroupsSequence") or []:
        for name in _TIMES:
            yield from group.get(name) or []
