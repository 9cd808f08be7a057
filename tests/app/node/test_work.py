"""Studies are worked on by the rules and results sent; neither a bad study nor a deaf PACS stops others."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from typer.testing import CliRunner

from app.cli import app
from app.federation.trial import free_port
from app.node import work
from app.node.queue import Queue, State
from app.node.settings import NodeSettings, Rule, read_settings
from app.node.vault import Vault, hashed

TOML = """title = "SPINDOSE"
folder = "node"
host = "127.0.0.1"
port = {port}
quiet = 0
least_free_gb = 0
[[peers]]
title = "SCANNER"
addresses = ["127.0.0.1"]
[[destinations]]
name = "pacs"
title = "PACS"
address = "127.0.0.1"
port = {pacs}
[[rules]]
name = "heads"
where = {{ Modality = "MR", SeriesDescription = ".*t1.*" }}
workflow = "synthetic-ct-bulk"
send_to = ["pacs"]
"""

SERVE = [sys.executable, "-c", "from app.cli import main; main()", "node", "serve"]


@pytest.fixture
def node(tmp_path: Path) -> NodeSettings:
    (tmp_path / "node.toml").write_text(TOML.format(port=free_port(), pacs=free_port()), encoding="utf-8")
    return read_settings(tmp_path / "node.toml")


@contextlib.contextmanager
def pacs(port: int, statuses: Iterator[int] | None = None) -> Iterator[list[str]]:
    """Takes what comes; gives the UIDs of what it took, and may answer otherwise at first."""
    taken: list[str] = []

    def store(event: evt.Event) -> int:
        status = next(statuses, 0) if statuses else 0
        taken.extend([event.request.AffectedSOPInstanceUID] if status == 0 else [])
        return status

    entity = AE("PACS")
    entity.add_supported_context("1.2.840.10008.1.1")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield taken
    finally:
        server.shutdown()


@pytest.fixture
def come(
    node: NodeSettings, tmp_path: Path, write_mr: Callable[..., Path]
) -> Callable[..., tuple[Vault, Queue]]:
    """Keeps instances as if they had been sent; gives vault and queue."""
    vault, queue = Vault(node.folder / "instances"), Queue(node.folder / "queue.sqlite", 0.0, 3, 0.0)

    def keep(study: int, number: int, **words: object) -> tuple[Vault, Queue]:
        told = {"SeriesDescription": "ax T1 post", **words}
        path = write_mr(node.folder / "instances" / "arriving" / "x.dcm", study, number, **told)
        queue.came(vault.keep(path)[0])
        path.unlink()
        return vault, queue

    return keep


def run(node: NodeSettings, vault: Vault, queue: Queue, studies: int) -> None:
    left = iter(range(studies))
    work.work(node, vault, queue, lambda: next(left, None) is not None)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, write_mr: Callable[..., Path]) -> list[list[int]]:
    """A workflow that writes one file; the counts of instances of the series that it was given."""
    runs: list[list[int]] = []

    def one(rule: Rule, series: list[list[Path]], folder: Path, seconds: float) -> None:
        if any(str(dcmread(path).PatientID) == "ID666" for of in series for path in of):
            raise work.UnfitStudyError("no head is in it")
        runs.append([len(of) for of in series])
        write_mr(folder / "ct" / "one.dcm", 99, len(runs))

    monkeypatch.setattr(work, "_run", one)
    return runs


def test_series_that_a_rule_fits_are_worked_on_and_results_sent(node: NodeSettings, come, ran: list):
    for n in range(4):
        come(1, n)
        come(1, 10 + n, SeriesInstanceUID="1.2.3", SeriesDescription="localizer")
        vault, queue = come(1, 20 + n, SeriesInstanceUID="1.2.4", SeriesDescription="t1 sag")
    with pacs(node.destinations[0].port) as taken:
        run(node, vault, queue, 1)
    assert ran == [[4, 4]]
    assert len(taken) == 1
    assert queue.jobs()[0].state is State.DONE


def test_a_bad_study_is_set_aside_with_its_reason_and_blocks_no_other(node: NodeSettings, come, ran: list):
    come(666, 1)
    vault, queue = come(1, 1)
    come(2, 1)
    come(2, 1, PatientName="Roe^Jane")
    for n in range(5):
        come(3, n, SeriesInstanceUID=f"1.2.{n}")
    with pacs(node.destinations[0].port) as taken:
        run(node, vault, queue, 4)
    reasons = [(job.state, job.reason) for job in queue.jobs()]
    assert reasons == [
        (State.ASIDE, "no head is in it"),
        (State.DONE, ""),
        (State.ASIDE, "two instances of one UID with different contents: ask where they come from"),
        (State.ASIDE, "expected one to four series for the rule heads, got 5"),
    ]
    assert len(taken) == 1


def test_a_pacs_that_does_not_answer_or_refuses_is_tried_again_with_what_is_made(
    node: NodeSettings, come, ran: list
):
    vault, queue = come(1, 1)
    run(node, vault, queue, 1)  # nobody listens
    assert queue.jobs()[0].reason == "expected pacs to answer, got no association"
    with pacs(node.destinations[0].port, iter([0xA700])) as taken:
        run(node, vault, queue, 1)
        assert queue.jobs()[0].reason == "expected pacs to take an instance, got status 0xA700"
        run(node, vault, queue, 1)
    assert len(taken) == 1
    assert ran == [[1]]  # made once
    assert queue.jobs()[0].state is State.DONE


def test_what_comes_later_has_results_of_its_own(node: NodeSettings, come, ran: list):
    vault, queue = come(1, 1)
    with pacs(node.destinations[0].port) as taken:
        run(node, vault, queue, 1)
        come(1, 2)
        run(node, vault, queue, 1)
    assert ran == [[1], [2]]
    assert len(taken) == 2


def test_an_error_of_a_library_tells_its_kind_alone(
    node: NodeSettings, come, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise KeyError("Doe^Jane")

    monkeypatch.setattr(work, "_run", broken)
    vault, queue = come(1, 1)
    run(node, vault, queue, 3)
    job = queue.jobs()[0]
    assert (job.state, job.attempts, job.reason) == (State.ASIDE, 3, "KeyError")


def test_doctor_and_jobs_say_what_is_wrong(node: NodeSettings, come, ran: list, tmp_path: Path):
    file, invoke = str(tmp_path / "node.toml"), CliRunner().invoke
    done = invoke(app, ["node", "doctor", file])
    assert done.exit_code == 1
    assert "destination pacs: it does not answer a C-ECHO" in done.output
    with pacs(node.destinations[0].port):
        assert invoke(app, ["node", "doctor", file]).exit_code == 0
        vault, queue = come(666, 1)
        run(node, vault, queue, 1)
        assert "1 studies are set aside" in invoke(app, ["node", "doctor", file]).output
        (job,) = json.loads(invoke(app, ["node", "jobs", file, "--json"]).output)["jobs"]
        assert (job["state"], job["reason"]) == ("set aside", "no head is in it")
        assert invoke(app, ["node", "again", file, job["study"]]).exit_code == 0
    assert queue.jobs()[0].state is State.WAITING
    done = invoke(app, ["node", "again", file, "nobody"])
    assert done.exit_code == 2
    assert "expected a study of the queue" in done.output


def test_two_nodes_never_serve_one_folder(node: NodeSettings, tmp_path: Path):
    (tmp_path / "other.toml").write_text(TOML.format(port=free_port(), pacs=1), encoding="utf-8")
    with served(tmp_path / "node.toml", node.port):
        command = [*SERVE, str(tmp_path / "other.toml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "another node serves" in done.stderr


@contextlib.contextmanager
def served(file: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [*SERVE, str(file)]
    with (file.parent / "node.log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        until(lambda: listens(port), "the node")
        yield process
    finally:
        process.terminate()
        process.wait(60)


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def until(true: Callable[[], object], what: str, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.tools
def test_a_scan_sent_comes_back_as_ct_though_the_node_was_killed(
    node: NodeSettings, tmp_path: Path, tool: Callable[[str], str]
):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[grid]\nshape = [96, 112, 96]\nspacing = [2.0, 2.0, 2.0]\nfine = 1.6\n[mri]\ncontrasts = ["t1"]\n'
        "deface = 0.0\nwrap = { probability = 0.0 }\nbottom = { probability = 0.0 }\n"
        "crop = { probability = 0.0 }\nthick = { probability = 0.0 }\n",
        encoding="utf-8",
    )
    words = ["--n", "1", "--recipe", str(recipe), "--format", "dicom", "--workers", "1"]
    assert CliRunner().invoke(app, ["synth", "cohort", *words, "--out", str(tmp_path / "c")]).exit_code == 0
    (scan,) = (tmp_path / "c").glob("*/T1")
    got = tmp_path / "pacs"
    got.mkdir()
    told = [tool("storescp"), "-od", str(got), "-aet", "PACS", str(node.destinations[0].port)]
    file = tmp_path / "node.toml"
    queue = Queue(node.folder / "queue.sqlite")
    receiver = subprocess.Popen(told)
    try:
        with served(file, node.port) as process:
            sent = [
                tool("storescu"),
                "-aet",
                "SCANNER",
                "-aec",
                "SPINDOSE",
                "+sd",
                "127.0.0.1",
                str(node.port),
            ]
            subprocess.run([*sent, str(scan)], check=True, timeout=120)
            until(lambda: queue.jobs() and queue.jobs()[0].state is State.RUNNING, "the study to run")
            os.kill(process.pid, signal.SIGKILL)
        with served(file, node.port):
            until(lambda: queue.jobs()[0].state is State.DONE, "the study to be done")
    finally:
        receiver.terminate()
        receiver.wait()
    mri = [dcmread(path, stop_before_pixels=True) for path in scan.iterdir()]
    (job,) = queue.jobs()
    assert job.study == hashed(mri[0].StudyInstanceUID)
    assert job.attempts >= 2
    ct = [dcmread(path, stop_before_pixels=True) for path in got.iterdir()]
    assert len(ct) == len(mri)
    assert {x.Modality for x in ct} == {"CT"}
    for word in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert {str(x[word].value) for x in ct} == {str(x[word].value) for x in mri}
    log = (tmp_path / "node.log").read_text(encoding="utf-8")
    private = (str(mri[0].PatientName), str(mri[0].PatientID), str(mri[0].StudyInstanceUID))
    assert not any(word and word in log for word in private)
