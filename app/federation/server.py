"""The server's side of Flower: the app that SuperLink runs for a study.

What is delivered to SuperLink names this module and carries the study; rounds are kept where the environment
variable ``SPINDOSE_FEDERATION`` says, so that another run of the study goes on with the next round.
"""

import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from imaging.atomic import whole_file

from .result import write_result
from .rounds import trained
from .study import study_of

FOLDER = "SPINDOSE_FEDERATION"
STUDY, SIGNATURE, TIMEOUT = "study", "signature", "timeout"

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator] # Flower's is, without its types
def main(grid: Grid, context: Context) -> None:
    """Trains the study of a run and leaves its result, or why there is none."""
    config = context.run_config
    study = study_of(str(config[STUDY]))
    folder = folder_of(study.digest)
    failed = folder / "failed.txt"
    failed.unlink(missing_ok=True)
    names = {node.node_id: node.name for node in grid.get_nodes()}
    try:
        found = trained(
            grid, study, bytes.fromhex(str(config[SIGNATURE])), folder, _told, float(str(config[TIMEOUT]))
        )
    except Exception as error:
        with whole_file(failed) as part:
            part.write_text(f"{error}\n", encoding="utf-8")
        raise
    names |= {node.node_id: node.name for node in grid.get_nodes()}
    write_result(found, study, names, folder)


def folder_of(digest: str) -> Path:
    """Where a study's rounds and result are kept on the server."""
    return Path(os.environ.get(FOLDER, "federation")) / digest[:24]


def _told(title: str, share: float) -> None:
    print(f"{title}: {share:.0%}", flush=True)  # noqa: T201 # SuperLink keeps it as the run's log
