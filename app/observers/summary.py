"""An observer study in tables: agreement by structure, volumes, sites, and models against people."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations

import numpy as np

from .collected import Collected, Row
from .ranks import holm, mann_whitney, median_interval, quartiles, signed_rank, time_saving
from .scores import MODEL, PEOPLE, REFERENCES, Against, Metrics, Scores, surface_name
from .volumes import Estimate, Limits, bland_altman, icc_agreement, icc_consistency

FEWEST = 6  # patients: with fewer, Wilcoxon's test cannot find anything at 5 %
REFERENCE = "staple"  # what sites are compared by
_NONE = Estimate(math.nan, math.nan, math.nan)
_NO_LIMITS = Limits(0, math.nan, _NONE, _NONE, _NONE)


def tables(found: Collected) -> dict[str, list[Row]]:
    """Every table of a study, by the name of its file; patients count from 1."""
    return {
        "summary": summary(found),
        "models_against_people": models_against_people(found),
        "bland_altman": bland_altman_rows(found),
        "icc": icc_rows(found),
        "sites": site_rows(found),
        "times": time_rows(found),
        "missing": list(found.missing),
        "pairs": [
            {"patient": k + 1, **_flat(asdict(pair))}
            for (k, _), s in found.scores.items()
            for pair in s.pairs
        ],
        "against_consensus": [
            {"patient": k + 1, **_flat(asdict(a))} for (k, _), s in found.scores.items() for a in s.against
        ],
        "fleiss": [
            {"patient": k + 1, "structure": name, "people": s.n_people, "fleiss_kappa": s.fleiss}
            for (k, name), s in found.scores.items()
        ],
        "volumes": [
            {"patient": k + 1, "structure": name, "observer": observer, "volume_cc": cc}
            for (k, name), s in found.scores.items()
            for observer, cc in [*s.volumes_cc.items(), *_references(s.reference_cc)]
        ],
    }


def _references(cc: Mapping[str, float]) -> list[tuple[str, float]]:
    return [(f"({name} of all people)", value) for name, value in cc.items()]


def _flat(told: Mapping[str, object]) -> Row:
    """A row whose figures stand beside the rest."""
    out: Row = {}
    for name, value in told.items():
        if isinstance(value, Mapping):
            out |= value
        elif isinstance(value, str | int | float):
            out[name] = int(value) if isinstance(value, bool) else value
    return out


def summary(found: Collected) -> list[Row]:
    """Median and quartiles of every figure, by structure and who is compared with whom."""
    rows: list[Row] = []
    for structure in found.structures:
        for group, figures in groups(found, structure).items():
            names = dict.fromkeys(name for _, each in figures for name in each)
            for name in names:
                values = [(k, each[name]) for k, each in figures if not math.isnan(each.get(name, math.nan))]
                low, middle, high = quartiles(np.array([v for _, v in values]))
                rows.append(
                    {
                        "structure": structure,
                        "compared": group,
                        "figure": name,
                        "n": len(values),
                        "undefined": len(figures) - len(values),
                        "patients": len({k for k, _ in values}),
                        "median": middle,
                        "lower_quartile": low,
                        "upper_quartile": high,
                    }
                )
    return rows


def groups(found: Collected, structure: str) -> dict[str, list[tuple[int, Metrics]]]:
    """Figures of a structure with their patient (from 0), by who is compared with whom; no empty group."""
    out: dict[str, list[tuple[int, Metrics]]] = {}
    models = [m.name for m in found.study.models]
    for k, s in _of(found, structure):
        for pair in s.pairs:
            if pair.kind == PEOPLE:
                out.setdefault("people, pairs", []).append((k, pair.metrics))
            elif pair.kind == MODEL:
                model = pair.observer if pair.observer in models else pair.other
                out.setdefault(f"{model} and people, pairs", []).append((k, pair.metrics))
        for a in s.against:
            if not a.model:
                out.setdefault(f"people, {a.reference} of the others", []).append((k, a.metrics))
            elif not a.without:
                out.setdefault(f"{a.observer}, {a.reference} of all people", []).append((k, a.metrics))
        if not math.isnan(s.fleiss):
            out.setdefault("people, all", []).append((k, {"fleiss_kappa": s.fleiss}))
    order = ["people, pairs", *(f"{m} and people, pairs" for m in models)]
    return {name: out[name] for name in [*order, *sorted(set(out) - set(order))] if name in out}


def models_against_people(found: Collected) -> list[Row]:
    """How a model compares with people who are held against the very same consensus of the others.

    For each patient: the model's mean over these references, less the people's. The interval of the median
    draws patients again; a model is not inferior where all of it lies above minus the margin.
    """
    rows: list[Row] = []
    how = found.study.analysis
    for model in found.study.models:
        for structure in found.structures:
            first = surface_name(found.study.tolerances(structure)[0])
            for reference in REFERENCES:
                for name in ("dice", first):
                    values = np.array(_paired(found, structure, model.name, reference, name))
                    interval = median_interval(values, how.seed, how.n_resamples)
                    rows.append(
                        {
                            "structure": structure,
                            "model": model.name,
                            "reference": f"{reference} of the others",
                            "figure": name,
                            "patients": len(values),
                            "median_difference": interval.value,
                            "low": interval.low,
                            "high": interval.high,
                            "p": signed_rank(values),
                            "margin": how.margin,
                            "verdict": verdict(interval, len(values), how.margin),
                        }
                    )
    return rows


def verdict(interval: Estimate, n: int, margin: float) -> str:
    """What an interval of a difference says of a model."""
    if n < FEWEST:
        return f"too few patients ({n} of {FEWEST})"
    if interval.low > -margin:
        return "not inferior"
    return "inferior" if interval.high < -margin else "undecided"


def _paired(found: Collected, structure: str, model: str, reference: str, name: str) -> list[float]:
    """Mean of a model's figures less the people's, for each patient where both are there."""
    out = []
    for _, s in _of(found, structure):
        of = [a for a in s.against if a.reference == reference and a.without]
        person = {a.without: a.metrics[name] for a in of if not a.model}
        machine = {a.without: a.metrics[name] for a in of if a.observer == model}
        both = [w for w in person if w in machine and not math.isnan(person[w] + machine[w])]
        if both:
            out.append(float(np.mean([machine[w] - person[w] for w in both])))
    return out


def bland_altman_rows(found: Collected) -> list[Row]:
    """Volumes of each model against the mean of all people, and of each person against that of the others."""
    rows: list[Row] = []
    for structure in found.structures:
        for observer in found.study.observers:
            values, others = volumes_against(found, structure, observer.name)
            limits = bland_altman(values, others) if len(values) >= 3 else _NO_LIMITS
            row: Row = {
                "structure": structure,
                "observer": observer.name,
                "against": "mean of the people" if observer.model else "mean of the other people",
                "patients": len(values),
                "sd_cc": limits.deviation,
            }
            for name in ("bias", "lower", "upper"):
                at: Estimate = getattr(limits, name)
                row |= {f"{name}_cc": at.value, f"{name}_low_cc": at.low, f"{name}_high_cc": at.high}
            rows.append(row)
    return rows


def volumes_against(found: Collected, structure: str, observer: str) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (cc) of an observer and mean volumes of the people, but itself, of the same patients."""
    people = [p.name for p in found.study.people if p.name != observer]
    values, others = [], []
    for _, s in _of(found, structure):
        beside = [s.volumes_cc[p] for p in people if p in s.volumes_cc]
        if observer in s.volumes_cc and beside:
            values.append(s.volumes_cc[observer])
            others.append(float(np.mean(beside)))
    return np.array(values, dtype=np.float64), np.array(others, dtype=np.float64)


