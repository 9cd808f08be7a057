"""The average head against a real one, which had no part in making it."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import binary_closing, binary_fill_holes

from imaging.grid import Grid
from imaging.resample import resample
from imaging.tissue import BONE
from imaging.volume import Quantity, Volume
from synth.anatomy import anatomy

# The average head is this much smaller than the space that Colin27 lies in (head_shape.json).
SCALE = np.array([0.92, 0.94, 0.88])

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("SPINDOSE_DATA" not in os.environ, reason="SPINDOSE_DATA names no data folder"),
]


def colin() -> tuple[np.ndarray, Grid]:
    image = nibabel.load(Path(os.environ["SPINDOSE_DATA"]) / "head" / "colin27_labels.nii.gz")
    labels = np.asarray(image.dataobj)
    return labels, Grid(labels.shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * int((a & b).sum()) / (int(a.sum()) + int(b.sum()))


def test_the_average_head_scaled_to_colin27_has_its_skull_and_skin() -> None:
    labels, grid = colin()
    head = anatomy(1.5)
    scaled = Grid(head.grid.shape, np.diag([*(1 / SCALE), 1.0]) @ head.grid.affine)
    found = resample(Volume(head.data, scaled, Quantity.LABEL), grid).data[0].numpy()
    # Its skull label also marks dura and dark sulci, so bone is scored outside the brain.
    brain = binary_fill_holes(binary_closing(np.isin(labels, [3, 4, 5]), iterations=5))
    bone = np.isin(found, torch.tensor(BONE).numpy())
    assert dice((labels == 2) & ~brain, bone & ~brain) > 0.55
    assert dice(labels > 0, found > 0) > 0.95
