"""What a network trained on synthetic heads alone finds in real heads whose anatomy is known.

Colin27 has labels; the brain of the MNI152 template is the one that nilearn ships (its T1 template, ICBM 152
2009a, is masked to the brain). The skull label of Colin27 also marks dura and dark sulci, so bone is scored
outside the brain: labels 3 to 5 closed by five voxels and filled.
"""

from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from imaging.agreement import dice
from imaging.nifti import read_nifti
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.tissue import BONE, TUMOUR, Tissue
from imaging.volume import Quantity, Volume

PARENCHYMA = (Tissue.GREY, Tissue.WHITE, Tissue.BRAINSTEM, *TUMOUR)


def on_colin27(head: Path, labels: Volume) -> dict[str, float]:
    """Dice of brain, parenchyma, CSF, skull, air and head against the labels of Colin27.

    Parameters
    ----------
    head
        Folder of the real heads.
    labels
        Tissues found in ``colin27_t1``, on its grid.
    """
    truth = read_nifti(head / "colin27_labels.nii.gz", Quantity.LABEL).data[0]
    found = labels.data[0]
    brain = hull(is_in(truth, 3, 4, 5))
    return {
        "brain": dice(brain, hull(is_in(found, Tissue.CSF, *PARENCHYMA))),
        "parenchyma": dice(is_in(truth, 4, 5), is_in(found, *PARENCHYMA)),
        "skull": dice((truth == 2) & ~brain, is_in(found, *BONE) & ~brain),
        "csf": dice(truth == 3, found == Tissue.CSF),
        "grey": dice(truth == 4, found == Tissue.GREY),
        "white": dice(truth == 5, is_in(found, Tissue.WHITE, Tissue.BRAINSTEM)),
        "air": dice(truth == 6, found == Tissue.AIR),
        "head": dice(truth > 0, found > 0),
    }


def on_mni152(template: Path, labels: Volume) -> float:
    """Dice of the brain found in ``mni152_t1_unstripped`` against the brain of nilearn's template."""
    image = read_nifti(template, Quantity.MR)
    mask = Volume((image.data > 0).byte(), image.grid, Quantity.LABEL)
    truth = hull(resample(mask, labels.grid).data[0] > 0)
    return dice(truth, hull(is_in(labels.data[0], Tissue.CSF, *PARENCHYMA)))


def is_in(labels: torch.Tensor, *kinds: int) -> Mask:
    """Where a label is one of several."""
    return torch.isin(labels, torch.tensor([int(k) for k in kinds], dtype=labels.dtype))


def hull(mask: Mask) -> Mask:
    """The largest piece of a mask, opened by one voxel, closed by five and filled."""
    opened = ndimage.binary_opening(mask.numpy())
    pieces, n = ndimage.label(opened)
    if n == 0:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    wide = np.pad(pieces == sizes.argmax(), 6)
    closed = ndimage.binary_closing(wide, iterations=5)[6:-6, 6:-6, 6:-6]
    return torch.from_numpy(ndimage.binary_fill_holes(closed))
