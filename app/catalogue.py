"""``spindose models``: weights with their cards as models of the catalogue, and which of them may run."""

import getpass
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imaging.structures import RoiType
from models.artefacts import WEIGHTS, files_of, home_of, kept, packed, unpacked
from models.catalogue import Catalogue, Line, Model
from models.dose_unet import DoseUNetConfig, dose_unet
from models.unet import UNetConfig, unet
from models.weights import CARD, load_weights, read_card
from planning.contour.template import read_template

from .console import RESEARCH_ONLY
from .ct_nets import ZOO

_SPEC = "model.json"
_TEXT = re.compile(r"[^\x00-\x1f]{1,200}")


@dataclass(frozen=True)
class Spec:
    """What a model is beside its networks: what a clinic asks before it lets one run.

    Parameters
    ----------
    name, originator
        What it is called, and whose it is.
    does
        In a sentence.
    site, modality
        Body part and images that it is meant for.
    structures
        Name, colour and type of what it contours; none where it contours nothing.

    Raises
    ------
    ValueError
        If a word is empty or too long.
    """

    name: str
    originator: str
    does: str
    site: str
    modality: str
    structures: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        for what in ("originator", "does", "site", "modality"):
            if not _TEXT.fullmatch(getattr(self, what)):
                raise ValueError(f"expected {what} in 1 to 200 characters, got {getattr(self, what)[:50]!r}")


_ORIGINATOR = "spindose"
_DRAWN = tuple({"name": e.name, "color": list(e.color), "type": e.kind.value} for e in read_template())
_TUMOURS = (RoiType.GTV.value, "Edema", "Cavity_Resect")
SHIPPED: dict[str, tuple[Spec, tuple[str, ...]]] = {
    "mr2ct": (
        Spec("mr2ct", _ORIGINATOR, "CT numbers of a head from one to four MRI", "head", "MR"),
        ("mr2ct-0", "mr2ct-1", "mr2ct-intervals.json"),
    ),
    "cranial-oar": (
        Spec(
            "cranial-oar",
            _ORIGINATOR,
            "Organs at risk of the head on T1, T1c, T2 and FLAIR, or some of them",
            "head",
            "MR",
            tuple(s for s in _DRAWN if s["name"] not in _TUMOURS),
        ),
        ("contour-head", "contour-organs", "contour-quality.json"),
    ),
    "brain-tumour": (
        Spec(
            "brain-tumour",
            _ORIGINATOR,
            "Parts of a brain tumour (BraTS) and cavities on T1, T1c, T2 and FLAIR, or some of them",
            "head",
            "MR",
            tuple(s for s in _DRAWN if s["name"] in _TUMOURS),
        ),
        ("contour-head", "contour-quality.json"),
    ),
    "dose-brain": (
        Spec("dose-brain", _ORIGINATOR, "The dose that good plans of gliomas would reach", "head", "CT"),
        ("dose-brain",),
    ),
    "dose-openkbp": (
        Spec(
            "dose-openkbp", _ORIGINATOR, "The dose that OpenKBP's planners would reach", "head and neck", "CT"
        ),
        ("dose-openkbp",),
    ),
}


def root() -> Path:
    """Where models are kept: ``SPINDOSE_MODELS``, or a folder of the user's."""
    told = os.environ.get("SPINDOSE_MODELS", "")
    return Path(told) if told else Path.home() / ".local" / "share" / "spindose" / "models"


def catalogue() -> Catalogue:
    """The catalogue in :func:`root`."""
    return Catalogue(root() / "catalogue.sqlite")


def somebody(by: str = "") -> str:
    """Who does it: as said, or the user of the machine."""
    return by.strip() or getpass.getuser()


def import_shipped(who: str, why: str) -> list[Model]:
    """The models that come along, as imported; those whose revision is there already are passed over."""
    out = []
    for name, (spec, files) in SHIPPED.items():
        paths = [path for file in files for path in _zoo(file)]
        if not paths:
            continue
        known = {m.revision for m in catalogue().models(name)}
        model = import_files(spec, paths, who, why, known)
        out += [model] if model else []
    return out


