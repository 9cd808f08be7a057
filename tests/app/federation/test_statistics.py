"""Counts of few patients cannot be found again, by whoever tries all that fits; sums are sums."""

import itertools
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Message

from app.federation.gate import STATISTICS, Answer, answers_of
from app.federation.in_process import InProcessGrid
from app.federation.records import asked_by, reply_with
from app.federation.statistics import HIDDEN, flat, may_leave, names_of, pooled, suppressed, unflat
from app.federation.statistics_round import counted, statistics_in
from app.federation.study import Study, signed

LEAST = 3


def fitting(told: dict[str, int], total: int) -> list[dict[str, int]]:
    """Every histogram of so many patients that gives what is told."""
    hidden = [cell for cell, n in told.items() if n == HIDDEN]
    missing = total - sum(n for n in told.values() if n != HIDDEN)
    tries = itertools.product(range(missing + 1), repeat=len(hidden))
    found = ({**told, **dict(zip(hidden, t, strict=True))} for t in tries if sum(t) == missing)
    return [cells for cells in found if suppressed({"h": cells}, LEAST)["h"] == told]


@pytest.mark.parametrize(("n_cells", "most"), [(2, 7), (3, 5), (4, 4)])
def test_no_count_of_few_can_be_found_by_trying_all_that_fits(n_cells: int, most: int):
    for counts in itertools.product(range(most + 1), repeat=n_cells):
        cells, total = {str(k): n for k, n in enumerate(counts)}, sum(counts)
        told = suppressed({"h": cells}, LEAST)["h"]
        assert all(n in (HIDDEN, 0) or n >= LEAST for n in told.values())
        few = [cell for cell, n in cells.items() if 0 < n < LEAST]
        if total < LEAST or not few:
            continue  # the total is not told either, or there is nothing to hide
        every = fitting(told, total)
        assert cells in every
        assert all(len({one[cell] for one in every}) > 1 for cell in few), cells
        assert sum(n for cell, n in cells.items() if told[cell] == HIDDEN) >= LEAST


def test_neighbours_of_few_are_hidden_with_them():
    counts = {"a": 2, "b": 9, "c": 30, "d": 0, "e": 7}
    assert suppressed({"h": counts}, 5)["h"] == {**counts, "a": HIDDEN, "b": HIDDEN}
    assert set(suppressed({"h": {"a": 3, "b": 0}}, 5)["h"].values()) == {HIDDEN}
    # Two alone are fewer than may be told of: the next pair goes with them.
    counts = {"a": 1, "b": 1, "c": 30, "d": 40, "e": 0, "f": 9}
    hidden = suppressed({"h": counts}, 5)["h"]
    assert hidden == {**counts, **dict.fromkeys("abcd", HIDDEN)}
    whole = {"a": 5, "b": 9, "c": 0}
    assert suppressed({"h": whole}, 5)["h"] == whole


def test_sites_are_summed_as_far_as_they_tell():
    found = pooled([{"h": {"a": 7, "b": HIDDEN}}, {"h": {"a": 5, "b": 6}}, {"h": {"a": HIDDEN, "b": HIDDEN}}])
    assert found == {"h": {"a": {"patients": 12, "sites_hidden": 1}, "b": {"patients": 6, "sites_hidden": 2}}}


def test_names_go_there_and_back_and_nothing_else_may_leave():
    counts = {"volume of A (cm3)": {"below 25": 6, "none": 0}}
    assert unflat(flat(counts)) == counts
    assert set(names_of({"volume of A (cm3)": ("below 25", "none")})) == set(flat(counts))
    assert may_leave(flat(counts), 5)
    for wrong in ({"a": 3}, {"a": 6.5}, {"a": -2}, {"a": True}):
        assert not may_leave(wrong, 5)


def test_a_server_asks_once_and_keeps_what_sites_told(tmp_path: Path):
    study = Study("small", "dose", {}, rounds=1, steps=1, statistics=True)
    asked: list[int] = []

    def site(n: int, spoil: bool = False):
        def reply(message: Message) -> Message:
            asked.append(n)
            assert asked_by(message).kind == STATISTICS
            figures = dict.fromkeys(answers_of(STATISTICS, study), n)
            return reply_with(Answer({}, {**figures, "name": 1} if spoil else figures), message)

        return reply

    grid = InProcessGrid({1: site(10), 2: site(20), 3: site(5, spoil=True), 4: lambda _: None})
    signature = signed(study, Ed25519PrivateKey.generate())
    for _ in range(2):
        counted(grid, study, signature, tmp_path, 5.0)
    assert asked == [10, 20, 5]
    found = statistics_in(tmp_path)
    assert found is not None
    assert found["pooled"]["patients"]["all"] == {"patients": 30, "sites_hidden": 0}
    assert found["refused"] == {"3": "figures other than were asked", "4": "no reply in time"}
