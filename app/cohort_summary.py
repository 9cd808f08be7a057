"""A cohort against its recipe: what was drawn and what came of it, with the odds of such a draw."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy import stats

from synth.recipe import Recipe
from synth.statistics import VOLUMES, Kind, Sizes

_UNLIKELY = 0.001
_MEASURED = (
    ("anatomy", "brain_cc"),
    ("anatomy", "csf_cc"),
    ("anatomy", "ventricles_cc"),
    ("anatomy", "bone_cc"),
    ("tumour", "midline_shift_mm"),
)


@dataclass
class Tally:
    """What a summary needs of every case, a few numbers each, so that a cohort may be of any size.

    Parameters
    ----------
    recipe
        What cases are drawn from.
    """

    recipe: Recipe
    n: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    counts: Counter[int] = field(default_factory=Counter)
    sexes: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)
    sequences: Counter[str] = field(default_factory=Counter)
    operated: int = 0
    again: int = 0
    ages: list[float] = field(default_factory=list)
    volumes: dict[str, list[float]] = field(default_factory=dict)
    achieved: dict[str, list[float]] = field(default_factory=dict)
    measured: dict[str, list[float]] = field(default_factory=dict)

    def add(self, traits: Mapping[str, Any]) -> None:
        """Count one case in, by its traits."""
        self.n += 1
        anatomy, tumour, mri = traits["anatomy"], traits["tumour"], traits["mri"]
        kind = tumour["kind"]
        self.kinds[kind] += 1
        self.again += traits["tries"] > 1
        self.operated += bool(traits["surgery"])
        if kind == Kind.METASTASES:
            self.counts[min(tumour["count"], len(self.recipe.tumour.counts))] += 1
        if "sex" in anatomy:
            self.sexes[anatomy["sex"]] += 1
        if "age_years" in anatomy:
            self.ages.append(anatomy["age_years"])
        self.fields[f"{mri['field']:g} T"] += 1
        if self.recipe.mri.mode == "physics":
            self.sequences.update(mri[name]["sequence"] for name in ("t1", "t1c") if name in mri)
        for lesion in tumour["lesions"]:
            self.achieved.setdefault(kind, []).append(lesion["core_cc"] / lesion["asked_cc"])
            self.volumes.setdefault(kind, []).append(lesion["drawn_cc"])
        for stage, name in _MEASURED:
            if name in traits[stage] and not (stage == "tumour" and kind == Kind.NONE):
                self.measured.setdefault(name, []).append(float(traits[stage][name]))


def summary(tally: Tally) -> dict[str, Any]:
    """Every draw of a cohort beside what its recipe asks for, as JSON values.

    Returns
    -------
    dict
        ``n``; ``checks``: what, expected, observed, the test and its p (chance of a draw at least as
        far off, chi-square after Pearson, Kolmogorov and Smirnov for what is continuous; chi-square is
        rough where fewer than five are expected); ``achieved_over_asked`` volumes; ``measured``
        figures; ``made_again``: cases whose first head had no room for the tumour.
    """
    recipe = tally.recipe
    checks = [
        _shares("kind", dict(recipe.tumour.shares), tally.kinds),
        *_volumes(tally),
        _shares("sex", {"F": recipe.anatomy.female, "M": 1 - recipe.anatomy.female}, tally.sexes),
        _age(tally),
        _counts(tally),
        _operated(tally),
        _shares("field strength", _even([f"{t:g} T" for t in recipe.mri.fields]), tally.fields),
        _sequences(tally),
    ]
    return {
        "n": tally.n,
        "checks": [check for check in checks if check is not None],
        "achieved_over_asked": {
            kind: {"mean": _short(np.mean(ratios)), "worst": _short(max(ratios, key=lambda r: abs(r - 1)))}
            for kind, ratios in sorted(tally.achieved.items())
        },
        "measured": {name: _spread(np.array(values)) for name, values in tally.measured.items()},
        "made_again": tally.again,
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """A summary as a table for a person."""
    out = [f"{'':<30}{'expected':>26}{'drawn':>26}{'p':>8}"]
    for check in found["checks"]:
        for n, (name, asked) in enumerate(check["expected"].items()):
            label = check["what"] if n == 0 else ""
            p = f"{check['p']:.3f}" if n == 0 and check["p"] is not None else ""
            seen = check["observed"].get(name, 0)
            out.append(f"{label:<30}{f'{name} {asked:g}':>26}{f'{seen:g}':>26}{p:>8}")
    for name, one in found["measured"].items():
        spread = f"{one['mean']:g} ± {one['sd']:g}"
        out.append(f"{name:<30}{'':>26}{spread:>26}")
    for kind, one in found["achieved_over_asked"].items():
        ratio = f"{one['mean']:g}, worst {one['worst']:g}"
        out.append(f"{'achieved / asked volume':<30}{kind:>26}{ratio:>26}")
    odd = [c["what"] for c in found["checks"] if c["p"] is not None and c["p"] < _UNLIKELY]
    if odd:
        out.append(f"Unlikely (p < {_UNLIKELY:g}) under the recipe: {', '.join(odd)}")
    if found["made_again"]:
        out.append(f"Made again in another head, for want of room: {found['made_again']} of {found['n']}")
    return out


def _shares(what: str, shares: Mapping[str, float], seen: Counter[str]) -> dict[str, Any] | None:
    """Counts against shares by Pearson's chi-square; nothing where nothing was counted."""
    total = sum(seen.values())
    if not total:
        return None
    names = [name for name, share in shares.items() if share > 0]
    observed = np.array([seen.get(name, 0) for name in names], dtype=float)
    expected = np.array([shares[name] for name in names]) * total
    p: float | None = None
    if observed.sum() < total:
        p = 0.0  # something came that the recipe rules out
    elif len(names) > 1:
        p = float(stats.chisquare(observed, expected * (total / expected.sum())).pvalue)
    return {
        "what": what,
        "test": "chi-square",
        "expected": {name: _short(e) for name, e in zip(names, expected, strict=True)},
        "observed": dict(sorted(seen.items())),
        "p": p,
    }


