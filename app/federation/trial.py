"""A node that serves, and a whole federation on one machine: Flower's deployment engine over loopback."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.console import Progress
from app.processes import answers, running
from app.report.sign import private_key

from .approvals import approve
from .deployment import connected, environment, register, server, submit, supernode
from .keys import lead_keys, node_keys, server_certificate
from .node_file import NodeFile, read_node
from .result import REPORT
from .study import Study, signed
from .worker import secret_at, work

_HERE = "127.0.0.1"
_NODE = "from app.cli import main; main()"  # this installation, whatever the PATH leads to
_AGAIN = 10.0  # seconds before a SuperNode that ended is started again
_TAKEN = (
    "The server does not take this node: not registered, not reached, or an earlier process of it still "
    f"counts as connected; state/supernode.log tells which. Trying again in {_AGAIN:.0f} s."
)
_LOOK = 0.5  # seconds between looks for a result


def serve(node: NodeFile) -> None:
    """Answers what a node may, until it is stopped.

    A SuperNode that ends is started again: the server may not know the node yet, or may still count one of
    its earlier processes as connected, for about a minute after that died.

    Parameters
    ----------
    node
        The hospital's settings.

    Raises
    ------
    ValueError
        If its file names no server.
    """
    path = node.state / "secret"
    secret = secret_at(path)
    while True:
        port = free_port()
        with (
            supernode(node, port, path) as process,
            contextlib.suppress(ValueError),
        ):  # of who does not listen
            answers(f"{_HERE}:{port}", process)
            work(node, f"{_HERE}:{port}", secret, lambda: process.poll() is None)
        print(_TAKEN, file=sys.stderr, flush=True)  # noqa: T201 # the node's log
        time.sleep(_AGAIN)


def simulate(
    study: Study,
    sites: Mapping[str, tuple[Path, ...]],
    folder: Path,
    progress: Progress,
    timeout: float = 3600.0,
    reach: Callable[[str, Path], str] | None = None,
) -> dict[str, Any]:
    """A study trained by sites that are processes of this machine; gives its report.

    Everything is as between machines: certificates, keys, registered nodes, a signed and approved study.

    Parameters
    ----------
    study
        What is learnt.
    sites
        Folders of patients by the name of a site.
    folder
        Gets keys, certificates, files of nodes, and the server's folder with the result.
    progress
        Called with what happens and the share that is done.
    timeout
        Seconds to wait for a round's replies.
    reach
        Gives the address at which nodes reach the server, of its own address and the folder of certificates;
        by default its own.

    Raises
    ------
    ValueError
        If a part does not start, or the training fails.
    """
    keys = folder / "keys"
    key, public = lead_keys(keys, "lead")
    server_certificate(keys, [_HERE, "localhost"])
    address = f"{_HERE}:{free_port()}"
    host, _, port = address.rpartition(":")
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(server(folder / "server", host, int(port), keys))
        progress("Starting, server", 0.0)
        answers(address, link)
        env = connected(folder / "flower", address, keys / "ca.pem")
        called = reach(address, keys) if reach else address
        for name, data in sites.items():
            file = _node_file(folder / name, name, {study.task: data}, called, keys, public)
            approve(read_node(file), study, "trial", "a trial on one machine")
            register(env, keys / f"{name}.pub", name)
            command = [sys.executable, "-c", _NODE, "federate", "node", str(file)]
            run = running(command, environment(folder / name / "flower"), folder / name / "node.log")
            stack.enter_context(run)
        submit(env, study, signed(study, private_key(key)), timeout)
        return _awaited(folder / "server" / study.digest[:24], link, progress, study)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as found:
        found.bind((_HERE, 0))
        return int(found.getsockname()[1])


def _node_file(
    home: Path,
    name: str,
    data: Mapping[str, tuple[Path, ...]],
    address: str,
    keys: Path,
    public: Path,
) -> Path:
    node_keys(keys, name)
    home.mkdir(parents=True)
    file = home / "node.toml"
    lines = "".join(
        f"{task} = {json.dumps([str(p.absolute()) for p in paths])}\n" for task, paths in data.items()
    )
    here = keys.absolute()
    # Of one machine's own patients few may be told of.
    text = (
        f'name = "{name}"\n[server]\naddress = "{address}"\ncertificate = "{here / "ca.pem"}"\n'
        f'key = "{here / name}.key"\n[data]\n{lines}[limits]\npatients = 1\n'
        f'[allow]\nkinds = ["train", "evaluate", "statistics"]\n[askers]\nlead = "{public.absolute()}"\n'
    )
    file.write_text(text, encoding="utf-8")
    return file


def _awaited(folder: Path, link: subprocess.Popen[bytes], progress: Progress, study: Study) -> dict[str, Any]:
    report, failed = folder / REPORT, folder / "failed.txt"
    while not report.is_file():
        if failed.is_file():
            raise ValueError(failed.read_text(encoding="utf-8").strip())
        if link.poll() is not None:
            raise ValueError("expected SuperLink to stay up, but it ended; its log tells why")
        progress(f"Training, {study.rounds} rounds", 0.0)
        time.sleep(_LOOK)
    progress(f"Training, {study.rounds} rounds", 1.0)
    return dict(json.loads(report.read_text(encoding="utf-8")))
