"""``spindose synth complete`` and ``inpaint``: what a command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_sampling import Device, Guidance, Sampler, Steps
from .console import answer, one_sentence, progress_bar

Case = Annotated[Path, typer.Argument(help="Folder of one case in BraTS layout.")]
Folder = Annotated[Path, typer.Option("--generator", help="Folder of a trained generator of volumes.")]
Out = Annotated[Path, typer.Option(help="A new folder, after which the files in it are named.")]
Seed = Annotated[int, typer.Option(help="Which drawing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def complete(
    case: Case,
    generator: Folder,
    out: Out,
    seed: Seed = 0,
    sampler: Sampler = None,
    steps: Steps = 0,
    guidance: Guidance = 1.0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """The contrasts that a case lacks of t1n, t1c, t2w, t2f, drawn from those that it has.

    What is given is copied byte for byte. What is drawn lies on its grid, in detail no finer than the
    generator's voxels.

    Example: `spindose synth complete patient --generator volumes --out completed`
    """
    with one_sentence(), progress_bar() as progress:
        from .filled import AskedFilled, complete_lines
        from .filled import complete as fill

        asked = AskedFilled(case, generator, out, seed, sampler, steps, guidance, device)
        facts = fill(asked, progress)
    answer(facts, complete_lines(facts), as_json)


def inpaint(
    case: Case,
    tumour: Annotated[
        Path,
        typer.Option(help="NIfTI of BraTS labels in the scan's space (1 NCR, 2 ED, 3 ET, 4 RC), any grid."),
    ],
    generator: Folder,
    out: Out,
    at: Annotated[
        str | None, typer.Option(metavar="X,Y,Z", help="Moves the tumour's centroid there (LPS, mm).")
    ] = None,
    edge: Annotated[float, typer.Option(help="Width of the blend around the tumour (mm).")] = 6.0,
    seed: Seed = 0,
    sampler: Sampler = None,
    steps: Steps = 0,
    guidance: Guidance = 1.0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """A tumour painted into every contrast of a real scan, which stays as it was to the bit around it.

    Example: `spindose synth inpaint patient --tumour cohort/SPD-00000-000/SPD-00000-000-seg.nii.gz
    --at -30,10,45 --generator volumes --out painted`
    """
    with one_sentence(), progress_bar() as progress:
        from .filled import AskedFilled
        from .painted import paint, paint_lines, point_of

        asked = AskedFilled(case, generator, out, seed, sampler, steps, guidance, device)
        facts = paint(asked, tumour, progress, None if at is None else point_of(at), edge)
    answer(facts, paint_lines(facts), as_json)
