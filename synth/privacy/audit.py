"""Whether a generator gives its training images away: every test at once, and a verdict in plain words."""

import math
from dataclasses import dataclass, replace

import torch

from .control import Control, control
from .correlation import Copies, Search, copies
from .membership import Loss, Membership, membership_by_distance, membership_by_loss
from .neighbours import Neighbours, neighbours
from .sample import Images, Match, Sample
from .tail import Tail

_LIMIT = 0.1  # an audit that would let this share of copies pass as chance says nothing
_SAME = 0.9999  # correlation of an image with itself, saved and loaded again


@dataclass(frozen=True)
class Pair:
    """A synthetic image and the training image most like it, by their numbers, and how alike."""

    synthetic: int
    train: int
    value: float


@dataclass(frozen=True)
class Privacy:
    """What an audit found.

    Parameters
    ----------
    n_synthetic, n_train, n_held_out
        How many images were compared.
    n_shared
        Held-out images that are in the training set too, which blinds the null.
    distances
        Nearest neighbours in the embedding.
    correlations, crops
        Greatest correlations of whole images, and of tumours where they were cut out.
    by_distance, by_loss
        Membership inference from the synthetic set, and from the generator's loss where it was given.
    control
        The positive control where it was given.
    nearest, strongest, strongest_crops
        Pairs to look at, the most alike first: by distance, by correlation, by that of tumours.
    alarm
        Probability under which one test was flagged: that of the whole audit over its tests.
    verdict
        The finding in plain words.
    """

    n_synthetic: int
    n_train: int
    n_held_out: int
    n_shared: int
    distances: Neighbours
    correlations: Copies
    crops: Copies | None
    by_distance: Membership
    by_loss: Membership | None
    control: Control | None
    nearest: tuple[Pair, ...]
    strongest: tuple[Pair, ...]
    strongest_crops: tuple[Pair, ...]
    alarm: float
    verdict: str

    @property
    def memorised_share(self) -> float:
        """Share of synthetic images nearer to the training set than the null's 1st percentile."""
        return self.distances.evidence.absolute.share

    @property
    def positive_control_caught(self) -> bool | None:
        """Whether the positive control was flagged; ``None`` without one."""
        return None if self.control is None else self.control.caught

    @property
    def flagged(self) -> tuple[str, ...]:
        """Names of the tests that chance does not explain."""
        tests = {
            "distance": self.distances.evidence.flagged,
            "correlation": self.correlations.evidence.flagged,
            "correlation of tumours": self.crops is not None and self.crops.evidence.flagged,
            "membership by distance": self.by_distance.flagged,
            "membership by loss": self.by_loss is not None and self.by_loss.flagged,
        }
        return tuple(name for name, found in tests.items() if found)


def audit(
    synthetic: Sample,
    train: Sample,
    held_out: Sample,
    *,
    known_copies: Sample | None = None,
    loss: Loss | None = None,
    search: Search | None = None,
    alarm: float = 0.01,
    n_pairs: int = 12,
) -> Privacy:
    """Everything this package measures about one synthetic set.

    Parameters
    ----------
    synthetic
        What the generator drew, without groups; or, for the floor, real images of yet other patients.
    train
        Everything that it was trained on.
    held_out
        Images of other patients by the same scanners: what likeness chance alone brings. With fewer
        than 100 the 1st percentile is their least.
    known_copies
        The positive control: draws of an overfitted model (:func:`synth.privacy.sample.sample`) or
        near copies (:func:`synth.privacy.control.constructed`).
    loss
        The generator's own loss, images ``(b, c, *space)`` to ``(b,)``, for membership inference.
    search
        How images are laid over one another.
    alarm
        Probability that the audit of a private generator raises a false alarm; shared out over its
        tests after Bonferroni.
    n_pairs
        How many pairs of each kind to keep for pictures.

    Raises
    ------
    ValueError
        If a patient is both trained on and held out.
    """
    _check_patients(train, held_out)
    cut = _all_crops(synthetic, train, held_out)
    # Each is two tests: absolute and relative distance; area and true positives.
    each = alarm / (2 * (3 + int(cut is not None) + int(loss is not None)))
    own, drawn = held_out.groups, synthetic.groups
    features = (synthetic.features, train.features, held_out.features)
    images = (synthetic.images, train.images, held_out.images)
    far = neighbours(*features, each, groups=drawn, held_out_groups=own)
    whole = copies(*images, search, each, groups=drawn, held_out_groups=own)
    part = None if cut is None else copies(*cut, search, each, groups=drawn, held_out_groups=own)
    known = None
    if known_copies is not None:
        known = control(known_copies, train, far, whole, part, search, each, own)
    by_distance = membership_by_distance(*features, each, groups=train.groups, held_out_groups=own)
    by_loss = None
    if loss is not None:
        by_loss = membership_by_loss(loss, *images[1:], each, groups=train.groups, held_out_groups=own)
    found = Privacy(
        n_synthetic=len(synthetic),
        n_train=len(train),
        n_held_out=len(held_out),
        n_shared=int((whole.null.value > _SAME).sum()),
        distances=far,
        correlations=whole,
        crops=part,
        by_distance=by_distance,
        by_loss=by_loss,
        control=known,
        nearest=_pairs(far.train, n_pairs, greatest=False),
        strongest=_pairs(whole.train, n_pairs, greatest=True),
        strongest_crops=() if part is None else _pairs(part.train, n_pairs, greatest=True),
        alarm=each,
        verdict="",
    )
    return replace(found, verdict=_verdict(found))


