"""A node's TOML file: who it is, who may send, and when it stops taking."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_TITLE = re.compile(r"[ -\[\]-~]{1,16}")  # PS3.5, 6.2: AE, no backslash
_SECTIONS = {
    *("title", "host", "port", "folder", "quiet", "least_free_gb", "associations", "attempts", "seconds"),
    *("tls", "peers", "destinations", "rules"),
}
WORKFLOWS = ("synthetic-ct", "synthetic-ct-bulk", "contours")


@dataclass(frozen=True)
class Peer:
    """Who may speak to the node.

    Parameters
    ----------
    title
        Its application entity's.
    addresses
        From where it may call: addresses or networks.
    """

    title: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Tls:
    """Certificate and key of the node, and who vouches for those who call (PEM)."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True)
class Destination:
    """Who gets results: its name in rules, title, address and port."""

    name: str
    title: str
    address: str
    port: int


@dataclass(frozen=True)
class Rule:
    """What is done with a series.

    Parameters
    ----------
    name
        Of the rule, and of the folder of its results.
    where
        Patterns by keyword of the header, each of which matches the whole of a value, small letters as
        capital ones; a value that is not there matches none.
    workflow
        One of :data:`WORKFLOWS`.
    send_to
        Names of destinations.
    """

    name: str
    where: Mapping[str, re.Pattern[str]]
    workflow: str
    send_to: tuple[str, ...]


@dataclass(frozen=True)
class NodeSettings:
    """A node as its hospital configured it.

    Parameters
    ----------
    title
        Of its application entity.
    host, port
        Where it listens.
    folder
        Of instances and queue.
    peers
        Who may speak to it.
    tls
        Without it, whoever is on the network reads along.
    quiet
        Seconds without a new instance after which a study is complete.
    least_free_gb
        Space below which nothing more is taken.
    associations
        At once, at the most.
    destinations, rules
        Who gets results, and what is done with a series: the first rule that fits.
    attempts
        After which a study that fails is set aside.
    seconds
        That a workflow may take.
    """

    title: str
    folder: Path
    peers: tuple[Peer, ...]
    host: str = "0.0.0.0"  # noqa: S104 # scanners are elsewhere; who may speak is told by peers
    port: int = 11112
    tls: Tls | None = None
    quiet: float = 30.0
    least_free_gb: float = 2.0
    associations: int = 50
    destinations: tuple[Destination, ...] = ()
    rules: tuple[Rule, ...] = ()
    attempts: int = 5
    seconds: float = 7200.0


