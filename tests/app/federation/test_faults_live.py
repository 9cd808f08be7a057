"""Real processes of a federation are killed: it ends as if nothing had happened, and without strangers."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from app.federation.approvals import approve
from app.federation.audit import lines_of
from app.federation.client import replied
from app.federation.deployment import connected, environment, register, submit
from app.federation.in_process import InProcessGrid
from app.federation.keys import lead_keys, node_keys, server_certificate
from app.federation.learning import PACKED
from app.federation.node_file import NodeFile, read_node
from app.federation.rounds import STATE, trained
from app.federation.study import Study, signed
from app.federation.trial import free_port
from app.processes import answers, bound
from app.report.sign import private_key

MODEL = {"shape": [32, 32, 32], "net": {"features": [4, 4, 4, 4, 4, 4], "stages": 1}}
STUDY = Study("small", "dose", MODEL, rounds=4, steps=6, warmup=0)
COMMAND = "from app.cli import main; main()"
SITES = ("north", "south")


@contextlib.contextmanager
def command(folder: Path, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """``spindose federate`` in a process; ends it if nobody killed it."""
    told = bound([sys.executable, "-c", COMMAND, "federate", *map(str, words)])
    with (folder / f"{words[0]}.log").open("ab") as log:
        process = subprocess.Popen(told, env=environment(folder / "flower"), stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def until(true: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def node(
    home: Path, name: str, address: str, keys: Path, write_patient: Callable[[Path, float], Path]
) -> Path:
    node_keys(keys, name)
    for k in range(2):
        write_patient(home / name / "patients" / f"pt_{k + 1}", 4.0 * k + len(name) % 3)
    file = home / name / "node.toml"
    file.write_text(
        f'name = "{name}"\n[server]\naddress = "{address}"\ncertificate = "{keys / "ca.pem"}"\n'
        f'key = "{keys / name}.key"\n[data]\ndose = ["patients"]\n[limits]\npatients = 1\n'
        f'[askers]\nlead = "{keys / "lead.pem"}"\n',
        encoding="utf-8",
    )
    approve(read_node(file), STUDY, "physicist", "looked at it")
    return file


def learning(one: NodeFile, number: int) -> bool:
    """Whether a site was asked for a round and has not answered."""
    found = [(x.way, x.verdict) for x in lines_of(one.log) if x.kind == "train" and x.number == number]
    return ("in", "allowed") in found and ("out", "sent") not in found


def undisturbed(home: Path, sites: dict[str, NodeFile], lead: Path) -> torch.Tensor:
    """Weights of the study where nothing goes wrong, in this process."""
    nodes = {}
    for number, (name, one) in enumerate(sites.items(), 1):
        state = home / "undisturbed" / name
        state.mkdir(parents=True)
        (state / "ready").symlink_to(one.state / "ready")
        own = NodeFile(name, state, one.data, one.askers, held_out=one.held_out, limits=one.limits)
        approve(own, STUDY, "test", "to compare")
        nodes[number] = lambda message, own=own: replied(message, own)
    grid, folder = InProcessGrid(nodes), home / "undisturbed" / "server"
    done = trained(grid, STUDY, signed(STUDY, private_key(lead)), folder, lambda _, __: None)
    return done.weights[PACKED]


@pytest.mark.slow
def test_a_killed_node_and_a_killed_server_change_nothing_and_a_stranger_is_let_in_nowhere(
    tmp_path: Path, write_patient
):
    keys, port = tmp_path / "keys", free_port()
    lead, _ = lead_keys(keys, "lead")
    server_certificate(keys, ["127.0.0.1"])
    address = f"127.0.0.1:{port}"
    files = {name: node(tmp_path, name, address, keys, write_patient) for name in (*SITES, "stranger")}
    nodes = {name: read_node(file) for name, file in files.items()}
    serve = ("server", tmp_path / "server", "--certificates", keys, "--host", "127.0.0.1", "--port", port)
    rounds = tmp_path / "server" / STUDY.digest[:24]
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(command(tmp_path, *serve))
        answers(address, link)
        env = connected(tmp_path / "flower", address, keys / "ca.pem")
        for name in SITES:
            register(env, keys / f"{name}.pub", name)
        running = {name: stack.enter_context(command(tmp_path / name, "node", files[name])) for name in files}
        submit(env, STUDY, signed(STUDY, private_key(lead)), 25.0)
        until(lambda: learning(nodes["south"], 2), "the second round")
        running["south"].kill()  # in the middle of its share
        running["south"].wait()
        stack.enter_context(command(tmp_path / "south", "node", files["south"]))
        until(lambda: learning(nodes["north"], 3), "the third round")
        assert (rounds / STATE).is_file()
        link.kill()
        link.wait()
        until(lambda: not listens(port), "the end of SuperLink, whose parent died")
        answers(address, stack.enter_context(command(tmp_path, *serve)))
        submit(env, STUDY, signed(STUDY, private_key(lead)), 25.0)
        until((rounds / "report.json").is_file, "the result", 300.0)
        stranger = (nodes["stranger"].state / "supernode.log").read_text(encoding="utf-8")
    report = json.loads((rounds / "report.json").read_text(encoding="utf-8"))
    assert [sorted(r["sites"]) for r in report["rounds"]] == [sorted(report["rounds"][0]["sites"])] * 4
    assert report["sites"] == list(SITES)
    assert report["rounds"][1]["attempts"] > 1
    row = load_file(rounds / STATE)[f"weights/{PACKED}"]
    assert torch.allclose(row, undisturbed(tmp_path, {n: nodes[n] for n in SITES}, lead), atol=1e-6)
    assert {x.kind for x in lines_of(nodes["stranger"].log)} == {"approve"}
    assert "Failed to activate SuperNode" in stranger
