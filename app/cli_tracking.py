"""``--track``, which all trainings take."""

from typing import Annotated

import typer

Track = Annotated[
    str,
    typer.Option(help="Curves for tensorboard, mlflow or none; auto for TensorBoard where it is installed."),
]
