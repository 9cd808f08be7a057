"""``spindose node``: MRI from a PACS in, results back; what a command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence

node_app = typer.Typer(help="A DICOM node: MRI from a PACS in, results back.", no_args_is_help=True)

_File = Annotated[Path, typer.Argument(help="The node's TOML file.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@node_app.callback()
def _begin() -> None:
    """A DICOM node: MRI from a PACS in, results back."""
    with one_sentence():
        from importlib.util import find_spec

        if find_spec("pynetdicom") is None:
            raise ValueError("expected the package pynetdicom, got none; install spindose[node]")


@node_app.command()
def serve(file: _File) -> None:
    """Listen, keep what whom the file names sends, and do with it what the rules say.

    Ended in good order (SIGTERM) it finishes the study in hand; killed, it goes on where it was.

    Example: `spindose node serve node.toml`
    """
    with one_sentence():
        import signal

        from .node.serving import serve as serving
        from .node.settings import read_settings

        ended: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: ended.append(number))
        serving(read_settings(file), lambda: not ended)


@node_app.command()
def jobs(file: _File, as_json: _Json = False) -> None:
    """Every study of the queue: where it stands, and why.

    Example: `spindose node jobs node.toml`
    """
    with one_sentence():
        from dataclasses import asdict

        from .node.serving import parts_of
        from .node.settings import read_settings

        _, queue = parts_of(read_settings(file))
        found = queue.jobs()
    lines = [f"{x.study}  {x.state:<9}  {x.instances:>5}  {x.attempts}  {x.reason}".rstrip() for x in found]
    answer({"jobs": [asdict(x) for x in found]}, lines or ["Nothing yet."], as_json)


@node_app.command()
def again(file: _File, study: Annotated[str, typer.Argument(help="As `jobs` names it.")]) -> None:
    """Try a study again now, such as one that was set aside.

    Example: `spindose node again node.toml 5f3a…`
    """
    with one_sentence():
        from .node.serving import parts_of
        from .node.settings import read_settings

        _, queue = parts_of(read_settings(file))
        queue.again(study)
    answer({"study": study}, [f"To be tried again: {study}"], False)


@node_app.command()
def doctor(file: _File, as_json: _Json = False) -> None:
    """Look at configuration, disk, certificates, destinations and queue; say what is wrong.

    Example: `spindose node doctor node.toml`
    """
    with one_sentence():
        from .node.serving import wrongs
        from .node.settings import read_settings

        found = list(wrongs(read_settings(file)))
    lines = [f"{what}: {wrong or 'well'}" for what, wrong in found]
    answer({"looked_at": dict(found)}, lines, as_json)
    if any(wrong for _, wrong in found):
        raise typer.Exit(1)
