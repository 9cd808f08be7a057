"""``spindose synth evaluate``: how good and how private a synthetic set is, in one file and one page."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imaging.atomic import new_folder, whole_file
from imaging.dicom.header import software_version
from synth.fidelity.bootstrap import bootstrap
from synth.fidelity.frechet import Axes, principal_axes
from synth.fidelity.measures import FidelityConfig
from synth.fidelity.report import Fidelity, Labelled, fidelity
from synth.privacy.audit import Privacy, audit
from synth.privacy.control import constructed
from synth.privacy.sample import Sample, sample

from .console import Progress
from .evaluate_page import write_page
from .evaluated import Evaluation, Recognised, as_json
from .evaluated_sets import ImageSet, Sets, Where, read_sets
from .extractors import Extractor, slice_extractor, volume_extractor

JSON, PAGE = "evaluation.json", "evaluation.html"
_PER_AXIS = 4  # images for each axis of the Frechet distance, where there are few


@dataclass(frozen=True)
class Asked:
    """What is to be evaluated, and how.

    Parameters
    ----------
    where
        Folders, and what was held out.
    extractor
        Folder or file of the weights that make the features; the shipped ones otherwise.
    config
        How much is drawn.
    n_copies
        Disguised copies of training images for the positive control.
    n_pairs
        Nearest pairs that are kept of each kind.
    segment
        Takes images ``(b, c, *space)`` and gives classes ``(b, *space)``, trained on real images alone, for
        obedience to the condition; None leaves it out.
    """

    where: Where
    extractor: Path | None = None
    config: FidelityConfig = field(default_factory=FidelityConfig)
    n_copies: int = 100
    n_pairs: int = 12
    segment: Callable[[Tensor], Tensor] | None = None


def evaluate(asked: Asked, out: Path, progress: Progress) -> Mapping[str, Any]:
    """Evaluates a synthetic set into ``out``: ``evaluation.json`` and ``evaluation.html``, both or neither.

    Parameters
    ----------
    asked
        What and how.
    out
        A new or empty folder.
    progress
        Called with what happens and the share that is done.

    Returns
    -------
    Mapping
        What the JSON file holds, and where both files lie.

    Raises
    ------
    ValueError
        If folders, extractor or sets can't be used, or ``out`` holds something.
    """
    with new_folder(out) as part:
        found = judged(asked, progress)
        whole = as_json(found)
        progress("Page", 0.0)
        with whole_file(part / JSON) as file:
            file.write_text(json.dumps(whole, indent=1, allow_nan=False), encoding="utf-8")
        write_page(part / PAGE, found)
        progress("Page", 1.0)
    return {"page": str(out / PAGE), "json": str(out / JSON), **whole}


def lines(facts: Mapping[str, Any]) -> list[str]:
    """A few lines for a person."""
    return [
        f"Fidelity: {facts['verdicts']['fidelity']}",
        f"Privacy:  {facts['verdicts']['privacy']}",
        *(f"Caution:  {caution}" for caution in facts["cautions"]),
        f"Page:     {facts['page']}",
        f"Figures:  {facts['json']}",
    ]


def judged(asked: Asked, progress: Progress) -> Evaluation:
    """Everything that is measured of a synthetic set, before anything is written."""
    progress("Reading images", 0.0)
    extractor = None if asked.extractor is None else _extractor(asked)
    sets = read_sets(asked.where, progress)
    extractor = extractor or _shipped(sets)
    progress("Reading images", 1.0)
    generator = torch.Generator().manual_seed(asked.where.seed)
    parts = []
    for n, each in enumerate((sets.synthetic, sets.train, sets.held_out)):
        progress("Features", n / 3)
        parts.append(sample(each.images, extractor.embed, each.boxes, each.groups))
    progress("Features", 1.0)
    synthetic, train, held_out = parts
    config = replace(asked.config, k=min(asked.config.k, min(len(synthetic), _half(sets.held_out)) - 1))
    progress("Fidelity", 0.0)
    faithful = _fidelity(asked, sets, (synthetic, train, held_out), config, generator)
    recognised = _recognised(sets, (synthetic, train, held_out), config, generator)
    progress("Fidelity", 1.0)
    progress("Privacy", 0.0)
    private = _privacy(asked, (synthetic, train, held_out), extractor, generator)
    progress("Privacy", 1.0)
    found = Evaluation(
        sets, extractor, faithful, private, recognised, config, asked.where.seed, software_version(), ()
    )
    return replace(found, notes=_notes(found, asked))


def _extractor(asked: Asked) -> Extractor:
    """A given one, before images are read: a wrong path is told at once."""
    given = asked.extractor
    slices = any(asked.where.real.glob("*/*.txt"))
    return slice_extractor(given) if slices else volume_extractor(asked.where.lattice.spacing, given)


def _shipped(sets: Sets) -> Extractor:
    return slice_extractor() if sets.kind == "slices" else volume_extractor(sets.spacing[0])


def _fidelity(
    asked: Asked,
    sets: Sets,
    samples: tuple[Sample, Sample, Sample],
    config: FidelityConfig,
    generator: torch.Generator,
) -> Fidelity:
    """Against the held-out images: a generator that repeats its training images gains nothing by it."""
    synthetic, train, held_out = samples
    labels = Labelled(
        sets.held_out.labels,
        sets.synthetic.labels,
        len(sets.labels),
        sets.spacing,
        sets.region if _regions(sets) else (),
        asked.segment,
    )
    return fidelity(
        held_out.images,
        synthetic.images,
        held_out.features,
        synthetic.features,
        generator,
        -1.0,
        1.0,
        config,
        _axes(train.features, min(_half(sets.held_out), len(synthetic))),
        labels,
        (held_out.groups, None),
    )


def _regions(sets: Sets) -> bool:
    """Whether enough images of both sets have a region, even in half of them, for the radiomics."""
    counts = []
    for each in (sets.held_out, sets.synthetic):
        inside = torch.isin(each.labels, torch.tensor(sets.region)).flatten(1).sum(dim=1)
        counts.append(int((inside >= 8).sum()))
    return min(counts) >= 8


def _half(each: ImageSet) -> int:
    """Images in the lesser half of a set whose groups are never divided."""
    if each.groups is None:
        return len(each) // 2
    largest = int(torch.unique(each.groups, return_counts=True)[1].max())
    return max(len(each) // 2 - largest, 2)


def _axes(train: Tensor, n: int) -> Axes | None:
    """Axes of the training features, which are not compared here, where there are too few images."""
    d = train.shape[1]
    if n > 2 * d:
        return None
    return principal_axes(train, max(1, min(n // _PER_AXIS, d, len(train) - 1)))


def _recognised(
    sets: Sets,
    samples: tuple[Sample, Sample, Sample],
    config: FidelityConfig,
    generator: torch.Generator,
) -> Recognised | None:
    """Obedience of images that were asked to show a class."""
    synthetic, train, held_out = samples
    wanted = (sets.synthetic.classes, sets.train.classes, sets.held_out.classes)
    if any(classes is None for classes in wanted):
        return None
    shares = []
    for each, classes in ((synthetic, wanted[0]), (held_out, wanted[2])):
        told = classes_of_neighbours(each.features, train.features, _there(wanted[1]))
        hits = (told == _there(classes)).double()
        shares.append(
            bootstrap(
                lambda drawn: float(drawn.mean()),
                [hits],
                generator,
                config.n_resamples,
                config.level,
                groups=[each.groups],
            )
        )
    return Recognised(*shares)


def classes_of_neighbours(features: Tensor, references: Tensor, classes: Tensor, k: int = 5) -> Tensor:
    """Class that most of the k nearest references are of, shape ``(n,)``.

    Parameters
    ----------
    features
        Shape ``(n, d)``.
    references, classes
        Shapes ``(m, d)`` and ``(m,)``.
    k
        How many; the lesser class where two are as many.
    """
    near = torch.cdist(features, references).topk(min(k, len(references)), largest=False).indices
    return classes[near].mode(dim=1).values


def _there(part: Tensor | None) -> Tensor:
    if part is None:
        raise ValueError("expected the class of every image, got none; put images into folders of classes")
    return part


def _privacy(
    asked: Asked,
    samples: tuple[Sample, Sample, Sample],
    extractor: Extractor,
    generator: torch.Generator,
) -> Privacy:
    synthetic, train, held_out = samples
    known = constructed(train, extractor.embed, asked.n_copies, generator)
    return audit(synthetic, train, held_out, known_copies=known, n_pairs=asked.n_pairs)


def _notes(found: Evaluation, asked: Asked) -> tuple[str, ...]:
    notes = []
    if asked.where.held_out is None:
        notes.append(
            f"Held-out images are {asked.where.share:.0%} of the real folder by seed {asked.where.seed}: "
            "figures hold for a generator that was trained with that share and seed."
        )
    if found.fidelity.n_axes < found.fidelity.n_dimensions:
        notes.append(
            f"There are too few images for {found.fidelity.n_dimensions} dimensions: the Frechet distance is "
            f"taken on {found.fidelity.n_axes} principal axes of the training images' features."
        )
    if found.sets.kind == "volumes" and found.sets.synthetic.boxes is None:
        notes.append("Tumours are not compared by themselves: some case has none.")
    if found.privacy.n_shared:
        notes.append(f"{found.privacy.n_shared} held-out images are training images too.")
    return tuple(notes)
