"""Tables of a review page as HTML, every text escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from .facts import CheckRow, GoalRow, Provenance

# A sign, a word and a shape, so that colour says nothing that is not said otherwise.
_VERDICTS = {
    True: ("met", "✔", "Met"),
    False: ("unmet", "✖", "Not met"),
    None: ("open", "–", "Not evaluated"),
}


_GOAL_COLUMNS = ("Structure", "Goal", "Plan", "Result", "Source")


def verdict(met: bool | None) -> str:
    """Whether something is met, in sign, word and shape."""
    kind, sign, word = _VERDICTS[met]
    return f'<span class="verdict {kind}"><span aria-hidden="true">{sign}</span> {word}</span>'


def goals_table(goals: Sequence[GoalRow]) -> str:
    """The clinical goals, with how many of them are met."""
    if not goals:
        return '<p class="none">No goals were set.</p>'
    judged = [goal for goal in goals if goal.met is not None]
    n_met = sum(goal.met is True for goal in judged)
    count = f'<p class="count">{n_met} of {len(judged)} evaluated goals met.</p>'
    return count + table("goals", _GOAL_COLUMNS, map(_goal, judged)) + _open_goals(goals)


def _open_goals(goals: Sequence[GoalRow]) -> str:
    """The goals that could not be evaluated, folded away: never silently left out."""
    rows = [[escape(g.structure), escape(g.goal), escape(g.value)] for g in goals if g.met is None]
    if not rows:
        return ""
    body = table("open-goals", ("Structure", "Goal", "Why it was not evaluated"), rows)
    return f"<details><summary>{len(rows)} not evaluated</summary>{body}</details>"


def _goal(goal: GoalRow) -> list[str]:
    return [
        escape(goal.structure),
        escape(goal.goal),
        escape(goal.value),
        verdict(goal.met),
        escape(goal.source),
    ]


def checks_table(checks: Sequence[CheckRow]) -> str:
    """The figures of a comparison."""
    rows = [
        [
            escape(c.what),
            escape(c.value),
            escape(c.expected),
            verdict(c.met) if c.met is not None else "Reported",
        ]
        for c in checks
    ]
    return table("checks", ("Figure", "Value", "Expected", "Result"), rows)


def fact_list(facts: Mapping[str, str]) -> str:
    """Short statements, as a definition list."""
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    return f'<dl class="facts">{items}</dl>' if items else ""


def provenance_block(provenance: Provenance) -> str:
    """Version, seed, inputs, parameters and notes."""
    seed = "none" if provenance.seed is None else str(provenance.seed)
    inputs = [[escape(k), f"<code>{escape(v)}</code>"] for k, v in provenance.inputs.items()]
    parts = [
        fact_list({"Software": f"Spindose {provenance.version}", "Seed": seed}),
        _section("Inputs", "inputs", ("Input", "SHA-256"), inputs),
        _section(
            "Parameters",
            "parameters",
            ("Parameter", "Value"),
            [[escape(k), escape(v)] for k, v in provenance.parameters.items()],
        ),
        "".join(f"<p>{escape(note)}</p>" for note in provenance.notes),
    ]
    return "".join(parts)


def _section(heading: str, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"<div><h3>{heading}</h3>{table(name, columns, rows)}</div>" if rows else ""


def table(name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already; the first of each row is its heading."""
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(
        "<tr>"
        + "".join(f'<th scope="row">{c}</th>' if n == 0 else f"<td>{c}</td>" for n, c in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<table id="{name}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
