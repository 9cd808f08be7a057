"""The contouring networks as a task that sites learn together, each on its own MRI with contours."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from app.console import Progress
from app.contour_cases import labelled_cases
from app.contour_held_out import scored
from app.contour_material import ReadyCase, prepare_cases
from app.contour_material import Task as Wanted
from app.contour_real import OWN, known_of
from app.contour_recipes import RECIPES, Recipe, own_recipe
from app.contour_samples import RealContours
from app.prepared import split_patients
from models.fit import Batch
from models.unet import unet
from planning.contour.classes import CONTRASTS
from planning.contour.nets import loss_of

from .settings import expect_words, shape_of, spacing_of, unet_of
from .study import Study

ERRORS = ("dice",)
_WORDS = {"network": str, "names": dict, "net": dict, "shape": list, "window": list, "spacing": float}
_DRAWN = ("not drawn", "drawn")
_TAKEN = ("not taken", "taken")


@dataclass(frozen=True, eq=False)
class ContourTask:
    """A site's cases of MRI with contours, as :class:`app.federation.learning.Task`.

    Parameters
    ----------
    recipe
        Network and samples; its budget is not used.
    training, held_out
        Cases made ready (:func:`app.contour_material.prepare_cases`); no patient is in both.
    known
        Structures that may be counted.
    seed
        Of first weights.
    """

    recipe: Recipe
    training: Sequence[ReadyCase]
    held_out: Sequence[ReadyCase]
    known: tuple[str, ...] = ()
    seed: int = 0

    @property
    def n_training(self) -> int:
        """Patients to learn from; cases of one patient are one."""
        return len({case.patient for case in self.training})

    @property
    def n_held_out(self) -> int:
        """Patients to validate on."""
        return len({case.patient for case in self.held_out})

    def network(self) -> nn.Module:
        """A network whose first weights follow from the seed."""
        torch.manual_seed(self.seed)
        net: nn.Module = unet(self.recipe.net.net)
        return net

    def samples(self, seed: int) -> Dataset[Batch]:
        """Parts of cases, bent, turned and shaded as another scanner might."""
        return RealContours(self.training, self.recipe.samples, seed)

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy and overlap of the sets of classes that voxels may be of."""
        return loss_of(self.recipe.net, net, batch)

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Patients by the contrasts that they have and the structures that are drawn."""
        names, contrasts = dict[str, set[str]](), dict[str, set[str]]()
        for case in (*self.training, *self.held_out):
            names.setdefault(case.patient, set()).update(case.structures)
            contrasts.setdefault(case.patient, set()).update(case.contrasts)
        n = len(names)
        with_name = {name: sum(name in of for of in names.values()) for name in self.known}
        with_mr = {c: sum(c in of for of in contrasts.values()) for c in CONTRASTS}
        return {
            "patients": {"all": n},
            **{c: dict(zip(_TAKEN, (n - some, some), strict=True)) for c, some in with_mr.items()},
            **{name: dict(zip(_DRAWN, (n - some, some), strict=True)) for name, some in with_name.items()},
        }

    def score(self, net: nn.Module) -> Mapping[str, float]:
        """Mean Dice: of a case's structures, then of a patient's cases, then of patients.

        Raises
        ------
        ValueError
            If a held-out case has no structure that lies somewhere.
        """
        found: dict[str, list[float]] = {}
        for case in self.held_out:
            each = scored([case], net, self.recipe.net, _quiet)
            if not each:
                raise ValueError("expected a structure or more in each held-out case, got one with none")
            found.setdefault(case.patient, []).append(fmean(of["dice"] for of in each.values()))
        return {"dice": fmean(fmean(of) for of in found.values())}


def recipe_of(study: Study) -> tuple[Recipe, dict[str, tuple[str, ...]]]:
    """Network and samples of a study of contours, and its other words for structures.

    Raises
    ------
    ValueError
        If a setting is unknown, or no contouring network's.
    """
    told = dict(study.model)
    expect_words(told, _WORDS)
    kind, names = _kind(told), _names(told.get("names", {}))
    of = own_recipe(tuple(known_of(OWN, names))) if kind == OWN else RECIPES[kind]
    shape, spacing = shape_of(told, "shape", of.net.shape), spacing_of(told, of.net.spacing)
    net = replace(
        of.net,
        net=unet_of(told.get("net", {}), of.net.net),
        shape=shape,
        window=shape_of(told, "window", of.net.window),
        spacing=spacing,
    )
    return replace(of, net=net, samples=replace(of.samples, shape=shape, spacing=spacing)), names


def network(study: Study) -> nn.Module:
    """A study's network with its first weights."""
    recipe, _ = recipe_of(study)
    with torch.random.fork_rng(devices=[]):
        return ContourTask(recipe, (), (), seed=study.seed).network()


def cells(study: Study) -> Mapping[str, tuple[str, ...]]:
    """Names of the cells of what a site may count."""
    _, names = recipe_of(study)
    known = known_of(_kind(study.model), names)
    return {"patients": ("all",), **dict.fromkeys(CONTRASTS, _TAKEN), **dict.fromkeys(known, _DRAWN)}


def read(
    study: Study, folders: tuple[Path, ...], ready: Path, held_out: float, progress: Progress
) -> ContourTask:
    """A study's task at a site, whose cases are read as ``spindose train contours`` reads them."""
    recipe, names = recipe_of(study)
    known = known_of(_kind(study.model), names)
    wanted = Wanted(known, len(recipe.net.classes.names), recipe.net.spacing, names)
    found, _ = prepare_cases(labelled_cases(folders), wanted, ready, progress)
    training, out = split_patients(found, held_out)
    return ContourTask(recipe, training, out, tuple(known), study.seed)


def card(study: Study) -> dict[str, Any]:
    """What the weights of a study are; data, split and figures are the caller's to tell."""
    recipe, _ = recipe_of(study)
    net = recipe.net
    return {
        "name": _kind(study.model),
        "does": f"{recipe.does}, from {', '.join(CONTRASTS)} or some of them",
        "config": asdict(net.net)
        | {"spacing": net.spacing, "contrasts": CONTRASTS, "classes": net.classes.names},
        "limits": "Contours heads like those it learnt from; no synthetic head was seen. Adult heads only. ",
    }


def _kind(told: Mapping[str, Any]) -> str:
    kind = str(told.get("network", "organs"))
    if kind not in (*RECIPES, OWN):
        raise ValueError(f"expected a network of {', '.join(RECIPES)}, or {OWN}, in a study, got another")
    return kind


def _names(told: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    if not all(isinstance(of, list) and all(isinstance(word, str) for word in of) for of in told.values()):
        raise ValueError('expected names of structures in a study such as Lens_L = ["left lens"], got others')
    return {name: tuple(told[name]) for name in sorted(told)}  # a study's JSON is sorted: classes are too


def _quiet(_: str, __: float) -> None: ...