def read_settings(path: Path) -> NodeSettings:
    """The node that a TOML file tells of.

    Raises
    ------
    ValueError
        If it is no TOML, or a word is unknown, missing or of another kind.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected a node's TOML file, got none: {error}") from None
    if unknown := told.keys() - _SECTIONS:
        raise ValueError(f"expected {', '.join(sorted(_SECTIONS))} in a node's file, got {min(unknown)}")
    home = path.absolute().parent
    kinds: dict[str, Any] = {
        "title": str,
        "host": str,
        "port": int,
        "folder": str,
        "quiet": (int, float),
        "least_free_gb": (int, float),
        "associations": int,
        "attempts": int,
        "seconds": (int, float),
    }
    words = {word: _of(told[word], kind, word) for word, kind in kinds.items() if word in told}
    if missing := [word for word in ("title", "folder") if word not in words]:
        raise ValueError(f"expected {missing[0]} in a node's file, got none")
    for word in ("quiet", "least_free_gb", "seconds"):
        if word in words:
            words[word] = float(words[word])
    if not 0 < words.get("port", 1) < 65536 or min(words.get(w, 1) for w in ("associations", "attempts")) < 1:
        raise ValueError(
            "expected a port of 1 to 65535, 1 association and 1 attempt or more in a node's file"
        )
    if min(words.get(word, 1.0) for word in ("quiet", "least_free_gb", "seconds")) < 0:
        raise ValueError("expected quiet, least_free_gb and seconds of 0 or more in a node's file, got less")
    words |= {"title": _title(words["title"]), "folder": _under(home, words["folder"])}
    destinations = _destinations(told)
    rules = _rules(told, {one.name for one in destinations})
    tls = _tls(told, home)
    return NodeSettings(**words, peers=_peers(told), tls=tls, destinations=destinations, rules=rules)


def _of(value: Any, kind: Any, word: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"expected another kind of value for {word} in a node's file")  # noqa: TRY004
    return value


def _title(text: str) -> str:
    if not _TITLE.fullmatch(text) or not text.strip():
        raise ValueError("expected a title of 1 to 16 characters without backslash in a node's file")
    return text.strip()


def _peers(told: Mapping[str, Any]) -> tuple[Peer, ...]:
    found = told.get("peers", [])
    if not isinstance(found, list) or not found:
        raise ValueError("expected one [[peers]] or more in a node's file: a title and addresses each")
    peers = []
    for one in found:
        if not isinstance(one, dict) or one.keys() != {"title", "addresses"}:
            raise ValueError("expected title and addresses in each of [[peers]] of a node's file")
        addresses = _of(one["addresses"], list, "addresses")
        try:
            networks = tuple(str(ip_network(_of(a, str, "addresses"), strict=False)) for a in addresses)
        except ValueError:
            raise ValueError("expected addresses or networks of peers, such as 10.1.2.0/24") from None
        if not networks:
            raise ValueError("expected an address or more of each peer, got none")
        peers.append(Peer(_title(_of(one["title"], str, "title")), networks))
    return tuple(peers)


def _tables(told: Mapping[str, Any], section: str, words: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = told.get(section, [])
    if not isinstance(found, list) or not all(
        isinstance(x, dict) and x.keys() == words.keys() for x in found
    ):
        raise ValueError(f"expected {', '.join(words)} in each of [[{section}]] of a node's file")
    return [{word: _of(one[word], kind, word) for word, kind in words.items()} for one in found]


def _destinations(told: Mapping[str, Any]) -> tuple[Destination, ...]:
    words = {"name": str, "title": str, "address": str, "port": int}
    found = [
        Destination(_name(x["name"]), _title(x["title"]), x["address"], x["port"])
        for x in _tables(told, "destinations", words)
    ]
    if len({one.name for one in found}) < len(found) or not all(0 < one.port < 65536 for one in found):
        raise ValueError("expected destinations of different names, and ports of 1 to 65535, got others")
    return tuple(found)


def _rules(told: Mapping[str, Any], known: set[str]) -> tuple[Rule, ...]:
    rules = []
    words = {"name": str, "where": dict, "workflow": str, "send_to": list}
    for one in _tables(told, "rules", words):
        if one["workflow"] not in WORKFLOWS:
            raise ValueError(f"expected a workflow of {', '.join(WORKFLOWS)} in a rule, got another")
        if not one["send_to"] or not set(one["send_to"]) <= known:
            raise ValueError("expected names of [[destinations]] for send_to of a rule, got others or none")
        rules.append(Rule(_name(one["name"]), _where(one["where"]), one["workflow"], tuple(one["send_to"])))
    if len({one.name for one in rules}) < len(rules):
        raise ValueError("expected rules of different names, got one twice")
    return tuple(rules)


def _where(told: Mapping[str, Any]) -> dict[str, re.Pattern[str]]:
    if not told or not all(isinstance(pattern, str) for pattern in told.values()):
        raise ValueError('expected patterns by keyword for where of a rule: { Modality = "MR" }')
    if unknown := [word for word in told if tag_for_keyword(word) is None]:
        raise ValueError(f"expected keywords of DICOM for where of a rule, got {unknown[0]}")
    try:
        return {word: re.compile(pattern, re.IGNORECASE) for word, pattern in told.items()}
    except re.error as error:
        raise ValueError(f"expected regular expressions for where of a rule, got another: {error}") from None


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("expected names of small letters, digits and dashes for rules and destinations")
    return text


def _tls(told: Mapping[str, Any], home: Path) -> Tls | None:
    found = told.get("tls")
    if found is None:
        return None
    words = ("certificate", "key", "authority")
    if not isinstance(found, dict) or found.keys() != set(words):
        raise ValueError(f"expected {', '.join(words)} under [tls] of a node's file")
    paths = [_under(home, _of(found[word], str, word)) for word in words]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise ValueError(f"expected the file {missing[0]} that [tls] of a node's file names, got none")
    return Tls(*paths)


def _under(home: Path, path: str) -> Path:
    # A name may stand for a home folder; relative ones are beside the file.
    return home / os.path.expanduser(path)  # noqa: PTH111
