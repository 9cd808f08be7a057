"""``spindose machine``: beam models; what a command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence, progress_bar

machine_app = typer.Typer(
    help="Beam models of linacs: what there is, and new ones from measurements.", no_args_is_help=True
)
_Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@machine_app.command("fit")
def machine_fit(
    scans: Annotated[Path, typer.Argument(help="Folder of beam scans: named CSV or PTW .mcc.")],
    out: Annotated[Path, typer.Option(help="A new folder; its name becomes the machine's.")],
    like: Annotated[str, typer.Option(help="Machine whose leaves and limits hold too.")] = "generic-6mv",
    keep_out: Annotated[
        list[str] | None,
        typer.Option(help="A field that is only compared, such as 10x10; the middle one of three or more."),
    ] = None,
    check: Annotated[list[Path] | None, typer.Option(help="Other scans to compare with.")] = None,
    detector_blur: Annotated[
        float, typer.Option(help="Standard deviation of the blur of the CSV scans' detector (mm).")
    ] = 0.0,
    gy_per_mu: Annotated[
        float | None, typer.Option(help="Gy per MU, 100 mm deep, SSD 900 mm, 100 mm field.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Commission a beam model from measurements, with a report.

    Example: `spindose machine fit SCANS --out machines/my-linac`, then set
    `SPINDOSE_MACHINES=machines` and plan with `--machine my-linac`.
    """
    with one_sentence(), progress_bar() as progress:
        from .machine import fit_machine

        facts, lines = fit_machine(
            scans,
            out,
            progress,
            like=like,
            keep_out=keep_out,
            check=check or (),
            detector_blur=detector_blur,
            gy_per_mu=gy_per_mu,
        )
    answer(facts, lines, as_json)


@machine_app.command("list")
def machine_list(as_json: _Json = False) -> None:
    """The machines that can be planned for."""
    with one_sentence():
        from .machine import all_machines

        known = all_machines()
    answer(known, [f"{name}: {calibration}" for name, calibration in known.items()], as_json)


@machine_app.command("show")
def machine_show(name: Annotated[str, typer.Argument(help="Its name.")], as_json: _Json = False) -> None:
    """What a machine is, in numbers."""
    with one_sentence():
        from .machine import machine_facts

        facts = machine_facts(name)
    answer(facts, [f"{key}: {value}" for key, value in facts.items()], as_json)
