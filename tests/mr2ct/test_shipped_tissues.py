"""The tissue network that ships: small enough, whole, and right on a real head it never saw."""

from pathlib import Path

import pytest
import torch
from scipy import ndimage
from torch import nn

import models
from imaging.agreement import dice
from imaging.coregister import moved_onto
from imaging.grid import around, positions
from imaging.nifti import read_nifti
from imaging.resample import resample
from imaging.tissue import BONE, BRAIN, Tissue
from imaging.volume import Quantity, Volume
from models.unet import UNetConfig, unet
from models.weights import CARD, load_weights, read_card
from mr2ct.tissue_net import TissueNet, likeliest, probabilities, segment
from mr2ct.tumour_region import tumour_region

ZOO = Path(next(iter(models.__path__))) / "zoo"
WEIGHTS, FOUR = ZOO / "tissues.safetensors", ZOO / "tissues4.safetensors"


def shipped(weights: Path = WEIGHTS) -> nn.Module:
    config = read_card(weights)["config"]
    net = unet(UNetConfig(config["inputs"], config["outputs"], tuple(config["features"]))).eval()
    load_weights(net, weights)
    return net


@pytest.mark.parametrize("weights", [WEIGHTS, FOUR])
def test_weights_fit_their_network_and_their_card_is_whole(weights: Path) -> None:
    shipped(weights)
    card = read_card(weights)
    assert set(CARD) <= set(card)
    assert "Research use only" in card["limits"]
    assert weights.stat().st_size <= 16 * 2**20


def is_in(labels: torch.Tensor, *kinds: int) -> torch.Tensor:
    return torch.isin(labels, torch.tensor([int(k) for k in kinds], dtype=labels.dtype))


@pytest.mark.data
@pytest.mark.slow
def test_brain_and_skull_of_colin27_agree_with_its_labels(data: Path) -> None:
    mr = read_nifti(data / "head" / "colin27_t1.nii.gz", Quantity.MR)
    truth = read_nifti(data / "head" / "colin27_labels.nii.gz", Quantity.LABEL).data[0]
    found = segment(mr, shipped()).data[0]
    # The skull label also marks dura and dark sulci: bone is scored outside the closed and filled brain.
    closed = ndimage.binary_closing(is_in(truth, 3, 4, 5).numpy(), iterations=5)
    hull = torch.from_numpy(ndimage.binary_fill_holes(closed))
    assert dice((truth == 2) & ~hull, is_in(found, *BONE) & ~hull) > 0.72
    assert dice(is_in(truth, 4, 5), is_in(found, *BRAIN)) > 0.9
    assert dice(truth > 0, found > 0) > 0.97
    assert dice(hull, is_in(found, *BRAIN, Tissue.CSF)) > 0.93


@pytest.mark.data
@pytest.mark.slow
def test_the_tumour_of_a_clinical_scan_is_found_in_the_right_frontal_lobe(data: Path) -> None:
    """It is bright in FLAIR, beside the lateral ventricles, right in front; patients' right is -x."""
    folder = data / "tumour_mri" / "tcga_fg_6692"
    *others, flair = [read_nifti(folder / f"{c}.nii.gz", Quantity.MR) for c in ("t1n", "t1c", "t2w", "t2f")]
    grid = around(flair.grid, (2.0, 2.0, 2.0))
    scans = [*(moved_onto(scan, flair) for scan in others), flair]
    channels = torch.cat([resample(scan, grid).data.float() for scan in scans])
    mr = Volume(channels, grid, Quantity.MR)
    found = probabilities(mr, shipped(FOUR), TissueNet(net=UNetConfig(inputs=4)))
    region = tumour_region(found, grid).data[0]
    brain = is_in(likeliest(found, grid).data[0], *BRAIN)
    middle, of_brain = (
        positions(grid, m.nonzero().double().mean(0, keepdim=True).numpy())[0] for m in (region, brain)
    )
    assert 4 < float(region.sum()) * grid.voxel_volume / 1000 < 40
    assert middle[0] < of_brain[0] - 20  # right
    assert middle[1] < of_brain[1] - 5  # in front
    bright = resample(flair, grid).data[0]
    assert float(bright[region > 0].median()) > 1.2 * float(bright[brain].median())
