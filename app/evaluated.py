"""What an evaluation of a synthetic set found, in numbers, rows and plain words."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from imaging.dicom.header import RESEARCH_ONLY
from synth.fidelity.bootstrap import Interval
from synth.fidelity.measures import FidelityConfig, Measure
from synth.fidelity.report import Fidelity
from synth.privacy.audit import Pair, Privacy, figures

from .evaluated_sets import Sets
from .extractors import Extractor
from .plain import plain


@dataclass(frozen=True)
class Recognised:
    """Share of images whose class their nearest training images tell.

    Parameters
    ----------
    synthetic
        Of the synthetic images with the class they were asked to show.
    real
        Of the held-out images with the class they do show: as good as the features can tell.
    """

    synthetic: Interval
    real: Interval


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that page and file show.

    Parameters
    ----------
    sets
        What was compared.
    extractor
        What made the features.
    fidelity, privacy
        What was measured.
    recognised
        Obedience to the class, where images have one.
    config
        How it was measured.
    seed, version
        Of every random choice; of the software.
    notes
        What the reader must know, one sentence each.
    """

    sets: Sets
    extractor: Extractor
    fidelity: Fidelity
    privacy: Privacy
    recognised: Recognised | None
    config: FidelityConfig
    seed: int
    version: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One figure in words.

    Parameters
    ----------
    name, value, interval, floor, beside
        What it is; the figure; its interval; what real halves give one another; what the synthetic set
        gives at the same number of images.
    good
        Whether it is as of real images; None where that could not be told.
    verdict
        The same in words.
    """

    name: str
    value: str
    interval: str
    floor: str
    beside: str
    good: bool | None
    verdict: str


def rows(found: Evaluation) -> list[Row]:
    """Every figure with its interval and its floor."""
    f = found.fidelity
    table = [
        _distance("Frechet distance", f.frechet),
        _distance("Kernel distance × 1000", f.kernel, 1000.0),
        _overlap("Precision", f.precision),
        _overlap("Recall", f.recall),
        _overlap("Density", f.density),
        _overlap("Coverage", f.coverage),
        _distance("Radial spectrum (dB)", f.spectrum),
        _diversity(f),
    ]
    if f.tissues is not None:
        table += [
            _distance("Brightness by class, Wasserstein", f.tissues.wasserstein),
            _distance("Brightness by class, Jensen–Shannon", f.tissues.jensen_shannon),
        ]
    if f.radiomics is not None:
        table += [
            _distance("Radiomics, shift (SD)", f.radiomics.shift),
            _distance("Radiomics, difference of correlations", f.radiomics.difference),
            _overlap("Radiomics, agreement of correlations", f.radiomics.correlation),
        ]
    if found.recognised is not None:
        table.append(_compared("Class recognised", found.recognised.synthetic, found.recognised.real))
    if f.obedience is not None:
        names = found.sets.labels
        table += [_compared(f"Dice of {names[c.label]}", c.synthetic, c.real) for c in f.obedience]
    return table


def fidelity_verdict(table: list[Row]) -> str:
    """All rows in a sentence."""
    worse = [row.name for row in table if row.good is False]
    told = [row for row in table if row.good is not None]
    if not told:
        return "Undecided: no figure could be told from real images."
    if not worse:
        return f"All {len(told)} figures lie where real images lie to one another."
    return f"{len(worse)} of {len(told)} figures are worse than of real images: {'; '.join(worse)}."


def as_json(found: Evaluation) -> dict[str, Any]:
    """Everything as JSON takes it; what is not defined is null."""
    sets, table = found.sets, rows(found)
    three = {"train": sets.train, "held_out": sets.held_out, "synthetic": sets.synthetic}
    whole = {
        "note": RESEARCH_ONLY,
        "version": found.version,
        "seed": found.seed,
        "kind": sets.kind,
        "contrasts": sets.contrasts,
        "sets": {name: {"images": len(s), "sha256": s.sha256()} for name, s in three.items()},
        "extractor": {
            "name": found.extractor.name,
            "sha256": found.extractor.sha256,
            "what": found.extractor.what,
        },
        "parameters": asdict(found.config),
        "verdicts": {"fidelity": fidelity_verdict(table), "privacy": found.privacy.verdict},
        "flagged": found.privacy.flagged,
        "figures": [asdict(row) for row in table],
        "fidelity": asdict(found.fidelity),
        "recognised": None if found.recognised is None else asdict(found.recognised),
        "privacy": figures(found.privacy),
        "pairs": {
            "by_distance": [_pair(sets, pair) for pair in found.privacy.nearest],
            "by_correlation": [_pair(sets, pair) for pair in found.privacy.strongest],
        },
        "cautions": found.notes,
    }
    return dict(plain(whole))


def _pair(sets: Sets, pair: Pair) -> dict[str, object]:
    return {
        "synthetic": sets.synthetic.names[pair.synthetic],
        "train": sets.train.names[pair.train],
        "value": pair.value,
    }


def _distance(name: str, m: Measure, times: float = 1.0) -> Row:
    """A figure that is 0 at best."""
    if m.floor.synthetic_low > m.floor.real_high:
        return _row(name, m, times, good=False, verdict="Farther than real images are")
    if m.floor.synthetic_high < m.floor.real_low:
        return _row(name, m, times, good=True, verdict="Nearer than real images are: see the pairs below")
    return _row(name, m, times, good=True, verdict="As real images")


def _overlap(name: str, m: Measure) -> Row:
    """A figure that is the greater the better."""
    if m.floor.synthetic_high < m.floor.real_low:
        return _row(name, m, 1.0, good=False, verdict="Less than of real images")
    if m.floor.synthetic_low > m.floor.real_high:
        return _row(name, m, 1.0, good=True, verdict="More than of real images")
    return _row(name, m, 1.0, good=True, verdict="As real images")


def _row(name: str, m: Measure, times: float, *, good: bool, verdict: str) -> Row:
    v, f = m.value, m.floor
    floor = _span(f.real, f.real_low, f.real_high, times)
    beside = _span(f.synthetic, f.synthetic_low, f.synthetic_high, times)
    known = not any(math.isnan(x) for x in (v.estimate, f.real, f.synthetic))
    return Row(
        name,
        _number(v.estimate * times),
        _between(v.low * times, v.high * times),
        f"{floor} (n = {f.n})",
        beside,
        good if known else None,
        verdict if known else "Could not be measured",
    )


def _diversity(f: Fidelity) -> Row:
    ratio, real = f.diversity.ratio, f.diversity.real
    good, words = True, "As varied as real images"
    if ratio.high < 1:
        good, words = False, "Less varied than real images"
    elif ratio.low > 1:
        words = "More varied than real images"
    return Row(
        "Diversity, share of the real set's",
        _number(ratio.estimate),
        _between(ratio.low, ratio.high),
        f"1; MS-SSIM of real pairs {_span(real.estimate, real.low, real.high)}",
        f"MS-SSIM of pairs {_number(f.diversity.synthetic.estimate)}",
        None if math.isnan(ratio.estimate) else good,
        "Could not be measured" if math.isnan(ratio.estimate) else words,
    )


def _compared(name: str, synthetic: Interval, real: Interval) -> Row:
    """A share or Dice whose floor is that of the held-out images."""
    known = not (math.isnan(synthetic.estimate) or math.isnan(real.estimate))
    worse = synthetic.high < real.low
    words = "Less than of real images" if worse else "As real images"
    return Row(
        name,
        _number(synthetic.estimate),
        _between(synthetic.low, synthetic.high),
        _span(real.estimate, real.low, real.high),
        "",
        (not worse) if known else None,
        words if known else "Could not be measured",
    )


def _number(x: float) -> str:
    return "–" if math.isnan(x) else f"{x:.3g}"


def _between(low: float, high: float) -> str:
    return "–" if math.isnan(low) or math.isnan(high) else f"{low:.3g} to {high:.3g}"


def _span(middle: float, low: float, high: float, times: float = 1.0) -> str:
    return f"{_number(middle * times)} ({_between(low * times, high * times)})"
