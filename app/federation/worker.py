"""Runs what a node's SuperNode hands over, in a process of its own, with nothing but installed code.

Flower's own executor unpacks the app that came with a run and imports it: whoever may start runs could run
any code at a hospital. This one takes the same tasks off the same interface and never opens what came: its
messages go to :func:`app.federation.client.replied`. It stays up between rounds, so that no round waits for
imports.
"""

import contextlib
import resource
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from flwr.app import Message
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from imaging.atomic import whole_file

from .audit import note
from .client import replied
from .gate import Refusal
from .node_file import NodeFile
from .records import refuse

ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
PAUSE = 0.5  # seconds between looks for a task
_LONGEST = 20.0  # seconds of trying a call again; what it called may have ended for good


def work(node: NodeFile, address: str, secret: bytes, lives: Any) -> None:
    """Takes tasks and answers them for as long as the SuperNode lives.

    Parameters
    ----------
    node
        The hospital's settings.
    address
        Of the SuperNode's own interface, on this machine.
    secret
        Shared with the SuperNode, so that nobody else takes its tasks.
    lives
        Called without arguments; false where the SuperNode has ended.
    """
    _limit(node)
    client = client_of(
        address,
        RuntimeVersionHttpInterceptor(component_name="SuperExec"),
        SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=frozenset({ACQUIRE})),
    )
    try:
        while lives():
            with contextlib.suppress(httpx.HTTPError, RunNotRunningException):
                found = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
                if found.HasField("task") and found.token:
                    _answer(node, address, found.token)
                    continue
            time.sleep(PAUSE)
    finally:
        client.close()


def _answer(node: NodeFile, address: str, token: str) -> None:
    """One task: its message is pulled, its reply pushed; the app that came is noted and left alone."""
    client = client_of(
        address,
        RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
        RuntimeTokenHttpInterceptor(token),
    )
    beats = HeartbeatSender(make_task_heartbeat_fn_http(client))
    context, status = None, SubStatus.FAILED
    beats.start()
    try:
        message, context, _, fab = pull_task_input(client)
        reply = _reply(message, node, len(fab.content), fab.hash_str)
        push_message(client, reply, context)
        status = SubStatus.COMPLETED
    finally:
        # Details of a failure would travel: there are none.
        push_task_output(client, context, status, "")
        beats.stop()
        client.close()


def _reply(message: Message, node: NodeFile, size: int, sha256: str) -> Message:
    """A reply within the node's limits; what cannot be logged is refused."""
    try:
        note(node.log, "in", "app", "not run", size=size, sha256=sha256)
    except OSError:
        return refuse(Refusal.FAILED, message)
    with _within(node.limits.seconds):
        return replied(message, node)


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Ends what takes longer with an error, which the gate makes a refusal of."""

    def late(_: int, __: FrameType | None) -> None:
        raise ValueError("expected an answer within the seconds of the node's file, got none")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _limit(node: NodeFile) -> None:
    if node.limits.memory_gb:
        most = int(node.limits.memory_gb * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def client_of(address: str, *interceptors: Any, certificate: bytes | None = None) -> RuntimeHttpClient:
    """Calls to Flower's processes; without a certificate of who vouches for them on this machine alone."""
    again = make_simple_http_retry_invoker()
    again.max_time = _LONGEST
    return RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=certificate is None,
        root_certificates=certificate,
        interceptors=list(interceptors),
        retry_invoker=again,
    )


def secret_at(path: Path) -> bytes:
    """A secret that only this user reads, made where there is none."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.touch(mode=0o600)
            part.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()
