"""Tumours of other heads lie where the brain is, anywhere in it, and nothing else changes."""

from dataclasses import replace

import torch

from imaging.tissue import Tissue
from synth.grafts import grafted
from synth.on_the_fly import Library, generator_of, sample
from synth.randomisation import Randomisation

HOW = Randomisation((40, 40, 40), 1.0, rotation=0.0, scale=0.0, shift=0.0, deformation=0.0, grafted=1.0)


def heads() -> Library:
    """A healthy head of brain with a lake of CSF in bone, and one with a ball that enhances in oedema."""
    labels = torch.full((2, 40, 40, 40), int(Tissue.SKULL), dtype=torch.uint8)
    labels[:, 4:36, 4:36, 4:36] = int(Tissue.WHITE)
    labels[0, 4:36, 4:36, 20:28] = int(Tissue.CSF)
    x = torch.stack(torch.meshgrid(*[torch.arange(40.0) - 20] * 3, indexing="ij"))
    r = x.square().sum(dim=0).sqrt()
    labels[1][r < 8] = int(Tissue.OEDEMA)
    labels[1][r < 4] = int(Tissue.ENHANCING)
    return Library(labels, 1.0)


def test_a_tumour_lies_anywhere_in_the_brain_and_nothing_else_changes() -> None:
    library = heads()
    healthy, middles = library.labels[0], []
    for n in range(40):
        made = grafted(healthy, library.labels, library.lesions, 1.0, HOW, generator_of(1, n))
        new = made != healthy
        assert set(made[new].tolist()) <= {int(Tissue.OEDEMA), int(Tissue.ENHANCING)}
        assert not bool((new & (healthy == Tissue.SKULL)).any())
        spread = made == Tissue.OEDEMA
        assert not bool((spread & (healthy == Tissue.CSF)).any())
        assert 0 < int((made == Tissue.ENHANCING).sum()) <= int((library.labels[1] == Tissue.ENHANCING).sum())
        middles.append(torch.nonzero(new).float().mean(dim=0))
    apart = torch.stack(middles).std(dim=0)
    assert float(apart.min()) > 4.0  # mm: over a brain of 32 mm it would be 9 if the ball were a point


def test_none_is_given_where_there_is_none_or_none_is_asked_for() -> None:
    library = heads()
    healthy = library.labels[0]
    alone = Library(healthy[None], 1.0)
    bare = alone.labels, alone.lesions, 1.0, HOW
    for n in range(5):
        assert torch.equal(grafted(healthy, *bare, generator_of(2, n)), healthy)
    half = replace(HOW, grafted=0.5)
    changed = [
        not torch.equal(
            grafted(healthy, library.labels, library.lesions, 1.0, half, generator_of(3, n)), healthy
        )
        for n in range(60)
    ]
    assert 18 <= sum(changed) <= 42
    bone = torch.full_like(healthy, int(Tissue.SKULL))
    assert torch.equal(grafted(bone, library.labels, library.lesions, 1.0, HOW, generator_of(4, 0)), bone)


def test_samples_of_a_healthy_head_show_tumours_of_another() -> None:
    library = heads()
    with_one = Library(library.labels[[0]].repeat(3, 1, 1, 1), 1.0)
    assert not any(len(places) for places in with_one.lesions)
    seen = [sample(library, HOW, generator_of(5, n))[1] for n in range(12)]
    assert all(bool((labels == Tissue.ENHANCING).any()) for labels in seen)
    smaller = replace(HOW, shape=(24, 28, 40))  # than the heads
    seen = [sample(library, smaller, generator_of(5, n))[1] for n in range(12)]
    assert sum(bool((labels == Tissue.OEDEMA).any()) for labels in seen) > 6
