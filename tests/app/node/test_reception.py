"""What senders are told is kept is on disk, once; strangers are refused. Senders: dcmtk and pynetdicom."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE

from app.node.queue import Queue, State
from app.node.reception import FULL, OK, UNFIT, listening
from app.node.settings import NodeSettings, Peer, Tls, read_settings
from app.node.vault import Vault

HERE = ("127.0.0.1/32",)


@pytest.fixture
def node(tmp_path: Path) -> NodeSettings:
    peers = (Peer("SCANNER", HERE), Peer("ELSEWHERE", ("10.0.0.0/8",)))
    return NodeSettings("SPINDOSE", tmp_path / "node", peers, "127.0.0.1", 0, quiet=0.0, least_free_gb=0.0)


def parts(node: NodeSettings) -> tuple[Vault, Queue]:
    return Vault(node.folder), Queue(node.folder / "queue.sqlite", quiet=node.quiet)


def storescu(program: str, port: int, files: Path, *words: str) -> subprocess.CompletedProcess[str]:
    told = [
        program,
        "-aet",
        "SCANNER",
        "-aec",
        "SPINDOSE",
        *words,
        "+sd",
        "+r",
        "127.0.0.1",
        str(port),
        str(files),
    ]
    return subprocess.run(told, capture_output=True, text=True, check=False, timeout=120)


def data_of(path: Path) -> bytes:
    """Everything but the header that each program words in its own way."""
    one = dcmread(path)
    one.file_meta.clear()
    return hashlib.sha256(one.to_json().encode()).digest()


@pytest.mark.tools
def test_what_a_scanner_sends_is_kept_once_however_often_it_sends(
    node: NodeSettings, tmp_path: Path, tool: Callable[[str], str], write_mr: Callable[..., Path]
):
    sent = [write_mr(tmp_path / "sent" / f"{s}_{n}.dcm", s, n) for s in range(3) for n in range(20)]
    vault, queue = parts(node)
    with listening(node, vault, queue) as port:
        for _ in range(2):
            done = storescu(tool("storescu"), port, tmp_path / "sent")
            assert done.returncode == 0, done.stderr
        jobs = queue.jobs()
    assert [x.instances for x in jobs] == [20, 20, 20]
    kept = [path for job in jobs for path in vault.of(job.study)]
    assert Counter(map(data_of, kept)) == Counter(map(data_of, sent))
    assert not list((node.folder / "arriving").iterdir())
    names = [str(path.relative_to(node.folder)) for path in node.folder.rglob("*")]
    assert not any(word in name for name in names for word in ("Doe", "ID0", "2.25", "1.2.840"))


@pytest.mark.tools
@pytest.mark.parametrize(
    "words", [["-aet", "STRANGER"], ["-aet", "ELSEWHERE"], ["-aet", "SCANNER", "-aec", "OTHER"]]
)
def test_strangers_and_those_from_elsewhere_are_refused(
    node: NodeSettings,
    tmp_path: Path,
    tool: Callable[[str], str],
    write_mr: Callable[..., Path],
    words: list[str],
):
    write_mr(tmp_path / "sent" / "one.dcm", 1, 1)
    vault, queue = parts(node)
    with listening(node, vault, queue) as port:
        done = storescu(tool("storescu"), port, tmp_path / "sent", *words)
        assert done.returncode != 0
        assert "Rejected" in done.stderr
        assert storescu(tool("storescu"), port, tmp_path / "sent").returncode == 0
    assert [x.instances for x in queue.jobs()] == [1]


@pytest.mark.tools
def test_over_tls_only_callers_with_a_certificate_are_heard(
    node: NodeSettings,
    tmp_path: Path,
    tool: Callable[[str], str],
    write_mr: Callable[..., Path],
    certificates: Callable[[Path], Path],
):
    keys, other = certificates(tmp_path / "keys"), certificates(tmp_path / "other")
    node = replace(node, tls=Tls(keys / "node.pem", keys / "node.key", keys / "ca.pem"))
    write_mr(tmp_path / "sent" / "one.dcm", 1, 1)
    vault, queue = parts(node)
    with listening(node, vault, queue) as port:
        scu, files = tool("storescu"), tmp_path / "sent"
        trust = ["+cf", str(keys / "ca.pem")]
        wrong = ["+tls", str(other / "scanner.key"), str(other / "scanner.pem")]
        for words in ([], ["+tla", *trust], [*wrong, *trust]):
            done = storescu(scu, port, files, *words)
            assert done.returncode != 0
            assert "Unknown option" not in done.stderr
        assert queue.jobs() == []
        right = ["+tls", str(keys / "scanner.key"), str(keys / "scanner.pem")]
        done = storescu(scu, port, files, *right, *trust)
        assert done.returncode == 0, done.stderr
    assert [x.instances for x in queue.jobs()] == [1]


def association(port: int, title: str = "SCANNER"):
    entity = AE(title)
    entity.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    return entity.associate("127.0.0.1", port, ae_title="SPINDOSE")


def status(port: int, path: Path) -> int:
    one = association(port)
    try:
        return one.send_c_store(path).Status
    finally:
        one.release()


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # as it is written here
def test_what_is_no_instance_is_refused_and_blocks_nothing(
    node: NodeSettings, tmp_path: Path, write_mr: Callable[..., Path]
):
    vault, queue = parts(node)
    with listening(node, vault, queue) as port:
        for wrong in ("", "1.2.x", "../../etc"):
            assert status(port, write_mr(tmp_path / "a.dcm", 1, 1, StudyInstanceUID=wrong)) == UNFIT
        assert status(port, write_mr(tmp_path / "b.dcm", 1, 2)) == OK
    assert [x.instances for x in queue.jobs()] == [1]
    assert not list((node.folder / "arriving").iterdir())


def test_another_instance_under_the_same_uid_is_kept_beside_the_first(
    node: NodeSettings, tmp_path: Path, write_mr: Callable[..., Path]
):
    vault, queue = parts(node)
    with listening(node, vault, queue) as port:
        for _ in range(2):
            assert status(port, write_mr(tmp_path / "a.dcm", 1, 1)) == OK
            assert status(port, write_mr(tmp_path / "b.dcm", 1, 1, PatientName="Roe^Jane")) == OK
    (job,) = queue.jobs()
    assert job.instances == 2
    assert sorted(str(dcmread(p).PatientName) for p in vault.of(job.study)) == ["Doe^Jane", "Roe^Jane"]


def test_a_disk_that_is_nearly_full_says_so_and_takes_nothing(
    node: NodeSettings, tmp_path: Path, write_mr: Callable[..., Path]
):
    node = replace(node, least_free_gb=1e9)
    vault, queue = parts(node)
    with listening(node, vault, queue) as port:
        assert status(port, write_mr(tmp_path / "a.dcm", 1, 1)) == FULL
    assert queue.jobs() == []


_SERVE = """
import sys, time
from pathlib import Path
from app.node.queue import Queue
from app.node.reception import listening
from app.node.settings import read_settings
from app.node.vault import Vault
node = read_settings(Path(sys.argv[1]))
vault = Vault(node.folder)
vault.sweep()
with listening(node, vault, Queue(node.folder / "queue.sqlite", quiet=node.quiet)) as port:
    print(port, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], int]]]:
    """Starts a node in a process of its own; gives it and its port."""
    file = tmp_path / "node.toml"
    file.write_text(
        'title = "SPINDOSE"\nfolder = "node"\nhost = "127.0.0.1"\nport = 1\nquiet = 0\nleast_free_gb = 0\n'
        '[[peers]]\ntitle = "SCANNER"\naddresses = ["127.0.0.1"]\n',
        encoding="utf-8",
    )
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], int]:
        code = _SERVE.replace(
            "read_settings(Path(sys.argv[1]))", "any_port(read_settings(Path(sys.argv[1])))"
        )
        code = "from dataclasses import replace\nany_port = lambda node: replace(node, port=0)\n" + code
        process = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_kills_and_nothing_is_there_twice(
    tmp_path: Path, write_mr: Callable[..., Path], served
):
    draws = np.random.default_rng(2)
    files = [write_mr(tmp_path / "sent" / f"{n}.dcm", n % 7, n) for n in range(400)]
    acknowledged: set[Path] = set()
    left = list(files)
    for _ in range(6):
        process, port = served()
        one = association(port)
        until = time.monotonic() + draws.uniform(0.05, 0.8)
        for path in list(left):
            if time.monotonic() > until:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            try:
                answer = one.send_c_store(path)
            except (RuntimeError, OSError):
                break
            if "Status" not in answer:
                break
            assert answer.Status == OK
            acknowledged.add(path)
            left.remove(path)
        one.abort()
        vault, queue = Vault(tmp_path / "node"), Queue(tmp_path / "node" / "queue.sqlite", quiet=0.0)
        kept = Counter(data_of(path) for job in queue.jobs() for path in vault.of(job.study))
        assert set(map(data_of, acknowledged)) <= kept.keys()
        assert set(kept.values()) <= {1}
    process, port = served()
    one = association(port)
    assert {one.send_c_store(path).Status for path in files} == {OK}  # the scanner sends all of it again
    one.release()
    jobs = queue.jobs()
    assert sum(x.instances for x in jobs) == 400
    assert {x.state for x in jobs} == {State.ARRIVING}
    assert Counter(data_of(p) for job in jobs for p in vault.of(job.study)) == Counter(map(data_of, files))


