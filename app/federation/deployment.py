"""Flower's own processes: SuperLink on the server, a SuperNode at each site, and runs that are handed in.

TLS and authentication of nodes are always on. Flower's usage reports and update checks are off, and nothing
is installed at run time: a hospital's machine calls nobody but the server.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from app.processes import running

from .node_file import NodeFile
from .server import SIGNATURE, STUDY, TIMEOUT
from .server_worker import COMMAND, settings
from .study import Study
from .worker import secret_at

CONNECTION = "federation"
_NOTHING = '''"""Nobody runs this: servers and nodes run what they have installed."""

app = None
'''


def end_orderly() -> None:
    """Lets a request to end (SIGTERM) run what cleans up, so that Flower's processes end too."""

    def ended(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, ended)


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of Flower's processes.

    Parameters
    ----------
    home
        Keeps what Flower keeps.
    more
        Other variables.
    """
    own = {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        # SuperLink starts its parts by name: those of this installation.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    return {**os.environ, **own, **more}


@contextmanager
def server(folder: Path, host: str, port: int, certificates: Path) -> Iterator[subprocess.Popen[bytes]]:
    """SuperLink with TLS, to which only registered nodes may connect, and the worker that runs its studies.

    Parameters
    ----------
    folder
        Keeps its database, its log, and rounds and results of studies.
    host, port
        Where it listens.
    certificates
        A folder of ``server.pem``, ``server.key`` and ``ca.pem``.

    Raises
    ------
    ValueError
        If a certificate is missing.
    """
    files = {name: certificates / name for name in ("server.pem", "server.key", "ca.pem")}
    if missing := [name for name, path in files.items() if not path.is_file()]:
        raise ValueError(f"expected {missing[0]} among the certificates, got none; see federate certificates")
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "secret"
    secret_at(secret)
    command = [
        *("flower-superlink", "--host", host, "--port", str(port), "--enable-supernode-auth"),
        *("--ssl-certfile", str(files["server.pem"]), "--ssl-keyfile", str(files["server.key"])),
        *("--ssl-ca-certfile", str(files["ca.pem"]), "--disable-runtime-dependency-installation"),
        *("--database", str(folder / "superlink.sqlite"), "--isolation", "process"),
        *("--superexec-auth-secret-file", str(secret)),
    ]
    env = environment(folder / "flower")
    # Every certificate of ours names localhost.
    here = "localhost" if host in ("0.0.0.0", "127.0.0.1", "localhost") else host  # noqa: S104
    told = settings(folder, f"{here}:{port}", files["ca.pem"], secret)
    worker = [sys.executable, "-c", COMMAND]
    with (
        running(command, env, folder / "superlink.log") as process,
        running(worker, {**env, **told}, folder / "runs.log"),
    ):
        yield process


@contextmanager
def supernode(node: NodeFile, port: int, secret: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A node's SuperNode, which runs no app itself: its tasks are taken by :mod:`app.federation.worker`.

    Parameters
    ----------
    node
        The hospital's settings.
    port
        Of its own interface, on this machine alone.
    secret
        File of what it shares with the worker.

    Raises
    ------
    ValueError
        If the file names no server, certificate and key.
    """
    if not node.address or node.certificate is None or node.key is None:
        raise ValueError("expected address, certificate and key under [server] of the node's file, got fewer")
    command = [
        *("flower-supernode", "--isolation", "process", "--superlink", node.address),
        *("--root-certificates", str(node.certificate), "--auth-supernode-private-key", str(node.key)),
        *("--host", "127.0.0.1", "--port", str(port), "--superexec-auth-secret-file", str(secret)),
    ]
    with running(command, environment(node.state / "flower"), node.state / "supernode.log") as process:
        yield process


def connected(home: Path, address: str, certificate: Path) -> dict[str, str]:
    """The environment in which Flower's command knows a server; written into ``home``."""
    home.mkdir(parents=True, exist_ok=True)
    text = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "{address}"\nroot-certificates = "{certificate.absolute()}"\n'
    )
    (home / "config.toml").write_text(text, encoding="utf-8")
    return environment(home)


def register(env: Mapping[str, str], public: Path, name: str) -> None:
    """Lets a node connect to a server.

    Parameters
    ----------
    env
        Of :func:`connected`.
    public
        The node's public key.
    name
        What the site chose to be called.

    Raises
    ------
    ValueError
        If the server refuses.
    """
    _asked(["flwr", "supernode", "register", str(public), CONNECTION, "--name", name], env)


def submit(env: Mapping[str, str], study: Study, signature: bytes, timeout: float) -> None:
    """Hands a study in to be run.

    Parameters
    ----------
    env
        Of :func:`connected`.
    study, signature
        What is learnt, and who asks.
    timeout
        Seconds to wait for a round's replies.

    Raises
    ------
    ValueError
        If the server refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "study"
        write_app(app, study, signature, timeout)
        _asked(["flwr", "run", str(app), CONNECTION], env)


def write_app(folder: Path, study: Study, signature: bytes, timeout: float) -> None:
    """The app that Flower delivers: it names what is installed and carries the study, and nothing else."""
    package = folder / "spindose_study"
    package.mkdir(parents=True)
    lines = {"__init__.py": '"""A study of several sites."""\n', "server.py": _NOTHING, "client.py": _NOTHING}
    for name, text in lines.items():
        (package / name).write_text(text, encoding="utf-8")
    told = study.as_json().replace("'", "\\u0027")
    text = f"""[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "spindose-study"
version = "{version("spindose").split(".dev")[0]}"
description = "A study of several sites."
license = "Apache-2.0"
dependencies = ["flwr=={version("flwr")}"]

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "spindose"

[tool.flwr.app.components]
serverapp = "spindose_study.server:app"
clientapp = "spindose_study.client:app"

[tool.flwr.app.config]
{STUDY} = '{told}'
{SIGNATURE} = "{signature.hex()}"
{TIMEOUT} = {float(timeout)}
"""
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")


def _asked(command: list[str], env: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())[-300:]
        raise ValueError(f"expected the server to accept, got: {said}")
