"""Received instances on disk: each whole or not there, under names that tell nothing of a patient."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

_CHUNK = 1 << 20
_WORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
ARRIVING = "arriving"


class UnfitError(ValueError):
    """An instance that cannot be kept for what is in it."""


@dataclass(frozen=True)
class Instance:
    """One that is kept; UIDs stand as hashes.

    Parameters
    ----------
    name, series, study
        Hashes of its UIDs.
    path
        Where it lies.
    sha256
        Of its data set, without the file's own header.
    """

    name: str
    series: str
    study: str
    path: Path
    sha256: str


class Vault:
    """A folder of instances, one folder of them for each study.

    Parameters
    ----------
    folder
        Is made where it is not there; all of it on one file system.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ARRIVING).mkdir(parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Takes away what was being received when an earlier process died."""
        for path in (self.folder / ARRIVING).iterdir():
            path.unlink()

    def free(self) -> int:
        """Bytes that are left on the disk."""
        return shutil.disk_usage(self.folder).free

    @contextmanager
    def arriving(self) -> Iterator[Path]:
        """A path to receive an instance at, gone afterwards."""
        number, name = tempfile.mkstemp(dir=self.folder / ARRIVING, suffix=".dcm")
        os.close(number)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def keep(self, arrived: Path) -> tuple[Instance, bool]:
        """Keeps a file of DICOM under the name of its UIDs, on disk before this returns.

        Parameters
        ----------
        arrived
            Within the vault's file system; stays where it is.

        Returns
        -------
        tuple
            The instance, and whether it is new. One that has come before, with the same data set, is the
            earlier one; with another, it is kept beside it under a name of its own.

        Raises
        ------
        UnfitError
            If it is no DICOM, or a UID is missing or none.
        """
        uids = _uids(arrived)
        sha256 = _hash_of_data(arrived)
        name, series, study = (hashed(uids[word]) for word in _WORDS[1:2] + _WORDS[3:] + _WORDS[2:3])
        home = self.folder / study
        home.mkdir(exist_ok=True)
        for path in (home / f"{name}.dcm", home / f"{name}-{sha256[:16]}.dcm"):
            try:
                _link(arrived, path)
            except FileExistsError:
                if _hash_of_data(path) == sha256:
                    return Instance(name, series, study, path, sha256), False
                continue
            return Instance(name, series, study, path, sha256), True
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))

    def of(self, study: str) -> list[Path]:
        """The instances of a study."""
        return sorted((self.folder / study).glob("*.dcm"))


def hashed(uid: str) -> str:
    """What a UID is called here."""
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _uids(path: Path) -> dict[str, str]:
    try:
        header = dcmread(path, specific_tags=list(_WORDS), stop_before_pixels=True)
        # As they came: to read them as UIDs, pydicom would warn of others and tell them.
        found = {word: _text(header.get_item(tag_for_keyword(word) or 0)) for word in _WORDS}
    except (InvalidDicomError, OSError, ValueError, EOFError, NotImplementedError, KeyError) as error:
        raise UnfitError("expected an instance of DICOM, got a file that is none") from error
    if not all(UID(uid).is_valid and uid for uid in found.values()):
        raise UnfitError(f"expected {', '.join(_WORDS)} in an instance, got fewer or none that are UIDs")
    return found


def _text(element: object) -> str:
    value = getattr(element, "value", None)
    return value.decode("ascii", "replace").rstrip(" \0") if isinstance(value, bytes) else str(value or "")


def _hash_of_data(path: Path) -> str:
    """SHA-256 of what follows the file's own header, which whoever writes a file may word otherwise."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(_start_of_data(path))
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _start_of_data(path: Path) -> int:
    """Where the data set begins: after 128 bytes, ``DICM``, and the group that tells its own length."""
    with path.open("rb") as file:
        head = file.read(144)
    # (0002,0000) UL, four bytes: PS3.10, table 7.1-1.
    if head[128:132] != b"DICM" or head[132:136] != b"\x02\x00\x00\x00":
        raise UnfitError("expected an instance in a file of DICOM part 10, got another file")
    return 144 + int.from_bytes(head[140:144], "little")


def _link(arrived: Path, path: Path) -> None:
    """The same file under another name, once its bytes are on disk; fails where the name is taken."""
    with arrived.open("rb") as file:
        os.fsync(file.fileno())
    os.link(arrived, path)
    number = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