PEER = 'title = "A"\nfolder = "x"\n[[peers]]\ntitle = "B"\naddresses = ["::1"]\n'
PACS = '[[destinations]]\nname = "pacs"\ntitle = "P"\naddress = "::1"\nport = 104\n'
RULE = '[[rules]]\nname = "heads"\nwhere = { Modality = "MR" }\nworkflow = "contours"\nsend_to = ["pacs"]\n'


def test_a_whole_file_is_read(tmp_path: Path):
    (tmp_path / "node.toml").write_text(PEER + PACS + RULE, encoding="utf-8")
    node = read_settings(tmp_path / "node.toml")
    assert node.peers == (Peer("B", ("::1/128",)),)
    assert node.folder == tmp_path / "x"
    (rule,) = node.rules
    assert rule.where["Modality"].fullmatch("mr")
    assert (rule.workflow, rule.send_to) == ("contours", ("pacs",))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (PEER + RULE, "expected names of"),
        (PEER + PACS + PACS, "destinations of different names"),
        (PEER + PACS + RULE + RULE, "rules of different names"),
        (PEER + PACS + RULE.replace("contours", "rm -rf"), "expected a workflow of"),
        (PEER + PACS + RULE.replace("Modality", "Modalitty"), "expected keywords of DICOM"),
        (PEER + PACS + RULE.replace('"MR"', '"("'), "expected regular expressions"),
        (PEER + PACS + RULE.replace("heads", "../heads"), "expected names of small letters"),
        ("x = [", "expected a node's TOML file"),
        ('titel = "A"', "expected associations, attempts"),
        ('title = "A"', "expected folder in"),
        ('title = "A\\\\B"\nfolder = "x"\n[[peers]]\ntitle = "B"\naddresses = ["::1"]', "without backslash"),
        ('title = "A"\nfolder = "x"', r"expected one \[\[peers\]\] or more"),
        (
            'title = "A"\nfolder = "x"\n[[peers]]\ntitle = "B"\naddresses = ["here"]',
            "expected addresses or networks",
        ),
        ('title = "A"\nfolder = "x"\nport = 70000', "expected a port of 1 to 65535"),
        ('title = "A"\nfolder = "x"\nquiet = true', "another kind of value for quiet"),
        (
            'title = "A"\nfolder = "x"\n[[peers]]\ntitle = "B"\naddresses = ["::1"]\n[tls]\nkey = "k"',
            "certificate, key, authority",
        ),
    ],
)
def test_files_that_are_not_whole_are_refused(tmp_path: Path, text: str, why: str):
    (tmp_path / "node.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=why):
        read_settings(tmp_path / "node.toml")
