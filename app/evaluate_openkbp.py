"""``spindose evaluate dose --openkbp``: a folder of predicted doses against OpenKBP's patients."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from imaging.atomic import whole_file
from planning.predict.openkbp import patients_of, read_dose, read_patient
from planning.predict.scores import Scored, pooled, scored

from .console import RESEARCH_ONLY, Progress

_FEW = 5  # names in a sentence


def evaluate_openkbp(
    predictions: Path, reference: Path, progress: Progress, picture: Path | None = None
) -> dict[str, object]:
    """Both scores of the challenge with their spread, by patient and by structure, as plain values.

    Parameters
    ----------
    predictions
        A folder of tables ``pt_N.csv``, one for each patient.
    reference
        Patients in OpenKBP's layout, with their doses.
    progress
        Told the share of the patients that is scored; one of them is in memory at a time.
    picture
        A PNG to draw scores in, of patients and of structures.

    Raises
    ------
    ValueError
        If patients and predictions do not match, or one cannot be read or scored.
    """
    folders = patients_of(reference)
    files = _files(predictions, [folder.name for folder in folders])
    found: dict[str, Scored] = {}
    for n, folder in enumerate(folders):
        patient = read_patient(folder)
        try:
            found[folder.name] = scored(read_dose(files[folder.name], patient.ct.grid), patient)
        except ValueError as error:
            raise ValueError(f"{folder.name}: {error}") from None
        progress("Scoring doses", (n + 1) / len(folders))
    if picture is not None:
        _draw(found, picture)
    return {
        "patients": len(found),
        "dose_score_gy": pooled(found.values())["dose_gy"],
        "dvh_score_gy": pooled(found.values())["dvh_gy"],
        "dose_gy": _spread([one.dose_gy for one in found.values()]),
        "dvh_gy": _spread([one.histogram_gy for one in found.values()]),
        "structures": _by_structure(list(found.values())),
        "by_patient": {name: {"dose_gy": s.dose_gy, "dvh_gy": s.histogram_gy} for name, s in found.items()},
    }


def lines(found: Mapping[str, object]) -> list[str]:
    """What a person reads."""
    told = {name: found[name] for name in ("dose_gy", "dvh_gy")}
    words = {"dose_gy": ("Dose", "dose_score_gy"), "dvh_gy": ("DVH", "dvh_score_gy")}
    out = [f"{found['patients']} patients"]
    for name, spread in told.items():
        assert isinstance(spread, dict)  # noqa: S101 - made by _spread
        title, score = words[name]
        out.append(
            f"{title} score {found[score]:.3f} Gy (by patient: median {spread['median']:.3f}, quartiles "
            f"{spread['low']:.3f} to {spread['high']:.3f})"
        )
    structures = found["structures"]
    assert isinstance(structures, dict)  # noqa: S101 - made by _by_structure
    for name, metrics in structures.items():
        each = ", ".join(f"{metric} {off:.2f}" for metric, off in metrics.items() if metric != "patients")
        out.append(f"{name} ({metrics['patients']}): {each} Gy off")
    return out


def _files(predictions: Path, names: Sequence[str]) -> dict[str, Path]:
    """The prediction of each patient."""
    if not predictions.is_dir():
        raise ValueError("expected a folder of predictions such as pt_1.csv, got a path that is none")
    if len(set(names)) < len(names):
        raise ValueError("expected patients of different names, got two of one; score each split alone")
    files = {path.stem: path for path in sorted(predictions.glob("*.csv"))}
    for what, missing in (
        ("a prediction of", sorted(set(names) - set(files))),
        ("a patient for the prediction of", sorted(set(files) - set(names))),
    ):
        if missing:
            more = f" and {len(missing) - _FEW} more" if len(missing) > _FEW else ""
            raise ValueError(f"expected {what} {', '.join(missing[:_FEW])}{more}, got none")
    return files


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, median, high = (float(q) for q in np.percentile(values, [25, 50, 75]))
    return {"median": median, "low": low, "high": high, "sd": float(np.std(values))}


def _by_structure(found: Sequence[Scored]) -> dict[str, dict[str, float | int]]:
    """Mean absolute difference of each metric of each structure, and of how many patients."""
    out: dict[str, dict[str, float | int]] = {}
    for name in dict.fromkeys(name for one in found for name in one.off_gy):
        having = [one.off_gy[name] for one in found if name in one.off_gy]
        means = {metric: float(np.mean([one[metric] for one in having])) for metric in having[0]}
        out[name] = {"patients": len(having), **means}
    return out


def _draw(found: Mapping[str, Scored], picture: Path) -> None:
    figure = Figure(figsize=(11, 4.2), dpi=110)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    ordered = sorted(found.values(), key=lambda one: one.dose_gy)
    at = np.arange(len(ordered))
    left.plot(at, [one.dose_gy for one in ordered], "o", color="#1f4e79", label="dose")
    left.plot(at, [one.histogram_gy for one in ordered], "x", color="#d9660b", label="histograms")
    left.set(xlabel="patient, by dose score", ylabel="mean absolute difference (Gy)", ylim=(0, None))
    left.legend(frameon=False)
    structures = _by_structure(ordered)
    rows = [
        (f"{name} {metric}", off)
        for name, metrics in structures.items()
        for metric, off in metrics.items()
        if metric != "patients"
    ]
    right.barh([name for name, _ in rows], [off for _, off in rows], color="#7fa7cf")
    right.invert_yaxis()
    right.tick_params(axis="y", labelsize=7)
    right.set_xlabel("mean absolute difference (Gy)")
    figure.suptitle(RESEARCH_ONLY, fontsize=8, color="#806000")
    figure.tight_layout()
    with whole_file(picture) as part:
        figure.savefig(part, metadata={"Software": None})
