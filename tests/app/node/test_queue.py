"""The queue hands out each study once, tries again later each time, and survives a kill at any moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.node.queue import Queue, State
from app.node.vault import Instance


def instance(study: str, name: str) -> Instance:
    return Instance(name, f"series of {study}", study, Path(f"{study}/{name}.dcm"), "0" * 64)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / "queue.sqlite", quiet=30.0, attempts=3, pause=60.0, clock=clock)


def test_a_study_is_ready_after_a_quiet_time_and_is_handed_out_once(queue: Queue, clock: Clock):
    queue.came(instance("a", "1"))
    clock.now += 20
    queue.came(instance("a", "2"))
    clock.now += 29
    assert queue.take() is None  # 29 s after the last
    clock.now += 1
    job = queue.take()
    assert job is not None
    assert (job.study, job.state, job.instances, job.attempts) == ("a", State.RUNNING, 2, 1)
    assert queue.take() is None
    queue.done("a")
    assert [x.state for x in queue.jobs()] == [State.DONE]


def test_what_came_before_changes_nothing_and_what_is_new_begins_anew(queue: Queue, clock: Clock):
    queue.came(instance("a", "1"))
    clock.now += 30
    queue.take()
    queue.came(instance("a", "1"))
    assert queue.jobs()[0].state is State.RUNNING
    queue.came(instance("a", "2"))  # while it runs: what runs is of too few
    queue.done("a")
    assert queue.jobs()[0].state is State.ARRIVING
    clock.now += 30
    job = queue.take()
    assert job is not None
    assert job.instances == 2


def test_a_bad_study_blocks_no_other(queue: Queue, clock: Clock):
    queue.came(instance("bad", "1"))
    queue.came(instance("good", "1"))
    clock.now += 30
    first = queue.take()
    assert first is not None
    assert first.study == "bad"
    queue.failed("bad", "why")
    second = queue.take()
    assert second is not None
    assert second.study == "good"


def test_what_fails_waits_longer_each_time_and_is_set_aside_with_its_reason(queue: Queue, clock: Clock):
    queue.came(instance("bad", "1"))
    clock.now += 30
    for wait in (60.0, 120.0):
        assert queue.take() is not None
        queue.failed("bad", "why")
        clock.now += wait - 1
        assert queue.take() is None
        clock.now += 1
    assert queue.take() is not None
    queue.failed("bad", "no CT can be made of it")
    clock.now += 1e9
    assert queue.take() is None
    job = queue.jobs()[0]
    assert (job.state, job.attempts, job.reason) == (State.ASIDE, 3, "no CT can be made of it")
    queue.again("bad")
    assert queue.take() is not None


def test_what_cannot_succeed_is_set_aside_at_once(queue: Queue, clock: Clock):
    queue.came(instance("a", "1"))
    clock.now += 30
    queue.take()
    queue.failed("a", "two instances of one UID", final=True)
    assert queue.jobs()[0].state is State.ASIDE
    with pytest.raises(ValueError, match="expected a study of the queue"):
        queue.again("b")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(["came", "take", "done", "failed", "wait", "restart"]), max_size=40))
def test_whatever_happens_every_study_ends_or_is_due_again(steps: list[str], tmp_path_factory):
    path, clock = tmp_path_factory.mktemp("q") / "queue.sqlite", Clock()
    queue, running, n = Queue(path, 30.0, 2, 60.0, clock), [], 0
    for step in steps:
        if step == "came":
            queue.came(instance(str(n % 3), str(n)))
            n += 1
        elif step == "take":
            job = queue.take()
            assert job is None or job.study not in running
            running += [job.study] if job else []
        elif step in ("done", "failed") and running:
            study = running.pop()
            queue.done(study) if step == "done" else queue.failed(study, "why")
        elif step == "wait":
            clock.now += 45.0
        elif step == "restart":
            queue, running = Queue(path, 30.0, 2, 60.0, clock), []
            queue.recover()
    queue.recover()
    for _ in range(20):
        clock.now += 1e4
        while job := queue.take():
            queue.done(job.study)
    assert {x.state for x in queue.jobs()} <= {State.DONE, State.ASIDE}
    assert sum(x.instances for x in queue.jobs()) == n


_KILLED = """
import sys
from pathlib import Path
from app.node.queue import Queue
from app.node.vault import Instance
queue = Queue(Path(sys.argv[1]), quiet=0.0, attempts=1000, pause=0.0)
queue.recover()
for n in range(int(sys.argv[2]), 10**9):
    queue.came(Instance(str(n), "s", str(n), Path(str(n)), "0" * 64))
    print(n, flush=True)
    job = queue.take()
    if job:
        queue.done(job.study)
        print("done", job.study, flush=True)
"""


@pytest.mark.slow
def test_what_was_noted_is_there_after_a_kill(tmp_path: Path):
    path, noted, done = tmp_path / "queue.sqlite", -1, set()
    draws = np.random.default_rng(1)
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(path), str(noted + 1)], stdout=subprocess.PIPE, text=True
        )
        first = process.stdout.readline()
        time.sleep(draws.uniform(0.0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        lines = [first, *process.stdout.readlines()]
        process.wait()
        process.stdout.close()
        for line in lines:
            words = line.split()
            if line.endswith("\n") and words[0] == "done":
                done.add(words[1])
            elif line.endswith("\n"):
                noted = int(words[0])
    queue = Queue(path, quiet=0.0, attempts=1000, pause=0.0)
    queue.recover()
    found = {x.study: x.state for x in queue.jobs()}
    assert set(map(str, range(noted + 1))) <= found.keys() <= set(map(str, range(noted + 2)))
    assert {found[study] for study in done} == {State.DONE}
    while job := queue.take():
        queue.done(job.study)
    assert {x.state for x in queue.jobs()} == {State.DONE}
