"""What a federated training leaves: weights with a card of sites, rounds and strategy, and a report."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.console import RESEARCH_ONLY
from imaging.atomic import whole_file
from models.weights import save_weights

from .gate import travelling
from .learning import parted
from .rounds import Trained
from .statistics_round import statistics_in
from .study import Study
from .tasks import card_of, network_of

# The model lies alone in its folder, as `spindose models import` takes it.
_MODEL, REPORT = "model", "report.json"


def weights_at(folder: Path, study: Study) -> Path:
    """Where in a folder a study's weights lie, under the name of their task."""
    return folder / _MODEL / f"{study.task}.safetensors"


def write_result(found: Trained, study: Study, names: Mapping[int, str], folder: Path) -> dict[str, Any]:
    """Weights, card and report in a folder; the report is also given.

    Parameters
    ----------
    found
        The rounds.
    study
        That they are of.
    names
        What sites chose to be called, by node.
    folder
        Gets the files.
    """
    sites = sorted({names.get(n) or f"site {n}" for r in found.rounds for n in r.sites})
    report = {
        "study": json.loads(study.as_json()),
        "digest": study.digest,
        "sites": sites,
        "names": {str(n): name for n, name in names.items() if name},
        "rounds": [asdict(r) for r in found.rounds],
        "bytes_per_round": _mean([r.sent + r.received for r in found.rounds]),
        "privacy": told_privacy(found, study),
        "seconds_per_round": _mean([r.seconds for r in found.rounds]),
        "statistics": statistics_in(folder),
        "note": RESEARCH_ONLY,
    }
    first = network_of(study).state_dict()
    whole = first | parted(found.weights, travelling(study))
    save_weights(whole, _card(found, study, sites), weights_at(folder, study))
    with whole_file(folder / REPORT) as part:
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _card(found: Trained, study: Study, sites: list[str]) -> dict[str, Any]:
    """What the weights are, for whoever uses them: the task's card, of several sites."""
    told, last = card_of(study), found.rounds[-1]
    local = len(network_of(study).state_dict()) - len(travelling(study))
    return {
        **{word: told[word] for word in ("name", "does", "config")},
        "data": f"patients of {len(sites)} sites that never left them: {', '.join(sites)}",
        "licence": "weights Apache-2.0; the patients have licences of their own, which may forbid some uses",
        "split": f"{last.errors['patients']} patients held out at the sites, on whom it is scored",
        "budget": {
            "rounds": len(found.rounds),
            "steps": study.steps,
            "seconds": sum(r.seconds for r in found.rounds),
        },
        "metrics": {
            "training_loss": last.figures.get("loss_last"),
            "held_out": {k: v for k, v in last.errors.items() if k != "patients"},
        },
        "limits": f"{told['limits']}Nobody has seen all of what it learnt from. "
        f"{f'{local} tensors of normalisation stayed at the sites. ' if local else ''}"
        f"{RESEARCH_ONLY}",
        "federation": {
            "sites": sites,
            "study": study.digest,
            "strategy": study.strategy,
            "aggregation": study.aggregation,
            "rounds": len(found.rounds),
            "privacy": told_privacy(found, study),
        },
        "version": study.version,
    }


def told_privacy(found: Trained, study: Study) -> dict[str, Any] | str:
    """What the rounds spent of privacy; ``none`` without noise.

    Of a server's noise each round is one release, of a site's each time that it was asked.
    """
    if study.privacy == "none":
        return "none"
    local = study.privacy == "local"
    n = sum(r.attempts for r in found.rounds) if local else len(found.rounds)
    return {
        "kind": study.privacy,
        "unit": "a site's update of a round, replaced by none",
        "epsilon": round(study.epsilon(n), 4),
        "delta": study.delta,
        "releases": n,
        "clip": study.clip,
        "noise_multiplier": study.noise,
        "not_covered": "counts of patients and samples, errors of held-out patients",
    }


def _mean(values: list[float] | list[int]) -> float:
    return round(sum(values) / max(len(values), 1), 3)
