"""Scaleout's FEDn as another way to a node: its client's callbacks, through the same gate.

FEDn 0.33 wants another protobuf than Flower 1.41, so it lives in an environment of its own, where no Flower
is needed. Client settings, which server functions of a FEDn session give, carry the study and its
signature; weights travel as FEDn's ``numpyhelper`` has them, one array in an ``npz``. Rounds are counted by
what left this node. FEDn's server adds weights up itself: secure sums, fewer bits and strategies other than
its own need Flower.
"""

import io
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .audit import lines_of
from .gate import Asked, RefusedError, first_weights
from .learning import PACKED, Weights
from .node import answered
from .node_file import NodeFile
from .study import Study, study_of

SETTINGS = ("study", "signature")
SEED, FUNCTIONS = "seed.npz", "server_functions.py"

_BITS = 32


class Callbacks:
    """What FEDn's client calls: learning and scoring of a node.

    Parameters
    ----------
    node
        The hospital's settings.
    """

    def __init__(self, node: NodeFile) -> None:
        self.node = node
        self._words: Mapping[str, Any] = {}

    def train(self, model: io.BytesIO, settings: Mapping[str, Any]) -> tuple[io.BytesIO, dict[str, Any]]:
        """Weights after a round, and what FEDn weighs them by.

        Parameters
        ----------
        model
            Weights as FEDn carries them.
        settings
            ``study`` as JSON and ``signature`` in hexadecimal.

        Returns
        -------
        tuple
            A refusal gives back what came, with the weight of no patient.
        """
        self._words = _words(settings)
        try:
            number = self._number()
            answer = answered(self._asked("train", model, number), self.node)
        except RefusedError as error:
            return io.BytesIO(model.getvalue()), _told({"patients": 0}, error.code.value)
        equal = study_of(self._words["study"]).weighting == "equal"
        return written(answer.weights), _told({**answer.figures, **({"patients": 1} if equal else {})})

    def validate(self, model: io.BytesIO) -> dict[str, Any] | None:
        """Errors of held-out patients by the study that was learnt last; None where they are refused."""
        try:
            answer = answered(self._asked("evaluate", model, max(self._number() - 1, 1)), self.node)
        except RefusedError:
            return None
        return dict(answer.figures)

    def _asked(self, kind: str, model: io.BytesIO, number: int) -> Asked:
        weights = read(model, self.node.limits.weights_mb)
        return Asked(kind, {**self._words, "round": number}, weights)

    def _number(self) -> int:
        """The round that is due: one more than have left this node."""
        text = self._words.get("study", "")
        try:
            digest = study_of(text).digest
        except (ValueError, TypeError):
            return 1
        sent = [x for x in lines_of(self.node.log) if (x.way, x.kind, x.verdict) == ("out", "train", "sent")]
        return 1 + sum(x.study == digest for x in sent)


def seed_model(study: Study) -> io.BytesIO:
    """The model that a FEDn session begins with."""
    return written(first_weights(study))


def server_functions(study: Study, signature: bytes) -> str:
    """Source of the server functions of a FEDn session: what tells nodes of the study.

    Parameters
    ----------
    study
        What is learnt.
    signature
        Of the study, by who asks.

    Raises
    ------
    ValueError
        If the study asks the server for what FEDn's does not do.
    """
    beyond = {
        "fedavg or fedprox": study.strategy == "fedadam",
        "the mean": study.aggregation != "mean",
        "no central privacy": study.privacy == "central",
        "32 bits": study.bits < _BITS,
        "no secure sums": study.secure,
        "no statistics": study.statistics,
    }
    if wrong := [what for what, is_so in beyond.items() if is_so]:
        raise ValueError(f"expected {wrong[0]} of a study for FEDn, whose server knows no other")
    told = {"study": study.as_json(), "signature": signature.hex()}
    return (
        '"""Tells nodes of a study of Spindose; research use, not a medical device."""\n\n\n'
        "class ServerFunctions(ServerFunctionsBase):\n"
        f"    def client_settings(self, global_model):\n        return {told!r}\n"
    )


def written(weights: Weights) -> io.BytesIO:
    """Weights as FEDn's ``numpyhelper`` reads them."""
    out = io.BytesIO()
    arrays: dict[str, Any] = {"0": weights[PACKED].numpy()}
    np.savez(out, **arrays)
    out.seek(0)
    return out


def read(model: io.BytesIO, most_mb: float) -> dict[str, torch.Tensor]:
    """Weights as FEDn's ``numpyhelper`` writes them; nothing where they are something else, or too large."""
    try:
        with zipfile.ZipFile(io.BytesIO(model.getvalue())) as whole:
            if sum(part.file_size for part in whole.infolist()) > most_mb * 1e6:
                return {}
        with np.load(io.BytesIO(model.getvalue()), allow_pickle=False) as found:
            if found.files != ["0"]:
                return {}
            # FEDn's averages may be of doubles.
            return {PACKED: torch.from_numpy(np.ascontiguousarray(found["0"], dtype=np.float32))}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        return {}


def serve(node: NodeFile, url: str, token: str = "", combiner: str = "") -> None:
    """Answers a FEDn server until it is stopped.

    Parameters
    ----------
    node
        The hospital's settings.
    url
        Of FEDn's controller, with a slash at its end.
    token
        That FEDn gave this client.
    combiner
        Name of the one to connect to, where there are several.

    Raises
    ------
    ValueError
        If FEDn is not installed, or its server takes no client.
    """
    # Where FEDn's client would unpack code; a local package has none.
    os.environ.setdefault("FEDN_PACKAGE_EXTRACT_DIR", str((node.state / "fedn").absolute()))
    node.state.mkdir(parents=True, exist_ok=True)
    try:
        from fedn.network.clients.fedn_client import ConnectToApiResult, FednClient  # noqa: PLC0415, not beside Flower
    except ImportError:
        raise ValueError(
            "expected FEDn to be installed, got none; it needs an environment without Flower: pip install "
            "spindose fedn==0.33.0 cryptography pycryptodome"
        ) from None
    calls = Callbacks(node)
    client = FednClient(train_callback=calls.train, validate_callback=calls.validate)
    # FEDn's server reads the last word and refuses none, for all that its own client tells another.
    told = {"name": node.name, "package": "local", "combiner_preferred": combiner}
    said = client.connect_to_api(url, token, told)  # None for answers that FEDn's client does not know
    if (
        not said
        or said[0] != ConnectToApiResult.Assigned
        or not client.init_grpchandler(said[1], node.name, token)
    ):
        raise ValueError("expected FEDn's server to take this client, got a refusal; see its log")
    client.run(with_telemetry=False)


def _words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The words of a request, as far as they are there; the gate refuses the rest."""
    words = {word: settings[word] for word in SETTINGS if word in settings}
    try:
        words["signature"] = bytes.fromhex(words["signature"])
    except (KeyError, TypeError, ValueError):
        words.pop("signature", None)
    return words


def _told(figures: Mapping[str, float | int], refused: str = "") -> dict[str, Any]:
    meta = {"num_examples": figures["patients"], **{k: v for k, v in figures.items() if k != "patients"}}
    return {"training_metadata": {**meta, **({"refused": refused} if refused else {})}}