def icc_rows(found: Collected) -> list[Row]:
    """Correlation of volumes within classes, of people alone and with each model; of complete patients."""
    people = [p.name for p in found.study.people]
    rows: list[Row] = []
    for structure in found.structures:
        for more in [[], *([m.name] for m in found.study.models)]:
            raters = [*people, *more]
            complete = [
                [s.volumes_cc[r] for r in raters]
                for _, s in _of(found, structure)
                if all(r in s.volumes_cc for r in raters)
            ]
            table = np.array(complete, dtype=np.float64).reshape(-1, len(raters))
            told = len(table) >= 2 and len(raters) >= 2 and float(np.ptp(table)) > 0
            for kind, icc in (("ICC(2,1)", icc_agreement), ("ICC(3,1)", icc_consistency)):
                at = icc(table) if told else _NONE
                rows.append(
                    {
                        "structure": structure,
                        "raters": " and ".join(["people", *more]),
                        "n_raters": len(raters),
                        "patients": len(table),
                        "kind": kind,
                        "icc": at.value,
                        "low": at.low,
                        "high": at.high,
                    }
                )
    return rows


def site_rows(found: Collected) -> list[Row]:
    """Mann–Whitney between sites of patients and of people, corrected over structures after Holm."""
    rows: list[Row] = []
    patients: dict[int | str, str] = {k: p.site for k, p in enumerate(found.study.patients) if p.site}
    people: dict[int | str, str] = {p.name: p.site for p in found.study.people if p.site}
    for name in ("dice", "surface_dice", "hd95_mm"):
        for who in ["people", *(m.name for m in found.study.models)]:
            rows += _between_sites(found, who, name, "patients", patients)
        rows += _between_sites(found, "people", name, "observers", people)
    return rows


