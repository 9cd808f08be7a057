"""Scans that no synthetic CT should be made of, told apart before a network sees them."""

import torch

from imaging.shapes import Mask
from imaging.volume import Quantity, Volume, expect_finite

_CT_BELOW, _CT_SHARE = -200.0, 0.02  # MR signal may dip below 0, but not there, in so many voxels
_SIGNAL = 0.05  # of the greatest value: what lies above is not background
_SATURATED = 0.02  # share of what is not background that may have the greatest value
_NOTHING = 1e-3  # of the greatest value: a plane below it shows nothing
_PART = 0.01  # of a plane with signal: it shows part of a head


def expect_head_scan(mr: Volume) -> None:
    """Refuses a volume that is no whole MRI: empty, of HU, saturated, or with planes that show nothing.

    Parameters
    ----------
    mr
        MR signal, shape ``(c, i, j, k)``; each channel is looked at.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    expect_finite(mr.expect(Quantity.MR))
    for channel in mr.data.float():
        top = float(channel.max())
        if float((channel < _CT_BELOW).float().mean()) > _CT_SHARE:
            raise ValueError(
                "expected MR signal, got values as low as those of air in a CT; give the MRI, not the CT"
            )
        if top <= 0 or float(channel.min()) == top:
            raise ValueError("expected an MRI with signal in it, got one that is empty; export it again")
        seen = channel > _SIGNAL * top
        share = float((channel[seen] == top).float().mean())
        if share > _SATURATED:
            raise ValueError(
                f"expected an MRI that is not saturated, got {100 * share:.0f} % of its signal at the "
                "greatest value; export it without clipping"
            )
        if missing := max(_gaps(channel, seen, axis) for axis in range(3)):
            raise ValueError(
                f"expected an MRI without gaps, got {missing} planes without signal between others; "
                "export it again, or crop it"
            )


def _gaps(channel: torch.Tensor, seen: Mask, axis: int) -> int:
    """Planes across an axis that show nothing between planes that show part of a head, not some speck."""
    others = [n for n in range(3) if n != axis]
    head = torch.nonzero(seen.float().mean(dim=others) > _PART)[:, 0]
    if len(head) == 0:
        return 0
    within = channel.amax(dim=others)[int(head[0]) : int(head[-1]) + 1]
    return int((within <= _NOTHING * channel.max()).sum())
