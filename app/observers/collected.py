"""All figures of an observer study, patient by patient, and what is missing."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.console import Progress
from app.steps import file_hash

from .reading import Drawn, Names, read_patient
from .scores import Scores, score
from .study import Study

Value = str | int | float
Row = dict[str, Value]


@dataclass(frozen=True, eq=False)
class Collected:
    """What was measured.

    Parameters
    ----------
    study
        The study.
    structures
        Names, in the study's order or that in which they were drawn.
    scores
        By patient (from 0) and structure.
    missing
        Contours that are not there: patient (from 1), structure, observer and why.
    notes
        What a reader must know.
    inputs
        SHA-256 of every patient's folder, by the patient's number.
    """

    study: Study
    structures: tuple[str, ...]
    scores: Mapping[tuple[int, str], Scores]
    missing: tuple[Row, ...]
    notes: tuple[str, ...]
    inputs: Mapping[str, str]


def collect(study: Study, progress: Progress) -> Collected:
    """Reads and measures every patient of a study, one after another.

    Raises
    ------
    ValueError
        As :func:`app.observers.reading.read_patient`, or if nothing that the study asks for was drawn.
    """
    names = Names(study)
    scores: dict[tuple[int, str], Scores] = {}
    absent: list[tuple[str, ...]] = []
    notes: list[str] = []
    order: dict[str, None] = dict.fromkeys(wanted.name for wanted in study.structures)
    inputs = {}
    for k, patient in enumerate(study.patients):
        progress("Contours", k / len(study.patients))
        if not (study.folder / patient.folder).is_dir():
            raise ValueError(f"expected a folder of patient {k + 1} of the study, got none there")
        drawn = read_patient(study, k, names)
        inputs[f"patient {k + 1}"] = file_hash(study.folder / patient.folder)
        order |= dict.fromkeys(drawn.masks)
        absent.append(drawn.absent)
        notes += drawn.notes
        scores |= {(k, name): found for name, found in _scored(study, drawn, k, notes)}
    progress("Contours", 1.0)
    if not scores:
        raise ValueError("expected contours of the study's structures, got none; name their synonyms")
    missing = _missing(study, tuple(order), scores, absent)
    return Collected(study, tuple(order), scores, missing, tuple(notes), inputs)


def _scored(study: Study, drawn: Drawn, k: int, notes: list[str]) -> list[tuple[str, Scores]]:
    models = [model.name for model in study.models]
    found = []
    for name, masks in drawn.masks.items():
        if not any(bool(mask.any()) for mask in masks.values()):
            notes.append(f"patient {k + 1}: {name} is empty in everybody's contours and is left out.")
            continue
        tolerances, region = study.tolerances(name), study.analysis.region
        found.append((name, score(name, masks, models, drawn.grid, tolerances, region)))
    return found


def _missing(
    study: Study,
    structures: tuple[str, ...],
    scores: Mapping[tuple[int, str], Scores],
    absent: list[tuple[str, ...]],
) -> tuple[Row, ...]:
    rows: list[Row] = []
    for k, nobody in enumerate(absent):
        for name in structures:
            there = scores[k, name].volumes_cc if (k, name) in scores else {}
            rows += [
                {
                    "patient": k + 1,
                    "structure": name,
                    "observer": observer.name,
                    "why": "no contours of this observer" if observer.name in nobody else "not drawn",
                }
                for observer in study.observers
                if observer.name not in there
            ]
    return tuple(rows)
