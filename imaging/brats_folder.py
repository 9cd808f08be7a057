"""Folders in BraTS layout: which file of a case is which contrast."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONTRASTS = ("t1n", "t1c", "t2w", "t2f")
# Words since BraTS 2023, and those before.
_WORDS = {
    "t1n": "t1n",
    "t1c": "t1c",
    "t2w": "t2w",
    "t2f": "t2f",
    "t1": "t1n",
    "t1ce": "t1c",
    "t2": "t2w",
    "flair": "t2f",
    "seg": "seg",
    "labels": "labels",
}
_END = ".nii.gz"
_OLD = {"t1", "t1ce", "t2", "flair"}


@dataclass(frozen=True)
class CaseFiles:
    """Files of one case.

    Parameters
    ----------
    folder
        Where they lie: one patient's folder, or one examination's.
    contrasts
        Path of each contrast that is there, by its name since BraTS 2023.
    seg
        The tumour's parts, if there is a file of them.
    labels
        The tissues of the whole head, if there is a file of them, as the project's cohorts write it.
    old
        Whether the file's words are those before 2023, when enhancing tumour was 4 instead of 3.
    """

    folder: Path
    contrasts: Mapping[str, Path]
    seg: Path | None = None
    labels: Path | None = None
    old: bool = False


def find_cases(folder: Path) -> list[CaseFiles]:
    """Every case of a folder, by name.

    Files are ``CASE/CASE-t1n.nii.gz``, ``CASE/CASE_t1ce.nii.gz`` (before 2023) or ``CASE/t1n.nii.gz``.

    Parameters
    ----------
    folder
        Of cases, or one case itself.

    Raises
    ------
    ValueError
        If there is none, or a case has a contrast twice.
    """
    parents = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())] if folder.is_dir() else []
    found = [case for case in map(_case, parents) if case is not None]
    if not found:
        raise ValueError(
            "expected a folder of cases such as CASE/CASE-t1n.nii.gz with t1n, t1c, t2w or t2f, got none"
        )
    return found


def _case(folder: Path) -> CaseFiles | None:
    paths: dict[str, Path] = {}
    old = False
    for path in sorted(folder.glob(f"*{_END}")):
        word = path.name.removesuffix(_END).removeprefix(folder.name).lstrip("-_").lower()
        name = _WORDS.get(word)
        if name is None:
            continue
        if name in paths:
            raise ValueError(
                f"expected one file of each contrast in a case, got two of {name}; move one away"
            )
        paths[name] = path
        old = old or word in _OLD
    contrasts = {name: paths[name] for name in CONTRASTS if name in paths}
    return CaseFiles(folder, contrasts, paths.get("seg"), paths.get("labels"), old) if contrasts else None
