"""What a command shows while it works, and how it ends."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import typer
from rich import progress as rich
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn

# What is going on and the share of it that is done, 0..1.
Progress = Callable[[str, float], None]

RESEARCH_ONLY = "Research use only: not a medical device."


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar for each titled piece of work, on the standard error stream; what follows a comma may change."""
    columns = (TextColumn("{task.description:<42}"), BarColumn(), TimeElapsedColumn())
    with rich.Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(title: str, share: float) -> None:
            piece = title.split(",", maxsplit=1)[0]
            if piece not in tasks:
                tasks[piece] = bars.add_task(title, total=1.0)
            bars.update(tasks[piece], description=title, completed=share)

        yield report


@contextmanager
def one_sentence() -> Iterator[None]:
    """Bad input, or too much of it, ends a command with exit status 2 and one sentence."""
    try:
        yield
    except (ValueError, MemoryError) as error:
        typer.echo(f"spindose: {error}", err=True)
        raise typer.Exit(2) from None
    except FileNotFoundError as error:
        typer.echo(f"spindose: expected a file or folder at {error.filename}, got nothing there", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"spindose: could not read or write {error.filename}: {error.strerror}", err=True)
        raise typer.Exit(2) from None


def answer(result: Mapping[str, object], lines: list[str], as_json: bool) -> None:
    """The result of a command on the standard output: lines for a person, or JSON for a program."""
    if as_json:
        json.dump({"note": RESEARCH_ONLY, **result}, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    for line in [*lines, RESEARCH_ONLY]:
        typer.echo(line)


def run_folder(out: Path | None, resume: Path | None, *kept: str) -> Path:
    """The folder of a training: a new one, or that of an earlier run.

    Parameters
    ----------
    out, resume
        What was asked for; one of them.
    kept
        Names of which an earlier run has left one there.

    Raises
    ------
    ValueError
        If both or neither are given, ``out`` holds files, or ``resume`` none of those.
    """
    if (out is None) == (resume is None):
        raise ValueError("expected either --out, a new folder, or --resume, that of an earlier run; give one")
    if resume is not None:
        if not any((resume / name).exists() for name in kept):
            raise ValueError(
                "expected --resume to name the folder of an earlier run, got none there; use --out"
            )
        return resume
    if out is None or (out.exists() and any(out.iterdir())):
        raise ValueError("expected a new or empty folder for --out, got one that holds files; use --resume")
    return out
