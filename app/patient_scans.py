"""The scans in one patient's folder that can be contoured, and which contrast each has."""

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.misc import is_dicom

from imaging.dicom.attributes import whole_number
from imaging.dicom.files import Header, image_headers, modality, series_among
from imaging.dicom.weighting import weighting_of

from .contrasts import contrast_of

_NIFTI = (".nii", ".nii.gz")
_ORDER = ("t1c", "t1", "t2", "flair")  # contours lie on the first one's grid: that which targets are drawn on
_DRAWN = {"seg", "segmentation", "label", "labels", "mask", "roi", "ct", "dose", "pet", "adc", "dwi"}
_FEWEST = 10  # images of a series of a head; localizers have fewer
# Of Image Type: pictures that are computed of others, or show a direction of each.
_NOT_SCANS = {"LOCALIZER", "ADC", "FA", "TRACEW", "SUB", "SUBTRACT", "SUBTRACTION", "MIP", "PROJECTION IMAGE"}


@dataclass(frozen=True, repr=False)
class PatientScans:
    """Scans of one patient; printing it shows nothing.

    Parameters
    ----------
    mri
        NIfTI files, or DICOM folders.
    contrasts
        Of each.
    series
        Which series of its folder each is; None where it is the only one.
    """

    mri: tuple[Path, ...]
    contrasts: tuple[str, ...]
    series: tuple[int | None, ...]

    def __repr__(self) -> str:
        return "PatientScans(hidden)"


def patient_scans(folder: Path) -> PatientScans:
    """One to four scans of a patient, each another contrast, T1 with contrast agent first.

    DICOM images, wherever they lie in the folder, or else NIfTI files, of which names tell the contrast as
    BraTS and BIDS have them. Of several DICOM series of one contrast that with the most images is taken;
    localizers, echo-planar series and computed pictures never are.

    Parameters
    ----------
    folder
        The patient's.

    Raises
    ------
    ValueError
        If no scan tells its contrast, files of one contrast cannot be told apart, or scans are of several
        patients or examinations.
    """
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    if not files:
        raise ValueError("expected scans in a patient's folder, got none; fill it or take it away")
    named = sorted(p for p in files if p.name.endswith(_NIFTI))
    if named and not any(is_dicom(p) for p in files if p not in named):
        return _of_files(named)
    return _of_series(folder)


def _of_files(files: Sequence[Path]) -> PatientScans:
    found: dict[str, Path] = {}
    for path in files:
        # The name of a case may hold any word.
        name = path.name.removeprefix(path.parent.name)
        name = path.name if name in _NIFTI else name
        if set(re.split(r"[^a-z0-9]+", name.lower())) & _DRAWN:
            continue
        contrast = contrast_of(Path(name))
        if contrast in found:
            raise ValueError(f"expected every contrast once, got {contrast} twice; leave one out")
        if contrast is not None:
            found[contrast] = path
    if not found:
        raise ValueError(
            "expected NIfTI files whose names tell t1, t1c, t2 or flair, got none; name them so, such as "
            "t1c.nii.gz"
        )
    names = tuple(name for name in _ORDER if name in found)
    return PatientScans(tuple(found[name] for name in names), names, (None,) * len(names))


def _of_series(folder: Path) -> PatientScans:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about odd values quote them
        headers = image_headers(folder)
        chosen: dict[str, list[Header]] = {}
        for group in filter(_is_scan, series_among(headers)):
            contrast = weighting_of(group[0][1])
            if contrast is not None:
                chosen[contrast] = _better(chosen.get(contrast, []), group, contrast)
        if not chosen:
            raise ValueError(
                "expected an MR series of a head whose header tells its contrast, got none; contour it alone "
                "with --contrasts"
            )
        first = [group[0][1] for group in chosen.values()]
        for what, word in (("patient", "PatientID"), ("examination", "StudyInstanceUID")):
            if len({str(dataset.get(word, "")) for dataset in first}) > 1:
                raise ValueError(
                    f"expected scans of one {what} in a patient's folder, got several; give each a folder "
                    "of its own"
                )
        names = tuple(name for name in _ORDER if name in chosen)
        places = [_place(chosen[name], headers) for name in names]
    return PatientScans(tuple(p for p, _ in places), names, tuple(n for _, n in places))


def _is_scan(group: list[Header]) -> bool:
    dataset = group[0][1]
    told = dataset.get("ImageType") or ()
    kinds = {str(word).upper() for word in ([told] if isinstance(told, str) else told)}
    planar = "EP" in str(dataset.get("ScanningSequence") or "")
    planar = planar or dataset.get("EchoPlanarPulseSequence") == "YES"
    enough = modality(dataset) == "MR" and _n_images(group) >= _FEWEST
    return enough and not planar and not kinds & _NOT_SCANS


def _n_images(group: list[Header]) -> int:
    return sum(whole_number(dataset, "NumberOfFrames", 1) for _, dataset in group)


def _better(known: list[Header], other: list[Header], contrast: str) -> list[Header]:
    if _n_images(known) == _n_images(other):
        raise ValueError(
            f"expected one series of {contrast}, or one with the most images, got two of as many; "
            "leave one out"
        )
    return max(known, other, key=_n_images)


def _place(group: list[Header], headers: list[Header]) -> tuple[Path, int | None]:
    """The smallest folder of a series, and its number there."""
    where = Path(os.path.commonpath([file.parent for file, _ in group]))
    here = series_among([header for header in headers if header[0].is_relative_to(where)])
    mine = str(group[0][1].get("SeriesInstanceUID", ""))
    uids = [str(one[0][1].get("SeriesInstanceUID", "")) for one in here]
    return where, uids.index(mine) + 1 if len(uids) > 1 else None
