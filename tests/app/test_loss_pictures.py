"""A picture of the losses stands beside every card, and the card names it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app import train_contours as training
from app.contour_recipes import RECIPES
from app.train import TissueRun, train_tissues
from app.train_contours import ContourRun, train_contours
from app.train_mr2ct import Mr2ctRun, train_mr2ct
from app.training_heads import Heads
from models.fit import Fit
from models.unet import UNetConfig
from mr2ct.regression import N_OUTPUTS, RegressionNet

FIT = Fit(steps=1, warmup=1)
HEADS = Heads(1, spacing=4.0)
FEW = (4, 4, 4, 4, 4, 4)


def quiet(_: str, __: float) -> None:
    return


def tissues(out: Path) -> Path:
    run = TissueRun(heads=HEADS)
    recipe = replace(run.recipe, net=replace(run.recipe.net, features=FEW), fit=FIT)
    train_tissues(replace(run, recipe=recipe), out, quiet)
    return out / "tissues.json"


def mr2ct(out: Path) -> Path:
    net = RegressionNet(net=UNetConfig(inputs=4, outputs=N_OUTPUTS, features=FEW), fit=FIT)
    train_mr2ct(Mr2ctRun(heads=HEADS, recipe=net, features=None), out, quiet)
    return out / "mr2ct.json"


def contours(out: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        of = RECIPES["head"]
        net = replace(of.net, net=replace(of.net.net, features=FEW, sharp=4), fit=FIT)
        patch.setitem(RECIPES, "head", replace(of, net=net))
        patch.setattr(training, "_N_WATCHED", 1)
        patch.setattr(training, "_N_WATCHED_HEADS", 1)
        train_contours(ContourRun("head", HEADS), out, quiet)
    return out / "head.json"


@pytest.mark.parametrize("learn", [tissues, mr2ct, contours])
def test_a_picture_of_the_losses_stands_beside_the_card(
    learn: Callable[[Path], Path], tmp_path: Path
) -> None:
    card = learn(tmp_path)
    picture = card.parent / json.loads(card.read_text())["losses"]
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
