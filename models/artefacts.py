"""Files of models kept by their hashes, in the layout of Hugging Face's cache, and packed to be handed on.

``models--ORIGINATOR--NAME`` holds ``blobs/SHA256``, ``snapshots/REVISION/FILE`` and ``refs/main``, so that
`huggingface_hub` finds them with its own functions. Nothing but weights (safetensors), cards and calibrations
(JSON), curves (PNG) and text goes in: no pickle, whatever it calls itself. What is packed holds no picture.
"""

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

WEIGHTS, PICTURE = ".safetensors", ".png"
KINDS = (WEIGHTS, ".json", PICTURE, ".toml", ".md")
MANIFEST = "manifest.json"
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ORIGINATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LARGEST, _LARGEST_TEXT = 256 * 2**20, 2**20  # bytes of a file of weights, and of any other
_MOST_FILES = 64
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = 2**20


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def revision_of(files: Mapping[str, str]) -> str:
    """What a set of files, by name and SHA-256, is called: 40 digits, as Git's commits have."""
    return hashlib.sha256(json.dumps(dict(sorted(files.items()))).encode()).hexdigest()[:40]


def expect_harmless(paths: Iterable[Path]) -> None:
    """Refuses files that are not what a model is made of.

    Raises
    ------
    ValueError
        If there are none or too many, a name could lead elsewhere, one is a link or too large, of another
        kind, or not what its name says.
    """
    found = list(paths)
    if not 0 < len(found) <= _MOST_FILES:
        raise ValueError(f"expected 1 to {_MOST_FILES} files of a model, got {len(found)}")
    for path in found:
        if path.is_symlink():
            raise ValueError(
                f"expected files of a model, got {path.name[:100]!r}, a link; give the file itself"
            )
        _expect(path.name, path)


def _expect(name: str, path: Path) -> None:
    """One file, whatever the name that it is kept under."""
    suffix = Path(name).suffix
    if not _FILE.fullmatch(name) or suffix not in KINDS:
        raise ValueError(
            f"expected files of {', '.join(KINDS)} with plain names, got {name[:100]!r}; "
            "weights travel as safetensors, never as pickles"
        )
    most = _LARGEST if suffix == WEIGHTS else _LARGEST_TEXT
    if not path.is_file() or path.stat().st_size > most:
        raise ValueError(f"expected a file of at most {most >> 20} MiB, got {name}, which is none or larger")
    if not _is_what_it_says(path, suffix):
        raise ValueError(f"expected {name} to be what its name says, got something else in it")


