"""The whole report on sets that fail in known ways: each is seen by the measure that should see it."""

import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch

from synth.fidelity.frechet import principal_axes
from synth.fidelity.report import Fidelity, FidelityConfig, Labelled, fidelity

CONFIG = FidelityConfig(n_resamples=30, n_splits=12, n_pairs=30, n_bins=40)
N = 60


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slices(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright disc (class 1) anywhere in smooth noise."""
    generator = seeded(seed)
    at = torch.stack(torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij"))
    center = 7 + 10 * torch.rand(N, 2, 1, 1, generator=generator)
    radius = 3 + 3 * torch.rand(N, 1, 1, generator=generator)
    labels = ((at - center).norm(dim=1) < radius).long()
    noise = torch.nn.functional.avg_pool2d(torch.randn(N, 1, 26, 26, generator=generator), 3, stride=1)
    return (0.3 + 0.15 * noise + 0.4 * labels[:, None]).clamp(0, 1), labels


def features(images: torch.Tensor) -> torch.Tensor:
    """Brightness and roughness of the quarters, shape ``(n, 8)``."""
    means = torch.nn.functional.avg_pool2d(images, 12)
    return torch.cat([means.flatten(1), torch.nn.functional.avg_pool2d(images**2, 12).flatten(1)], dim=1)


def by_brightness(images: torch.Tensor) -> torch.Tensor:
    return (torch.nn.functional.avg_pool2d(images[:, 0], 3, stride=1, padding=1) > 0.5).long()


def report(images: torch.Tensor, labels: torch.Tensor) -> Fidelity:
    real, truth = (x.to(images.device) for x in slices(1))
    return fidelity(
        real,
        images,
        features(real),
        features(images),
        seeded(9),
        0.0,
        1.0,
        CONFIG,
        labelled=Labelled(truth, labels, 2, (1.0, 1.0), (1,), by_brightness),
    )


@pytest.fixture(scope="module")
def fresh() -> Fidelity:
    return report(*slices(2))


def test_a_fresh_draw_cannot_be_told_from_real_halves(fresh: Fidelity) -> None:
    assert fresh.tissues is not None
    assert fresh.radiomics is not None
    assert fresh.obedience is not None
    for measure in (fresh.frechet, fresh.kernel, fresh.precision, fresh.coverage, fresh.spectrum):
        assert measure.floor.synthetic_low < measure.floor.real_high
        assert measure.floor.real_low < measure.floor.synthetic_high
        assert measure.value.low <= measure.value.estimate <= measure.value.high
    assert fresh.coverage.value.estimate > 0.85
    assert fresh.diversity.ratio.low < 1 < fresh.diversity.ratio.high
    assert fresh.tissues.wasserstein.floor.above < 1
    assert fresh.radiomics.shift.floor.above < 1
    for dice in fresh.obedience:
        assert dice.synthetic.estimate == pytest.approx(dice.real.estimate, abs=0.03)
        assert dice.synthetic.low > 0.8


def test_copies_are_nearer_than_real_halves_can_be(fresh: Fidelity) -> None:
    real, truth = slices(1)
    copies = report(real.clone(), truth)
    assert copies.kernel.value.estimate < 0 < fresh.kernel.value.high
    assert copies.frechet.value.estimate == pytest.approx(0.0, abs=1e-12)
    assert copies.frechet.floor.above < 0.1
    assert copies.frechet.floor.real > 100 * copies.frechet.value.estimate
    assert copies.precision.value.estimate == copies.coverage.value.estimate == 1


def test_collapse_is_seen_by_recall_coverage_and_diversity_but_not_by_precision() -> None:
    images, labels = slices(2)
    # The image nearest to the others: what a collapsed generator is rewarded for.
    best = int(torch.cdist(features(images), features(images)).mean(dim=1).argmin())
    collapsed = report(images[best].expand(N, -1, -1, -1), labels[best].expand(N, -1, -1))
    assert collapsed.precision.value.estimate == 1
    assert collapsed.recall.value.estimate == 0
    assert collapsed.coverage.value.estimate < 0.4
    assert collapsed.coverage.floor.above == 0
    assert collapsed.diversity.synthetic.estimate == pytest.approx(1.0)
    assert collapsed.diversity.ratio.estimate == pytest.approx(0.0, abs=1e-9)
    assert collapsed.frechet.floor.above == 1
    assert collapsed.radiomics is not None
    assert collapsed.radiomics.difference.floor.above == 1


def test_noise_is_seen_by_precision_spectrum_and_tissues() -> None:
    noise = report(torch.rand(N, 1, 24, 24, generator=seeded(3)), slices(2)[1])
    assert noise.tissues is not None
    assert noise.obedience is not None
    assert noise.precision.value.estimate == 0
    assert noise.density.value.estimate == 0
    for measure in (
        noise.frechet,
        noise.kernel,
        noise.spectrum,
        noise.tissues.wasserstein,
        noise.tissues.jensen_shannon,
    ):
        assert measure.floor.above == 1
        assert measure.floor.synthetic_low > measure.floor.real_high
    assert noise.obedience[1].synthetic.high < 0.4


def test_wrong_labels_are_seen_by_obedience_and_tissues_and_by_no_other(fresh: Fidelity) -> None:
    images, labels = slices(2)
    wrong = report(images, labels.roll(1, dims=0))
    assert wrong.tissues is not None
    assert wrong.obedience is not None
    assert wrong.obedience[1].synthetic.high < 0.5
    assert wrong.obedience[1].real.low > 0.8
    assert wrong.tissues.wasserstein.floor.above == 1
    assert (wrong.frechet, wrong.kernel, wrong.precision, wrong.spectrum, wrong.diversity) == (
        fresh.frechet,
        fresh.kernel,
        fresh.precision,
        fresh.spectrum,
        fresh.diversity,
    )


def test_a_report_is_numbers_that_json_takes_and_one_seed_gives_one(fresh: Fidelity) -> None:
    text = json.dumps(asdict(fresh), sort_keys=True)
    assert text == json.dumps(asdict(report(*slices(2))), sort_keys=True)
    assert json.loads(text)["n_axes"] == 8


def test_volumes_without_labels_are_measured_on_axes_of_other_images() -> None:
    volumes = [torch.rand(24, 2, 14, 14, 14, generator=seeded(s)) for s in (4, 5, 6)]
    far = [v.flatten(1)[:, ::7].contiguous() for v in volumes]
    axes = principal_axes(far[2], 3)
    config = FidelityConfig(n_resamples=5, n_splits=3, n_pairs=5)
    patients = torch.arange(12).repeat_interleave(2)
    found = fidelity(
        volumes[0], volumes[1], far[0], far[1], seeded(1), 0.0, 1.0, config, axes, groups=(patients, None)
    )
    assert (found.n_axes, found.n_dimensions) == (3, far[0].shape[1])
    assert found.tissues is found.radiomics is found.obedience is None
    with pytest.raises(ValueError, match="give axes of other real images"):
        fidelity(volumes[0], volumes[1], far[0], far[1], seeded(1), 0.0, 1.0, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, f, y: (x[1:], f, y), "features of each of 60 real and 59 synthetic"),
        (lambda x, f, y: (x * torch.nan, f, y), "finite values in the synthetic images"),
        (lambda x, f, y: (x, f * torch.inf, y), "finite features of the synthetic images"),
        (lambda x, f, y: (x, f, y[:, 1:]), "labels for images of shape"),
    ],
)
def test_sets_that_do_not_fit_are_refused(
    change: Callable[
        [torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ],
    message: str,
) -> None:
    images, labels = slices(1)
    x, f, y = change(images, features(images), labels)
    with pytest.raises(ValueError, match=message):
        fidelity(
            images,
            x,
            features(images),
            f,
            seeded(1),
            0.0,
            1.0,
            CONFIG,
            labelled=Labelled(labels, y, 2, (1.0, 1.0)),
        )


@pytest.mark.gpu
def test_images_on_a_gpu_have_the_report_of_the_cpu(fresh: Fidelity) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images, labels = slices(2)
    there = report(images.cuda(), labels.cuda())
    for ours, theirs in (
        (there.frechet, fresh.frechet),
        (there.kernel, fresh.kernel),
        (there.coverage, fresh.coverage),
        (there.spectrum, fresh.spectrum),
    ):
        assert ours.value.estimate == pytest.approx(theirs.value.estimate, rel=1e-3, abs=1e-6)
    assert there.diversity.ratio.estimate == pytest.approx(fresh.diversity.ratio.estimate, rel=1e-4)