def import_files(
    spec: Spec, paths: Sequence[Path], who: str, why: str, known: Iterable[str] = ()
) -> Model | None:
    """A model of weights with their cards beside them, and what belongs to them.

    Parameters
    ----------
    spec
        What it is.
    paths
        Weights, each with its card, and calibrations.
    who, why
        For the history.
    known
        Revisions to pass over; None is given then.

    Raises
    ------
    ValueError
        If a file is refused, weights are of an unknown network or do not fit their card, or the model is
        there already.
    """
    cards = {path.name: _checked(path) for path in paths if path.suffix == WEIGHTS}
    if not cards:
        raise ValueError("expected weights (.safetensors) among the files of a model, got none")
    revision, files = kept(paths, root(), spec.originator, spec.name)
    if revision in set(known):
        return None
    card = {
        "name": spec.name,
        "originator": spec.originator,
        "does": spec.does,
        "site": spec.site,
        "modality": spec.modality,
        "structures": [dict(s) for s in spec.structures],
        **{
            key: {name: of[key] for name, of in cards.items()}
            for key in ("data", "licence", "split", "metrics", "limits")
        },
        **_told("federation", cards),
        **_told("parent", cards),
        "files": files,
        "note": RESEARCH_ONLY,
    }
    return catalogue().add(spec.name, revision, card, who, why)


def import_pack(pack: Path, who: str, why: str) -> Model:
    """A model that another catalogue packed.

    Raises
    ------
    ValueError
        If it is no such file, or as :func:`import_files`.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = unpacked(pack, Path(folder))
        spec = _read_spec(Path(folder) / _SPEC)
        model = import_files(spec, [p for p in paths if p.name != _SPEC], who, why)
    assert model is not None  # noqa: S101 - nothing was to be passed over
    return model


def pack(name: str, revision: str, out: Path) -> Model:
    """One file of a model and what it is, to be imported elsewhere; the history stays here.

    Raises
    ------
    ValueError
        If there is no such model, or a file of it was altered.
    """
    model = catalogue().model(name, revision)
    spec = {key: model.card[key] for key in ("name", "originator", "does", "site", "modality", "structures")}
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / _SPEC
        told.write_text(json.dumps(spec, indent=1) + "\n", encoding="utf-8")
        packed({**artefacts(model), _SPEC: told}, out)
    return model


def configure(name: str, revision: str, template: Path | None, site: str, who: str, why: str) -> Model:
    """How this clinic uses a model: what it may be used for, and how its contours are written.

    Raises
    ------
    ValueError
        If the model is not imported, or the template is none, or names nothing that the model contours.
    """
    model = catalogue().model(name, revision)
    config: dict[str, Any] = {"site": site or model.card["site"]}
    if template is not None:
        entries = read_template(template)
        drawn = {s["name"] for s in model.card["structures"]}
        if not drawn & {e.of for e in entries} | (drawn & {e.name for e in entries}):
            raise ValueError(f"expected a template of structures that {name} contours, got none of them")
        config["structures"] = [
            {"is": e.of, "name": e.name, "type": e.kind.value, "color": list(e.color)} for e in entries
        ]
    return catalogue().configure(name, model.revision, config, who, why)


def artefacts(model: Model) -> dict[str, Path]:
    """Files of a model by name, unaltered.

    Raises
    ------
    ValueError
        If one is missing or altered.
    """
    home = home_of(root(), str(model.card["originator"]), model.name)
    return files_of(home, model.revision, model.card["files"])


def line_of(line: Line) -> str:
    """A line of history for a person."""
    return f"{line.at}  {line.what:<9}  {line.model} {line.revision[:12]}  by {line.who}: {line.why}"


def _told(word: str, cards: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What only some cards have, by file: the ``federation`` that trained weights, their ``parent``."""
    found = {name: of[word] for name, of in cards.items() if word in of}
    return {word: found} if found else {}


def _zoo(name: str) -> list[Path]:
    """A file that comes along, weights with their card; none where it does not."""
    paths = [ZOO / name] if "." in name else [ZOO / f"{name}{WEIGHTS}", ZOO / f"{name}.json"]
    return paths if all(path.is_file() for path in paths) else []


def _checked(path: Path) -> Mapping[str, Any]:
    """The card of weights that fit the network it tells of.

    Raises
    ------
    ValueError
        If the card is incomplete, or the network unknown or another.
    """
    card = read_card(path)
    if missing := [key for key in CARD if key not in card]:
        raise ValueError(f"expected a card of {path.name} with {', '.join(CARD)}, got none for {missing[0]}")
    of = card["config"]
    # Dose predictors are rows of U-Nets, and tell of how many.
    net = dose_unet(DoseUNetConfig.of(of)) if "stages" in of else unet(UNetConfig.of(of))
    load_weights(net, path)
    return card


def _read_spec(path: Path) -> Spec:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        words = {key: str(told[key]) for key in ("name", "originator", "does", "site", "modality")}
        drawn = tuple(
            {"name": str(s["name"]), "color": [int(c) for c in s["color"]], "type": RoiType(s["type"]).value}
            for s in told["structures"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"expected a packed model with {_SPEC} that tells what it is, got none") from None
    return Spec(**words, structures=drawn)
