"""Which networks contour, and how it is written: the catalogue's, or others that mark every file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imaging.structures import RoiType
from models.artefacts import WEIGHTS, revision_of, sha256
from models.catalogue import Model, State
from planning.contour.template import BRAIN, Entry, read_template

from .approved import MARK
from .catalogue import artefacts, catalogue
from .ct_nets import ZOO

HEAD, ORGANS, QUALITY = "contour-head.safetensors", "contour-organs.safetensors", "contour-quality.json"
OAR, TUMOUR = "cranial-oar", "brain-tumour"
# What each model is made of; where both have a file, that of the organs' is taken.
_FILES = {TUMOUR: (HEAD, QUALITY), OAR: (HEAD, ORGANS, QUALITY)}
_OF_TUMOURS = ("GTV", "Oedema", "Cavity")
OWN = "own weights"


@dataclass(frozen=True)
class ContourModels:
    """The networks of a contouring.

    Parameters
    ----------
    files
        Paths of :data:`HEAD` and :data:`ORGANS`, and perhaps :data:`QUALITY`, by these names.
    models
        ``name``, ``revision`` and ``state`` of each.
    mark
        What every file says; empty where all of them are approved.
    template
        How contours are named, coloured and typed.
    """

    files: Mapping[str, Path]
    models: tuple[Mapping[str, str], ...]
    mark: str
    template: tuple[Entry, ...]

    def also(self, own: Sequence[Path]) -> "ContourModels":
        """With networks of structures of one's own, which nobody has approved."""
        if not own:
            return self
        told = tuple({"name": OWN, "revision": sha256(path), "state": "unapproved"} for path in own)
        return replace(self, models=(*self.models, *told), mark=MARK)

    def lines(self) -> list[str]:
        """The same for a person."""
        told = [f"{m['name']} {m['revision'][:12]} ({m['state']})" for m in self.models]
        marked = [f"{self.mark}: every file says so; see `spindose models approve`."] if self.mark else []
        return [f"Models: {', '.join(told)}", *marked]


def contour_models(weights: Path | None = None, template: Path | None = None) -> ContourModels:
    """Networks in a folder; or those that the catalogue has approved, with what ships in place of others.

    Contouring is how a clinic gets to know a model before it approves it, so that what is not approved runs
    too; then, and whenever a folder is named, every file is marked.

    Parameters
    ----------
    weights
        A folder of one's own.
    template
        Names, colours and types (TOML); those that approved models are configured with otherwise, or
        TG-263.

    Raises
    ------
    ValueError
        If a file of an approved model was altered, the history was, both models have another network for the
        head, or the template is none.
    """
    given = None if template is None else read_template(template)
    if weights is not None:
        files = _in_folder(weights)
        of = {"name": OWN, "revision": _revision(files), "state": "unapproved"}
        return ContourModels(files, (of,), MARK, given or read_template())
    approved = {name: _approved(name) for name in _FILES}
    if any(approved.values()):
        catalogue().history()
    files, told, heads = {}, [], set()
    for name, parts in _FILES.items():
        model = approved[name]
        own = artefacts(model) if model else _in_folder(ZOO)
        here = {part: own[part] for part in parts if part in own}
        if missing := [part for part in parts if part not in here and part != QUALITY]:
            raise ValueError(f"expected {missing[0]} among the files of {name}, got none; import it with it")
        files |= here if model or name == OAR else {k: p for k, p in here.items() if k not in files}
        told.append(
            {
                "name": name,
                "revision": model.revision if model else _revision(here),
                "state": "approved" if model else "unapproved",
            }
        )
        heads.add(sha256(here[HEAD]) if model else "")
    mark = "" if all(approved.values()) else MARK
    if not mark and len(heads) > 1:
        raise ValueError(
            f"expected {OAR} and {TUMOUR} with one {HEAD}, got approved models of two; approve revisions "
            "that were trained together"
        )
    return ContourModels(files, tuple(told), mark, given or _configured(approved))


def _approved(name: str) -> Model | None:
    return next((m for m in catalogue().models(name) if m.state is State.APPROVED), None)


def _in_folder(folder: Path) -> dict[str, Path]:
    """Networks of a folder; those that are missing are told of where they are read."""
    files = {HEAD: folder / HEAD, ORGANS: folder / ORGANS, QUALITY: folder / QUALITY}
    return {name: path for name, path in files.items() if name != QUALITY or path.is_file()}


def _revision(files: Mapping[str, Path]) -> str:
    """As the catalogue would call these files with their cards."""
    cards = [path.with_suffix(".json") for path in files.values() if path.suffix == WEIGHTS]
    there = {path.name: path for path in (*files.values(), *cards) if path.is_file()}
    return revision_of({name: sha256(path) for name, path in there.items()})


def _configured(approved: Mapping[str, Model | None]) -> tuple[Entry, ...]:
    """Tumours as the tumour's model is configured, everything else as that of the organs.

    Raises
    ------
    ValueError
        If two structures would have one name.
    """
    organs, tumours = (_entries(approved[name]) or read_template(BRAIN) for name in (OAR, TUMOUR))
    if organs == tumours:
        return organs
    first = next((n for n, e in enumerate(organs) if e.of in _OF_TUMOURS), min(1, len(organs)))
    entries = [e for e in organs if e.of not in _OF_TUMOURS]
    entries[first:first] = [e for e in tumours if e.of in _OF_TUMOURS]
    names = [e.name for e in entries]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(
            f"expected models configured with different names, got {min(twice)} twice; give a --template"
        )
    return tuple(entries)


def _entries(model: Model | None) -> tuple[Entry, ...]:
    told: Sequence[Mapping[str, object]] = model.config.get("structures", ()) if model else ()
    return tuple(
        Entry(str(s["is"]), str(s["name"]), RoiType(str(s["type"])), _color(s["color"])) for s in told
    )


def _color(told: object) -> tuple[int, int, int]:
    red, green, blue = told if isinstance(told, list) else (0, 0, 0)
    return int(red), int(green), int(blue)
