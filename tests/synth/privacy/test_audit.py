import json

import pytest
import torch
from torch.nn.functional import avg_pool2d, avg_pool3d

from synth.privacy.audit import Privacy, audit, figures
from synth.privacy.control import Disguise, constructed, near_copies
from synth.privacy.sample import Sample, sample


def scans(n: int, seed: int, *space: int) -> torch.Tensor:
    """Independent heads: an ellipse of blobs on dark air."""
    noise = torch.randn(n, 1, *space, generator=torch.Generator().manual_seed(seed))
    blobs = avg_pool2d(noise, 5, 1, 2) if len(space) == 2 else avg_pool3d(noise, 3, 1, 1)
    axes = torch.meshgrid(*(torch.linspace(-1.3, 1.3, side) for side in space), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    return torch.where(inside, 0.3 + 2 * blobs, -1.0)


def embed(images: torch.Tensor) -> torch.Tensor:
    """An extractor that sees coarse structure only."""
    return (avg_pool2d(images, 4) if images.ndim == 4 else avg_pool3d(images, 4)).flatten(1)


def centres(n: int) -> torch.Tensor:
    return torch.tensor([[8.0, 20.0], [10.0, 22.0]]).expand(n, 2, 2)


def cut(seed: int, n: int = 100) -> Sample:
    return sample(scans(n, seed, 32, 32), embed, centres(n))


@pytest.fixture(scope="module")
def private() -> Privacy:
    train = cut(0, 150)
    known = constructed(train, embed, 40, torch.Generator().manual_seed(4))
    return audit(cut(2), train, cut(1), known_copies=known)


def test_independent_draws_pass_and_the_control_is_caught(private: Privacy) -> None:
    assert private.flagged == ()
    assert private.memorised_share < 0.06
    assert private.positive_control_caught is True
    assert private.verdict.startswith("No memorisation found")
    assert "positive control is caught" in private.verdict
    assert private.control is not None
    assert private.control.correlation.absolute.share > 0.9
    assert private.control.crop is not None
    assert private.control.crop.absolute.share > 0.5


def test_exact_copies_are_caught_by_every_test() -> None:
    train, held_out = cut(0), cut(1)
    found = audit(train, train, held_out)
    assert found.memorised_share == 1
    assert found.correlations.evidence.absolute.share == 1
    assert found.crops is not None
    assert found.crops.evidence.absolute.share == 1
    assert found.by_distance.auc == 1
    assert found.flagged == ("distance", "correlation", "correlation of tumours", "membership by distance")
    assert found.verdict.startswith("Training images leak, by distance")
    assert [pair.synthetic for pair in found.nearest] == [pair.train for pair in found.nearest]


@pytest.mark.parametrize(
    "disguise",
    [
        Disguise(noise=0.0, shift=0.1, gamma=0.0, mirrored=0.0),
        Disguise(noise=0.0, shift=0.0, gamma=0.0, mirrored=1.0),
        Disguise(noise=0.0, shift=0.0, gamma=0.7, mirrored=0.0),
        Disguise(noise=0.05, shift=0.0, gamma=0.0, mirrored=0.0),
    ],
    ids=["shifted", "mirrored", "brightened", "noisy"],
)
@pytest.mark.parametrize("space", [(32, 32), (16, 16, 16)], ids=["slices", "volumes"])
def test_disguised_copies_are_caught_and_traced_to_their_originals(
    disguise: Disguise, space: tuple[int, ...]
) -> None:
    train, held_out = (sample(scans(60, seed, *space), embed) for seed in (0, 1))
    copied = near_copies(train.images[20:50], torch.Generator().manual_seed(3), disguise)
    found = audit(sample(copied, embed), train, held_out)
    assert found.correlations.evidence.absolute.share == 1
    assert found.correlations.train.index.tolist() == list(range(20, 50))
    assert "correlation" in found.flagged
    assert found.verdict.startswith("Training images leak")


def test_a_copied_tumour_in_another_head_is_caught_by_its_crop() -> None:
    train, held_out, fresh = cut(0), cut(1), scans(80, 2, 32, 32)
    fresh[:20, :, 5:23, 7:25] = train.images[:20, :, 5:23, 7:25]
    found = audit(sample(fresh, embed, centres(80)), train, held_out)
    assert "correlation of tumours" in found.flagged
    assert found.crops is not None
    assert found.crops.evidence.absolute.share == pytest.approx(0.25, abs=0.04)
    assert {pair.train for pair in found.strongest_crops} <= set(range(20))


def test_a_blind_audit_is_undecided() -> None:
    # The control comes from a model that learnt nothing, so nothing can be caught.
    found = audit(cut(2), cut(0), cut(1), known_copies=cut(3))
    assert found.positive_control_caught is False
    assert found.verdict.startswith("Undecided: the audit misses known copies")


def test_held_out_images_of_the_training_set_are_pointed_out() -> None:
    train, held_out = cut(0), scans(100, 1, 32, 32)
    held_out[:3] = train.images[:3]
    found = audit(cut(2), train, sample(held_out, embed, centres(100)))
    assert found.n_shared == 3
    assert "3 held-out images are training images too" in found.verdict


def test_too_few_images_leave_it_undecided() -> None:
    found = audit(cut(2, 2), cut(0, 10), cut(1, 4))
    assert found.verdict.startswith("Undecided: chance explains any share with so few patients")


def test_few_patients_leave_it_undecided_however_many_slices() -> None:
    # Five held-out patients with twenty all but equal slices each.
    patients = scans(5, 1, 32, 32).repeat_interleave(20, 0)
    slices = near_copies(patients, torch.Generator().manual_seed(6), Disguise(0.002, 0.0, 0.0, 0.0))
    held_out = sample(slices, embed, groups=torch.arange(5).repeat_interleave(20))
    found = audit(sample(cut(2).images, embed), sample(cut(0).images, embed), held_out)
    assert found.flagged == ()
    assert found.verdict.startswith("Undecided")
    assert found.distances.evidence.absolute.m_effective == pytest.approx(5, rel=0.2)


def test_a_patient_on_both_sides_is_refused() -> None:
    slices = scans(6, 0, 16, 16)
    train = sample(slices[:3], embed, groups=torch.tensor([4, 4, 5]))
    held_out = sample(slices[3:], embed, groups=torch.tensor([5, 6, 6]))
    with pytest.raises(ValueError, match="got 1 who are both"):
        audit(train, train, held_out)


def test_order_does_not_matter(private: Privacy) -> None:
    train, held_out, synthetic = (
        Sample(s.images.flip(0), s.features.flip(0), s.crops.flip(0) if s.crops is not None else None)
        for s in (cut(0, 150), cut(1), cut(2))
    )
    back = audit(synthetic, train, held_out)
    assert back.memorised_share == private.memorised_share
    assert back.by_distance.auc == pytest.approx(private.by_distance.auc)
    assert [(99 - p.synthetic, 149 - p.train) for p in back.strongest[:5]] == [
        (p.synthetic, p.train) for p in private.strongest[:5]
    ]


def test_a_loss_that_knows_its_members_is_flagged() -> None:
    train, held_out = cut(0), cut(1)
    known = train.images.flatten(1)

    def loss(images: torch.Tensor) -> torch.Tensor:
        return torch.cdist(images.flatten(1), known).amin(1)

    found = audit(cut(2), train, held_out, loss=loss)
    assert found.flagged == ("membership by loss",)


def test_figures_are_json(private: Privacy) -> None:
    back = json.loads(json.dumps(figures(private), allow_nan=False))
    assert back["memorised_share"] == private.memorised_share
    assert back["positive_control_caught"] is True
    assert back["control_correlation_relative_share"] > back["correlation_share_high"]


def test_near_copies_keep_air_and_range_and_move_by_whole_voxels() -> None:
    images = scans(3, 0, 24, 24)
    plain = Disguise(noise=0.0, shift=0.2, gamma=0.0, mirrored=0.0)
    moved = near_copies(images, torch.Generator().manual_seed(0), plain)
    assert not torch.equal(moved, images)
    steps = [(i, j) for i in range(-4, 5) for j in range(-4, 5)]
    for image, copy in zip(images, moved, strict=True):
        assert any(
            torch.allclose(image.roll(step, (1, 2))[:, 4:-4, 4:-4], copy[:, 4:-4, 4:-4]) for step in steps
        )
    bent = near_copies(images, torch.Generator().manual_seed(0), Disguise(noise=0.0))
    assert bent.amin((1, 2, 3)).tolist() == pytest.approx(images.amin((1, 2, 3)).tolist())


def test_features_of_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="own row"):
        Sample(torch.zeros(3, 1, 4, 4), torch.zeros(2, 5))
