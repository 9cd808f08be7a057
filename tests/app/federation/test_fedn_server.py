"""Sites learn by FEDn's own server: its controller, hooks and combiner, on SQLite and an emulated S3 store.

They run in an environment of their own (``make fedn``), for FEDn's protobuf is another than Flower's.
"""

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import torch
from typer.testing import CliRunner

from app.cli import app
from app.federation.approvals import approve
from app.federation.audit import lines_of
from app.federation.fedn import FUNCTIONS, SEED, read
from app.federation.gate import first_weights
from app.federation.keys import lead_keys
from app.federation.learning import PACKED, learn, packed, parted
from app.federation.node import seed_of
from app.federation.node_file import NodeFile, read_node
from app.federation.study import Study
from app.federation.tasks import network_of, task_of
from app.federation.trial import free_port
from app.processes import answers, running

MODEL = {"shape": [32, 32, 32], "net": {"features": [4, 4, 4, 4, 4, 4], "stages": 1}}
STUDY = Study("small", "dose", MODEL, rounds=2, steps=1, warmup=0)
PEER = Path(__file__).parents[3] / "benchmarks" / "peer" / "fedn"
PATIENTS = {"north": 4, "south": 3, "west": 3}  # of whom a third is held out; west approves nothing


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S %Z").replace(tzinfo=UTC)


class Controller:
    """FEDn's REST interface."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self._client = httpx.Client(base_url=f"{self.url}api/v1", timeout=60.0, trust_env=False)

    def ask(self, path: str) -> dict:
        return self._client.get(path).raise_for_status().json()

    def tell(self, path: str, told: dict) -> dict:
        return self._client.post(path, json=told).raise_for_status().json()

    def upload(self, path: str, file: str, content: bytes, **words: str) -> None:
        self._client.post(path, files={"file": (file, content)}, data=words).raise_for_status()

    def newest_model(self) -> str:
        found = self.ask("models/")["result"]
        return max(found, key=lambda one: moment(one["committed_at"]))["model_id"]

    def download(self, model: str) -> io.BytesIO:
        return io.BytesIO(self._client.get(f"models/{model}/download").raise_for_status().content)


@contextlib.contextmanager
def fedn_server(python: Path, folder: Path) -> Iterator[Controller]:
    """FEDn's four processes, and an S3 store that forgets."""
    store, controller, combiner = free_port(), free_port(), free_port()
    config = folder / "fedn.yaml"
    storing = {
        "storage_endpoint": f"http://127.0.0.1:{store}",
        "storage_access_key": "a",
        "storage_secret_key": "b",
        "storage_bucket": "models",
        "storage_secure_mode": False,
    }
    told = {
        "network_id": "sites",
        "controller": {"host": "127.0.0.1", "port": controller, "debug": False},
        "statestore": {"type": "SQLite", "sqlite_config": {"dbname": str(folder / "state.db")}},
        "storage": {"storage_type": "BOTO3", "storage_config": storing},
    }
    config.write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONWARNINGS")} | {
        "STATESTORE_CONFIG": str(config),
        "MODELSTORAGE_CONFIG": str(config),
        "HOOK_SERVICE_HOST": "127.0.0.1:12081",  # FEDn's own port, which nothing changes
    }
    with contextlib.ExitStack() as stack:

        def start(name: str, port: int, *command: str) -> None:
            process = stack.enter_context(running([str(python), *command], env, folder / f"{name}.log"))
            answers(f"127.0.0.1:{port}", process, 120.0)

        start("store", store, "-m", "moto.server", "-p", str(store))
        fedn = str(PEER / "server.py")
        start("controller", controller, fedn, "controller", "start")
        start("hooks", 12081, fedn, "hooks", "start")
        start(
            *("combiner", combiner, fedn, "combiner", "start", "-n", "sums", "-h", "127.0.0.1"),
            *("-i", str(combiner), "-d", "127.0.0.1", "-p", str(controller)),
        )
        yield Controller(controller)


def site(name: str, folder: Path, write_patient: Callable[[Path, float], Path], lead: Path) -> Path:
    """A node's file, and its patients."""
    for n in range(PATIENTS[name]):
        write_patient(folder / "patients" / f"pt_{n + 1}", 4.0 * n + len(name))
    file = folder / "node.toml"
    file.write_text(
        f'name = "{name}"\n[data]\nheld_out = 0.3\ndose = ["patients"]\n[limits]\npatients = 1\n'
        f'[askers]\nlead = "{lead.absolute()}"\n',
        encoding="utf-8",
    )
    return file