def _between_sites(
    found: Collected, who: str, name: str, of: str, sites: Mapping[int | str, str]
) -> list[Row]:
    rows: list[Row] = []
    for a, b in combinations(sorted(set(sites.values())), 2):
        tests: list[Row] = []
        for structure in found.structures:
            figure = surface_name(found.study.tolerances(structure)[0]) if name == "surface_dice" else name
            values = _site_values(found, structure, who, figure, of)
            first, second = (
                np.array([v for k, v in values.items() if sites.get(k) == site]) for site in (a, b)
            )
            tests.append(
                {
                    "structure": structure,
                    "contours_of": who,
                    "figure": figure,
                    "sites_of": of,
                    "site": a,
                    "other_site": b,
                    "n": len(first),
                    "n_other": len(second),
                    "median": quartiles(first)[1],
                    "median_other": quartiles(second)[1],
                    "p": mann_whitney(first, second),
                }
            )
        corrected = holm([float(row["p"]) for row in tests])
        rows += [{**row, "p_holm": p} for row, p in zip(tests, corrected, strict=True)]
    return rows


def _site_values(found: Collected, structure: str, who: str, name: str, of: str) -> dict[int | str, float]:
    """One value of each patient (mean of its people) or of each person (median of the patients)."""
    by_patient: dict[int, list[float]] = {}
    by_person: dict[str, list[float]] = {}
    for k, s in _of(found, structure):
        for a in s.against:
            value = a.metrics.get(name, math.nan)
            if a.reference == REFERENCE and _is(a, who) and not math.isnan(value):
                by_patient.setdefault(k, []).append(value)
                by_person.setdefault(a.observer, []).append(value)
    if of == "patients":
        return {k: float(np.mean(v)) for k, v in by_patient.items()}
    return {name: float(np.median(v)) for name, v in by_person.items()}


def _is(a: Against, who: str) -> bool:
    return not a.model if who == "people" else a.observer == who and not a.without


def time_rows(found: Collected) -> list[Row]:
    """What correcting saves against contouring by hand: of all times, and of each person's."""
    times = found.study.times
    whose: Sequence[tuple[str, Iterable[str]]] = [
        ("everybody", {t.observer for t in times}),
        *((name, {name}) for name in dict.fromkeys(t.observer for t in times)),
    ]
    rows: list[Row] = []
    for who, names in whose if times else ():
        some = [t for t in times if t.observer in names]
        manual, corrected = (np.array([getattr(t, key) for t in some]) for key in ("manual", "corrected"))
        saving = time_saving(manual, corrected, [str(t.patient) for t in some])
        row: Row = {"observer": who, "n": saving.n, "patients": saving.patients}
        for name, three in (
            ("manual_min", saving.manual),
            ("corrected_min", saving.corrected),
            ("saved_percent", saving.percent),
        ):
            row |= {f"{name}_lower_quartile": three[0], f"{name}_median": three[1]}
            row[f"{name}_upper_quartile"] = three[2]
        rows.append({**row, "saved_percent_of_total": saving.total_percent, "p": saving.p})
    return rows


def _of(found: Collected, structure: str) -> list[tuple[int, Scores]]:
    return [(k, s) for (k, name), s in found.scores.items() if name == structure]
