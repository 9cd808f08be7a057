"""Bootstrap intervals against normal theory, and floors between real halves."""

import math

import pytest
import torch

from synth.fidelity.bootstrap import bootstrap, counts
from synth.fidelity.floor import real_floor, real_floors
from synth.fidelity.frechet import frechet_distance
from synth.fidelity.kernel import kernel_distance


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=seeded(seed), dtype=torch.float64)


def mean(x: torch.Tensor) -> float:
    return float(x.mean())


def test_interval_of_a_mean_is_that_of_normal_theory() -> None:
    x = normal(400, 1, 1)
    interval = bootstrap(mean, [x], seeded(1), 1000)
    half = 1.96 * float(x.std()) / 20
    assert interval.estimate == mean(x)
    assert interval.low == pytest.approx(mean(x) - half, abs=0.1 * half)
    assert interval.high == pytest.approx(mean(x) + half, abs=0.1 * half)
    assert abs(interval.bias) < 0.1 * half


def test_interval_of_a_mean_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for s in range(120):
        interval = bootstrap(mean, [normal(50, 1, s)], seeded(s), 60, 0.9)
        held += interval.low <= 0 <= interval.high
    assert held / 120 == pytest.approx(0.9, abs=0.08)


def test_paired_differences_are_sharper_than_unpaired_ones() -> None:
    cases = 10 * normal(100, 1, 2)
    other = cases + 1 + 0.1 * normal(100, 1, 3)

    def gain(a: torch.Tensor, b: torch.Tensor) -> float:
        return mean(b) - mean(a)

    paired = bootstrap(gain, [cases, other], seeded(1), 300, paired=True)
    apart = bootstrap(gain, [cases, other], seeded(1), 300)
    assert 0.9 < paired.low < paired.high < 1.1
    assert apart.low < 0 < apart.high


def test_slices_of_one_patient_count_as_one() -> None:
    # 20 slices of each of 25 patients are all alike: the error is that of 25 values and not of 500.
    patients = normal(25, 1, 4)
    slices, groups = patients.repeat_interleave(20, dim=0), torch.arange(25).repeat_interleave(20)
    by_patient = bootstrap(mean, [slices], seeded(1), 1000, groups=[groups])
    by_slice = bootstrap(mean, [slices], seeded(1), 1000)
    expected = 2 * 1.96 * float(patients.std()) / 5
    assert by_patient.high - by_patient.low == pytest.approx(expected, rel=0.12)
    assert by_slice.high - by_slice.low == pytest.approx(expected / math.sqrt(20), rel=0.12)


def test_a_biased_statistic_is_centred_on_its_estimate() -> None:
    a, b = normal(60, 20, 5), normal(60, 20, 6)
    plain = bootstrap(frechet_distance, [a, b], seeded(1), 100)
    centred = bootstrap(frechet_distance, [a, b], seeded(1), 100, centred=True)
    assert plain.low > plain.estimate  # drawing with replacement adds noise of its own
    assert centred.low < centred.estimate < centred.high
    assert centred.bias == plain.bias > 0


def test_resamples_in_which_the_statistic_is_not_defined_are_left_out() -> None:
    values = torch.tensor([math.nan, math.nan, 1.0, 1.0])
    interval = bootstrap(lambda x: float(x.nanmean()), [values], seeded(1), 200)
    assert (interval.low, interval.estimate, interval.high) == (1.0, 1.0, 1.0)
    assert math.isnan(bootstrap(lambda _: math.nan, [values], seeded(1), 5).low)


def test_one_seed_gives_one_interval() -> None:
    x = normal(30, 1, 7)
    assert bootstrap(mean, [x], seeded(3), 50) == bootstrap(mean, [x], seeded(3), 50)


def test_counts_say_how_often_each_was_drawn() -> None:
    assert counts(torch.tensor([2, 0, 2]), 4).tolist() == [1.0, 0.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        ([torch.zeros(0)], {}, "leave the empty set out"),
        ([torch.zeros(3), torch.zeros(4)], {"paired": True}, "paired sets of one length"),
        ([torch.zeros(3)], {"level": 1.5}, "level within 0 to 1"),
        ([torch.zeros(3)], {"groups": [torch.zeros(2, dtype=torch.long)]}, "a group for each of 3"),
        ([torch.zeros(3)], {"groups": []}, "groups for 1 sets"),
    ],
)
def test_bad_sets_are_refused(sets: list[torch.Tensor], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(mean, sets, seeded(1), 10, **options)


def test_a_fresh_draw_of_the_real_distribution_sits_at_the_floor() -> None:
    above = [
        real_floor(kernel_distance, normal(80, 4, s), normal(80, 4, 300 + s), seeded(s), 10).above
        for s in range(24)
    ]
    assert sum(above) / 24 == pytest.approx(0.5, abs=0.15)


def test_copies_lie_below_the_floor_and_another_distribution_above() -> None:
    real = normal(100, 4, 1)
    for measure in (kernel_distance, frechet_distance):
        copies = real_floor(measure, real, real.clone(), seeded(1))
        other = real_floor(measure, real, normal(100, 4, 2) + 1, seeded(1))
        assert copies.above < 0.05
        assert copies.synthetic < copies.real_low or copies.synthetic_high < copies.real
        assert other.above == 1
        assert other.synthetic_low > other.real_high
        assert copies.real == other.real
        assert copies.n == 50


def test_both_sides_of_a_floor_have_one_size() -> None:
    sizes = set()

    def sized(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
        sizes.add((len(a), len(b)))
        return 0.0, 1.0

    floors = real_floors(sized, normal(31, 2, 1), normal(9, 2, 2), seeded(1), 5)
    assert sizes == {(9, 9)}
    assert [f.real for f in floors] == [0.0, 1.0]
    assert [f.above for f in floors] == [0.5, 0.5]


def test_halves_share_no_image_and_no_patient() -> None:
    patients = torch.arange(12).repeat_interleave(5)
    items = torch.stack([torch.arange(60), patients], dim=1)
    shared = []

    def common(a: torch.Tensor, b: torch.Tensor) -> float:
        if (b[:, 0] < 60).all():
            shared.append(len(set(a[:, 1].tolist()) & set(b[:, 1].tolist())))
            assert 25 <= len(a) <= 35
        return 0.0

    real_floor(common, items, items + 100, seeded(1), 10, groups=(patients, None))
    assert shared == [0] * 10


def test_synthetic_items_come_from_as_many_patients_as_real_ones() -> None:
    patients = torch.arange(12).repeat_interleave(5)
    items = torch.stack([torch.arange(60), patients], dim=1)
    n_patients = set()

    def common(a: torch.Tensor, b: torch.Tensor) -> float:
        n_patients.add((len(a[:, 1].unique()), len(b[:, 1].unique())))
        return 0.0

    real_floor(common, items, items, seeded(1), 5, groups=(patients, patients))
    assert n_patients == {(6, 6)}


def test_too_few_images_for_halves_are_refused() -> None:
    with pytest.raises(ValueError, match="four real items"):
        real_floor(kernel_distance, normal(3, 2, 1), normal(9, 2, 2), seeded(1))
