import torch
from torch import Tensor

from synth.conditions import ConditionClass
from synth.render import render


def blocks() -> Tensor:
    """Air with bone, white matter and oedema in it."""
    classes = torch.zeros(24, 24, 24, dtype=torch.uint8)
    classes[2:8, 4:20, 4:20] = ConditionClass.BONE
    classes[8:15, 4:20, 4:20] = ConditionClass.WHITE
    classes[15:22, 4:20, 4:20] = ConditionClass.ED
    return classes


def drawn(seed: int) -> Tensor:
    return render(blocks(), 4, torch.Generator().manual_seed(seed))


def test_a_render_shows_its_classes_and_every_contrast_shows_them_otherwise() -> None:
    inner = {kind: blocks() == kind for kind in (ConditionClass.WHITE, ConditionClass.ED)}
    order = set()
    for seed in range(6):
        image = drawn(seed)
        assert image.shape == (4, 24, 24, 24)
        assert float(image.min()) >= -1
        assert float(image.max()) <= 1
        for one in image:
            white, oedema = (float(one[inner[kind]].mean()) for kind in inner)
            order.add(white > oedema)
    # Physics would always have one of them brighter; a random look has either.
    assert order == {True, False}


def test_brightness_differs_more_between_classes_than_within() -> None:
    share = []
    for seed in range(6):
        for one in drawn(seed):
            groups = [one[blocks() == kind] for kind in (0, ConditionClass.BONE, ConditionClass.WHITE)]
            between = float(torch.stack([g.mean() for g in groups]).var())
            share.append(between / (between + sum(float(g.var()) for g in groups) / len(groups)))
    assert sum(share) / len(share) > 0.8


def test_a_render_follows_from_its_seed() -> None:
    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
