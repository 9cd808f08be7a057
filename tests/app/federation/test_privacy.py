"""Budgets against published and closed forms; clipping and noise against what was asked for."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Message
from scipy.stats import norm

from app.federation.gate import Answer, first_weights
from app.federation.in_process import InProcessGrid
from app.federation.learning import PACKED
from app.federation.privacy import clipped, epsilon_of, noise_for, noisy, of_mean, within
from app.federation.records import asked_by, reply_with
from app.federation.result import told_privacy
from app.federation.rounds import trained
from app.federation.study import Study, signed

MODEL = {"shape": [32, 32, 32], "net": {"features": [4, 4, 4, 4, 4, 4], "stages": 1}}
STUDY = Study(
    "small", "dose", MODEL, rounds=2, steps=1, weighting="equal", privacy="central", clip=3.0, noise=1e-6
)
FIRST = first_weights(STUDY)[PACKED]


def test_one_release_spends_what_the_analytic_gaussian_mechanism_says():
    # Balle and Wang, ICML 2018: of sensitivity 1, epsilon 1 at delta 1e-5 needs a deviation of 3.730632.
    assert epsilon_of(3.730632, 1, 1e-5) == pytest.approx(1.0, abs=1e-5)


def test_at_epsilon_0_delta_is_the_total_variation_of_two_gaussians():
    assert epsilon_of(1.0, 1, 2 * norm.cdf(0.5) - 1 + 1e-9) == 0.0
    assert 0 < epsilon_of(1.0, 1, 2 * norm.cdf(0.5) - 1 - 1e-3) < 0.01


def test_releases_compose_as_one_with_noise_smaller_by_the_root_of_their_number():
    assert epsilon_of(5.0, 25, 1e-5) == pytest.approx(epsilon_of(1.0, 1, 1e-5), rel=1e-9)


@pytest.mark.parametrize(("noise", "n"), [(0.7, 10), (1.0, 1), (4.0, 100), (20.0, 30)])
def test_no_budget_is_above_what_renyi_divergence_bounds(noise: float, n: int):
    # Mironov, CSF 2017: epsilon <= a n / (2 noise^2) + ln(1 / delta) / (a - 1) for every order a > 1.
    bound = min(
        a * n / (2 * noise**2) + math.log(1e5) / (a - 1) for a in (1 + k / 100 for k in range(1, 99999))
    )
    assert 0.5 * bound < epsilon_of(noise, n, 1e-5) < bound


@pytest.mark.parametrize("epsilon", [0.5, 8.0, 300.0])
def test_the_noise_of_a_budget_spends_it(epsilon: float):
    assert epsilon_of(noise_for(epsilon, 10, 1e-5), 10, 1e-5) == pytest.approx(epsilon, rel=1e-5)


def test_without_noise_nothing_is_private_and_without_releases_nothing_is_spent():
    assert epsilon_of(0.0, 1, 1e-5) == math.inf
    assert epsilon_of(1.0, 0, 1e-5) == 0.0
    with pytest.raises(ValueError, match="expected a delta"):
        epsilon_of(1.0, 1, 1.0)


def test_what_moved_too_far_ends_at_the_bound_on_its_way():
    sent, row = torch.tensor([1.0, 1.0]), torch.tensor([4.0, 5.0])
    assert clipped(row, sent, 1.0).tolist() == pytest.approx([1.6, 1.8], abs=1e-5)
    assert torch.equal(clipped(row, sent, 5.1), row)
    assert within(clipped(row, sent, 1.0), sent, 1.0)
    assert not within(row, sent, 4.9)


def test_the_noise_of_a_mean_is_that_of_the_sum_over_the_sites():
    sent = torch.zeros(200_000)
    mean = torch.stack(of_mean([sent, sent, sent, sent], sent, 2.0, 1.5)).mean(dim=0)
    assert float(mean.std()) == pytest.approx(1.5 * 2.0 / 4, rel=0.01)
    assert float(mean.mean()) == pytest.approx(0.0, abs=0.01)
    assert not torch.equal(noisy(sent, 1.0), noisy(sent, 1.0))


def node_that_adds(by: float, words: tuple[str, ...] = ()) -> Callable[[Message], Message]:
    def reply(message: Message) -> Message:
        asked = asked_by(message)
        if asked.kind == "evaluate":
            errors = dict.fromkeys(("dose_gy", "histogram_gy", "counted_gy"), 1.0)
            return reply_with(Answer({}, {"patients": 1, **errors}), message)
        figures = {"patients": 7, "samples": 1} | dict.fromkeys(words, 1.0)
        return reply_with(Answer({PACKED: asked.weights[PACKED] + by}, figures), message)

    return reply


def test_a_server_clips_what_sites_send_and_tells_what_was_spent(tmp_path: Path):
    signature = signed(STUDY, Ed25519PrivateKey.generate())
    # Of n weights, all moved by 1 are sqrt n far: they end at 3. What moved by 0.01 in all stays.
    small = 0.01 / math.sqrt(len(FIRST))
    nodes = {1: node_that_adds(1.0), 2: node_that_adds(small), 3: node_that_adds(1.0, ("loss_last",))}
    found = trained(InProcessGrid(nodes), STUDY, signature, tmp_path, lambda _, __: None, 5.0)
    move = float((found.weights[PACKED] - FIRST).double().norm())
    assert move == pytest.approx(2 * (3.0 + 0.01) / 2, rel=1e-3)
    assert found.rounds[0].refused == {"3": "figures other than were asked"}  # losses of training patients
    told = told_privacy(found, replace(STUDY, noise=2.0))
    assert told["epsilon"] == pytest.approx(epsilon_of(2.0, 2, 1e-5), abs=1e-4)
    assert told["releases"] == 2


@pytest.mark.parametrize(
    "words",
    [
        {"noise": 0.0},
        {"clip": 0.0},
        {"privacy": "none"},
        {"weighting": "patients"},
        {"delta": 0.0},
        {"privacy": "x"},
    ],
)
def test_words_that_give_no_privacy_are_refused(words: dict):
    with pytest.raises(ValueError, match="expected"):
        replace(STUDY, **words)
