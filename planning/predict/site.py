"""A site of treatment as data: what its targets and organs are called, and what of their dose counts."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from imaging.structures import StructureSet
from planning.goals import parts, same_name

_LARGEST = 1_000_000  # bytes of a file
_MOST = 48  # structures: each has a bit of a whole number
_WORDS = {"name", "plane", "synonyms"}


@dataclass(frozen=True)
class Drawn:
    """One structure of a site.

    Parameters
    ----------
    name
        What it is called.
    plane
        The channel that shows it; both sides of an organ share one, so that a mirrored patient is a patient.
    synonyms
        What else it is called.
    """

    name: str
    plane: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """Structures of a site, and what counts.

    Parameters
    ----------
    name
        What the site is called.
    prescription
        Its highest one (Gy), by which those of targets are told.
    targets
        With prescriptions.
    also
        Other targets that are shown where a patient has them.
    organs
        At risk.
    gantry
        Angles (degrees, IEC 61217) of coplanar beams where a plan does not tell its own.
    styles
        Names of styles of planning.
    target_counts, organ_counts
        Metrics of :mod:`planning.goals` that plans are compared by.

    Raises
    ------
    ValueError
        If there is no target, something is there twice, there are too many, or a number cannot be.
    """

    name: str
    prescription: float
    targets: tuple[Drawn, ...]
    also: tuple[Drawn, ...] = ()
    organs: tuple[Drawn, ...] = ()
    gantry: tuple[float, ...] = ()
    styles: tuple[str, ...] = ()
    target_counts: tuple[str, ...] = ("D99%", "D95%", "D1%")
    organ_counts: tuple[str, ...] = ("D0.1cc", "Dmean")

    def __post_init__(self) -> None:
        if not self.targets or not 0 < self.prescription < 1000:
            raise ValueError("expected a site with a target and a prescription in Gy, got none")
        if len(self.structures) > _MOST:
            raise ValueError(f"expected a site of at most {_MOST} structures, got {len(self.structures)}")
        every = [word for d in self.structures for word in (d.name, *d.synonyms)]
        for n, word in enumerate(every):
            if any(same_name(word, other) for other in every[:n]):
                raise ValueError(f"expected every name of a site once, got {word} twice")
        if len(set(self.styles)) < len(self.styles):
            raise ValueError("expected every style of a site once, got one twice")
        if not all(0 <= angle < 360 for angle in self.gantry):
            raise ValueError("expected gantry angles of 0 to below 360 degrees (IEC 61217), got others")
        for metric in (*self.target_counts, *self.organ_counts):
            if parts(metric)[0] not in ("D%", "Dcc", "Dmean"):
                raise ValueError(f"expected metrics such as D95%, D0.1cc or Dmean to count, got {metric}")

    @property
    def structures(self) -> tuple[Drawn, ...]:
        """All of them: targets, other targets, organs. Their order is that of bits."""
        return (*self.targets, *self.also, *self.organs)

    @property
    def organ_planes(self) -> tuple[str, ...]:
        """Channels of organs, in order."""
        return tuple(dict.fromkeys(d.plane for d in self.organs))

    def counts_of(self, drawn: Drawn) -> tuple[str, ...]:
        """Metrics that count of a structure; none of other targets."""
        if drawn in self.targets:
            return self.target_counts
        return self.organ_counts if drawn in self.organs else ()


def matched(site: Site, structures: StructureSet) -> dict[str, str]:
    """The site's names of structures that a patient has, each with the patient's own.

    Raises
    ------
    ValueError
        If one has several, or there is none of the site's targets with a prescription.
    """
    found: dict[str, str] = {}
    for drawn in site.structures:
        words = (drawn.name, *drawn.synonyms)
        own = [name for name in structures.structures if any(same_name(name, word) for word in words)]
        if len(own) > 1:
            raise ValueError(
                f"expected one structure that is {drawn.name}, got {len(own)}; rename all but one"
            )
        if own:
            found[drawn.name] = own[0]
    wanted = [d.name for d in site.targets]
    if not any(d in found and structures.structures[found[d]].prescription_gy is not None for d in wanted):
        raise ValueError(
            f"expected a target of the site {site.name} ({', '.join(wanted)}) with a prescription, got none"
        )
    return found


def read_site(named: str) -> Site:
    """A site that the project ships, by its name, or one of a TOML file.

    Raises
    ------
    ValueError
        If there is no such site, or the file is none.
    """
    shipped = {
        entry.name.removesuffix(".toml"): entry
        for entry in resources.files("planning.predict.sites").iterdir()
        if entry.name.endswith(".toml")
    }
    if named in shipped:
        return parse_site(named, shipped[named].read_text(encoding="utf-8"))
    path = Path(named)
    if path.suffix != ".toml" or not path.is_file() or path.stat().st_size > _LARGEST:
        raise ValueError(
            f"expected a site of {', '.join(sorted(shipped))}, or a TOML file of one, got {named!r}"
        )
    try:
        return parse_site(path.stem, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError("expected a site in TOML, got a file that is no text") from None


def parse_site(name: str, text: str) -> Site:
    """A site of TOML.

    Raises
    ------
    ValueError
        If the text is none.
    """
    try:
        told = tomllib.loads(text)
        if unknown := set(told) - {"prescription", "gantry", "styles", "counts", "target", "also", "organ"}:
            raise ValueError(f"expected no {', '.join(sorted(unknown))} in a site; leave it out")
        counts = told.get("counts", {})
        return Site(
            name,
            float(told["prescription"]),
            _drawn(told["target"]),
            _drawn(told.get("also", [])),
            _drawn(told.get("organ", [])),
            tuple(float(angle) for angle in told.get("gantry", [])),
            _words(told.get("styles", [])),
            _words(counts.get("targets", list(Site.target_counts))),
            _words(counts.get("organs", list(Site.organ_counts))),
        )
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"expected a site in TOML, got a file that is none: {error}") from None
    except (KeyError, TypeError, AttributeError):
        raise ValueError(
            "expected a site with a prescription, [[target]] and [[organ]] tables of name, plane and "
            "synonyms, got another file; see those that are shipped"
        ) from None


def _drawn(tables: list[Mapping[str, Any]]) -> tuple[Drawn, ...]:
    out = []
    for table in tables:
        if set(table) - _WORDS:
            raise KeyError
        name, plane = table["name"], table.get("plane", table["name"])
        name, plane = _words([name, plane])
        out.append(Drawn(name, plane, _words(table.get("synonyms", []))))
    return tuple(out)


def _words(told: list[Any]) -> tuple[str, ...]:
    if not isinstance(told, list) or not all(isinstance(word, str) and word.strip() for word in told):
        raise TypeError
    return tuple(told)
