"""Scans of one head as the contrasts that networks take: which is which, and all on one grid."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from imaging.agreement import dice
from imaging.brightness import scaled
from imaging.dicom.weighting import is_ct, weighting
from imaging.intensity import head_mask
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.volume import Volume
from planning.contour.classes import CONTRASTS

CT = "ct"  # in the place of a contrast: a CT alone
_SAME_HEAD = 0.85  # Dice of the heads of two contrasts that lie in one place
_BRIGHT = 0.1  # of the scale of what is bright
_NIFTI = (".nii", ".nii.gz")
# Words of file names, the most telling first: those of BraTS since 2023, of BraTS before, and common ones.
_WORDS = (
    ("flair", {"flair", "t2f", "t2flair", "t2_flair"}),
    ("t1c", {"t1c", "t1ce", "t1gd", "t1post", "t1kontrast", "t1wce", "t1contrast"}),
    ("t2", {"t2", "t2w", "t2n"}),
    ("t1", {"t1", "t1n", "t1w", "mprage", "bravo"}),
    (CT, {"ct"}),
)
_KNOWN = (*CONTRASTS, CT)
_AGENT = {"ce", "gd", "post", "contrast", "gado", "gad", "km"}


def contrast_of(path: Path, series: int | None = None) -> str | None:
    """One of :data:`CONTRASTS` or ``ct``, by a DICOM header or a NIfTI file's name; None if neither tells."""
    if not path.name.endswith(_NIFTI):
        return CT if is_ct(path, series) else weighting(path, series)
    stem = path.name.lower().removesuffix(".gz").removesuffix(".nii")
    words = set(re.split(r"[^a-z0-9]+", stem))
    for name, known in _WORDS:
        if words & known:
            return "t1c" if name == "t1" and words & _AGENT else name
    return None


def contrasts_of(
    paths: Sequence[Path], asked: Sequence[str], series: Sequence[int | None] = ()
) -> tuple[str, ...]:
    """The contrast of each scan: as asked, or as headers and names tell.

    Parameters
    ----------
    paths
        The scans.
    asked
        Their contrasts; none to look.
    series
        Which series of its DICOM folder each is; with none, there is one in each.

    Raises
    ------
    ValueError
        If one is not told, there is no such contrast, there are more or fewer than scans, or one is there
        twice.
    """
    if asked and len(asked) != len(paths):
        raise ValueError(f"expected a contrast for each of {len(paths)} scans, got {len(asked)}")
    each = series or (None,) * len(paths)
    found: Sequence[str | None] = asked or [contrast_of(p, n) for p, n in zip(paths, each, strict=True)]
    for n, name in enumerate(found, start=1):
        if name is None:
            raise ValueError(
                f"expected scan {n} to tell its contrast, got a header or name that does not; "
                f"say it with --contrasts, of {', '.join(_KNOWN)}"
            )
        if name not in _KNOWN:
            raise ValueError(f"expected contrasts of {', '.join(_KNOWN)}, got {name!r}")
        if name == CT and len(found) > 1:
            raise ValueError("expected MRI together, or a CT alone, got a CT among others; leave it out")
    told = tuple(str(name) for name in found)
    if twice := {name for name in told if told.count(name) > 1}:
        raise ValueError(
            f"expected every contrast once, got {min(twice)} twice; leave one out, or say which is which "
            "with --contrasts"
        )
    return told


def in_channels(volumes: Sequence[Volume], names: Sequence[str]) -> Volume:
    """MR signal of :data:`CONTRASTS` on the first scan's grid, 0 where one was not taken.

    Raises
    ------
    ValueError
        If a head lies elsewhere than the first one's.
    """
    there = together(volumes)
    data = torch.zeros(len(CONTRASTS), *there.grid.shape)
    for channel, name in zip(there.data, names, strict=True):
        data[CONTRASTS.index(name)] = channel
    return replace(there, data=data)


def together(volumes: Sequence[Volume]) -> Volume:
    """Contrasts of one head on the first one's grid.

    Raises
    ------
    ValueError
        If a head lies elsewhere than the first one's.
    """
    first = volumes[0]
    if len(volumes) == 1:
        return first
    head = _head(first)
    channels = [first.data]
    for n, volume in enumerate(volumes[1:], start=2):
        here = resample(volume, first.grid)
        overlap = dice(head, _head(here))
        if overlap < _SAME_HEAD:
            raise ValueError(
                f"expected contrasts that show one head in one place, got MRI {n} with a Dice of "
                f"{overlap:.2f} to the first; register them, or give the first one alone"
            )
        channels.append(here.data)
    return replace(first, data=torch.cat(channels))


def _head(mr: Volume) -> Mask:
    """The head, or what is bright where its skull was taken away."""
    try:
        return head_mask(mr).data[0] > 0
    except ValueError:
        return scaled(mr.data[0].float()) > _BRIGHT
