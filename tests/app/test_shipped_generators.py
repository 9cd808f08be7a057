"""The generators and the encoder that ship: small enough, whole, and no strangers to real slices."""

from pathlib import Path

import pytest
import torch

import models
from app.cohort import read_recipe
from app.cohort_generated import on_lattice
from app.drawer import draw, lattice_of, pixels_of, read_drawer
from app.extractors import slice_extractor
from app.slice_examples import pictures
from imaging.slices import read_slices, split_by_blocks
from models.weights import CARD
from synth.case import subject_of
from synth.conditions import TUMOUR, ConditionClass, box_planes, from_drawn_bits, planes
from synth.recipe import fingerprint

ZOO = Path(next(iter(models.__path__))) / "zoo"
PIPELINES = sorted(path.parent for path in ZOO.glob("*/model_index.json"))
SLICES = [path for path in PIPELINES if path.name.endswith("slices")]
VOLUMES = {"diffusion-small": ("shortcut", 1), "gan-small": ("one-pass", 1)}
FEW = {"diffusion-slices": ("shortcut", 2), "gan-slices": ("one-pass", 1)}


def test_both_kinds_ship_and_all_weights_are_small() -> None:
    assert {path.name for path in PIPELINES} == {*FEW, *VOLUMES, "labels-small"}
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


@pytest.mark.parametrize("name", VOLUMES)
def test_a_drawn_volume_is_a_head_in_air_whose_oedema_shines_in_flair(name: str) -> None:
    drawer = read_drawer(ZOO / name, *VOLUMES[name])
    recipe = read_recipe("small")
    subject, _ = subject_of(recipe, fingerprint(recipe), 2026, 0, ())
    classes, _ = on_lattice(subject.labels, lattice_of(drawer))
    t1, t1c, t2, flair = draw(drawer, planes(classes[None])[0], torch.Generator().manual_seed(0))

    def mean(contrast: torch.Tensor, part: ConditionClass) -> float:
        return float(contrast[classes == part].mean())

    assert all(mean(contrast, ConditionClass.OUTSIDE) < -0.9 for contrast in (t1, t1c, t2, flair))
    # What every protocol of the cohort shows; images lie between -1 and 1.
    assert mean(flair, ConditionClass.ED) - mean(flair, ConditionClass.WHITE) > 0.1
    assert mean(t2, ConditionClass.CSF) - mean(t2, ConditionClass.WHITE) > 0.1
    assert mean(t1, ConditionClass.WHITE) - mean(t1, ConditionClass.CSF) > 0.05
    assert mean(t1c, ConditionClass.ET) - mean(t1c, ConditionClass.NCR) > 0.02


def test_drawn_label_maps_are_heads_in_air_that_have_tumours() -> None:
    drawer = read_drawer(ZOO / "labels-small")
    lattice = lattice_of(drawer)
    cc = lattice.spacing**3 / 1000
    brain = torch.tensor([ConditionClass.CSF, ConditionClass.GREY, ConditionClass.WHITE, *TUMOUR])
    tumours = []
    for seed in range(2):
        bits = draw(drawer, torch.zeros(0, *lattice.shape), torch.Generator().manual_seed(seed))
        classes = from_drawn_bits(bits[None])[0]
        edges = torch.cat([classes[[0, -1]].flatten(), classes[:, [0, -1]].flatten()])
        assert float((edges == ConditionClass.OUTSIDE).float().mean()) > 0.9
        inside = torch.isin(classes, brain)
        assert 800 < float(inside.sum()) * cc < 2200
        # Something lies between the brain and the air nearly everywhere.
        touching = sum(
            int((inside & (classes.roll(1, axis) == ConditionClass.OUTSIDE)).sum()) for axis in range(3)
        )
        assert touching < 0.03 * float(inside.sum())
        tumours.append(float((classes >= min(TUMOUR)).sum()) * cc)
    assert max(tumours) > 1
    assert max(tumours) < 400


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
