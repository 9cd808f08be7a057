"""Real cases of a training of contours: what structures are called, how cases are kept and told of."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planning.contour.known import HEAD_KNOWN, ORGANS_KNOWN, Meaning, own_known

from .console import Progress
from .contour_cases import labelled_cases
from .contour_material import Cases, Task, prepare_cases, split_cases
from .prepared import expect_data, keep_split

CASES = "cases"  # the folder of prepared cases in that of a run
OWN = "own"  # the network of a user's structures
_KNOWN = {"head": HEAD_KNOWN, "organs": ORGANS_KNOWN}
_LARGEST = 1_000_000  # bytes of a table of names

Names = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Real:
    """How real cases take part.

    Parameters
    ----------
    share
        Of samples; a network of one's own structures sees no others.
    held_out
        Share of patients that no step sees.
    names
        Other words for structures, by their names; a network of one's own tells these apart.

    Raises
    ------
    ValueError
        If a share lies outside 0 to 1, or nobody would be held out or taught.
    """

    share: float = 0.5
    held_out: float = 0.2
    names: Names = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or not 0 < self.held_out < 1:
            raise ValueError(
                "expected --real above 0 and at most 1 and --held-out between 0 and 1, got "
                f"{self.share} and {self.held_out}"
            )


def read_names(path: Path | None) -> Names:
    """Synonyms of structures: a TOML table such as ``OpticNrv_L = ["N. opticus li", "left optic nerve"]``.

    Raises
    ------
    ValueError
        If it is no such file.
    """
    if path is None:
        return {}
    if not path.is_file() or path.stat().st_size > _LARGEST:
        raise ValueError("expected a TOML file of names for --names, got no such file")
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected names in TOML, got a file that is none: {error}") from None
    for name, words in told.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f'expected lines such as {name} = ["another name"], got another')
    return {name: tuple(words) for name, words in told.items()}


def known_of(kind: str, names: Names) -> Mapping[str, Meaning]:
    """What structures mean to a network."""
    return own_known(names) if kind == OWN else _KNOWN[kind]


def real_cases(
    kind: str, real: Real, data: Sequence[Path], n_classes: int, spacing: float, out: Path, progress: Progress
) -> Cases | None:
    """Real cases made ready in ``out/cases`` and split by patient; None where none are given.

    Raises
    ------
    ValueError
        If none fits, or the run in ``out`` began with other cases, or otherwise mixed.
    """
    kept = out / CASES / "split.json"
    expect_data(data, kept)
    if not data:
        return None
    task = Task(known_of(kind, real.names), n_classes, spacing, real.names)
    ready, left_out = prepare_cases(labelled_cases(data), task, out / CASES, progress)
    cases = split_cases(ready, left_out, real.held_out)
    told = {"real": real.share, **cases.keys}
    keep_split(kept, told, (out / "checkpoint").exists(), "cases, --names, --real and --held-out")
    return cases


def told_of(cases: Cases) -> dict[str, Any]:
    """How many cases there are of each kind, and why others were left out."""
    return {
        "training": len(cases.training),
        "watched": len(cases.watched),
        "held out": len(cases.held_out),
        "left out": dict(cases.left_out),
    }


def card_of(real: Real, cases: Cases, synthetic: bool) -> dict[str, str]:
    """What a card says of real cases: counts, kinds and structures, and nobody's name."""
    every = (*cases.training, *cases.watched, *cases.held_out)
    kinds = ", ".join(sorted({case.files.layout for case in every}))
    drawn = ", ".join(sorted({name for case in every for name in case.structures}))
    share = f"{real.share:.0%} of the samples" if synthetic else "all samples"
    patients = len({case.patient for case in cases.held_out})
    n = len(cases.training)
    return {
        "data": f"{n} real cases of the user's ({kinds}; {drawn}) in {share}; what a case does not show "
        f"counts as unknown; {len(cases.left_out)} cases did not fit and were left out",
        "licence": "the real cases have a licence of their own, which may forbid some uses",
        "split": f"{patients} patients ({len(cases.held_out)} real cases) held out, and {len(cases.watched)} "
        "cases of others watched while it learnt, the same for every seed",
        "limits": f"Trained on {'synthetic heads and ' * synthetic}{n} real cases. Adult heads only. ",
    }
