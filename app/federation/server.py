"""The server's side of a run: its study, its rounds, its result.

Rounds are kept in the server's folder, so that another run of the study goes on with the next one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from imaging.atomic import whole_file

from .result import write_result
from .rounds import trained
from .study import study_of

STUDY, SIGNATURE, TIMEOUT = "study", "signature", "timeout"


def run_study(grid: Grid, config: Mapping[str, Any], folder: Path) -> None:
    """Trains the study of a run and leaves its result, or why there is none.

    Parameters
    ----------
    grid
        Flower's way to the nodes.
    config
        What was handed in: the study as JSON, its signature in hexadecimal, seconds to wait for replies.
    folder
        Of the server.

    Raises
    ------
    ValueError
        If there is no study in it, or the training fails.
    """
    study = study_of(str(config.get(STUDY, "")))
    home = folder_of(folder, study.digest)
    failed = home / "failed.txt"
    failed.unlink(missing_ok=True)
    names = {node.node_id: node.name for node in grid.get_nodes()}
    try:
        signature = bytes.fromhex(str(config[SIGNATURE]))
        found = trained(grid, study, signature, home, _told, float(str(config[TIMEOUT])))
    except Exception as error:
        with whole_file(failed) as part:
            part.write_text(f"{error}\n", encoding="utf-8")
        raise
    names |= {node.node_id: node.name for node in grid.get_nodes()}
    write_result(found, study, names, home)


def folder_of(folder: Path, digest: str) -> Path:
    """Where a study's rounds and result are kept on the server."""
    return folder / digest[:24]


def _told(title: str, share: float) -> None:
    print(f"{title}: {share:.0%}", flush=True)  # noqa: T201 # the run's log
