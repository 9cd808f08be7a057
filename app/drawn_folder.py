"""A folder that drawn images go to: what was asked, a journal of what is whole, and the manifest."""

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from imaging.atomic import whole_file

from .cohort_job import STATE
from .console import RESEARCH_ONLY, Progress
from .steps import file_hash

MANIFEST, PARAMETERS = "manifest.json", "parameters.jsonl"
_ASKED, _JOURNAL = "cohort.json", "drawn.jsonl"

Entry = Mapping[str, Any]  # ``number``, ``files`` (size and SHA-256 by path), ``traits``
Entries = dict[int, Entry]


@contextmanager
def begun(out: Path, asked: Mapping[str, Any], what: str = "cohort") -> Iterator[None]:
    """The folder, ours alone: new, or begun by an earlier run that was asked the same.

    Parameters
    ----------
    out
        The folder.
    asked
        JSON values that every image in it follows from; the physical cohort's folders keep theirs in the
        same file, so neither goes on with the other's.
    what
        What the folder is of.

    Raises
    ------
    ValueError
        If it holds something else, was begun with other settings, or another run writes to it.
    """
    state = out / STATE
    if out.exists() and (not out.is_dir() or (not state.is_dir() and any(out.iterdir()))):
        raise ValueError(
            f"expected a new or empty folder for the {what}, or one that an earlier run began; "
            "got one that holds other files"
        )
    _expect_same(state / _ASKED, asked)
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"expected a {what} that nobody writes to, got one that another run is making; wait for it"
            ) from None
        if not (state / _ASKED).is_file():
            with whole_file(state / _ASKED) as part:
                part.write_text(json.dumps(asked, indent=1))
        yield


def kept(out: Path, n: int, progress: Progress) -> Entries:
    """Entries of the journal whose files are as it says; it is written anew without the others.

    Raises
    ------
    ValueError
        If it holds more than the n that are asked for.
    """
    found: Entries = {}
    path = out / STATE / _JOURNAL
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for at, line in enumerate(lines, start=1):
        entry = _entry(line)
        if entry is not None and _whole(out, entry["files"]):
            found[entry["number"]] = entry
        progress("Checking finished cases", at / len(lines))
    if found and max(found) >= n:
        raise ValueError(
            f"expected --n of at least {max(found) + 1}, as many as the folder holds already, got {n}"
        )
    with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(found[k]) + "\n" for k in sorted(found))
    return found


@contextmanager
def journal(out: Path) -> Iterator[TextIO]:
    """The journal, to enter finished images in."""
    with (out / STATE / _JOURNAL).open("a", encoding="utf-8") as file:
        yield file


def enter(file: TextIO, out: Path, k: int, paths: Iterable[Path], traits: Mapping[str, Any]) -> Entry:
    """Image k, whose files are all there; from now on it is kept."""
    files = {
        str(path.relative_to(out)): {"bytes": path.stat().st_size, "sha256": file_hash(path)}
        for path in paths
    }
    entry = {"number": k, "files": files, "traits": dict(traits)}
    file.write(json.dumps(entry) + "\n")
    file.flush()
    return entry


def publish(
    out: Path, entries: Entries, about: Mapping[str, Any], licence: object, sheets: Iterable[Path]
) -> None:
    """``parameters.jsonl`` with a line for each image, and ``manifest.json`` with the hash of every file.

    Parameters
    ----------
    out
        The folder.
    entries
        Of all images.
    about
        What they follow from.
    licence
        What the generator's card says of it.
    sheets
        Files of the folder as a whole.
    """
    with whole_file(out / PARAMETERS) as part, part.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(entries[k]["traits"]) + "\n" for k in sorted(entries))
    beside = {
        str(path.relative_to(out)): {"bytes": path.stat().st_size, "sha256": file_hash(path)}
        for path in [out / PARAMETERS, *sheets]
    }
    whole = {
        "description": f"Images drawn by a learned generator; none shows a patient. {RESEARCH_ONLY}",
        "version": version("spindose"),
        "licence": licence if isinstance(licence, str) else "",
        "cases": len(entries),
        **about,
        "files": {
            **beside,
            **{name: one for k in sorted(entries) for name, one in entries[k]["files"].items()},
        },
    }
    with whole_file(out / MANIFEST) as part:
        part.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def _expect_same(path: Path, asked: Mapping[str, Any]) -> None:
    """Refuse a folder begun with other settings, saying in what they differ."""
    try:
        was = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except ValueError:
        was = {}
    was = was if isinstance(was, dict) else {}
    wanted = json.loads(json.dumps(asked))
    if differ := [name for name in wanted if was.get(name) != wanted[name]]:
        raise ValueError(
            f"expected a folder begun with the same settings, got one of another {' and '.join(differ)}; "
            "give another --out"
        )


def _entry(line: str) -> Entry | None:
    """A line of the journal, if it was written whole."""
    try:
        entry = json.loads(line)
        ok = type(entry["number"]) is int and entry["files"] and isinstance(entry["traits"], dict)
    except (ValueError, KeyError, TypeError):
        return None
    return entry if ok else None


def _whole(out: Path, files: Mapping[str, Mapping[str, Any]]) -> bool:
    try:
        return all(file_hash(out / name) == one["sha256"] for name, one in files.items())
    except (OSError, KeyError, TypeError, AttributeError):
        return False
