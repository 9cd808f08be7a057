"""What trackers were told is read back with their own readers."""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from app import trackers
from app.trackers import tracked
from models.fit import Fit, fit

HOW = Fit(steps=4, warmup=1, watch_steps=2)


class Ones(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 100

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        return {"x": torch.ones(1) * n}


def losses(
    nets: Mapping[str, nn.Module], batch: dict[str, Tensor], _: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    """The number of the step, whatever the weights."""
    yield "net", batch["x"].sum() + 0 * nets["net"](batch["x"]).sum()


def trained(name: str, folder: Path) -> None:
    with tracked(name, folder) as given:
        nets = {"net": nn.Linear(1, 1)}
        fit(
            nets, Ones(), losses, HOW, folder, lambda *_: None,
            watch=lambda _, step: {"loss": 10.0 * step}, trackers=given,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["auto", "tensorboard"])
def test_tensorboard_reads_every_loss_and_look(name: str, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trained(name, tmp_path)
    read = events.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0)]
    assert (4, 40.0) in [(e.step, e.value) for e in read.Scalars("watch/loss")]


def test_mlflow_reads_every_loss_and_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("needs the extra mlflow")
    client = importlib.import_module("mlflow").MlflowClient
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    trained("mlflow", tmp_path / "a run")
    found = client((tmp_path / "a run" / "mlruns").as_uri())
    (experiment,) = found.search_experiments(filter_string="name = 'spindose'")
    (run,) = found.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("a run", "FINISHED")
    told = [(m.step, m.value) for m in found.get_metric_history(run.info.run_id, "loss")]
    assert sorted(told) == [(1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0)]
    assert run.data.metrics["watch/loss"] == 40.0


def test_none_tracks_nothing_and_what_is_missing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracked("none", tmp_path) as given:
        assert given == []
    with tracked("auto", tmp_path):  # a training that was refused before its first step
        pass
    with pytest.raises(ValueError, match="--track tensorboard, mlflow or none, got 'wandb'"):
        tracked("wandb", tmp_path).__enter__()
    for name in ("tensorboard", "mlflow"):
        monkeypatch.setattr(trackers, f"is_{name}_available", lambda: False)
        with pytest.raises(ValueError, match="pip install 'spindose"):
            tracked(name, tmp_path).__enter__()
    with tracked("auto", tmp_path) as given:
        assert given == []
    assert list(tmp_path.iterdir()) == []