def kept(paths: Iterable[Path], root: Path, originator: str, name: str) -> tuple[str, dict[str, str]]:
    """Files of a model kept under ``root``; gives its revision and their hashes.

    Parameters
    ----------
    paths
        Files of different names.
    root
        Where models are kept.
    originator, name
        Whose it is and what it is called.

    Raises
    ------
    ValueError
        If a file is refused (:func:`expect_harmless`), or the originator's name could lead elsewhere.
    """
    if not _ORIGINATOR.fullmatch(originator) or "--" in originator + name:
        raise ValueError(
            "expected an originator of letters, digits, dots, dashes and underscores without a double dash, "
            f"got {originator[:100]!r}"
        )
    found = sorted(paths)
    expect_harmless(found)
    files = {path.name: sha256(path) for path in found}
    revision, home = revision_of(files), home_of(root, originator, name)
    for folder in ("blobs", "refs", f"snapshots/{revision}"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for path in found:
        blob = home / "blobs" / files[path.name]
        if not blob.exists():
            part = blob.with_name(f"{blob.name}.{os.getpid()}.part")
            shutil.copyfile(path, part)
            part.replace(blob)
        _linked(home / "snapshots" / revision / path.name, blob)
    ref = home / "refs" / f"main.{os.getpid()}.part"
    ref.write_text(revision, encoding="utf-8")
    ref.replace(home / "refs" / "main")
    return revision, files


def home_of(root: Path, originator: str, name: str) -> Path:
    """The folder of one model."""
    return root / f"models--{originator}--{name}"


def files_of(home: Path, revision: str, files: Mapping[str, str]) -> dict[str, Path]:
    """The files of a revision, once their bytes are seen to be those that were imported.

    Raises
    ------
    ValueError
        If one is missing or altered.
    """
    out = {}
    for name, digest in files.items():
        path = home / "snapshots" / revision / name
        if not path.is_file() or sha256(path) != digest:
            raise ValueError(
                f"expected {name} as it was imported, got it missing or altered; it does not run, "
                "import the model again and find out why"
            )
        out[name] = path
    return out


def packed(files: Mapping[str, Path], out: Path) -> None:
    """One file of a model's files and a manifest of their hashes, to be handed on; whole or not at all.

    Parameters
    ----------
    files
        By name; pictures are left out, for nobody can tell what they show.
    out
        The file to write, a zip archive.

    Raises
    ------
    ValueError
        If a file is refused (:func:`expect_harmless`).
    """
    files = {name: path for name, path in files.items() if path.suffix != PICTURE}
    for name, path in files.items():
        _expect(name, path)
    part = out.with_name(f".{os.getpid()}.part.{out.name}")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            hashes = {name: sha256(path) for name, path in sorted(files.items())}
            archive.writestr(_entry(MANIFEST), json.dumps({"files": hashes}, indent=1))
            for name, path in sorted(files.items()):
                archive.writestr(_entry(name), path.read_bytes())
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def unpacked(pack: Path, folder: Path) -> list[Path]:
    """What :func:`packed` wrote, in a folder of its own, each file as the manifest says.

    Raises
    ------
    ValueError
        If it is no such file, holds others than its manifest says, or a name leads elsewhere.
    """
    try:
        with zipfile.ZipFile(pack) as archive:
            return _taken(archive, folder)
    except (
        zipfile.BadZipFile,
        KeyError,
        TypeError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        AttributeError,
    ):
        raise ValueError("expected a packed model, got another file; see `spindose models pack`") from None


def _taken(archive: zipfile.ZipFile, folder: Path) -> list[Path]:
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()) or len(entries) > _MOST_FILES + 1:
        raise ValueError(f"expected a packed model of at most {_MOST_FILES} files, each once, got another")
    if any(entry.file_size > _LARGEST for entry in entries.values()):
        raise ValueError(
            f"expected files of at most {_LARGEST >> 20} MiB in a packed model, got a larger one"
        )
    hashes: dict[str, str] = json.loads(archive.read(entries[MANIFEST]))["files"]
    if set(entries) != {*hashes, MANIFEST} or not all(_FILE.fullmatch(name) for name in hashes):
        raise ValueError("expected the files that the manifest of a packed model names, got others")
    out = []
    for name, digest in hashes.items():
        data = archive.read(entries[name])
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"expected {name} as it was packed, got it altered; ask for the file again")
        (folder / name).write_bytes(data)
        out.append(folder / name)
    expect_harmless(out)
    return out


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry without a date or an owner: the same files give the same bytes."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _linked(place: Path, blob: Path) -> None:
    """A relative link as Hugging Face's cache has it, or a copy where links cannot be made."""
    if place.exists():
        return
    try:
        place.symlink_to(os.path.relpath(blob, place.parent))
    except FileExistsError:
        return
    except OSError:
        shutil.copyfile(blob, place)


def _is_what_it_says(path: Path, suffix: str) -> bool:
    try:
        if suffix == WEIGHTS:
            with safe_open(path, framework="pt") as file:
                return len(list(file.keys())) > 0
        data = path.read_bytes()
        if suffix == PICTURE:
            return data[: len(_PNG)] == _PNG
        text = data.decode("utf-8")
        return "\x00" not in text and (suffix != ".json" or json.loads(text) is not None)
    except (SafetensorError, OSError, ValueError):
        return False
