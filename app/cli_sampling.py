"""How a generator is sampled, as options of every command that draws."""

from typing import Annotated

import typer

Sampler = Annotated[
    str | None, typer.Option(help="Of the generator: heun, euler, dpm, ddim, shortcut or one-pass.")
]
Steps = Annotated[int, typer.Option(min=0, help="Of the sampler; 0 for as many as it takes as a rule.")]
Guidance = Annotated[float, typer.Option(help="Strength of the condition beyond what was learnt.")]
Device = Annotated[str, typer.Option(help="Where the generator draws: cpu, cuda.")]
