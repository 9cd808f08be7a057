"""The generators and the encoder that ship: small enough, whole, and no strangers to real slices."""

from pathlib import Path

import pytest
import torch

import models
from app.drawer import draw, lattice_of, pixels_of, read_drawer
from app.extractors import slice_extractor
from app.slice_examples import pictures
from imaging.slices import read_slices, split_by_blocks
from models.weights import CARD
from synth.conditions import box_planes

ZOO = Path(next(iter(models.__path__))) / "zoo"
PIPELINES = sorted(path.parent for path in ZOO.glob("*/model_index.json"))
SLICES = [path for path in PIPELINES if path.name.endswith("slices")]
FEW = {"diffusion-slices": ("shortcut", 2), "gan-slices": ("one-pass", 1)}


def test_both_kinds_ship_and_all_weights_are_small() -> None:
    assert {path.name for path in SLICES} == set(FEW)
    files = [*ZOO.rglob("*.safetensors")]
    assert max(path.stat().st_size for path in files) <= 16 * 2**20
    assert sum(path.stat().st_size for path in files) <= 96 * 2**20
    drawn_or_judged = [path for path in files if path.parent != ZOO or path.name.startswith("encoder")]
    assert sum(path.stat().st_size for path in drawn_or_judged) <= 24 * 2**20


@pytest.mark.parametrize("folder", PIPELINES, ids=lambda path: path.name)
def test_a_generator_loads_with_a_whole_card(folder: Path) -> None:
    drawer = read_drawer(folder)
    card = drawer.pipeline.card
    assert set(CARD) <= set(card)
    assert card["name"] == folder.name
    assert "Research use only" in str(card["limits"])
    where = pixels_of(drawer) if drawer.settings.space == 2 else lattice_of(drawer).shape
    assert all(n % drawer.settings.multiple == 0 for n in where)


@pytest.mark.parametrize("folder", SLICES, ids=lambda path: path.name)
def test_a_drawn_slice_is_a_head_in_air_that_is_brighter_in_its_tumour(folder: Path) -> None:
    drawer = read_drawer(folder, *FEW[folder.name])
    brighter = []
    for n, row in enumerate([(1, 0.6, 0.4, 0.2, 0.2), (1, 0.35, 0.45, 0.2, 0.2), (1, 0.5, 0.35, 0.2, 0.2)]):
        planes = box_planes(torch.tensor([row]), drawer.settings.classes, pixels_of(drawer))
        image = draw(drawer, planes, torch.Generator().manual_seed(n))[0]
        corners = torch.cat([image[:8, :8], image[:8, -8:], image[-8:, :8], image[-8:, -8:]])
        assert float(corners.mean()) < -0.9
        inside = planes.amax(0) > 0
        head = image > -0.9
        assert 0.2 < float(head.float().mean()) < 0.8
        brighter.append(float(image[inside].mean() - image[head & ~inside].mean()))
    # Meningiomas enhance: these are slices with contrast agent.
    assert sum(brighter) / len(brighter) > 0.05


@pytest.mark.data
def test_the_encoder_tells_real_slices_of_different_tumours_apart(data: Path) -> None:
    """Held-out slices of the generators' split: some were seen by the encoder, which is no generator."""
    slices = read_slices(data / "tumour_slices", 128)
    train, test = split_by_blocks(slices, 0.25, torch.Generator().manual_seed(0))
    embed = slice_extractor().embed
    near = torch.cdist(embed(pictures(test)), embed(pictures(train))).argmin(dim=1)
    right = (train.classes[near] == test.classes).float()
    balanced = torch.stack([right[test.classes == c].mean() for c in range(len(slices.names))]).mean()
    assert float(balanced) > 0.6  # chance is a third
