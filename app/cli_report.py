"""``spindose report``: the report of a planned folder, sealed and, where asked, signed."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence


def report(
    planned: Annotated[Path, typer.Argument(help="Folder of a finished `spindose plan` or `demo`.")],
    out: Annotated[Path, typer.Option(help="A .pdf or .html file; the other and the seal go beside it.")],
    key: Annotated[
        Path | None, typer.Option(help="A private Ed25519 key (PEM) to sign the seal with.")
    ] = None,
    trusted: Annotated[
        Path | None, typer.Option(help="A public key (PEM) that the folder's seal must be signed with.")
    ] = None,
    identity: Annotated[
        bool, typer.Option("--identity", help="Say in the report whose plan it is; never in file names.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """The report of a plan as PDF and HTML, refused if any file of the plan has changed since.

    Example: `spindose report demo --out report.pdf`
    """
    with one_sentence():
        from .report.write import report_of_folder

        found = report_of_folder(planned, out, key=key, trusted=trusted, identity=identity)
    signed = [] if found["signature"] is None else [f"Signature: {found['signature']}"]
    words = [f"Report: {found['report']}", f"Seal:   {found['seal']} over {found['files']} files", *signed]
    answer(found, words, as_json)
