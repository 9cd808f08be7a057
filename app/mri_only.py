"""Every plan on bulk water and on the true CT where there is one: what the walk keeps and tells of it."""

import json
from collections.abc import Mapping
from pathlib import Path

from imaging.volume import Volume
from planning.check.mri_only import TRUTH_PERCENT, WATER_PERCENT, MriOnlyCheck, mri_only_check
from planning.density import relative_electron_density
from planning.machine import load_machine

from .optimised import BODY
from .patient import Planned
from .review.facts import CheckRow
from .steps import Walk

STEP = "mri_only"
_FILE = "mri_only.json"
_WATER_SOURCE = "what heads of water alone differ by: Karotki, J. Appl. Clin. Med. Phys. 12(4), 97 (2011)"
_TRUTH_SOURCE = "chosen by this project"
# What is told of each structure, and how it is written.
_TOLD = {"mean": "Dmean", "d2": "D2%", "d98": "D98%"}


def walked(walk: Walk, planned: Planned, true_dose: Volume | None = None) -> dict[str, object]:
    """A plan's dose beside those on bulk water and on the true CT, as a step of a walk.

    Parameters
    ----------
    walk
        Has walked the steps ``dose`` and, where there is a true dose, ``true_dose``.
    planned
        What it gave.
    true_dose
        Total dose (Gy) of the plan on the true CT.
    """
    return walk.step(
        STEP,
        "Dose on bulk water",
        {},
        lambda: check(planned, walk, true_dose),
        write,
        read,
        after=("dose",) if true_dose is None else ("dose", "true_dose"),
    )


def check(planned: Planned, walk: Walk, true_dose: Volume | None = None) -> dict[str, object]:
    """What :func:`planning.check.mri_only.mri_only_check` finds, as plain values."""
    found = mri_only_check(
        planned.plan,
        relative_electron_density(planned.ct, planned.structures.mask(BODY)),
        planned.structures,
        load_machine(planned.plan.machine),
        planned.dose,
        true_dose=true_dose,
        progress=walk.inside,
    )
    return as_json(found)


def as_json(found: MriOnlyCheck) -> dict[str, object]:
    """What a check found as plain values, with what was expected."""
    return {
        "targets": list(found.targets),
        "bulk_water": _against(found.from_water, found.water_agrees, WATER_PERCENT, _WATER_SOURCE),
        "true_ct": None
        if found.from_truth is None
        else _against(found.from_truth, bool(found.truth_agrees), TRUTH_PERCENT, _TRUTH_SOURCE),
    }


def write(found: dict[str, object], here: Path) -> None:
    """Keep what a check found."""
    (here / _FILE).write_text(json.dumps(found, indent=1))


def read(here: Path) -> dict[str, object]:
    """What a check found, as it was kept."""
    return dict(json.loads((here / _FILE).read_text()))


def cautions(found: Mapping[str, object]) -> tuple[str, ...]:
    """What the reader of a plan must know of its check, one sentence each."""
    said = {
        "bulk_water": "The synthetic CT gives the target a dose that is further from a head of water's than "
        "heads are ({words}); look at the synthetic CT before anything else.",
        "true_ct": "The plan's dose does not hold on the true CT ({words}); find out why before the plan is "
        "used for anything.",
    }
    return tuple(
        sentence.format(words=_words(found, key))
        for key, sentence in said.items()
        if _part(found, key) and not _part(found, key)["agrees"]
    )


def lines(found: Mapping[str, object]) -> list[str]:
    """A check for a person, a line for each reference."""
    return [
        f"Synthetic CT against {name}: {_words(found, key)}"
        for key, name in _REFERENCES.items()
        if _part(found, key)
    ]


def rows(found: Mapping[str, object]) -> tuple[CheckRow, ...]:
    """The same for a page: targets with what was expected, then every structure."""
    both = [_rows(found, key) for key in _REFERENCES if _part(found, key)]
    return tuple(row for part in zip(*both, strict=True) for rows in part for row in rows)


_REFERENCES = {"bulk_water": "bulk water", "true_ct": "the true CT"}


def _against(
    differences: Mapping[str, Mapping[str, float]], agrees: bool, percent: float, source: str
) -> dict[str, object]:
    return {
        "structures": differences,
        "tolerance": {"target_mean_percent": percent, "source": source},
        "agrees": agrees,
    }


def _part(found: Mapping[str, object], key: str) -> dict:  # type: ignore[type-arg] # as JSON gives it
    part = found.get(key)
    return part if isinstance(part, dict) else {}


def _targets(found: Mapping[str, object], key: str) -> dict[str, float]:
    """Mean dose of each target less the reference's, in percent of the prescription."""
    told: dict = dict(found)  # type: ignore[type-arg] # as JSON gives it
    structures = told[key]["structures"]
    return {n: structures[n]["mean_difference_percent"] for n in told["targets"] if n in structures}


def _words(found: Mapping[str, object], key: str) -> str:
    return ", ".join(f"{name} mean {mean:+.1f} %" for name, mean in _targets(found, key).items())


def _rows(found: Mapping[str, object], key: str) -> tuple[list[CheckRow], list[CheckRow]]:
    """Targets with what was expected of them, and every structure."""
    part, name = _part(found, key), _REFERENCES[key]
    limit, source = part["tolerance"]["target_mean_percent"], part["tolerance"]["source"]
    judged = [
        CheckRow(
            f"Mean dose of the {target}, synthetic CT − {name}",
            f"{mean:+.2f} % of the prescription",
            f"within {limit:g} % ({source})",
            abs(mean) <= limit,
        )
        for target, mean in _targets(found, key).items()
    ]
    told = [
        CheckRow(f"{structure} {', '.join(_TOLD.values())}, synthetic CT − {name}", _told(one))
        for structure, one in part["structures"].items()
    ]
    return judged, told


def _told(one: Mapping[str, float]) -> str:
    """Differences of one structure in Gy and in percent of the prescription."""
    # Adding 0 takes the sign from a zero that was rounded.
    gy = [f"{round(one[f'{metric}_difference_gy'], 2) + 0.0:+.2f}" for metric in _TOLD]
    percent = [f"{round(one[f'{metric}_difference_percent'], 1) + 0.0:+.1f}" for metric in _TOLD]
    return f"{', '.join(gy)} Gy ({', '.join(percent)} %)"