def mean_of(nodes: list[NodeFile], row: torch.Tensor, number: int) -> torch.Tensor:
    """What the nodes' shares of a round weigh in on, without any transport."""
    like = network_of(STUDY).state_dict()
    rows, weights = [], []
    for node in nodes:
        task = task_of(STUDY, node.data["dose"], node.state / "ready", node.held_out, lambda _, __: None)
        start = parted({PACKED: row}, like)
        rows.append(packed(learn(start, task, STUDY.budget(number), seed_of(STUDY, node, number)).weights))
        weights.append(task.n_training)
    total = sum(n * each[PACKED].double() for n, each in zip(weights, rows, strict=True))
    return (total / sum(weights)).float()


def until(true: Callable[[], object], what: str, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.tools
def test_two_rounds_by_fedns_server_are_the_mean_of_the_sites_that_approved(
    tmp_path: Path, write_patient, fedn_python: Path
):
    key, public = lead_keys(tmp_path / "keys", "lead")
    study = tmp_path / "study.toml"
    study.write_text(
        'name = "small"\ntask = "dose"\nrounds = 2\nsteps = 1\nwarmup = 0\n[model]\nshape = [32, 32, 32]\n'
        "[model.net]\nfeatures = [4, 4, 4, 4, 4, 4]\nstages = 1\n",
        encoding="utf-8",
    )
    made = ["federate", "fedn-study", str(study), "--key", str(key), "--out", str(tmp_path / "session")]
    assert CliRunner().invoke(app, made).exit_code == 0
    files = {name: site(name, tmp_path / name, write_patient, public) for name in PATIENTS}
    nodes = {name: read_node(file) for name, file in files.items()}
    for name in ("north", "south"):
        approve(nodes[name], STUDY, "physicist", "looked at it")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"FEDN_CONNECT_API_SECURE": "false"}
    with fedn_server(fedn_python, tmp_path) as controller, contextlib.ExitStack() as stack:
        for name, file in files.items():
            code = "from app.cli import main; main()"
            command = [str(fedn_python), "-c", code, "federate", "fedn", str(file), "--url", controller.url]
            stack.enter_context(running([*command, "--combiner", "sums"], env, tmp_path / f"{name}.log"))
        controller.upload("packages/", "none.tgz", b"", helper="numpyhelper", name="none", description="")
        seed = (tmp_path / "session" / SEED).read_bytes()
        controller.upload("models/", SEED, seed, helper="numpyhelper")
        until(lambda: controller.ask("clients/?status=online")["count"] == 3, "three nodes")
        told = {
            "aggregator": "fedavg",
            "round_timeout": 120,
            "buffer_size": -1,
            "delete_models_storage": True,
            "clients_required": 3,
            "requested_clients": 8,
            "validate": True,
            "helper_type": "numpyhelper",
            "server_functions": (tmp_path / "session" / FUNCTIONS).read_text(encoding="utf-8"),
        }
        told["model_id"] = controller.newest_model()
        session = controller.tell("sessions/", {"name": "t", "session_config": told})["session_id"]
        asked = {"session_id": session, "rounds": 2, "round_timeout": 120}
        controller.tell("sessions/start", asked)
        until(lambda: controller.ask("models/")["count"] == 3, "a model of each round")
        until(lambda: controller.ask("validations/")["count"] >= 4, "errors of two rounds at two sites")
        last = controller.newest_model()
        row = read(controller.download(last), 10.0)[PACKED]
        errors = [json.loads(v["data"]) for v in controller.ask("validations/")["result"]]
    own = first_weights(STUDY)[PACKED]
    approved = [nodes["north"], nodes["south"]]
    for number in (1, 2):
        own = mean_of(approved, own, number)
    assert torch.allclose(row, own, atol=1e-6)
    assert (row - first_weights(STUDY)[PACKED]).abs().max() > 1e-3
    assert all(one["dose_gy"] > 0 for one in errors)
    for node in approved:
        assert [(x.way, x.kind) for x in lines_of(node.log) if x.verdict == "sent"] == [
            ("out", "train"),
            ("out", "evaluate"),
        ] * 2
    assert not any(x.verdict == "sent" for x in lines_of(nodes["west"].log))
