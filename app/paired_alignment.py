"""Whether a CT may teach: it must show the patient where the MRI does.

A network learns what it is told. Where CTs lie beside their MRI it learns to blur, and where they were bent
by a wrong deformable registration it learns the mistake as anatomy, which no intensity tells (bone shows
it first). So each contrast is looked at: the outline of the head, the place of every block of it, and, where
blocks are not in place, the rigid correction that tells a patient who moved from one who was bent.
"""

import torch

from imaging.agreement import dice
from imaging.coregister import misalignment
from imaging.intensity import head_mask
from imaging.local_shift import local_shifts
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume
from mr2ct.domain import expect_head_scan
from planning.contour.body import body_of

SAME_OUTLINE = 0.85  # Dice of the heads where both are seen, as `converted` asks it of two contrasts
RIGID_MM = 3.0  # two voxels of the network; mutual information itself is good to about 1 mm
IN_PLACE_MM = 1.25  # mean of the blocks, half a voxel of their search: no rigid correction could say more
SHIFTED_MM = 4.0  # of a block: more than a voxel of the search, and than distortion in a scanner bends
SHIFTED_SHARE = 0.01  # of the blocks; none are so in synthetic heads, 2.6 % with a jaw that is 8 mm off


def unfit(mr: Volume, ct: Volume) -> str:
    """Why a contrast may not teach with a CT; empty where it may.

    Parameters
    ----------
    mr
        MR signal, shape ``(1, i, j, k)``, on any grid.
    ct
        HU, without a couch.
    """
    try:
        body = body_of(ct)  # masks that come with data are often wider than the skin
        expect_head_scan(mr)
        same = _outline(head_mask(mr), ct, body)
        if same < SAME_OUTLINE:
            return f"its outline agrees with the CT's to a Dice of {same:.2f}, below {SAME_OUTLINE:g}"
        return _out_of_place(mr, ct, body)
    except ValueError as error:
        return str(error)


def _out_of_place(mr: Volume, ct: Volume, body: Mask) -> str:
    shifts = local_shifts(ct, mr, body)
    if len(shifts) == 0:
        return "it does not show the body of its CT"
    share = float((shifts > SHIFTED_MM).float().mean())
    if share <= SHIFTED_SHARE and float(shifts.mean()) <= IN_PLACE_MM:
        return ""
    rigid = misalignment(ct, mr, body)
    if rigid > RIGID_MM:
        return f"it lies {rigid:.1f} mm from its CT, beyond {RIGID_MM:g} mm; register the two rigidly"
    if share <= SHIFTED_SHARE:
        return ""
    return (
        f"{100 * share:.1f} % of it lie more than {SHIFTED_MM:g} mm from the CT, more than "
        f"{100 * SHIFTED_SHARE:g} %; the CT is deformed otherwise"
    )


def _outline(head: Volume, ct: Volume, body: Mask) -> float:
    """Dice of a head in MRI and in CT, where both are seen."""
    of_ct = torch.stack([body, torch.ones_like(body)]).byte()
    there, seen = resample(Volume(of_ct, ct.grid, Quantity.LABEL), head.grid).data > 0
    return dice(there & seen, (head.data[0] > 0) & seen)
