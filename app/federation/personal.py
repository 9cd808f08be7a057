"""A global model taught on by one site, on its own patients and for itself: nothing of it leaves.

Local fine-tuning after federated training (Wang et al., "Federated evaluation of on-device personalization",
2019; Yu et al., "Salvaging federated learning by local adaptation", 2020). Of the weights that were looked at
the best on the held-out patients stay, those that came among them: a site is never worse off by that figure.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from app.console import RESEARCH_ONLY, Progress
from app.steps import file_hash
from models.fit import Batch, Fit, fit
from models.weights import load_weights, read_card, save_weights

from .audit import note
from .gate import is_norm
from .learning import Task, Weights, filled, score
from .node import own_norms, seed_of
from .node_file import NodeFile
from .study import Study
from .tasks import card_of, loss_of, network_of, task_of

LAYERS = ("all", "last", "norms")
_LAST = ("final_conv", "head", "deep")  # what answers, of a U-Net and of a row of them
_FAR = 1e9  # seconds between checkpoints: there are none


@dataclass(frozen=True)
class Personal:
    """How a site teaches a model on.

    Parameters
    ----------
    steps
        At the most.
    look
        Steps between looks at the held-out patients.
    patience
        Looks without improvement before it stops.
    layers
        What is taught: ``all``, the ``last`` layers, or scales and shifts of normalisation (``norms``).
    learning_rate
        At the first step.
    seed
        Of samples, beside the study and the site.

    Raises
    ------
    ValueError
        If a number cannot be, or there are no such layers.
    """

    steps: int = 400
    look: int = 40
    patience: int = 4
    layers: str = "all"
    learning_rate: float = 3e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.layers not in LAYERS:
            raise ValueError(f"expected layers to be one of {', '.join(LAYERS)}, got {self.layers!r}")
        if min(self.steps, self.look, self.patience) < 1 or self.learning_rate <= 0 or self.seed < 0:
            raise ValueError("expected steps, look and patience of 1 or more and a rate above 0, got others")


@dataclass(frozen=True)
class Taught:
    """What teaching on gives.

    Parameters
    ----------
    weights
        The best that were looked at, by name, on the CPU; those that came where none was better.
    before, after
        Errors on the held-out patients.
    steps
        That were done.
    patients, held_out
        That were learnt from, and that it is scored on.
    """

    weights: Weights
    before: Mapping[str, float]
    after: Mapping[str, float]
    steps: int
    patients: int
    held_out: int


def taught(
    weights: Weights, task: Task, how: Personal, study: Study, seed: int, progress: Progress
) -> Taught:
    """Weights after a site taught them on; the same for the same arguments.

    Parameters
    ----------
    weights
        Of the global model; left as they are.
    task
        The site's patients.
    how
        What is taught, and how long.
    study
        Whose errors say which weights are better.
    seed
        Of samples.
    progress
        Called with what happens and the share that is done.

    Raises
    ------
    ValueError
        If the weights are of another network, or it has none of the layers.
    """
    before = score(weights, task).errors
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        net = filled(task.network(), weights)
        left = chosen(net, how.layers)
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name in left)

        def watch(nets: Mapping[str, nn.Module], _: int) -> Mapping[str, float]:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                found = task.score(nets["net"].eval())
            return {"loss": loss_of(study, found)}

        def parts(
            nets: Mapping[str, nn.Module], batch: Batch, _: torch.Generator
        ) -> Iterator[tuple[str, Tensor]]:
            yield "net", task.loss(nets["net"], batch)

        how_long, samples = _fit(how, study), task.samples(seed)
        took = fit({"net": net}, samples, parts, how_long, Path(folder), progress, seed, watch)
    found = {name: t.detach().cpu().clone() for name, t in net.state_dict().items()}
    after = score(found, task).errors
    if not loss_of(study, after) < loss_of(study, before):
        found, after = {name: t.detach().clone() for name, t in weights.items()}, before
    return Taught(found, before, after, int(took["steps"]), task.n_training, task.n_held_out)


def chosen(net: nn.Module, layers: str) -> frozenset[str]:
    """Names of the parameters that are taught.

    Raises
    ------
    ValueError
        If there are none.
    """
    names = frozenset(name for name, _ in net.named_parameters())
    if layers == "last":
        names = frozenset(name for name in names if set(_LAST) & set(name.split(".")))
    if layers == "norms":
        own = {name for name, module in net.named_modules() if is_norm(module)}
        names = frozenset(name for name in names if name.rpartition(".")[0] in own)
    if not names:
        raise ValueError(f"expected a network with layers of {layers}, got one without; choose others")
    return names


def personalise(
    node: NodeFile, study: Study, path: Path, how: Personal, out: Path, progress: Progress
) -> dict[str, Any]:
    """A site's own child of a global model, with its card, in a folder; what was found is given.

    Parameters
    ----------
    node
        The hospital's settings, whose patients of the study's task it learns from.
    study
        That the model came of.
    path
        The global model's weights, with their card.
    how
        What is taught, and how long.
    out
        Gets the weights and their card.
    progress
        Called with what happens and the share that is done.

    Raises
    ------
    ValueError
        If the weights are not of the study, or the node has no data for its task.
    """
    if study.task not in node.data:
        raise ValueError(f"expected folders for {study.task} under [data] of the node's file, got none")
    card = read_card(path)
    if card.get("federation", {}).get("study") != study.digest:
        raise ValueError("expected weights that this study gave, with their card, got others")
    net = network_of(study)
    load_weights(net, path)
    torch.set_num_threads(max(node.limits.threads, 1))
    task = task_of(study, node.data[study.task], node.state / "ready", node.held_out, progress)
    start = {**net.state_dict(), **own_norms(study, node)}
    seed = (seed_of(study, node, 0) + how.seed) % 2**48
    found = taught(start, task, how, study, seed, progress)
    parent = {"sha256": file_hash(path), "study": study.digest, "name": study.name}
    weights = out / f"{study.task}.safetensors"
    save_weights(dict(found.weights), _card(found, how, study, node.name, parent, card), weights)
    note(node.log, "here", "personalise", "done", study=study.digest, sha256=file_hash(weights))
    return {
        "before": dict(found.before),
        "after": dict(found.after),
        "steps": found.steps,
        "patients": {"training": found.patients, "held out": found.held_out},
        "parent": parent,
        "weights": str(weights),
    }


def _fit(how: Personal, study: Study) -> Fit:
    return Fit(
        steps=how.steps,
        batch=study.batch,
        learning_rate=how.learning_rate,
        warmup=study.warmup,
        muon=study.muon,
        average=0.0,
        checkpoint_s=_FAR,
        watch_steps=how.look,
        patience=how.patience,
    )


def _card(
    found: Taught, how: Personal, study: Study, site: str, parent: Mapping[str, str], of: Mapping[str, Any]
) -> dict[str, Any]:
    """What the weights are: a child of the global model's."""
    told = card_of(study)
    return {
        **{word: told[word] for word in ("name", "does", "config")},
        "data": f"{found.patients} patients of {site}, after: {of['data']}",
        "licence": of["licence"],
        "split": f"{found.held_out} patients of {site} held out; of the weights that were looked at the best "
        "on them were kept, so that errors on others may be larger",
        "budget": {"steps": found.steps},
        "metrics": {"before": dict(found.before), "held_out": dict(found.after)},
        "limits": f"{told['limits']}Taught on for {site} alone, without noise: what the study promises of "
        f"privacy ends here. {RESEARCH_ONLY}",
        "parent": dict(parent),
        "federation": of["federation"],
        "run": asdict(how),
        "version": study.version,
    }
