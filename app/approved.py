"""Which models may run in a plan: those that the catalogue has approved, or others that mark every output."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.artefacts import WEIGHTS
from models.catalogue import State
from models.weights import read_card

from .catalogue import artefacts, catalogue
from .ct_nets import INTERVALS
from .request import Request

CT_MODEL = "mr2ct"
MARK = "UNAPPROVED MODEL"


def with_models(request: Request, allow_unapproved: bool = False) -> Request:
    """A request with the networks that it runs on.

    Parameters
    ----------
    request
        What is asked for.
    allow_unapproved
        Whether a model that nobody has approved may run; every output says so then.

    Raises
    ------
    ValueError
        If a model is asked for, none is approved and that is not allowed, or its files were altered.
    """
    if not request.networks:
        return request
    known = [m for m in catalogue().models(CT_MODEL) if m.state is State.APPROVED]
    if not known and allow_unapproved:
        return replace(request, mark=MARK)
    model = catalogue().approved(CT_MODEL)
    catalogue().history()
    files = artefacts(model)
    weights = tuple(sorted((path for path in files.values() if path.suffix == WEIGHTS), key=_name))
    told = f"{model.name} {model.revision[:12]}"
    return replace(request, ct_weights=weights, ct_intervals=files.get(INTERVALS), ct_model=told)


def approved_weights(name: str, classes: Sequence[str]) -> tuple[Path, str]:
    """Weights of an approved model that tell these classes apart, and the model's name with its revision.

    Raises
    ------
    ValueError
        If none is approved, its files were altered, or none of its networks tells these classes apart.
    """
    model = catalogue().approved(name)
    catalogue().history()
    for path in artefacts(model).values():
        if path.suffix == WEIGHTS and tuple(read_card(path)["config"].get("classes", ())) == tuple(classes):
            return path, f"{model.name} {model.revision[:12]}"
    raise ValueError(
        f"expected a model with a network of {', '.join(classes)}, got {name}, which has none; "
        "name another, or give weights with --start"
    )


def _name(path: Path) -> str:
    return path.name
