"""Unique identifiers: fresh ones, or the same ones every time from the same words."""

import hashlib
import uuid


def seeded_uid(*words: object) -> str:
    """The DICOM UID that stands for these words, always the same.

    A UUID-derived UID (DICOM PS3.5 B.2) whose 128 bits are a SHA-256 of the words.
    """
    digest = hashlib.sha256("\x1f".join(map(str, words)).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


def fresh_uid() -> str:
    """A DICOM UID that was never used before (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"