def figures(found: Privacy) -> dict[str, float | int | bool | str | None]:
    """The audit's numbers by name, as JSON takes them."""
    table: dict[str, float | int | bool | str | None] = {
        "n_synthetic": found.n_synthetic,
        "n_train": found.n_train,
        "n_held_out": found.n_held_out,
        "n_shared": found.n_shared,
        "memorised_share": found.memorised_share,
        "positive_control_caught": found.positive_control_caught,
        "distance_ratio": found.distances.ratio,
        "distance_ratio_null": found.distances.null_ratio,
        "greatest_correlation": float(found.correlations.train.value.max()),
        "greatest_correlation_null": float(found.correlations.null.value.max()),
        "verdict": found.verdict,
    }
    shares = {
        "distance": found.distances.evidence,
        "correlation": found.correlations.evidence,
        "crop": found.crops and found.crops.evidence,
        "control_distance": found.control and found.control.distance,
        "control_correlation": found.control and found.control.correlation,
        "control_crop": found.control and found.control.crop,
    }
    for name, shown in shares.items():
        if shown:
            table |= _tail_figures(f"{name}_share", shown.absolute)
            table |= _tail_figures(f"{name}_relative_share", shown.relative)
    for name, attack in {"distance": found.by_distance, "loss": found.by_loss}.items():
        if attack:
            area = {"": attack.auc, "_low": attack.low, "_high": attack.high, "_chance": attack.chance}
            table |= {f"membership_{name}_auc{suffix}": value for suffix, value in area.items()}
            table |= _tail_figures(f"membership_{name}_tpr", attack.tpr)
    return table


def _check_patients(train: Sample, held_out: Sample) -> None:
    if train.groups is None or held_out.groups is None:
        return
    n_both = int(torch.isin(torch.unique(held_out.groups.cpu()), train.groups.cpu()).sum())
    if n_both:
        raise ValueError(
            f"expected patients either trained on or held out, got {n_both} who are both; split by patient"
        )


def _all_crops(a: Sample, b: Sample, c: Sample) -> tuple[Images, Images, Images] | None:
    if a.crops is None or b.crops is None or c.crops is None:
        return None
    return a.crops, b.crops, c.crops


def _tail_figures(name: str, tail: Tail) -> dict[str, float | None]:
    return {
        name: tail.share,
        f"{name}_low": tail.low,
        f"{name}_high": tail.high,
        f"{name}_expected": tail.expected,
        f"{name}_chance": tail.chance,
        f"{name}_detectable": tail.detectable,
        f"{name}_null_effective": tail.m_effective,
    }


def _pairs(match: Match, n: int, *, greatest: bool) -> tuple[Pair, ...]:
    value, row = match.value.topk(min(n, len(match.value)), largest=greatest)
    index = match.index[row]
    each = zip(row.tolist(), index.tolist(), value.tolist(), strict=True)
    return tuple(Pair(synthetic, train, value) for synthetic, train, value in each)


def _verdict(found: Privacy) -> str:
    share = found.distances.evidence.absolute
    measured = (
        f"{share.share:.1%} (95 % interval {share.low:.1%} to {share.high:.1%}) of {found.n_synthetic} "
        f"synthetic images lie nearer to one of {found.n_train} training images than all but the "
        f"nearest 1 % of {found.n_held_out} held-out images do"
    )
    looked = (found.distances.evidence, found.correlations.evidence)
    limit = max(math.inf if seen.detectable is None else seen.detectable for seen in looked)
    if found.flagged:
        said = f"Training images leak, by {', '.join(found.flagged)}: {measured}"
    elif found.control is not None and not found.control.caught:
        said = f"Undecided: the audit misses known copies; {measured}"
    elif limit > _LIMIT:
        least = f"a share under {limit:.0%}" if limit <= 1 else "any share"
        said = f"Undecided: chance explains {least} with so few patients, hold out more; {measured}"
    else:
        said = f"No memorisation found: {measured}; {limit:.1%} would have been flagged"
    return f"{said}. {_cautions(found)}"


def _cautions(found: Privacy) -> str:
    if found.control is None:
        said = "No positive control was given, so nothing shows that copies would be seen."
    elif found.control.caught:
        shares = [found.control.distance, found.control.correlation, found.control.crop]
        seen = max(max(s.absolute.share, s.relative.share) for s in shares if s is not None)
        said = f"The positive control is caught: {seen:.0%} of its images are recognised."
    else:
        said = "The positive control is missed."
    if found.n_shared:
        said += (
            f" {found.n_shared} held-out images are training images too: take them out, they blind the null."
        )
    return said
