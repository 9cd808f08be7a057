"""The page of an observer study: verdicts, pictures and tables, in one HTML file that opens offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from app.report.facts import Cell, Picture, Report, Section, Table
from app.report.html import write_html
from app.report.seal import chain
from imaging.dicom.header import software_version

from .collected import Collected, Row, Value
from .summary import FEWEST

_SHOWN = ("dice", "surface_dice", "hd95_mm", "mean_surface_distance_mm", "kappa", "fleiss_kappa")
_NAMES = {
    "dice": "Dice",
    "hd95_mm": "HD95 (mm)",
    "mean_surface_distance_mm": "mean surface distance (mm)",
    "kappa": "Cohen's kappa",
    "fleiss_kappa": "Fleiss' kappa",
}


def write_page(
    path: Path, found: Collected, told: Mapping[str, list[Row]], pictures: Mapping[str, bytes]
) -> None:
    """The page of a study.

    Parameters
    ----------
    path
        The HTML file.
    found
        What was measured.
    told
        Its tables (:func:`app.observers.summary.tables`).
    pictures
        Its pictures (:func:`app.observers.plots.pictures`).
    """
    study = found.study
    sections = [_verdicts(told), _agreement(found, told, pictures), _volumes(told, pictures)]
    if told["sites"]:
        sections.append(_sites(told))
    if told["times"]:
        sections.append(_times(told, pictures))
    sections.append(_missing(told))
    statements = {
        "Patients": str(len(study.patients)),
        "People": ", ".join(p.name for p in study.people),
        "Models": ", ".join(m.name for m in study.models) or "none",
        "Structures": str(len(found.structures)),
        "Seed": str(study.analysis.seed),
    }
    seal = chain(found.inputs)
    report = Report(
        study.title, statements, found.notes, (*sections, _methods(found)), software_version(), seal
    )
    write_html(path, report)


def _verdicts(told: Mapping[str, list[Row]]) -> Section:
    rows = [
        (
            _text(r["model"]),
            _text(r["structure"]),
            f"{_figure(r)}, {r['reference']}",
            str(r["patients"]),
            _interval(r["median_difference"], r["low"], r["high"]),
            _p(r["p"]),
            _text(r["verdict"]),
        )
        for r in told["models_against_people"]
    ]
    columns = (
        "Model",
        "Structure",
        "Figure",
        "Patients",
        "Median difference (95 %)",
        "Wilcoxon p",
        "Verdict",
    )
    note = (
        "Each person is left out in turn; the model and this person are held against the same consensus of "
        "the others, and the difference is the model's less the person's, averaged in each patient. Not "
        "inferior: all of the interval lies above minus the margin. With fewer than "
        f"{FEWEST} patients nothing is said."
    )
    return _section("Models against people", columns, rows, note, empty="No model, or fewer than two people.")


def _agreement(found: Collected, told: Mapping[str, list[Row]], pictures: Mapping[str, bytes]) -> Section:
    """One row for each structure and comparison, one column for each figure."""
    figures = [n for n in dict.fromkeys(_text(r["figure"]) for r in told["summary"]) if n.startswith(_SHOWN)]
    figures.sort(key=lambda name: (next(k for k, start in enumerate(_SHOWN) if name.startswith(start)), name))
    by: dict[tuple[str, str], dict[str, Row]] = {}
    for r in told["summary"]:
        by.setdefault((_text(r["structure"]), _text(r["compared"])), {})[_text(r["figure"])] = r
    rows = []
    for (structure, compared), row in by.items():
        cells = [_middle(row.get(name)) for name in figures]
        n = max(int(r["n"]) for r in row.values())
        undefined = sum(int(r["undefined"]) for name, r in row.items() if name == "hd95_mm")
        rows.append((structure, compared, str(n), *cells, str(undefined)))
    columns = ("Structure", "Compared", "n", *map(_name, figures), "No distance")
    words = "Agreement between people and of models with people: median, quartiles, every pair a point"
    note = (
        "Median (quartiles). Kappas count the voxels of the box around everybody's contours "
        f"and {found.study.analysis.region:g} mm more. No distance: one of the contours is empty."
    )
    return _section("Agreement", columns, rows, note, (Picture(pictures["agreement"], words, 0.8),))


def _middle(row: Row | None) -> str:
    return "" if row is None else _interval(row["median"], row["lower_quartile"], row["upper_quartile"])


def _volumes(told: Mapping[str, list[Row]], pictures: Mapping[str, bytes]) -> Section:
    rows = tuple(
        (
            _text(r["structure"]),
            f"{r['observer']}, {r['against']}",
            str(r["patients"]),
            *(
                _interval(r[f"{name}_cc"], r[f"{name}_low_cc"], r[f"{name}_high_cc"])
                for name in ("bias", "lower", "upper")
            ),
        )
        for r in told["bland_altman"]
    )
    columns = ("Structure", "Volumes of", "Patients", "Bias (95 %), cc", "Lower limit, cc", "Upper limit, cc")
    icc = tuple(
        (
            _text(r["structure"]),
            _text(r["raters"]),
            _text(r["kind"]),
            str(r["patients"]),
            _interval(r["icc"], r["low"], r["high"]),
        )
        for r in told["icc"]
    )
    words = (
        "Differences of volume over mean volume: bias, 95 % limits of agreement, their intervals at the edge"
    )
    return Section(
        "Volumes",
        (),
        (Picture(pictures["volumes"], words, 0.9),),
        (
            Table(columns, rows, (1.0,) * 6, "Limits of agreement"),
            Table(
                ("Structure", "Raters", "Kind", "Complete patients", "ICC (95 %)"),
                icc,
                (1.0,) * 5,
                "Intraclass correlation",
                "ICC(2,1): agreement, raters drawn from many; ICC(3,1): consistency of these raters.",
            ),
        ),
    )


def _sites(told: Mapping[str, list[Row]]) -> Section:
    rows = [
        (
            _text(r["structure"]),
            f"{r['contours_of']}, by site of {r['sites_of']}",
            _figure(r),
            f"{r['site']}: {_number(r['median'])} (n = {r['n']})",
            f"{r['other_site']}: {_number(r['median_other'])} (n = {r['n_other']})",
            _p(r["p"]),
            _p(r["p_holm"]),
        )
        for r in told["sites"]
    ]
    columns = ("Structure", "Contours of", "Figure", "Median", "Median", "Mann–Whitney p", "Holm")
    note = "Against the STAPLE consensus; one value for each patient, or each person; Holm over structures."
    return _section("Sites", columns, rows, note)


def _times(told: Mapping[str, list[Row]], pictures: Mapping[str, bytes]) -> Section:
    rows = [
        (
            _text(r["observer"]),
            f"{r['n']} of {r['patients']} patients",
            *(
                _interval(r[f"{n}_median"], r[f"{n}_lower_quartile"], r[f"{n}_upper_quartile"])
                for n in ("manual_min", "corrected_min", "saved_percent")
            ),
            f"{_number(r['saved_percent_of_total'])} %",
            _p(r["p"]),
        )
        for r in told["times"]
    ]
    columns = ("Person", "Pairs", "By hand, min", "Corrected, min", "Saved, %", "Of all time", "Wilcoxon p")
    note = "Median (quartiles). Wilcoxon's signed rank over patients, each by the mean of its times."
    return _section(
        "Time", columns, rows, note, (Picture(pictures["times"], "Minutes by hand and corrected", 0.5),)
    )


def _missing(told: Mapping[str, list[Row]]) -> Section:
    rows = [
        (f"patient {r['patient']}", _text(r["structure"]), _text(r["observer"]), _text(r["why"]))
        for r in told["missing"]
    ]
    columns = ("Patient", "Structure", "Observer", "Why")
    note = "They are left out of every figure that needs them; n tells how many are in it."
    return _section("Missing contours", columns, rows, note, empty="None: everybody drew everything.")


def _methods(found: Collected) -> Section:
    how = found.study.analysis
    return Section(
        "How it was measured",
        (
            "After Oktay et al., JAMA Netw. Open 3, e2027426 (2020): people, models and time saved.",
            "Patients go by their number in the study's list or in the order of their folders, not by name.",
            (
                "Surface Dice, HD95 and mean surface distance weigh pieces of surface by their area "
                "(Nikolov et al. 2021) and are of whole volumes, in mm, on voxels as they are."
            ),
            (
                "Majority: more than half of the people. STAPLE: Warfield et al. 2004, by SimpleITK, in the "
                f"box around its readers' contours and {how.region:g} mm more. A model is never part of what "
                "it is held against, and a person is left out of their own."
            ),
            (
                f"Margin of non-inferiority {how.margin:g}; intervals of medians by {how.n_resamples} draws "
                f"of patients, seed {how.seed}. The margin is the study's to justify."
            ),
        ),
    )


def _section(
    heading: str,
    columns: Sequence[str],
    rows: Sequence[tuple[Cell, ...]],
    note: str,
    pictures: tuple[Picture, ...] = (),
    empty: str = "",
) -> Section:
    if not rows:
        return Section(heading, (empty,), pictures)
    return Section(
        heading, (), pictures, (Table(tuple(columns), tuple(rows), (1.0,) * len(columns), "", note),)
    )


def _figure(row: Row) -> str:
    return _name(_text(row["figure"]))


def _name(figure: str) -> str:
    return _NAMES.get(figure) or figure.replace("surface_dice_", "surface Dice, ").replace("mm", " mm")


def _interval(value: Value, low: Value, high: Value) -> str:
    return f"{_number(value)} ({_number(low)} to {_number(high)})"


def _text(value: Value) -> str:
    return str(value)


def _number(value: Value) -> str:
    return "–" if value != value else f"{float(value):.3g}"  # noqa: PLR0124, NaN alone differs from itself


def _p(value: Value) -> str:
    if value != value:  # noqa: PLR0124
        return "–"
    return "< 0.001" if float(value) < 0.001 else f"{float(value):.3f}"
