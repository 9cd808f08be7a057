"""Tissues from intensity and an aligned prior."""

import numpy as np
import pytest
import torch

from imaging.agreement import dice
from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.tissue import Tissue
from imaging.tissue_maps import tissue_maps
from imaging.volume import Quantity, Volume
from mr2ct.tissue_classes import classify

GRID = axial(np.array([-45.0, -45.0, -45.0]), np.array([45.0, 45.0, 45.0]), (1.5, 1.5, 1.5))
# Signal of outside, scalp, skull, fluid, grey and white.
T1 = torch.tensor([0.0, 900, 90, 250, 450, 650])
T2 = torch.tensor([0.0, 500, 60, 1000, 450, 350])


def shells(scale: float) -> Volume:
    """White, grey, fluid, bone and scalp one around the other."""
    labels = torch.zeros(GRID.shape, dtype=torch.uint8)
    shells = ((42, Tissue.SCALP), (36, Tissue.SKULL), (29, Tissue.CSF), (25, Tissue.GREY), (18, Tissue.WHITE))
    for radius, tissue in shells:
        labels[sphere(GRID, np.zeros(3), radius * scale)] = tissue
    return Volume(labels[None], GRID, Quantity.LABEL, "1.2.3")


def scan(labels: Volume, signal: torch.Tensor) -> Volume:
    data = signal[labels.data.long()]
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(1))
    return Volume((data + 15 * noise).abs(), GRID, Quantity.MR, "1.2.3")


def head(labels: Volume) -> Volume:
    return Volume((labels.data > 0).to(torch.uint8), GRID, Quantity.LABEL)


@pytest.mark.parametrize("signal", [T1, T2])
def test_every_tissue_is_found_although_the_prior_is_too_small(signal: torch.Tensor) -> None:
    truth = shells(1.0)
    prior = tissue_maps(shells(0.95), 1.5, 2.0)
    found = classify(scan(truth, signal), head(truth), prior).data[0]
    for tissue in (Tissue.SCALP, Tissue.SKULL, Tissue.CSF, Tissue.GREY, Tissue.WHITE):
        assert dice(found == tissue, truth.data[0] == tissue) > 0.85, tissue


def test_intensity_improves_on_the_prior_alone() -> None:
    truth = shells(1.0)
    prior = tissue_maps(shells(0.95), 1.5, 2.0)
    found = classify(scan(truth, T1), head(truth), prior).data[0]
    bone = truth.data[0] == Tissue.SKULL
    assert dice(found == Tissue.SKULL, bone) > dice(shells(0.95).data[0] == Tissue.SKULL, bone) + 0.1


def test_labels_stand_on_the_grid_and_in_the_frame_of_the_mri_and_end_at_the_head() -> None:
    truth = shells(1.0)
    found = classify(scan(truth, T1), head(truth), tissue_maps(truth, 3.0, 2.0))
    assert found.grid == GRID
    assert found.frame == "1.2.3"
    assert torch.equal(found.data > 0, truth.data > 0)


def test_an_empty_head_and_a_prior_of_other_tissues_are_refused() -> None:
    truth = shells(1.0)
    empty = Volume(torch.zeros_like(truth.data), GRID, Quantity.LABEL)
    with pytest.raises(ValueError, match="head mask with voxels inside"):
        classify(scan(truth, T1), empty, tissue_maps(truth, 3.0, 2.0))
    three = Volume(torch.zeros((3, *GRID.shape)), GRID, Quantity.PROBABILITY)
    with pytest.raises(ValueError, match="expected a probability for each of 14 tissues, got 3"):
        classify(scan(truth, T1), head(truth), three)
