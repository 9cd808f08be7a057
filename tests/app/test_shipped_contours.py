"""The networks that ship, on a synthetic head that no training saw, and on its mirror image."""

from dataclasses import replace

import pytest

from app.contour_score import scored
from app.contoured import Contourer, read_contourer
from app.contrasts import in_channels
from app.ct_nets import ZOO
from imaging.agreement import dice
from models.weights import read_card
from planning.contour.convert import Contoured
from synth.patient import patient

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nets() -> Contourer:
    return read_contourer()


@pytest.fixture(scope="module")
def case():
    return patient(7, 2.0)


@pytest.fixture(scope="module")
def made(nets: Contourer, case) -> Contoured:
    return nets(in_channels([case.volumes["t1"]], ["t1"]))


def test_a_head_is_contoured_from_t1_alone(made: Contoured, case) -> None:
    found = scored(made, case.structures, case.volumes["labels"])
    assert dice(made.masks["Body"], case.volumes["labels"].data[0] > 0) > 0.97
    assert found.dice["Brain"] > 0.93
    assert min(found.dice["Eye_L"], found.dice["Eye_R"]) > 0.8
    assert not found.swapped
    for name, mask in made.masks.items():
        assert int(mask.sum()) > 0, name


def test_the_mirror_image_of_a_head_has_mirrored_contours(nets: Contourer, made: Contoured, case) -> None:
    t1 = case.volumes["t1"]
    mirrored = nets(in_channels([replace(t1, data=t1.data.flip(1))], ["t1"]))
    for name, mask in made.masks.items():
        twin = name[:-1] + {"L": "R", "R": "L"}[name[-1]] if name.endswith(("_L", "_R")) else name
        if name in ("Body", "Brain", "Eye_L", "Eye_R"):
            assert dice(mirrored.masks[twin].flip(0), mask) > 0.9, name
        if twin in mirrored.masks:
            other = mirrored.masks[name] if name in mirrored.masks and twin != name else None
            own = dice(mirrored.masks[twin].flip(0), mask)
            assert other is None or own > dice(other.flip(0), mask), name


def test_cards_say_what_the_networks_are(nets: Contourer) -> None:
    size = 0
    for name in ("contour-head", "contour-organs"):
        path = ZOO / f"{name}.safetensors"
        card = read_card(path)
        assert "not a medical device" in card["limits"]
        assert tuple(card["config"]["contrasts"]) == ("t1", "t1c", "t2", "flair")
        size += path.stat().st_size
    assert size <= 16 * 2**20
    assert nets.quality is not None
    assert nets.quality.patients > 0
