"""Studies that a hospital looked at and lets run, each once and for all."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from imaging.atomic import whole_file

from .audit import note
from .node_file import NodeFile
from .study import Study
from .tasks import TASKS, network_of


@dataclass(frozen=True)
class Approval:
    """Who let a study run, when and why."""

    study: str
    name: str
    who: str
    why: str
    at: str


def approvals_of(path: Path) -> dict[str, Approval]:
    """Approvals by the study's SHA-256; none where there is no file.

    Raises
    ------
    ValueError
        If the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        found = [Approval(**line) for line in json.loads(path.read_text(encoding="utf-8"))]
    except (json.JSONDecodeError, TypeError, AttributeError):
        raise ValueError(f"expected approvals of studies in {path.name}, got something else") from None
    return {one.study: one for one in found}


def approve(node: NodeFile, study: Study, who: str, why: str) -> Approval:
    """Lets a study run at a node; its audit log tells.

    Raises
    ------
    ValueError
        If the study exceeds what the node's file allows, or nobody or no reason is named.
    """
    if not who.strip() or not why.strip():
        raise ValueError("expected who approves and why, got nothing for one of them; say --by and --why")
    if against := beyond(node, study):
        raise ValueError(f"expected a study within what this node allows, got one with {against}")
    known = approvals_of(node.approvals)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    known[study.digest] = Approval(study.digest, study.name, who.strip(), why.strip(), at)
    _keep(node, known)
    note(node.log, "here", "approve", "allowed", study=study.digest, who=who.strip())
    return known[study.digest]


def withdraw(node: NodeFile, digest: str, who: str) -> Approval:
    """Lets a study run no more.

    Parameters
    ----------
    node
        Where.
    digest
        The first characters of the study's SHA-256.
    who
        Does it.

    Raises
    ------
    ValueError
        If no approved study, or several, begin so.
    """
    known = approvals_of(node.approvals)
    fitting = [d for d in known if digest and d.startswith(digest)]
    if len(fitting) != 1:
        raise ValueError(f"expected the first characters of one approved study, got those of {len(fitting)}")
    gone = known.pop(fitting[0])
    _keep(node, known)
    note(node.log, "here", "withdraw", "allowed", study=gone.study, who=who)
    return gone


def beyond(node: NodeFile, study: Study) -> str:
    """What of a study a node's file does not allow; empty where all is well."""
    limits = node.limits
    for word in ("rounds", "steps", "batch"):
        if getattr(study, word) > getattr(limits, word):
            return f"{word} above {getattr(limits, word)}"
    if study.privacy not in node.privacies:
        return f"privacy {study.privacy}, where only {', '.join(node.privacies)} may be"
    spent = study.epsilon(study.rounds + limits.repeats)
    if limits.epsilon and spent > limits.epsilon:
        return f"privacy above epsilon {limits.epsilon:g}"
    if study.task not in TASKS or study.task not in node.data:
        return "a task that it has no data for"
    if weights_mb(study) > limits.weights_mb:
        return f"weights above {limits.weights_mb:g} MB"
    return ""


def weights_mb(study: Study) -> float:
    """Size of a study's weights (MB), all of which leave a site in each round unless norms stay local."""
    with torch.random.fork_rng(devices=[]):
        state = network_of(study).state_dict()
    return sum(t.numel() * t.element_size() for t in state.values()) / 1e6


def inspected(node: NodeFile, study: Study) -> list[str]:
    """What would run at a node and what would leave it, for whoever approves."""
    bad = beyond(node, study)
    known = approvals_of(node.approvals)
    return [
        f"Study {study.name}, {study.digest}",
        f"Learns: {study.task}, on the patients in {len(node.data.get(study.task, ()))} folders of this node",
        f"Asks for: {study.rounds} rounds of {study.steps} steps, {study.batch} samples each",
        f"Leaves this node in each round: {weights_mb(study):.1f} MB of weights, counts, losses, errors",
        f"Put together by: {study.strategy}, {study.aggregation}, weighted by {study.weighting}",
        f"Privacy of this site's update: {_privacy_of(study)}",
        f"Whoever serves sees: {'sums of all sites alone' if study.secure else 'what each site gives'}",
        f"Counts of patients: {f'yes, of {node.limits.patients} or more' if study.statistics else 'no'}",
        *(f"{key}: {value}" for key, value in asdict(study).items()),
        f"Allowed by the node's file: {f'no, {bad}' if bad else 'yes'}",
        f"Approved: {f'yes, by {known[study.digest].who}' if study.digest in known else 'no'}",
    ]


def _privacy_of(study: Study) -> str:
    if study.privacy == "none":
        return "none, whoever serves sees it"
    by = "here, before it leaves" if study.privacy == "local" else "by the server, which sees it without"
    spent = f"epsilon {study.epsilon(study.rounds):.3g} at delta {study.delta:g}"
    return f"{spent} over all rounds, noise is added {by}"


def _keep(node: NodeFile, known: dict[str, Approval]) -> None:
    with whole_file(node.approvals) as part:
        part.write_text(json.dumps([asdict(a) for a in known.values()], indent=1) + "\n", encoding="utf-8")
