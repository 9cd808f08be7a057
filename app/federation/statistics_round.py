"""The server's side of statistics: each site is asked once, before the first round."""

import json
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from imaging.atomic import whole_file

from .gate import STATISTICS, answers_of
from .records import CONFIG, METRICS
from .screening import against
from .statistics import pooled, unflat
from .study import Study

_KEPT = "statistics.json"


def counted(grid: Grid, study: Study, signature: bytes, folder: Path, timeout: float) -> None:
    """Counts of the sites that are there, kept in a folder; asked for only where there are none yet.

    Parameters
    ----------
    grid
        Flower's way to the nodes.
    study, signature
        What they are asked by.
    folder
        Of the study.
    timeout
        Seconds to wait for answers.
    """
    path = folder / _KEPT
    if path.is_file():
        return
    nodes = sorted(grid.get_node_ids())
    config = {"study": study.as_json(), "signature": signature, "server-round": 1}
    messages = [
        Message(RecordDict({CONFIG: ConfigRecord(dict(config))}), node, STATISTICS, ttl=timeout)
        for node in nodes
    ]
    found: dict[int, Message] = {}
    refused: dict[int, str] = {}
    for reply in grid.send_and_receive(messages, timeout=timeout):
        node = reply.metadata.src_node_id
        why = against(reply, node, nodes, found, answers_of(STATISTICS, study), {METRICS})
        if why:
            refused[node] = why
        else:
            found[node] = reply
    by_site = {str(node): unflat(dict(found[node].content[METRICS])) for node in sorted(found)}
    told = {
        "sites": by_site,
        "pooled": pooled(list(by_site.values())),
        "refused": {str(node): refused.get(node, "no reply in time") for node in nodes if node not in found},
    }
    with whole_file(path) as part:
        part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def statistics_in(folder: Path) -> dict[str, Any] | None:
    """What was counted; None where nobody was asked."""
    path = folder / _KEPT
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
