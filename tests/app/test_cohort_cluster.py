import builtins
import hashlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from app import cohort_cluster
from app.cohort import Asked, walk_cohort
from app.cohort_cluster import run_cluster
from app.cohort_job import Job, keep, keep_packed, produce
from synth.recipe import Recipe, parse

TINY = """
[grid]
shape = [32, 36, 32]
spacing = [6, 6, 6]
fine = 4
[tumour]
shares = { none = 1 }
[mri]
contrasts = ["t1"]
"""
N = 6


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return parse(TINY)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.glob("SPD-*/*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def workers_below(process: int) -> list[int]:
    """Processes that run a task, below one process."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            words = (path / "cmdline").read_bytes()
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == process and words.startswith(b"ray::_packed"):
            found.append(int(path.name))
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_of_two_nodes_loses_and_doubles_nothing_when_a_worker_is_killed(
    recipe, tmp_path, monkeypatch
):
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    job = Job(recipe, 1, "brats")
    for k in range(N):
        keep(job, k, tmp_path / "here")
    size = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=size)
    written: list[str] = []

    def once(seal, *rest):
        written.append(seal["case"])
        keep_packed(seal, *rest)

    monkeypatch.setattr(cohort_cluster, "keep_packed", once)
    killed: list[int] = []
    try:
        nodes = (cluster.head_node, cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20))
        # Whichever begins first: on a busy machine the other may have nothing left to do.
        raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]

        def kill_one() -> None:
            end = time.monotonic() + 60
            while not killed and time.monotonic() < end:
                for worker in [pid for raylet in raylets for pid in workers_below(raylet)][:1]:
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)
                time.sleep(0.02)

        killer = threading.Thread(target=kill_one)
        killer.start()
        out = tmp_path / "out"
        found = walk_cohort(Asked(job, N, out, cluster=cluster.address), lambda *_: None)
        killer.join()
    finally:
        cluster.shutdown()
    assert killed
    assert found["made"] == N
    assert sorted(written) == [f"SPD-{k:05d}-000" for k in range(N)]
    assert hashes(out) == hashes(tmp_path / "here")


def test_without_ray_one_sentence_says_what_to_install(recipe, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "ray":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"expected Ray for --cluster.*spindose\[cluster\]"):
        next(run_cluster(Job(recipe, 1, "brats"), range(1), tmp_path, "auto"))


def test_cases_of_another_version_are_refused(recipe, tmp_path):
    job, made = Job(recipe, 1, "brats"), tmp_path / "made"
    made.mkdir()
    seal = produce(job, 0, made)
    files = {name: (made / name).read_bytes() for name in seal["files"]}
    with pytest.raises(ValueError, match=r"on every machine, got 0\.0 abc; install one version"):
        keep_packed({**seal, "software": "0.0 abc"}, files, 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    keep_packed(seal, files, 0, tmp_path / "out")
    assert {n.partition("/")[2] for n in hashes(tmp_path / "out")} == set(files)
