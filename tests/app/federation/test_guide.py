"""The guide's walkthrough as it is written, in two network namespaces; units as systemd reads them."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.federation.audit import lines_of

DOCS = Path(__file__).parents[3] / "docs"
GUIDE = (DOCS / "federation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```([^\n]+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
ADDRESSES = {"server": "10.77.0.1", "hospital": "10.77.0.2"}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Names of two namespaces that see each other and nothing else."""
    names = {role: f"sd{role[:4]}{os.getpid()}" for role in ADDRESSES}
    ends = {role: f"v{role[:4]}{os.getpid() % 10**6}" for role in ADDRESSES}
    for role in ADDRESSES:
        (tmp_path / role).mkdir()
    try:
        try:
            for name in names.values():
                ip("netns", "add", name)
                ip("-n", name, "link", "set", "lo", "up")
                ip("netns", "exec", name, "true")
            there = ("netns", names["hospital"])
            here = ("link", "add", ends["server"], "netns", names["server"], "type", "veth")
            ip(*here, "peer", "name", ends["hospital"], *there)
            for role, end in ends.items():
                ip("-n", names[role], "addr", "add", f"{ADDRESSES[role]}/24", "dev", end)
                ip("-n", names[role], "link", "set", end, "up")
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("network namespaces are not allowed here")
        yield names
    finally:
        for name in names.values():
            with contextlib.suppress(OSError):
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def carry(lines: str, home: Path) -> None:
    for line in lines.splitlines():
        source, target = (home / path for path in line.split())
        if source.is_file():  # what is written later is carried then
            shutil.copy(source, target)


@pytest.mark.slow
def test_the_walkthrough_works_as_it_is_written(tmp_path: Path, machines: dict[str, str], write_patient):
    for k in range(3):
        write_patient(tmp_path / "hospital" / "patients" / f"pt_{k + 1}", 4.0 * k)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    carried = next(text for kind, text in BLOCKS if kind == "carry")
    with contextlib.ExitStack() as stack:
        for kind, text in BLOCKS:
            if kind.startswith("toml"):
                home = "hospital" if "node" in kind else "server"
                (tmp_path / home / kind.split()[1]).write_text(text, encoding="utf-8")
            if kind.startswith("sh "):
                role, _, stays = kind.removeprefix("sh ").partition(", ")
                shell = ["ip", "netns", "exec", machines[role], "bash", "-ec"]
                where = tmp_path / role
                if stays:
                    log = stack.enter_context((tmp_path / f"{role}.log").open("wb"))
                    process = subprocess.Popen(
                        [*shell, f"exec {text}"], cwd=where, env=env, stdout=log, stderr=log
                    )
                    stack.callback(process.wait, 30)
                    stack.callback(process.terminate)
                else:
                    done = subprocess.run(
                        [*shell, text], cwd=where, env=env, capture_output=True, check=False, timeout=240
                    )
                    assert done.returncode == 0, (done.stdout + done.stderr).decode()
            carry(carried, tmp_path)
    (report,) = (tmp_path / "server" / "federation").glob("*/report.json")
    assert (report.parent / "model" / "dose.safetensors").is_file()
    sent = [x.kind for x in lines_of(tmp_path / "hospital" / "state" / "audit.jsonl") if x.verdict == "sent"]
    assert sent == ["train", "evaluate"]


@pytest.mark.parametrize("unit", sorted(path.name for path in (DOCS / "systemd").glob("*.service")))
def test_systemd_reads_the_units(unit: str, tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    # The program is where the guide says; here any stands for it.
    text = (
        (DOCS / "systemd" / unit)
        .read_text(encoding="utf-8")
        .replace("/opt/spindose/bin/spindose", "/bin/true")
    )
    (tmp_path / unit).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / unit)], capture_output=True, text=True, check=False
    )
    # It may complain of a machine without systemd running; of the unit it must not.
    assert [line for line in done.stderr.splitlines() if unit in line] == []
