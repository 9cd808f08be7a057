"""``spindose synth plans``: many plans of synthetic patients, for a dose predictor to learn from."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imaging.atomic import whole_file
from planning.styles import styles

from .batch_folder import name_of, swept
from .cohort_job import software
from .console import RESEARCH_ONLY, Progress
from .drawn_folder import MANIFEST, Entries, begun, enter, journal, kept
from .reference_plan import Planner, plan_reference, told_short
from .spread import TRIES, Died, Do, Way, spread
from .steps import whole_folder

SUMMARY = "summary.json"
_LAYOUT = 1
_MOST = 10_000
_DONE, _FAILED = "planned", "failed"

Record = Mapping[str, Any]
Open = Callable[[Do], AbstractContextManager[Way]]


@dataclass(frozen=True)
class Asked:
    """Plans as they were asked for.

    Parameters
    ----------
    planner
        What each follows from, beside its number.
    n
        How many.
    out
        Where they go; an earlier run there is gone on with, and a greater ``n`` adds to it.

    Raises
    ------
    ValueError
        If the number is out of range.
    """

    planner: Planner
    n: int
    out: Path

    def __post_init__(self) -> None:
        if not 1 <= self.n <= _MOST:
            raise ValueError(f"expected --n of 1 to {_MOST} plans, got {self.n}")


def walk_plans(asked: Asked, way: Open, progress: Progress) -> dict[str, Any]:
    """Plans in a folder, each a case of its own; whatever an earlier run finished there is kept.

    Killed at any time, the same call goes on; a plan that fails stops no other, and is tried again then.

    Parameters
    ----------
    asked
        What to plan.
    way
        How plans are spread, as :func:`app.contour_batch.way_of` gives it.
    progress
        Called with what happens now and the share of it that is done.

    Returns
    -------
    dict
        JSON values: where things lie, counts by style and technique, goals met, seconds, and what failed.

    Raises
    ------
    ValueError
        If the folder holds something else, or plans of other settings.
    """
    out, n = asked.out, asked.n
    with begun(out, _settings(asked.planner), "plans"):
        entries = kept(out, n, progress)
        swept(out, entries)
        failed: dict[int, str] = {}
        left, title = [k for k in range(n) if k not in entries], f"{n} plans"
        progress(title, len(entries) / n)
        with journal(out) as file, way(partial(plan_one, asked.planner, out)) as open_way:
            for k, told in spread(open_way, left):
                record = _record(told)
                if record["state"] == _DONE:
                    files = sorted(p for p in (out / name_of(k)).rglob("*") if p.is_file())
                    entries[k] = enter(file, out, k, files, {"plan": name_of(k), **record})
                else:
                    failed[k] = record["reason"]
                progress(title, (len(entries) + len(failed)) / n)
        swept(out, entries)
        return _published(asked, entries, failed)


def plan_one(planner: Planner, out: Path, k: int) -> Record:
    """Plan k in its folder, or why there is none; never an error."""
    start = time.monotonic()
    try:
        with whole_folder(out / name_of(k)) as empty:
            facts = plan_reference(planner, k, empty, lambda *_: None)
    except (ValueError, MemoryError, OSError, ArithmeticError, RuntimeError) as error:
        said = str(error).splitlines()[0] if isinstance(error, ValueError) and str(error) else ""
        why = said or f"expected a patient that can be planned, got {type(error).__name__}; see its seed"
        return {"state": _FAILED, "reason": why, "seconds": round(time.monotonic() - start, 1)}
    return {"state": _DONE, "reason": "", **told_short(facts)}


def lines(told: Mapping[str, Any]) -> list[str]:
    """The answer for a person."""
    rows = [
        f"{of['style']:<10} {of['technique']:<5} {of['plans']:>4} plans, "
        f"{100 * of['goals_met']:.0f} % of goals met, {of['seconds']:.0f} s each"
        for of in told["groups"]
    ]
    failed = [f"{name}  failed     {why}" for name, why in told["failed"].items()]
    return [*rows, *failed, f"{told['n']} plans, {len(told['failed'])} failed: {told['out']}"]


def _settings(planner: Planner) -> dict[str, Any]:
    """What must be the same for two plans to belong to one folder."""
    known = {name: asdict(style) for name, style in styles().items()}
    return {
        "layout": _LAYOUT,
        "version": software(),
        "planner": asdict(planner),
        "styles": json.loads(json.dumps(known)),
    }


def _record(told: object) -> Record:
    if isinstance(told, Died):
        why = f"expected a process that lives, got one killed {TRIES} times over; give it more memory"
        return {"state": _FAILED, "reason": why}
    return dict(told) if isinstance(told, Mapping) else {"state": _FAILED, "reason": "expected a plan"}


def _published(asked: Asked, entries: Entries, failed: Mapping[int, str]) -> dict[str, Any]:
    """Manifest and summary of the folder; gives what the command answers."""
    out, traits = asked.out, [entries[k]["traits"] for k in sorted(entries)]
    told: dict[str, Any] = {
        "n": len(entries),
        "groups": _groups(traits),
        "failed": {name_of(k): failed[k] for k in sorted(failed)},
        "plans": traits,
    }
    manifest = {
        "description": f"Plans of synthetic patients by a reference planner; none is real. {RESEARCH_ONLY}",
        "version": version("spindose"),
        "plans": len(entries),
        **_settings(asked.planner),
        "files": {name: one for k in sorted(entries) for name, one in entries[k]["files"].items()},
    }
    for name, values in ((SUMMARY, told), (MANIFEST, manifest)):
        with whole_file(out / name) as part:
            part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return {"out": str(out), **told}


def _groups(traits: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Plans of each style and technique: how many, the share of goals met, mean seconds."""
    counts = Counter((of["style"], of["technique"]) for of in traits)
    out = []
    for (style, technique), n in sorted(counts.items()):
        these = [of for of in traits if (of["style"], of["technique"]) == (style, technique)]
        asked_for = max(sum(of["goals_judged"] for of in these), 1)
        out.append(
            {
                "style": style,
                "technique": technique,
                "plans": n,
                "goals_met": sum(of["goals_met"] for of in these) / asked_for,
                "seconds": sum(of["seconds"] for of in these) / n,
            }
        )
    return out
