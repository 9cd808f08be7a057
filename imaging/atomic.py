"""Files and folders that are there whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` once writing it has ended well.

    Whatever interrupts the writing, a file that was at ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays, for libraries choose a format by it.
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``folder`` once filling it has ended well.

    Raises
    ------
    ValueError
        If ``folder`` already holds something: it could be somebody's scan.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError("expected a new or empty folder to write to, got one that holds files")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.parent / f".{os.getpid()}.part.{folder.name}"
    part.mkdir()
    try:
        yield part
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
