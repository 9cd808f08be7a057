"""Scans that no synthetic CT should be made of: what is no MRI at all, and what is no adult's head.

Networks learnt from adults' heads that lie as their scans say. What they are told apart by are sizes that
people were measured with, how much the signal varies, the way a head lies, and whether what comes out has a
skull that closes around a brain.
"""

from collections.abc import Collection, Iterator

import numpy as np
import torch
from scipy.stats import rankdata

from imaging.grid import positions
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume, expect_finite

from .lie import Lie
from .skull import Skull

_CT_BELOW, _CT_SHARE = -200.0, 0.02  # MR signal may dip below 0, but not there, in so many voxels
_SIGNAL = 0.05  # of the greatest value: what lies above is not background
_SATURATED = 0.02  # share of what is not background that may have the greatest value
_NOTHING = 1e-3  # of the greatest value: a plane below it shows nothing
_PART = 0.01  # of a plane with signal: it shows part of a head

# Head breadth of women 145 mm, SD 6; length 180 mm, SD 7; of men 155, 6 and 195, 8 (Pheasant and Haslegrave,
# Bodyspace, 3rd ed., 2006). Three and a half SD below; infants up to about a year are smaller.
_NARROWEST, _SHORTEST = 124.0, 155.0
# Ears, a nose, a tilt and a hood of noise add to men's greatest; a torso is larger still.
_WIDEST, _LONGEST = 240.0, 290.0
_CROWN_MM = 120.0  # below the crown: what is measured, so that no shoulder counts
_ALIKE = 0.15  # quartiles apart, of the median: 0.36 to 0.65 in real heads, under 0.05 in a bottle
# Correlation by which another lie must exceed the upright one; upright heads keep 0.02 to 0.10 ahead.
_TURNED = 0.015
# A brain is 125 to 155 mm wide; skull base and folds of bone narrow the ball that it holds to 51 to 55 mm in
# synthetic heads and Colin27. An infant's holds 44 mm at a year; a head without a skull holds 75 mm.
_BRAIN_MM = (42.0, 70.0)
_CLOSED = 0.75  # of all directions: a craniectomy leaves a sixth of a skull open
# Of the signal's ranks, by the CT numbers: 0.35 to 0.6 in synthetic and real heads; 0.03 in noise and 0.13 in
# blobs that have the shape of a head, of which networks make heads all the same.
_EXPLAINED = 0.2
_LOOKED_AT = 500_000  # voxels
_NUMBERS = 16  # classes of CT numbers, each as frequent
_UNSURE = 220.0  # HU: water everywhere is off by as much in a head, so that nothing was learnt from the MRI


