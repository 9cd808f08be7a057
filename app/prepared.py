"""What is made ready of real scans once and learnt from often: kept beside its verdict, split by patient."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from imaging.atomic import whole_file


@runtime_checkable
class OfPatient(Protocol):
    """Something made ready of a patient's scans."""

    @property
    def key(self) -> str:
        """Hash of what it was made of."""

    @property
    def patient(self) -> str:
        """A hash that all of one patient share."""


Prepared = TypeVar("Prepared", bound=OfPatient)


def split_patients(pairs: Sequence[Prepared], share: float) -> tuple[list[Prepared], list[Prepared]]:
    """Pairs to train on, and those of held-out patients, one patient at least.

    Who is held out follows from the content of the scans alone, not from names, order or a run's seed:
    networks of an ensemble hold out the same patients.

    Parameters
    ----------
    pairs
        All of them.
    share
        Of the patients, to hold out.

    Raises
    ------
    ValueError
        If there is one patient alone, so that nobody could be held out.
    """
    first: dict[str, str] = {}
    for pair in pairs:
        first[pair.patient] = min(pair.key, first.get(pair.patient, pair.key))
    if len(first) < 2:
        raise ValueError(
            "expected scans of two patients or more, to hold one out, got those of one; add some of others"
        )
    drawn = sorted(first, key=lambda patient: first[patient])
    out = set(drawn[: min(max(round(share * len(drawn)), 1), len(drawn) - 1)])
    return (
        [p for p in pairs if p.patient not in out],
        [p for p in pairs if p.patient in out],
    )


def verdict_beside(path: Path, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What was said of something when it was made ready, kept as JSON beside it; made now if it was not.

    Parameters
    ----------
    path
        Where it lies, or would if it is fit.
    make
        Makes it ready and says what is to be kept of that.
    """
    told = path.with_suffix(".json")
    if not told.is_file():
        verdict = make()
        with whole_file(told) as part:
            part.write_text(json.dumps(verdict) + "\n", encoding="utf-8")
    return dict(json.loads(told.read_text(encoding="utf-8")))


def expect_data(data: Sequence[Path], kept: Path) -> None:
    """Refuses a run that began with data and goes on without.

    Parameters
    ----------
    data
        What was given now.
    kept
        The run's split, a file that is there if it began with some.

    Raises
    ------
    ValueError
        If it is there and nothing is given.
    """
    if not data and kept.is_file():
        raise ValueError("expected the DATA that this run began with, got none; name its folders again")


def keep_split(kept: Path, told: Mapping[str, Any], begun: bool, what: str) -> None:
    """Keeps whom a run learns from, or refuses another split than the one that it began with.

    Parameters
    ----------
    kept
        The run's split.
    told
        Hashes of what is learnt from and held out.
    begun
        Whether training has begun.
    what
        All that the split follows from, for the refusal.

    Raises
    ------
    ValueError
        If training began with another split.
    """
    if begun and (not kept.is_file() or json.loads(kept.read_text(encoding="utf-8")) != told):
        raise ValueError(
            f"expected the {what} that this run began with, got others; "
            "use a new folder, and --start for its weights"
        )
    with whole_file(kept) as part:
        part.write_text(json.dumps(told) + "\n", encoding="utf-8")
