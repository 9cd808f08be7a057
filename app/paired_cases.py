"""Pairs of MRI and CT of one patient, in whatever layout a folder keeps them.

Found by looking, several in one folder if need be:

- SynthRAD 2023 and 2025, task 1: ``1BA001/{mr,ct,mask}.nii.gz`` (Thummerer et al., Med. Phys. 50, 4664
  (2023)), ``HN/1HNA001/{mr,ct,mask}.mha`` (Thummerer et al., arXiv:2502.17609). Brains (B) and heads and
  necks (HN) are heads; pelves (P), thoraces (TH) and abdomens (AB) are counted and left out. Folders of other
  names with those files are taken as heads.
- BIDS: ``sub-*/[ses-*/]anat/*_{T1w,T2w,FLAIR,T2starw,PDw}.nii.gz`` with one ``*_ct.nii.gz`` in ``ct/`` or
  ``anat/`` of the same session.
- The project's: cases with a ``case.json``, and cohorts in BraTS layout with a ``CASE-ct.nii.gz``.

A pair is told of by its number, since names of folders may be names of patients: pairs are numbered as
their folders are sorted.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imaging.brats_folder import find_cases
from imaging.metaimage import read_mha
from imaging.nifti import read_nifti
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume
from planning.contour.body import body_of

SYNTHRAD, BIDS, CASES = "SynthRAD", "BIDS", "the project's cases"
_NAMED = re.compile(r"[12](B|P|HN|TH|AB)[A-Z]\d{3}")  # task, region, centre, number
_HEADS = ("B", "HN")
_ENDS = (".nii.gz", ".nii", ".mha")
_BIDS = ("T1w", "T2w", "FLAIR", "T2starw", "PDw")
_DEEPEST = 5  # folders below the one that is given
_ELSEWHERE = {"derivatives", "sourcedata", "code", "overview"}  # of BIDS and SynthRAD: no cases as scanned
_MOST = 4  # contrasts of a pair
NOT_A_HEAD, NO_CT, NO_MR = "not of a head", "without a CT of its own", "without an MRI"


@dataclass(frozen=True, repr=False)
class PairFiles:
    """Where one pair lies; printing it shows its number alone.

    Parameters
    ----------
    name
        Neutral: ``pair 3``.
    layout
        How it is kept.
    patient
        A hash that pairs of one patient share.
    mr
        One to four contrasts.
    ct
        The CT.
    mask
        The body, where there is a file of it.
    """

    name: str
    layout: str
    patient: str
    mr: tuple[Path, ...]
    ct: Path
    mask: Path | None = None

    def __repr__(self) -> str:
        return f"PairFiles({self.name})"


@dataclass(frozen=True)
class Found:
    """Pairs of folders, and how many cases are none, by the reason.

    Parameters
    ----------
    pairs
        In the order of their numbers.
    skipped
        How many cases were left out, by the reason.
    """

    pairs: tuple[PairFiles, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Pair:
    """A pair as it was scanned.

    Parameters
    ----------
    mr
        Contrasts, shape ``(1, i, j, k)``, each on its own grid.
    ct
        HU; air outside the mask, where there was one, so that no couch is left.
    body
        Voxels of the CT inside the patient.
    """

    mr: tuple[Volume, ...]
    ct: Volume
    body: Mask


def paired_cases(folders: Sequence[Path]) -> Found:
    """Every pair of folders.

    Parameters
    ----------
    folders
        Of one case, or of cases up to five folders down.

    Raises
    ------
    ValueError
        If there is none, a case's index is damaged, or a file of a case lies outside its folder.
    """
    found: list[PairFiles] = []
    skipped: Counter[str] = Counter()
    for folder in folders:
        if not folder.is_dir():
            raise ValueError("expected DATA to name folders of pairs of MRI and CT, got a path that is none")
        root = folder.resolve()
        for case in _cases(root, _DEEPEST):
            if isinstance(case, str):
                skipped[case] += 1
                continue
            for path in (*case.mr, case.ct, *([case.mask] if case.mask else [])):
                _expect_inside(path, root)
            if all(case.ct.resolve() != known.ct.resolve() for known in found):
                found.append(case)
    if not found:
        told = "; ".join(f"{n} {why}" for why, n in sorted(skipped.items()))
        raise ValueError(
            f"expected pairs of MRI and CT of heads as SynthRAD, BIDS or a cohort keeps them, got none"
            f"{f' ({told})' if told else ''}; name their folder"
        )
    numbered = (
        PairFiles(f"pair {n}", p.layout, p.patient, p.mr, p.ct, p.mask) for n, p in enumerate(found, start=1)
    )
    return Found(tuple(numbered), dict(skipped))


def read_pair(case: PairFiles) -> Pair:
    """The volumes of a pair.

    Raises
    ------
    ValueError
        If a file cannot be read, or the CT or the mask shows no body.
    """
    mr = tuple(_read(path, Quantity.MR) for path in case.mr)
    ct = _read(case.ct, Quantity.HU)
    if case.mask is None:
        return Pair(mr, ct, body_of(ct))
    body = resample(_read(case.mask, Quantity.LABEL), ct.grid).data[0] > 0
    if not body.any():
        raise ValueError("expected a mask with a body in it, got an empty one; leave the file out")
    return Pair(mr, Volume(ct.data.masked_fill(~body[None], -1000.0), ct.grid, Quantity.HU, ct.frame), body)


def _read(path: Path, quantity: Quantity) -> Volume:
    return (read_mha if path.name.endswith(".mha") else read_nifti)(path, quantity)


def _cases(folder: Path, deeper: int) -> Iterator[PairFiles | str]:
    """Pairs of a folder and of those below it, and why cases are none."""
    if (folder / "case.json").is_file():
        yield _own(folder)
    elif _NAMED.fullmatch(folder.name) or (_file(folder, "mr") and _file(folder, "ct")):
        yield _synthrad(folder)
    elif folder.name.startswith("sub-"):
        sessions = sorted(p for p in folder.glob("ses-*") if p.is_dir()) or [folder]
        yield from (_session(session, f"{folder.parent} {folder.name}") for session in sessions)
    elif any((folder / f"{folder.name}-ct{end}").is_file() for end in _ENDS):
        yield _brats(folder)
    elif deeper:
        below = (p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith("."))
        for path in below:
            if path.name not in _ELSEWHERE:
                yield from _cases(path, deeper - 1)


def _synthrad(folder: Path) -> PairFiles | str:
    named = _NAMED.fullmatch(folder.name)
    if named and named[1] not in _HEADS:
        return NOT_A_HEAD
    mr, ct = _file(folder, "mr"), _file(folder, "ct")
    if mr is None or ct is None:
        return NO_MR if mr is None else NO_CT
    patient = folder.name if named else str(folder)
    return PairFiles("", SYNTHRAD, _hashed(patient), (mr,), ct, _file(folder, "mask"))


def _session(folder: Path, patient: str) -> PairFiles | str:
    cts = [
        p for place in ("ct", "anat") for end in _ENDS for p in sorted((folder / place).glob(f"*_ct{end}"))
    ]
    # A gadolinium agent makes a contrast of its own; repetitions of one do not.
    contrasts: dict[tuple[str, bool], Path] = {}
    for suffix in _BIDS:
        for end in _ENDS:
            for path in sorted((folder / "anat").glob(f"*_{suffix}{end}")):
                contrasts.setdefault((suffix, "_ce-" in path.name), path)
    if not contrasts or len(cts) != 1:
        return NO_CT if contrasts else NO_MR
    return PairFiles("", BIDS, _hashed(patient), tuple(contrasts.values())[:_MOST], cts[0])


def _brats(folder: Path) -> PairFiles | str:
    ct = next(path for end in _ENDS if (path := folder / f"{folder.name}-ct{end}").is_file())
    try:
        contrasts = tuple(find_cases(folder)[0].contrasts.values())
    except ValueError:
        return NO_MR
    return PairFiles("", CASES, _hashed(str(folder)), contrasts, ct)


def _own(folder: Path) -> PairFiles | str:
    try:
        index: dict[str, Any] = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        files = {name: (str(e["file"]), str(e["quantity"])) for name, e in index["volumes"].items()}
        patient = str(index["source"]["patient_id"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("expected a case.json as write_case writes it, got a damaged one") from None
    if any(Path(file).name != file for file, _ in files.values()):
        raise ValueError("expected the files of a case beside its case.json, got a path that leads elsewhere")
    mr = [folder / file for file, quantity in files.values() if quantity == Quantity.MR]
    ct = [
        folder / file for name, (file, quantity) in files.items() if (name, quantity) == ("ct", Quantity.HU)
    ]
    if not mr or not ct:
        return NO_CT if mr else NO_MR
    return PairFiles("", CASES, _hashed(patient or str(folder)), tuple(mr[:_MOST]), ct[0])


def _file(folder: Path, stem: str) -> Path | None:
    paths = (folder / f"{stem}{end}" for end in _ENDS)
    return next((path for path in paths if path.is_file()), None)


def _expect_inside(path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root):
        raise ValueError("expected files of DATA inside its folder, got a link that leads out; copy them")


def _hashed(patient: str) -> str:
    return hashlib.sha256(patient.encode()).hexdigest()
