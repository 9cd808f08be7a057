"""The tissue network that ships: small enough, whole, and right on a real head it never saw."""

from pathlib import Path

import pytest
import torch
from scipy import ndimage
from torch import nn

import models
from imaging.agreement import dice
from imaging.nifti import read_nifti
from imaging.tissue import BONE, BRAIN, Tissue
from imaging.volume import Quantity
from models.unet import UNetConfig, unet
from models.weights import CARD, load_weights, read_card
from mr2ct.tissue_net import segment

WEIGHTS = Path(next(iter(models.__path__))) / "zoo" / "tissues.safetensors"


def shipped() -> nn.Module:
    config = read_card(WEIGHTS)["config"]
    net = unet(UNetConfig(config["inputs"], config["outputs"], tuple(config["features"]))).eval()
    load_weights(net, WEIGHTS)
    return net


def test_weights_fit_their_network_and_their_card_is_whole() -> None:
    shipped()
    card = read_card(WEIGHTS)
    assert set(CARD) <= set(card)
    assert "Research use only" in card["limits"]
    assert WEIGHTS.stat().st_size <= 16 * 2**20


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
