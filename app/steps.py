"""A walk of whole steps: killed anywhere, it goes on from the last one that was finished."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from imaging.atomic import whole_file
from imaging.case import Case
from imaging.folder import read_case, write_case

from .console import Progress

T = TypeVar("T")

_SEALS = ".steps"


@dataclass
class Walk:
    """The steps of one run and the folder that keeps their results.

    Results lie in ``folder/NAME``, their seals beside them in ``folder/.steps``. A step's key is
    a hash of its name, the software's version, its parameters and the keys of the steps it
    builds on. A result is kept with its key and the hash of every file, and is
    used again only if both still hold; so a rerun starts at the first step whose inputs changed.

    Parameters
    ----------
    folder
        Where results are kept, one folder a step.
    progress
        Called with a step's title and the share of it that is done, 0..1.
    keys
        Key of every step walked so far.
    seconds
        Wall time of every step walked so far.

    Raises
    ------
    ValueError
        If the folder holds files of somebody else, which a step could overwrite.
    """

    folder: Path
    progress: Progress
    keys: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seals = self.folder / _SEALS
        if self.folder.exists() and not seals.is_dir() and any(self.folder.iterdir()):
            raise ValueError(
                "expected a new or empty folder for the results, or one that an earlier run began; "
                "got one that holds other files"
            )
        seals.mkdir(parents=True, exist_ok=True)

    def step(
        self,
        name: str,
        title: str,
        inputs: Mapping[str, object],
        make: Callable[[], T],
        write: Callable[[T, Path], None],
        read: Callable[[Path], T],
        after: tuple[str, ...] = (),
    ) -> T:
        """The result of a step: read if it is there and still true, made and kept otherwise.

        Parameters
        ----------
        name
            Name of the step and of its folder.
        title
            What the progress bar says.
        inputs
            Parameters of the step, as JSON values.
        make
            Computes the result.
        write, read
            Keep the result in a folder, and give it back.
        after
            Names of the earlier steps that this one builds on.
        """
        started = time.monotonic()
        key = _key({"step": name, "inputs": dict(inputs), "after": [self.keys[a] for a in after]})
        self.keys[name] = key
        self.progress(title, 0.0)
        here, seal = self.folder / name, self.folder / _SEALS / f"{name}.json"
        if _still_true(here, seal, key):
            result = read(here)
        else:
            result = make()
            with whole_folder(here) as empty:
                write(result, empty)
            with whole_file(seal) as part:
                part.write_text(json.dumps({"key": key, "sha256": file_hash(here)}))
        self.seconds[name] = time.monotonic() - started
        self.progress(title, 1.0)
        return result

    def inside(self, what: str, share: float) -> None:
        """Progress from within a step: a line of its own below the step's."""
        self.progress(f"  {what}", share)

    def case(
        self,
        name: str,
        title: str,
        inputs: Mapping[str, object],
        make: Callable[[], Case],
        after: tuple[str, ...] = (),
    ) -> Case:
        """The result of a step that gives a case; parameters as in :meth:`step`."""
        return self.step(name, title, inputs, make, write_case, read_case, after)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder`` once everything in it is written.

    Whatever interrupts the writing, ``folder`` is left as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The names are fixed, so that what a killed run left behind goes with the next one.
    fresh = folder.parent / f".{folder.name}.part"
    old = folder.parent / f".{folder.name}.old"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in pieces; of a folder, over its files' names and hashes."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)} {file_hash(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _key(inputs: Mapping[str, object]) -> str:
    text = json.dumps({"version": version("spindose"), **inputs}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _still_true(folder: Path, seal: Path, key: str) -> bool:
    """Whether a kept result came from the same inputs and none of its files has changed."""
    try:
        sealed = json.loads(seal.read_text())
        return bool(sealed["key"] == key and sealed["sha256"] == file_hash(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return False
