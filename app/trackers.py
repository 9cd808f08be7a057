"""Where curves of a training go beside its picture and lines of JSON: Accelerate's trackers, by name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker
from accelerate.utils import is_mlflow_available, is_tensorboard_available

TENSORBOARD, MLFLOW, NONE = "tensorboard", "mlflow", "none"
USUAL = "auto"  # TensorBoard where it is installed, nothing otherwise
_EXPERIMENT = "spindose"
_URI, _FOLDER = "MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"


@contextmanager
def tracked(name: str, folder: Path) -> Iterator[list[GeneralTracker]]:
    """The tracker of a name, started by the first value of a training and closed when it ends.

    TensorBoard writes into ``folder/tensorboard``; MLflow to where ``MLFLOW_TRACKING_URI`` says, or else into
    ``folder/mlruns``.

    Parameters
    ----------
    name
        One of ``auto``, ``tensorboard``, ``mlflow`` and ``none``.
    folder
        Of the training; MLflow's run has its name.

    Raises
    ------
    ValueError
        If there is no such tracker, or it is not installed.
    """
    if name not in (USUAL, TENSORBOARD, MLFLOW, NONE):
        raise ValueError(f"expected --track {TENSORBOARD}, {MLFLOW} or {NONE}, got {name!r}")
    if name == MLFLOW:
        with _mlflow(folder) as tracker:
            yield [tracker]
        return
    there = is_tensorboard_available()
    if name == TENSORBOARD and not there:
        raise ValueError("expected TensorBoard to track with, got none; pip install 'spindose[tracking]'")
    if name == NONE or not there:
        yield []
        return
    with _started_when_told(TensorBoardTracker("tensorboard", str(folder))) as tracker:
        yield [tracker]


@contextmanager
def _mlflow(folder: Path) -> Iterator[GeneralTracker]:
    if not is_mlflow_available():
        raise ValueError("expected MLflow to track with, got none; pip install 'spindose[mlflow]'")
    own = {} if os.environ.get(_URI) else {_URI: (folder / "mlruns").resolve().as_uri(), _FOLDER: "true"}
    before = {key: os.environ.get(key) for key in own}
    os.environ.update(own)
    try:
        with _started_when_told(MLflowTracker(_EXPERIMENT, run_name=folder.name)) as tracker:
            yield tracker
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


class _WhenTold(GeneralTracker):
    """Another tracker, started with the first value: a training that is refused leaves no files."""

    name = "when told"
    requires_logging_directory = False
    tracker: object = None

    def __init__(self, inner: GeneralTracker) -> None:
        super().__init__()
        self._inner, self._started = inner, False

    def log(self, values: dict[str, float], step: int | None = None, **kwargs: object) -> None:
        if not self._started:
            self._inner.start()
            self._started = True
        self._inner.log(values, step, **kwargs)

    def finish(self) -> None:
        if self._started:
            self._inner.finish()


@contextmanager
def _started_when_told(inner: GeneralTracker) -> Iterator[GeneralTracker]:
    tracker = _WhenTold(inner)
    try:
        yield tracker
    finally:
        tracker.finish()