def _continuous(what: str, values: Sequence[float], law: Any, n: int | None = None) -> dict[str, Any]:
    """Values against a distribution by Kolmogorov and Smirnov."""
    levels = {"quartile": 0.25, "median": 0.5, "upper quartile": 0.75}
    data = np.array(values)
    return {
        "what": what,
        "test": "Kolmogorov-Smirnov",
        "n": n or len(data),
        "expected": {name: _short(law.ppf(level)) for name, level in levels.items()},
        "observed": {name: _short(np.quantile(data, level)) for name, level in levels.items()},
        "p": float(stats.kstest(data, law.cdf).pvalue),
    }


@dataclass(frozen=True)
class CutLogNormal:
    """The law that volumes follow: log-normal, cut at both ends (`synth.statistics.Sizes`)."""

    sizes: Sizes

    def cdf(self, x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Share of draws below each value."""
        low, high = self._normal(self.sizes.low), self._normal(self.sizes.high)
        inside = np.clip(x, self.sizes.low, self.sizes.high)
        normal = stats.norm.cdf((np.log(inside) - np.log(self.sizes.median)) / self.sizes.spread)
        return np.asarray((normal - low) / (high - low))

    def ppf(self, share: float) -> float:
        """Value below which a share of draws lies."""
        low, high = self._normal(self.sizes.low), self._normal(self.sizes.high)
        z = stats.norm.ppf(low + share * (high - low))
        return float(self.sizes.median * np.exp(self.sizes.spread * z))

    def _normal(self, value: float) -> float:
        return float(stats.norm.cdf(np.log(value / self.sizes.median) / self.sizes.spread))


def _volumes(tally: Tally) -> list[dict[str, Any]]:
    """Volumes of tumours as they were drawn, before any operation."""
    tumour = tally.recipe.tumour
    if tumour.volume_cc is not None:
        return []
    out = []
    for kind, values in sorted(tally.volumes.items()):
        sizes = tumour.volumes.get(kind, VOLUMES[Kind(kind)])
        if sizes.spread > 0:
            out.append(_continuous(f"{kind} volume (cc)", values, CutLogNormal(sizes)))
    return out


def _age(tally: Tally) -> dict[str, Any] | None:
    young, old = tally.recipe.anatomy.age_years
    if not tally.ages or young == old:
        return None
    return _continuous("age (years)", tally.ages, stats.uniform(young, old - young))


def _counts(tally: Tally) -> dict[str, Any] | None:
    shares = tally.recipe.tumour.counts
    names = [str(n) for n in range(1, len(shares))] + [f"{len(shares)} or more"]
    seen = Counter({names[n - 1]: times for n, times in tally.counts.items()})
    return _shares("metastases", dict(zip(names, shares, strict=True)), seen)


def _operated(tally: Tally) -> dict[str, Any] | None:
    ill = tally.n - tally.kinds[Kind.NONE.value]
    share = tally.recipe.tumour.post_operative
    seen = Counter({"operated": tally.operated, "not": ill - tally.operated})
    return _shares("surgery", {"operated": share, "not": 1 - share}, +seen)


def _sequences(tally: Tally) -> dict[str, Any] | None:
    return _shares("T1 sequence", _even(tally.recipe.mri.t1_sequences), tally.sequences)


def _even(names: Sequence[str]) -> dict[str, float]:
    """Equal shares; a name that stands twice counts twice."""
    return {name: count / len(names) for name, count in Counter(names).items()}


def _spread(values: Float64[np.ndarray, " n"]) -> dict[str, float]:
    sd = values.std(ddof=1) if len(values) > 1 else 0.0
    return {
        "mean": _short(values.mean()),
        "sd": _short(sd),
        "least": _short(values.min()),
        "most": _short(values.max()),
    }


def _short(value: Any) -> float:
    """Four figures, as a plain number."""
    return float(f"{float(value):.4g}")
