"""Tables of a plan report, from plain values."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from app.review.facts import CheckRow
from planning.beams import Beam

from .facts import Code, Table, Verdict

# Points that pass 2 %/2 mm above a tenth of the maximum (%) where MRI-only planning is accepted.
_GAMMA_PERCENT = 98.0
_NARROW = "\u00a0"  # keeps a number and its unit on one line
_Values = Mapping[str, Any]


def beams(plan: Sequence[Beam], surface_distances: Mapping[str, float]) -> Table:
    """Angles, monitor units, movement and jaws of every beam."""
    rows = tuple(
        (
            beam.name,
            _degrees(beam.gantry)
            if not _turns(beam)
            else f"{_degrees(beam.gantry)} to {_degrees(_end(beam))}",
            _degrees(beam.couch),
            _degrees(beam.collimator),
            f"{beam.mu:.1f}",
            _movement(beam),
            _widest(beam, "jaws_x"),
            _widest(beam, "jaws_y"),
            f"{surface_distances[beam.name]:.0f}" if beam.name in surface_distances else "not known",
        )
        for beam in plan
    )
    return Table(
        ("Beam", "Gantry", "Couch", "Collimator", "MU", "Delivery", "X jaws (mm)", "Y jaws (mm)", "SSD (mm)"),
        rows,
        (1.0, 1.6, 0.9, 1.1, 0.9, 2.4, 1.4, 1.4, 1.1),
        note="Angles in degrees of IEC 61217, head first supine. Monitor units of one fraction. Jaws: the "
        "widest opening of the beam, at the isocentre. SSD: source to skin along the beam's first axis.",
    )


def _degrees(angle: float) -> str:
    return f"{angle:.1f}°".replace(".0°", "°")


def _turns(beam: Beam) -> bool:
    return any(abs((b.gantry - a.gantry + 180) % 360 - 180) > 1e-3 for a, b in pairwise(beam.control_points))


def _end(beam: Beam) -> float:
    return beam.control_points[-1].gantry


def _movement(beam: Beam) -> str:
    points = beam.control_points
    if _turns(beam):
        turned = sum(abs((b.gantry - a.gantry + 180) % 360 - 180) for a, b in pairwise(points))
        return f"arc of {turned:.0f}°, {len(points)} control points"
    stands = sum(b.meterset > a.meterset for a, b in pairwise(points))
    moving = any(
        b.meterset > a.meterset and abs(b.leaves - a.leaves).max() > 1e-6 for a, b in pairwise(points)
    )
    return (
        f"sliding window, {len(points)} control points" if moving else f"{stands} segment{'s' * (stands > 1)}"
    )


def _widest(beam: Beam, jaws: str) -> str:
    stands = [getattr(point, jaws) for point in beam.control_points]
    return f"{min(a for a, _ in stands):.0f} to {max(b for _, b in stands):.0f}" if stands else "none"


def structures(found: _Values) -> Table:
    """Volumes and doses of every structure."""
    keys = ("d98_gy", "d95_gy", "d50_gy", "d2_gy", "d0.03cc_gy", "mean_gy", "max_gy")
    rows = tuple(
        (
            name,
            f"{one['volume_cc']:.2f}",
            *(f"{one[key]:.2f}" for key in keys),
            f"{one['v95_percent']:.1f}",
            "–" if one["geud_gy"] is None else f"{one['geud_gy']:.2f}",
        )
        for name, one in found.items()
    )
    partly = [name for name, one in found.items() if one["share_inside"] < 1.0]
    note = "Dose in Gy. V95% in % of the volume. gEUD of targets with a = −10 (our choice)."
    if partly:
        note += f" Only partly on the dose grid, the rest counted as 0 Gy: {', '.join(partly)}."
    return Table(
        ("Structure", "Volume (cc)", "D98%", "D95%", "D50%", "D2%", "D0.03cc", "Mean", "Max", "V95%", "gEUD"),
        rows,
        (1.7, 1.35, 1.0, 1.0, 1.0, 1.0, 1.15, 1.0, 1.0, 1.0, 1.0),
        note=note,
    )


def goals(results: Sequence[_Values]) -> tuple[Table, ...]:
    """Every goal with its verdict; those that could not be evaluated with the reason, never left out."""
    judged = tuple(
        (
            str(g["structure"]),
            str(g["goal"]).replace(" ", _NARROW),
            f"{g['limit']:.2f}{_NARROW}{g['unit']}",
            f"{g['value']:.2f}{_NARROW}{g['unit']}",
            Verdict(g["met"]),
            g["source"] if g["verified"] else f"{g['source']} (not verified)".strip(),
        )
        for g in results
        if g["met"] is not None
    )
    open_ = tuple((g["structure"], g["goal"], g["reason"]) for g in results if g["met"] is None)
    columns = ("Structure", "Goal", "Limit", "Plan", "Result", "Source")
    met = sum(isinstance(row[4], Verdict) and row[4].met is True for row in judged)
    first = Table(
        columns, judged, (1.3, 1.8, 1.1, 1.1, 1.2, 4.2), heading=f"{met} of {len(judged)} evaluated goals met"
    )
    if not open_:
        return (first,)
    why = Table(
        ("Structure", "Goal", "Why it was not evaluated"),
        open_,
        (1.5, 2.0, 4.0),
        heading=f"{len(open_)} goals not evaluated",
    )
    return (first, why)


def indices(found: _Values) -> Table:
    """Conformity, homogeneity and gradient of every planning target."""
    keys = ("paddick_conformity", "paddick_conformity_of_95_percent", "icru_homogeneity", "gradient_index")
    rows = tuple(
        (
            name,
            *(
                (str(one["not_evaluated"]), "–", "–", "–")
                if "not_evaluated" in one
                else (f"{one[key]:.3f}" for key in keys)
            ),
        )
        for name, one in found.items()
    )
    return Table(
        ("Target", "Conformity", "Conformity of the 95 % isodose", "Homogeneity", "Gradient index"),
        rows,
        (1.5, 2.0, 2.4, 2.0, 2.0),
        heading="Dose indices",
        note="Conformity after Paddick (2000), 1 at best. Homogeneity after ICRU 83, (D2% − D98%) / D50%. "
        "Gradient index after Paddick and Lippitz (2006): volume of half the prescription's isodose over "
        "that of the prescription's.",
    )


def complications(found: Mapping[str, Sequence[_Values]]) -> Table:
    """Probabilities of complications by published models."""
    rows = tuple(
        (
            name,
            f"{one['parameters']['end_point']}",
            one["model"],
            f"{one['percent']:.2f} %",
            f"{one['geud_eqd2_gy']:.2f}",
            f"{one['alpha_beta_gy']:g}",
            f"{one['parameters']['source']}{'' if one['verified'] else ' (numbers not verified)'}",
        )
        for name, models in found.items()
        for one in models
    )
    return Table(
        ("Organ", "Complication", "Model", "Probability", "gEUD (Gy, EQD2)", "α/β (Gy)", "Parameters"),
        rows,
        (1.1, 1.4, 2.1, 1.1, 1.2, 0.9, 3.4),
        heading="Complications by published models",
        note="They rank plans for one patient; none of them is a prediction for a patient.",
    )


def modulation(found: _Values) -> Table:
    """How modulated the plan is, and how long it takes."""
    one, seconds = found["complexity"], found["delivery_seconds"]
    if "not_evaluated" in one:
        rows: tuple[tuple[str, str], ...] = (("Not evaluated", str(one["not_evaluated"])),)
    else:
        rows = (
            ("Modulation complexity score (1 for open fields)", f"{one['modulation_score']:.3f}"),
            ("Mean open area", f"{one['area_mm2'] / 100:.1f} cm²"),
            ("Open leaf pairs narrower than 10 mm", f"{100 * one['small_share']:.1f} %"),
            ("Monitor units for each Gy", f"{one['mu_per_gray']:.0f}"),
            ("Time of one fraction, couch turns not counted", f"{seconds / 60:.1f} min (estimate)"),
        )
    return Table(("Delivery", "Value"), rows, (3.0, 1.5), heading="Modulation and time")


def checks(rows: Sequence[CheckRow], heading: str, note: str = "") -> Table:
    """Figures of a comparison with what was expected of them."""
    cells = tuple(
        (row.what, row.value, row.expected, "Reported" if row.met is None else Verdict(row.met))
        for row in rows
    )
    return Table(("Figure", "Value", "Expected", "Result"), cells, (3.4, 2.8, 2.2, 1.2), heading, note)


def synthetic_ct(rows: Sequence[CheckRow], against: _Values, true_ct: _Values) -> tuple[Table, ...]:
    """The plan on the synthetic CT beside the same plan on bulk water and on the true CT.

    Parameters
    ----------
    rows
        What was expected of the targets.
    against
        Differences by reference and structure.
    true_ct
        Gamma and errors in HU, where there is a true CT.
    """
    more = []
    if true_ct:
        gamma, expected = true_ct["gamma_2_2_percent"], f"above {_GAMMA_PERCENT:g} %"
        more = [
            CheckRow(
                "Gamma 2 %/2 mm above 10 %, on the true CT", _share(gamma), expected, gamma > _GAMMA_PERCENT
            ),
            CheckRow("Gamma 1 %/1 mm above 10 %, on the true CT", _share(true_ct["gamma_1_1_percent"])),
            CheckRow("Mean absolute error of the synthetic CT in the body", f"{true_ct['hu_mae']:.0f} HU"),
            CheckRow("Mean error of the synthetic CT in the body", f"{true_ct['hu_bias']:+.0f} HU"),
        ]
    judged = [row for row in rows if row.met is not None]
    return (
        checks([*judged, *more], "Synthetic CT"),
        *(
            _differences(against[key]["structures"], f"Synthetic CT − {name}, structure by structure")
            for key, name in (("bulk_water", "bulk water"), ("true_ct", "true CT"))
            if against.get(key)
        ),
    )


def _share(percent: float) -> str:
    return f"{percent:.2f} %"


def _differences(found: Mapping[str, _Values], heading: str) -> Table:
    keys = ("mean", "d98", "d95", "d2")
    rows = tuple(
        (name, *(f"{one[f'{key}_difference_gy']:+z.2f}" for key in keys)) for name, one in found.items()
    )
    columns = ("Structure", "Mean (Gy)", "D98% (Gy)", "D95% (Gy)", "D2% (Gy)")
    return Table(columns, rows, (2.0, 1.0, 1.0, 1.0, 1.0), heading=heading)


def hashes(found: Mapping[str, str], what: str, heading: str) -> Table:
    """SHA-256 of inputs or files."""
    return Table(
        (what, "SHA-256"), tuple((k, Code(v)) for k, v in found.items()), (2.0, 5.0), heading=heading
    )


def plain(found: Mapping[str, str], what: str, heading: str) -> Table:
    """Names and words."""
    return Table((what, "Value"), tuple(found.items()), (2.0, 5.0), heading=heading)