def expect_head_scan(mr: Volume, anyway: bool = False) -> tuple[str, ...]:
    """Refuses a volume that is no whole MRI: empty, of HU, saturated, or with planes that show nothing.

    Parameters
    ----------
    mr
        MR signal, shape ``(c, i, j, k)``; each channel is looked at.
    anyway
        Whether saturated scans and those with gaps are let pass; what is empty or of HU never is.

    Returns
    -------
    tuple of str
        What is wrong with a scan that was let pass.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    expect_finite(mr.expect(Quantity.MR))
    passed: list[str] = []
    for channel in mr.data.float():
        top = float(channel.max())
        if float((channel < _CT_BELOW).float().mean()) > _CT_SHARE:
            raise ValueError(
                "expected MR signal, got values as low as those of air in a CT; give the MRI, not the CT"
            )
        if top <= 0 or float(channel.min()) == top:
            raise ValueError("expected an MRI with signal in it, got one that is empty; export it again")
        for flaw, remedy in _flaws(channel, top):
            if not anyway:
                raise ValueError(f"expected an MRI {flaw}; {remedy}")
            passed.append(f"Made all the same of what should have been an MRI {flaw}.")
    return tuple(passed)


def _flaws(channel: torch.Tensor, top: float) -> Iterator[tuple[str, str]]:
    """What is wrong with a channel of MR signal, and what to do."""
    seen = channel > _SIGNAL * top
    share = float((channel[seen] == top).float().mean())
    if share > _SATURATED:
        yield (
            f"that is not saturated, got {100 * share:.0f} % of its signal at the greatest value",
            "export it without clipping",
        )
    if missing := max(_gaps(channel, seen, axis) for axis in range(3)):
        yield (
            f"without gaps, got {missing} planes without signal between others",
            "export it again, or crop it",
        )


def _gaps(channel: torch.Tensor, seen: Mask, axis: int) -> int:
    """Planes across an axis that show nothing between planes that show part of a head, not some speck."""
    others = [n for n in range(3) if n != axis]
    head = torch.nonzero(seen.float().mean(dim=others) > _PART)[:, 0]
    if len(head) == 0:
        return 0
    within = channel.amax(dim=others)[int(head[0]) : int(head[-1]) + 1]
    return int((within <= _NOTHING * channel.max()).sum())


def unlike_adult(mr: Volume, head: Volume, cut: Collection[str]) -> tuple[str, ...]:
    """What tells a scan from that of an adult's head, before a network sees it: nothing, or clauses.

    Parameters
    ----------
    mr
        MR signal, one channel, best without its bias field.
    head
        Label 1 inside the head, on the same grid.
    cut
        Sides where the scan ends inside the head: there it may be small.
    """
    breadth, length = _extent(head)
    reasons = []
    if (breadth < _NARROWEST and not {"left", "right"} & set(cut)) or (
        length < _SHORTEST and not {"front", "back"} & set(cut)
    ):
        reasons.append(f"{breadth:.0f} mm wide and {length:.0f} mm long, as an infant's head")
    if breadth > _WIDEST or length > _LONGEST:
        reasons.append(f"{breadth:.0f} mm wide and {length:.0f} mm long, larger than a head")
    varies = _varies(mr, head)
    if varies < _ALIKE:
        reasons.append(f"whose signal is alike throughout (quartiles {100 * varies:.0f} % apart)")
    return tuple(reasons)


def _extent(head: Volume) -> tuple[float, float]:
    """Breadth and length (mm) of the upper part of a head."""
    voxels = torch.nonzero(head.data[0] > 0)
    at = positions(head.grid, voxels[:: max(1, len(voxels) // 100_000)].double().numpy())
    upper = at[at[:, 2] > np.percentile(at[:, 2], 99.8) - _CROWN_MM]
    low, high = np.percentile(upper, [0.2, 99.8], axis=0)
    return float(high[0] - low[0]), float(high[1] - low[1])


def _varies(mr: Volume, head: Volume) -> float:
    """Distance of the signal's quartiles inside a head, of its median."""
    values = mr.data[0][head.data[0] > 0].float()
    low, middle, high = np.percentile(values[:: max(1, len(values) // 100_000)].numpy(), [25, 50, 75])
    return float((high - low) / max(middle, 1e-9))


def explained(mr: Volume, ct: Volume, head: Volume) -> float:
    """How much of the signal in a head its synthetic CT tells, 0..1: the correlation ratio of ranks.

    Whatever the contrast, tissues of one CT number are alike in it. After Roche et al., MICCAI 1998, LNCS
    1496, 1115, with ranks in the place of signal, so that no bright vessel decides.

    Parameters
    ----------
    mr
        MR signal, one channel.
    ct
        HU, on the same grid.
    head
        Label 1 inside the head, on the same grid.

    Raises
    ------
    ValueError
        If the head is empty.
    """
    inside = head.data[0] > 0
    if not inside.any():
        raise ValueError("expected a head with voxels, got none; find it again")
    step = max(1, int(inside.sum()) // _LOOKED_AT)
    signal, hu = (volume.data[0][inside][::step].float().numpy() for volume in (mr, ct))
    ranks = rankdata(signal)
    edges = np.quantile(hu, np.linspace(0, 1, _NUMBERS + 1)[1:-1])
    which = np.searchsorted(edges, hu)
    counts = np.bincount(which, minlength=_NUMBERS)
    means = np.bincount(which, ranks, _NUMBERS) / np.maximum(counts, 1)
    varies = float(ranks.var())
    return float(counts @ (means - ranks.mean()) ** 2 / len(ranks) / varies) if varies > 0 else 0.0


def unseen_in_mr(share: float) -> tuple[str, ...]:
    """What tells that a CT does not come from its MRI, by :func:`explained`: nothing, or a clause."""
    if share >= _EXPLAINED:
        return ()
    return (f"of which the CT that networks make of it explains {100 * share:.0f} %, as if it were noise",)


def unlike_head_ct(found: Skull, lie: Lie, unsure: float, whole: bool) -> tuple[str, ...]:
    """What tells a synthetic CT from that of a head: nothing, or clauses.

    Parameters
    ----------
    found
        What surrounds the largest ball of soft tissue in it.
    lie
        How the average head fits it.
    unsure
        Mean standard deviation inside the body (HU).
    whole
        Whether the scan cuts the head nowhere but at the neck; else the ball may be small.
    """
    reasons = []
    low, high = _BRAIN_MM
    if found.radius > high or (whole and found.radius < low):
        reasons.append(f"without a brain's space: the largest ball of soft tissue has {found.radius:.0f} mm")
    if found.closed is not None and found.closed < _CLOSED:
        reasons.append(f"whose skull closes around a brain in {100 * found.closed:.0f} % of directions alone")
    elif lie.best - lie.upright > _TURNED:
        reasons.append(
            f"whose crown lies where the header says {lie.crown} and whose face lies where it says {lie.face}"
        )
    if unsure > _UNSURE:
        reasons.append(f"that the networks are unsure of by {unsure:.0f} HU, as much as of no scan at all")
    return tuple(reasons)
