import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from synth.privacy.neighbours import nearest, neighbours


def gaussian(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_nearest_is_scikit_learns() -> None:
    features, references = gaussian(300, 12, 0), gaussian(500, 12, 1)
    distance, index = NearestNeighbors(n_neighbors=1).fit(references.numpy()).kneighbors(features.numpy())
    found = nearest(features, references)
    assert found.value.numpy() == pytest.approx(distance[:, 0], rel=1e-5)
    assert found.index.tolist() == index[:, 0].tolist()


def test_nearest_other_is_scikit_learns_second() -> None:
    features = gaussian(400, 6, 0)
    distance, index = NearestNeighbors(n_neighbors=2).fit(features.numpy()).kneighbors(features.numpy())
    found = nearest(features, features, own=torch.arange(400))
    assert found.value.numpy() == pytest.approx(distance[:, 1], rel=1e-5)
    assert found.index.tolist() == index[:, 1].tolist()


def test_a_copy_is_at_no_distance_however_long_its_features() -> None:
    references = gaussian(2000, 64, 0) + 1000
    found = nearest(references[:500], references)
    assert found.value.max() == 0
    assert torch.equal(found.index, torch.arange(500))


def test_independent_draws_lie_as_near_to_train_as_held_out_ones_do() -> None:
    found = neighbours(gaussian(2000, 4, 0), gaussian(500, 4, 1), gaussian(1000, 4, 2))
    assert found.evidence.absolute.share == pytest.approx(0.01, abs=0.008)
    assert not found.evidence.flagged
    assert found.null_ratio is not None
    assert found.ratio == pytest.approx(found.null_ratio, rel=0.05)


def test_a_larger_training_set_lowers_the_ratio_and_its_null_alike() -> None:
    # In d dimensions the nearest of n lies at a distance that falls as n^(-1/d).
    found = neighbours(gaussian(1000, 2, 0), gaussian(1600, 2, 1), gaussian(400, 2, 2))
    assert found.null_ratio is not None
    assert found.ratio == pytest.approx(0.5, rel=0.1)
    assert found.null_ratio == pytest.approx(0.5, rel=0.1)


def test_copies_are_counted() -> None:
    train = gaussian(300, 8, 1)
    synthetic = gaussian(200, 8, 0)
    synthetic[50:90] = train[:40]
    found = neighbours(synthetic, train, gaussian(200, 8, 2))
    assert found.evidence.absolute.share == pytest.approx(0.2, abs=0.03)
    assert found.evidence.absolute.low > 0.14
    assert found.evidence.flagged
    assert found.train.index[50:90].tolist() == list(range(40))


def test_order_does_not_matter() -> None:
    synthetic, train, held_out = gaussian(700, 5, 0), gaussian(600, 5, 1), gaussian(300, 5, 2)
    there, back = (
        neighbours(synthetic, train, held_out),
        neighbours(*(x.flip(0) for x in (synthetic, train, held_out))),
    )
    assert there.evidence.absolute == back.evidence.absolute
    assert there.ratio == pytest.approx(back.ratio)


def test_embeddings_of_two_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="one extractor"):
        nearest(gaussian(2, 3, 0), gaussian(2, 4, 0))


def test_rivals_are_the_mean_of_scikit_learns_fifty() -> None:
    features, references = gaussian(40, 6, 0), gaussian(300, 6, 1)
    distance, _ = NearestNeighbors(n_neighbors=50).fit(references.numpy()).kneighbors(features.numpy())
    assert nearest(features, references).rivals.numpy() == pytest.approx(distance.mean(1), rel=1e-5)


def test_a_noisy_copy_among_rare_images_is_singled_out_where_common_ones_lie_nearer() -> None:
    # Half of all images are of a common kind, close together; copies of rare ones keep a distance from their
    # originals that common images have from strangers, but from no other rare image.
    rare = torch.arange(400) % 2 == 0
    spread = torch.where(rare, 10.0, 0.1)[:, None]
    train, held_out = gaussian(400, 8, 0) * spread, gaussian(400, 8, 1) * spread
    synthetic = gaussian(400, 8, 2) * spread
    synthetic[rare] = train[rare] + 0.1 * gaussian(200, 8, 3)
    found = neighbours(synthetic, train, held_out).evidence
    assert not found.absolute.flagged
    assert found.relative.flagged
    assert found.relative.share == pytest.approx(0.5, abs=0.02)
