"""What a check of files finds, in one sentence each."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """What follows from a finding."""

    REFUSED = "refused"
    FLAGGED = "flagged"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that cannot be told.

    Parameters
    ----------
    severity
        Refused: the files must not be used together as they are. Flagged: somebody must look.
    sentence
        What was expected, what came and what to do; it names no patient.
    """

    severity: Severity
    sentence: str


def refused(sentence: str) -> Finding:
    """A finding that forbids the use of the files."""
    return Finding(Severity.REFUSED, sentence)


def flagged(sentence: str) -> Finding:
    """A finding that somebody must look at."""
    return Finding(Severity.FLAGGED, sentence)


def unreadable(error: ValueError) -> Finding:
    """What a reader refuses, in its own sentence.

    What others say of a value could quote it, and a value can be a name: that is said in ours.
    """
    said = str(error)
    if said.startswith("expected "):
        return refused(said)
    return refused(
        "expected files whose values can be read, got one with values that cannot; export it again"
    )
