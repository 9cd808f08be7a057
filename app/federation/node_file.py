"""What a hospital lets its node do: one TOML file, read whole or refused.

::

    name = "north"                      # what the site chose to be called
    state = "state"                     # folder of approvals, audit log, prepared patients
    [server]
    address = "federation.example.org:8000"
    certificate = "ca.pem"              # of who vouches for the server
    key = "north.key"                   # the node's own
    [data]
    dose = ["patients"]                 # folders by task; no others are read
    held_out = 0.2
    [allow]
    kinds = ["train", "evaluate"]       # and "statistics": counts of patients
    privacy = ["local"]                 # that studies must have; any without this line
    [limits]
    steps = 100
    [askers]
    lead = "lead.pem"                   # public Ed25519 keys of who may ask
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from app.report.sign import public_key

from .privacy import PRIVACIES
from .study import NAME

KINDS = ("train", "evaluate", "statistics")
_USUAL = ("train", "evaluate")
_SECTIONS = {"name", "state", "server", "data", "allow", "limits", "askers"}


@dataclass(frozen=True)
class Limits:
    """What no study may exceed here.

    Parameters
    ----------
    rounds, steps, batch
        Of a study.
    repeats
        Answers beyond one a round, for a server that was restarted.
    weights_mb
        Size of the weights of a message.
    threads
        Of the processor.
    memory_gb
        Of the process; 0 for no limit.
    disk_gb
        Free space without which nothing is learnt.
    seconds
        Of one request.
    patients
        Without which no error of held-out patients, and no count in a cell, leaves.
    epsilon
        That a study may spend of this site's privacy, repeats included; 0 for no limit.
    """

    rounds: int = 100
    steps: int = 1000
    batch: int = 8
    repeats: int = 5
    weights_mb: float = 64.0
    threads: int = 2
    memory_gb: float = 0.0
    disk_gb: float = 0.5
    seconds: float = 3600.0
    patients: int = 5
    epsilon: float = 0.0


@dataclass(frozen=True)
class NodeFile:
    """A node as its hospital configured it; paths are whole.

    Parameters
    ----------
    name
        What the site chose to be called.
    state
        Folder of approvals, audit log and prepared patients.
    address, certificate, key
        Of the server, of who vouches for it, and the node's private key; empty where it runs alone.
    data
        Folders by task.
    held_out
        Share of patients to validate on.
    kinds
        That may be asked.
    privacies
        That a study may have.
    limits
        What no study may exceed.
    askers
        Public keys of who may ask, by name.
    """

    name: str
    state: Path
    data: Mapping[str, tuple[Path, ...]]
    askers: Mapping[str, Any]
    address: str = ""
    certificate: Path | None = None
    key: Path | None = None
    held_out: float = 0.2
    kinds: tuple[str, ...] = _USUAL
    privacies: tuple[str, ...] = PRIVACIES
    limits: Limits = field(default_factory=Limits)

    @property
    def log(self) -> Path:
        """The audit log."""
        return self.state / "audit.jsonl"

    @property
    def approvals(self) -> Path:
        """Studies that may run."""
        return self.state / "approved.json"


def read_node(path: Path) -> NodeFile:
    """The node that a TOML file tells of.

    Raises
    ------
    ValueError
        If it is no TOML, a word is unknown, missing or of another kind, nobody may ask, or a folder of data
        is not there.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected a node's TOML file, got none: {error}") from None
    if unknown := told.keys() - _SECTIONS:
        raise ValueError(f"expected {', '.join(sorted(_SECTIONS))} in a node's file, got {min(unknown)}")
    home = path.absolute().parent
    name = told.get("name", "")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError("expected a node's name of small letters, digits and dashes, got another")
    server = _words(told, "server", {"address": str, "certificate": str, "key": str})
    allow = _words(told, "allow", {"kinds": list, "privacy": list})
    kinds, privacies = tuple(allow.get("kinds", _USUAL)), tuple(allow.get("privacy", PRIVACIES))
    for what, found, known in (("kinds of requests", kinds, KINDS), ("privacy", privacies, PRIVACIES)):
        if not set(found) <= set(known):
            raise ValueError(f"expected {what} among {', '.join(known)} in a node's file, got others")
    data, held_out = _data(told, home)
    return NodeFile(
        name,
        _under(home, str(told.get("state", "state"))),
        data,
        _askers(told, home),
        server.get("address", ""),
        _under(home, server["certificate"]) if "certificate" in server else None,
        _under(home, server["key"]) if "key" in server else None,
        held_out,
        kinds,
        privacies,
        _limits(told),
    )


def _words(told: Mapping[str, Any], section: str, known: Mapping[str, Any]) -> dict[str, Any]:
    found = told.get(section, {})
    if not isinstance(found, dict) or found.keys() - known.keys():
        raise ValueError(f"expected {', '.join(known)} under [{section}] of a node's file, got others")
    for word, value in found.items():
        if not isinstance(value, known[word]) or isinstance(value, bool):
            what = f"{word} under [{section}] of a node's file"
            raise ValueError(f"expected another kind of value for {what}")  # noqa: TRY004
    return found


def _data(told: Mapping[str, Any], home: Path) -> tuple[dict[str, tuple[Path, ...]], float]:
    found = told.get("data", {})
    if not isinstance(found, dict) or not found.keys() - {"held_out"}:
        raise ValueError('expected folders by task under [data] of a node\'s file: dose = ["patients"]')
    held_out = float(found.get("held_out", 0.2))
    if not 0 < held_out < 1:
        raise ValueError("expected held_out between 0 and 1 under [data] of a node's file")
    folders: dict[str, tuple[Path, ...]] = {}
    for task, paths in found.items():
        if task == "held_out":
            continue
        if not paths or not isinstance(paths, list) or any(not isinstance(p, str) for p in paths):
            raise ValueError(f"expected a list of folders for {task} under [data] of a node's file")
        folders[task] = tuple(_under(home, p) for p in paths)
        if not all(p.is_dir() for p in folders[task]):
            raise ValueError(f"expected folders that are there for {task} under [data] of a node's file")
    return folders, held_out


def _limits(told: Mapping[str, Any]) -> Limits:
    known = {f.name: (int, float) if f.type is float else int for f in fields(Limits)}
    found = _words(told, "limits", known)
    if any(value < 0 for value in found.values()):
        raise ValueError("expected limits of 0 or more in a node's file, got a negative one")
    return Limits(**found)


def _askers(told: Mapping[str, Any], home: Path) -> dict[str, Any]:
    found = told.get("askers", {})
    if not isinstance(found, dict) or not found or not all(isinstance(v, str) for v in found.values()):
        raise ValueError(
            "expected who may ask under [askers] of a node's file, a public key each, got nobody"
        )
    return {name: public_key(_under(home, path)) for name, path in found.items()}


def _under(home: Path, path: str) -> Path:
    # A name may stand for a home folder; relative ones are beside the file.
    return home / os.path.expanduser(path)  # noqa: PTH111
