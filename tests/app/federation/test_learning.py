"""A site's share of a training is a function: nothing but its arguments counts, and it leaves nothing."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from app.federation.learning import Budget, learn, score
from models.fit import Fit

BUDGET = Budget(Fit(steps=3, warmup=1, learning_rate=1e-3, muon=True))


def first(task) -> dict[str, Tensor]:
    return dict(task.network().state_dict())


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_same_arguments_give_the_same_bits_whatever_happened_before(site):
    task = site([0, 1, 2])
    start = first(task)
    kept = {k: t.clone() for k, t in start.items()}
    once = learn(start, task, BUDGET, seed=5)
    torch.rand(17)
    learn(start, site([3, 4]), BUDGET, seed=6)
    again = learn(start, task, BUDGET, seed=5)
    assert same(once.weights, again.weights)
    assert once.losses == again.losses
    assert same(start, kept)
    assert not same(once.weights, start)


def test_another_seed_or_site_gives_other_weights(site):
    task = site([0, 1, 2])
    start = first(task)
    one = learn(start, task, BUDGET, seed=5).weights
    assert not same(one, learn(start, task, BUDGET, seed=6).weights)
    assert not same(one, learn(start, site([3, 4]), BUDGET, seed=5).weights)


def test_nothing_is_left_behind(site, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    task = site([0, 1])
    start = first(task)
    before = torch.random.get_rng_state()
    here = sorted(Path.cwd().iterdir())
    learn(start, task, BUDGET, seed=0)
    score(start, task)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert list(tmp_path.iterdir()) == []
    assert sorted(Path.cwd().iterdir()) == here


def test_counts_are_of_patients_and_samples(site):
    task = site([0, 1, 2, 3])
    took = learn(first(task), task, Budget(Fit(steps=3, batch=2, warmup=1)), seed=0)
    assert (took.patients, took.samples) == (3, 6)
    assert score(first(task), task).patients == 1


def test_a_rate_of_nothing_leaves_the_weights(site):
    task = site([0, 1])
    start = first(task)
    still = Budget(Fit(steps=2, learning_rate=0.0, weight_decay=0.0))
    assert same(learn(start, task, still, seed=0).weights, start)


def test_the_proximal_term_holds_weights_near_those_that_came(site):
    task = site([0, 1])
    start = first(task)

    def far(proximal: float) -> float:
        budget = Budget(Fit(steps=8, warmup=1, learning_rate=1e-3), proximal)
        weights = learn(start, task, budget, seed=1).weights
        return sum(float(((weights[k] - start[k]) ** 2).sum()) for k in start)

    assert far(1e5) < 0.5 * far(0.0)


def test_shares_in_a_row_follow_one_cosine(site):
    # A cosine ends near a hundredth of its rate: the last of four parts moves weights less than the first.
    task = site([0, 1])
    start = first(task)

    def moved(part: tuple[float, float]) -> float:
        budget = Budget(replace(BUDGET.fit, part=part, warmup=0))
        weights = learn(start, task, budget, seed=1).weights
        return sum(float((weights[k] - start[k]).abs().sum()) for k in start)

    assert moved((0.75, 1.0)) < 0.2 * moved((0.0, 0.25))


def test_weights_of_another_network_are_refused(site):
    task = site([0, 1])
    fewer = dict(list(first(task).items())[1:])
    with pytest.raises(ValueError, match="expected the weights of the network that was agreed on"):
        learn(fewer, task, BUDGET, seed=0)
    with pytest.raises(ValueError, match="expected the weights of the network that was agreed on"):
        score({k: t[None] for k, t in first(task).items()}, task)


def test_a_budget_of_time_is_no_budget_of_a_site():
    with pytest.raises(ValueError, match="expected a number of steps and no budget of time"):
        Budget(Fit(budget_s=3.0))
