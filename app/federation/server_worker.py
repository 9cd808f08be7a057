"""Runs what is handed in to a SuperLink, with nothing but installed code.

As :mod:`app.federation.worker` does at a node: of the app that came with a run only its settings are read,
which tell the study. So whoever may hand in runs can ask for studies, which nodes still have to approve,
and run nothing of their own on the server. Each run has a process of its own.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
from flwr.common.config import get_fab_config
from flwr.common.constant import SubStatus
from flwr.common.serde import run_from_proto
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest, PushTaskOutputRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from app.processes import bound

from .server import run_study
from .worker import ACQUIRE, PAUSE, client_of

COMMAND = "from app.federation.server_worker import main; main()"
_RUN = "from app.federation.server_worker import run; run()"
_FOLDER, _ADDRESS, _CERTIFICATE, _SECRET, _TOKEN = (
    f"SPINDOSE_SERVER_{word}" for word in ("FOLDER", "ADDRESS", "CERTIFICATE", "SECRET", "TOKEN")
)


def settings(folder: Path, address: str, certificate: Path, secret: Path) -> dict[str, str]:
    """What :func:`main` reads from its environment.

    Parameters
    ----------
    folder
        Of the server.
    address
        Where SuperLink listens, by a name that its certificate has.
    certificate
        Of who vouches for it.
    secret
        File of what it shares with this worker.
    """
    return {
        _FOLDER: str(folder.absolute()),
        _ADDRESS: address,
        _CERTIFICATE: str(certificate.absolute()),
        _SECRET: str(secret.absolute()),
    }


def main() -> None:
    """Takes runs for as long as it lives."""
    client = client_of(
        os.environ[_ADDRESS],
        RuntimeVersionHttpInterceptor(component_name="SuperExec"),
        SuperExecAuthHttpInterceptor(
            master_secret=Path(os.environ[_SECRET]).read_bytes(), protected_methods=frozenset({ACQUIRE})
        ),
        certificate=Path(os.environ[_CERTIFICATE]).read_bytes(),
    )
    runs: list[subprocess.Popen[bytes]] = []
    while True:
        runs = [one for one in runs if one.poll() is None]
        with contextlib.suppress(httpx.HTTPError):
            found = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
            if found.HasField("task") and found.token:
                env = {**os.environ, _TOKEN: found.token}
                runs.append(subprocess.Popen(bound([sys.executable, "-c", _RUN]), env=env))  # noqa: S603
                continue
        time.sleep(PAUSE)


def run() -> None:
    """One run, from its settings to its result; the app that came with it is never opened further."""
    grid = HttpGrid(
        os.environ[_ADDRESS],
        root_certificates=Path(os.environ[_CERTIFICATE]).read_bytes(),
        token=os.environ.pop(_TOKEN),
    )
    calls = grid._runtime_client  # noqa: SLF001 # Flower's own runner has no other way
    beats = HeartbeatSender(make_task_heartbeat_fn_http(calls))
    status, details = SubStatus.FAILED, ""
    beats.start()
    try:
        came = calls.PullTaskInput(PullTaskInputRequest())
        TaskIdentity.task_id, TaskIdentity.run_id = came.task_id, came.run.run_id
        TaskIdentity.node_id = came.context.node_id
        grid.set_run(run_from_proto(came.run))
        told = get_fab_config(came.fab.content).get("tool", {}).get("flwr", {}).get("app", {})
        run_study(grid, told.get("config", {}), Path(os.environ[_FOLDER]))
        status = SubStatus.COMPLETED
    except ValueError as error:
        details = str(error)
        print(details, flush=True)  # noqa: T201 # the run's log
    finally:
        calls.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=details))
        beats.stop()
        grid.close()
