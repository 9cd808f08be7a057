"""What the reader of a synthetic CT is told, were the CT perfect and a face removed from the MRI."""

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from app.examined import examined, judged
from imaging.grid import Grid, around, positions
from imaging.resample import resample
from imaging.tissue import Tissue
from imaging.volume import Volume
from mr2ct.convert import SyntheticCt
from mr2ct.unseen import UNKNOWN
from synth.patient import patient

LEAN = np.array([0.0, -np.cos(np.pi / 6), -np.sin(np.pi / 6)])  # of a plane 30 degrees from coronal


def without_doubt(ct: Volume) -> SyntheticCt:
    return SyntheticCt(ct, *(Volume(torch.ones_like(ct.data), ct.grid, ct.quantity) for _ in range(2)))


def test_the_part_that_was_removed_is_told_with_its_size_and_nothing_there_is_known() -> None:
    case = patient(5, 3.0)
    ct, mr = case.volumes["ct"], case.volumes["t1"]
    mr = replace(mr, data=mr.data.clamp(min=0.01 * float(mr.data.max())))
    inside = case.volumes["labels"].data[0] != Tissue.OUTSIDE
    at = positions(mr.grid, np.argwhere(np.ones(mr.grid.shape, dtype=bool)).astype(float))
    middle = positions(mr.grid, torch.nonzero(inside).double().numpy()).mean(axis=0)
    face = torch.from_numpy(((at - middle) @ LEAN > 70).reshape(mr.grid.shape))
    sure = without_doubt(ct)
    whole = judged(sure, examined(mr))
    assert (whole.reasons, whole.cautions) == ((), ())
    defaced = judged(sure, examined(replace(mr, data=torch.where(face[None], 0.0, mr.data))))
    (said,) = defaced.cautions
    gone = float((face & inside).sum()) * mr.grid.voxel_volume / 1000
    told = float(said.removeprefix("About ").split()[0])
    assert abs(told - gone) < 0.3 * gone
    assert "in front of the head's middle" in said
    unknown = defaced.ct.aleatoric.data[0] >= UNKNOWN
    assert not bool((unknown & ~face).any())
    assert float(unknown[face & inside].float().mean()) > 0.7


def test_the_ct_of_a_head_is_refused_where_the_scan_is_noise_of_its_shape() -> None:
    case = patient(5, 3.0)
    ct, mr = case.volumes["ct"], case.volumes["t1"]
    inside = case.volumes["labels"].data[0] != Tissue.OUTSIDE
    values = mr.data[0][inside]
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    noise = replace(mr, data=mr.data.masked_scatter(inside[None], values[order]))
    found = judged(without_doubt(ct), examined(noise, bias_correction=False))
    (reason,) = found.reasons
    assert "as if it were noise" in reason


def test_slices_that_lie_oblique_and_cut_the_head_leave_it_upright() -> None:
    case = patient(5, 3.0)
    lean = Rotation.from_euler("x", -35, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = lean * [1.5, 1.5, 5.5]
    affine[:3, 3] = lean @ [-85.5, -96.5, -4.0]
    slices = Grid((114, 114, 16), affine)
    mr, ct = (resample(case.volumes[name], slices) for name in ("flair", "ct"))
    # What networks answer covers the corners beside the slices too, and has air there.
    answer = resample(ct, around(slices, (1.5, 1.5, 1.5)))
    found = judged(without_doubt(answer), examined(mr, bias_correction=False))
    assert found.reasons == ()
    assert found.ct.ct.grid == slices
