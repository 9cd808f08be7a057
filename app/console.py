"""What a command shows while it works, and how it ends."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

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
