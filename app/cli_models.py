"""``spindose models``: what a command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import answer, one_sentence

models_app = typer.Typer(
    help="Models of a clinic: imported, configured, approved, retired. SPINDOSE_MODELS names their folder.",
    no_args_is_help=True,
)

_Name = Annotated[str, typer.Argument(help="Its name.")]
_Revision = Annotated[
    str, typer.Option(help="The first characters of its revision, where there are several.")
]
_By = Annotated[str, typer.Option(help="Who does it; the machine's user otherwise.")]
_Why = Annotated[str, typer.Option(help="Why, for the history.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@models_app.command("list")
def list_models(as_json: _Json = False) -> None:
    """Every model and where it stands.

    Example: `spindose models list`
    """
    with one_sentence():
        from .catalogue import catalogue

        found = catalogue().models()
    lines = [f"{m.state.value:<10}  {m.name} {m.revision[:12]}  {m.card['does']}" for m in found]
    told = {"models": [{"name": m.name, "revision": m.revision, "state": m.state.value} for m in found]}
    answer(
        told,
        lines or ["No models yet; `spindose models import shipped` takes those that come along."],
        as_json,
    )


@models_app.command()
def show(name: _Name, revision: _Revision = "", as_json: _Json = False) -> None:
    """What a model is: data, licence, metrics, structures, and how this clinic uses it.

    Example: `spindose models show cranial-oar`
    """
    with one_sentence():
        from .catalogue import artefacts, catalogue

        model = catalogue().model(name, revision)
        artefacts(model)
    told: dict[str, Any] = {
        "revision": model.revision,
        "state": model.state.value,
        **model.card,
        "config": dict(model.config),
    }
    lines = [f"{key}: {value}" for key, value in told.items() if key not in ("structures", "note")]
    drawn = ", ".join(s["name"] for s in model.card["structures"])
    answer(told, [*lines, *([f"structures: {drawn}"] if drawn else [])], as_json)


@models_app.command("import")
def import_model(
    what: Annotated[
        str, typer.Argument(help="shipped, a packed model (.spdm), or a folder of weights and cards.")
    ],
    name: Annotated[str, typer.Option(help="Its name, for a folder.")] = "",
    originator: Annotated[str, typer.Option(help="Whose it is, for a folder.")] = "",
    does: Annotated[str, typer.Option(help="What it does in a sentence, for a folder.")] = "",
    site: Annotated[str, typer.Option(help="Body part that it is meant for.")] = "head",
    modality: Annotated[str, typer.Option(help="Images that it is meant for.")] = "MR",
    by: _By = "",
    why: _Why = "imported",
    as_json: _Json = False,
) -> None:
    """Take models into the catalogue; none of them runs before it is configured and approved.

    Example: `spindose models import shipped`
    """
    with one_sentence():
        from .catalogue import Spec, import_files, import_pack, import_shipped, somebody

        path = Path(what)
        if what == "shipped":
            made = import_shipped(somebody(by), why)
        elif path.is_dir():
            spec = Spec(name, originator, does, site, modality)
            files = sorted(p for p in path.iterdir() if p.is_file() or p.is_symlink())
            made = [m for m in (import_files(spec, files, somebody(by), why),) if m]
        else:
            made = [import_pack(path, somebody(by), why)]
    told = {"imported": [{"name": m.name, "revision": m.revision} for m in made]}
    lines = [f"Imported {m.name} {m.revision[:12]}; next: spindose models configure {m.name}" for m in made]
    answer(told, lines or ["Nothing new to import."], as_json)


@models_app.command()
def configure(
    name: _Name,
    template: Annotated[
        Path | None, typer.Option(help="Names, colours and types of its structures here (TOML).")
    ] = None,
    site: Annotated[str, typer.Option(help="What it is used for here; what it is meant for otherwise.")] = "",
    revision: _Revision = "",
    by: _By = "",
    why: _Why = "configured",
    as_json: _Json = False,
) -> None:
    """Say how this clinic uses an imported model.

    Example: `spindose models configure cranial-oar --template clinic.toml`
    """
    with one_sentence():
        from .catalogue import configure as configured
        from .catalogue import somebody

        model = configured(name, revision, template, site, somebody(by), why)
    _told(model, as_json)


@models_app.command()
def approve(
    name: _Name,
    why: Annotated[str, typer.Option(help="What shows that it may run here, for the history.")],
    revision: _Revision = "",
    by: _By = "",
    as_json: _Json = False,
) -> None:
    """Let a configured model run in plans.

    Example: `spindose models approve cranial-oar --why "20 patients contoured and reviewed"`
    """
    with one_sentence():
        from .catalogue import artefacts, catalogue, somebody

        artefacts(catalogue().model(name, revision))
        model = catalogue().approve(name, revision, somebody(by), why)
    _told(model, as_json)


@models_app.command()
def retire(
    name: _Name,
    why: Annotated[str, typer.Option(help="Why it is taken out of use, for the history.")],
    revision: _Revision = "",
    by: _By = "",
    as_json: _Json = False,
) -> None:
    """Take an approved model out of use, for good.

    Example: `spindose models retire cranial-oar --why "a better one is approved"`
    """
    with one_sentence():
        from .catalogue import catalogue, somebody

        model = catalogue().retire(name, revision, somebody(by), why)
    _told(model, as_json)


@models_app.command()
def history(
    name: Annotated[str, typer.Argument(help="Its name; all models otherwise.")] = "", as_json: _Json = False
) -> None:
    """Who did what, when and why, once the chain of hashes is seen to hold.

    Example: `spindose models history cranial-oar`
    """
    with one_sentence():
        from dataclasses import asdict

        from .catalogue import catalogue, line_of

        found = catalogue().history(name)
    answer({"history": [asdict(line) for line in found]}, [line_of(line) for line in found], as_json)


@models_app.command()
def pack(
    name: _Name,
    out: Annotated[Path, typer.Option(help="The file to write, such as cranial-oar.spdm.")],
    revision: _Revision = "",
    as_json: _Json = False,
) -> None:
    """One file of a model and its cards, without images or history, to be imported elsewhere.

    Example: `spindose models pack cranial-oar --out cranial-oar.spdm`
    """
    with one_sentence():
        from .catalogue import pack as packed

        model = packed(name, revision, out)
    answer(
        {"pack": str(out), "revision": model.revision},
        [f"Packed {name} {model.revision[:12]}: {out}"],
        as_json,
    )


def _told(model: Any, as_json: bool) -> None:
    told = {"name": model.name, "revision": model.revision, "state": model.state.value}
    answer(told, [f"{model.name} {model.revision[:12]} is {model.state.value}"], as_json)
