"""``spindose synth cohort --generator``: cases drawn by a learned generator, killed and gone on.

A generator of volumes is told the tissues of a head with a tumour: the very head that the physical cohort
of the same recipe and seed images, or one that a second generator draws.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imaging.brats_folder import CONTRASTS
from imaging.case import Case
from imaging.grid import Grid
from imaging.resample import resample
from imaging.source import Source
from imaging.tissue import BRAIN
from imaging.uids import seeded_uid
from imaging.volume import Quantity, Volume
from synth.case import Made, name_of, stage_generator, subject_of
from synth.conditions import (
    N_BITS,
    TUMOUR,
    ConditionClass,
    classes_of,
    from_drawn_bits,
    planes,
    tissues_of,
)
from synth.recipe import Recipe, fingerprint
from synth.subject import Subject

from .cohort_job import Job, identity
from .cohort_manifest import RECIPE, write_recipe
from .cohort_sheet import PAGES, ROWS, write_sheets
from .cohort_slices import walk_slices
from .cohort_writers import PREVIEW, write_made
from .console import Progress
from .drawer import Drawer, draw, drawn_by, expect_contrasts, lattice_of, read_drawer, signal_of
from .drawn_folder import MANIFEST, Entries, begun, enter, journal, kept, publish
from .steps import whole_folder
from .volume_examples import Lattice, box_about, coarse

_MOST = 100_000  # case names have five digits
_LAYOUT = "drawn volumes 1"


@dataclass(frozen=True, eq=False)
class AskedDrawn:
    """A cohort as it was asked for from a generator.

    Parameters
    ----------
    generator
        Folder of its pipeline.
    n
        How many cases.
    out
        Where they go.
    seed
        Which cohort.
    labels
        Folder of a pipeline that draws label maps; None for heads of the physical cohort.
    recipe, heads
        Of those heads; the default recipe, and heads made by code, where there are none.
    sampler, n_steps, guidance, device
        As `app.drawer.read_drawer` takes them.

    Raises
    ------
    ValueError
        If a number is out of range, or heads are both drawn and given.
    """

    generator: Path
    n: int
    out: Path
    seed: int = 0
    labels: Path | None = None
    recipe: Recipe | None = None
    heads: tuple[Subject, ...] = ()
    sampler: str | None = None
    n_steps: int = 0
    guidance: float = 1.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 1 <= self.n <= _MOST:
            raise ValueError(f"expected --n of 1 to {_MOST} cases, got {self.n}")
        if self.seed < 0:
            raise ValueError(f"expected --seed of 0 or more, got {self.seed}")
        if self.labels is not None and (self.recipe is not None or self.heads):
            raise ValueError(
                "expected heads by --labels, or by --recipe and --anatomy, got both; leave one out"
            )


@dataclass(frozen=True, eq=False)
class _Drawing:
    """All that one case of volumes follows from, but its number."""

    drawer: Drawer
    labeller: Drawer | None
    lattice: Lattice
    job: Job


def walk_generated(asked: AskedDrawn, progress: Progress) -> dict[str, Any]:
    """A drawn cohort in its folder; whatever an earlier run finished there is kept.

    Case k follows from the weights, the recipe, the seed and k alone, to the bit on one kind of device with
    one number of threads. A generator of slices fills ``CLASS/NUMBER.png``, one of volumes
    ``SPD-00000-000`` and so on in BraTS layout.

    Parameters
    ----------
    asked
        What to draw.
    progress
        Called with what happens now and the share of it that is done.

    Returns
    -------
    dict
        JSON values: where things lie, how many cases were made and kept, and the generator.

    Raises
    ------
    ValueError
        If a folder holds no generator that fits, or the cohort's folder holds something else.
    """
    progress("Reading the generator", 0.0)
    drawer = read_drawer(asked.generator, asked.sampler, asked.n_steps, asked.guidance, asked.device)
    progress("Reading the generator", 1.0)
    if drawer.settings.space == 2:
        if asked.labels is not None or asked.recipe is not None or asked.heads:
            raise ValueError(
                "expected a generator of volumes with --labels, --recipe or --anatomy, got one of slices, "
                "which draws from boxes; leave them out"
            )
        return walk_slices(drawer, asked.n, asked.seed, asked.out, progress)
    drawing = _drawing(asked, drawer)
    out, n = asked.out, asked.n
    about = _about(drawing)
    with begun(out, {**identity(drawing.job), "layout": _LAYOUT, **about}):
        entries = kept(out, n, progress)
        n_kept = len(entries)
        _swept(out, entries)
        with journal(out) as file:
            for k in range(n):
                if k not in entries:
                    made = _case(drawing, k)
                    folder = out / made.name
                    with whole_folder(folder) as empty:
                        write_made(made, empty, "brats", drawing.job.recipe.labels.table)
                    entries[k] = enter(file, out, k, sorted(folder.iterdir()), made.traits)
                progress(f"{n} cases", len(entries) / n)
        sheets = _published(drawing, entries, out)
    return {
        "cohort": str(out),
        "cases": n,
        "made": n - n_kept,
        "kept": n_kept,
        "seed": asked.seed,
        **about,
        "manifest": str(out / MANIFEST),
        "contact_sheets": [str(sheet) for sheet in sheets],
    }


def drawn_lines(facts: Mapping[str, Any]) -> list[str]:
    """What a person reads at the end."""
    return [
        f"Cases:    {facts['cohort']} ({facts['made']} made, {facts['kept']} kept)",
        drawn_by(facts),
        f"Manifest: {facts['manifest']}",
        f"Sheet:    {facts['contact_sheets'][0]}",
    ]


def _drawing(asked: AskedDrawn, drawer: Drawer) -> _Drawing:
    """The generators, if they fit what volumes are drawn from."""
    lattice = lattice_of(expect_contrasts(drawer))
    labeller = None
    if asked.labels is not None:
        labeller = read_drawer(asked.labels, device=asked.device)
        drawn = labeller.settings
        if (drawn.space, drawn.classes, drawn.contrasts) != (3, 0, N_BITS):
            raise ValueError(
                f"expected --labels to name a generator of volumes of {N_BITS} bits from no classes, got "
                f"{drawn.space} axes, {drawn.contrasts} contrasts and {drawn.classes} classes"
            )
        if lattice_of(labeller) != lattice:
            raise ValueError("expected label maps on the lattice of the images, got others; train them alike")
    return _Drawing(
        drawer, labeller, lattice, Job(asked.recipe or Recipe(), asked.seed, "brats", asked.heads)
    )


def _about(drawing: _Drawing) -> dict[str, Any]:
    labeller = drawing.labeller
    return {
        "generator": drawing.drawer.fixed(),
        "generator of labels": None if labeller is None else labeller.fixed(),
    }


def _case(drawing: _Drawing, k: int) -> Made:
    drawer, seed = drawing.drawer, drawing.job.seed
    recipe_hash = fingerprint(drawing.job.recipe)
    classes, grid, traits = _head(drawing, recipe_hash, k)
    noise = stage_generator(drawer.weights, seed, k, "image")
    image = draw(drawer, planes(classes[None])[0], noise)
    signal = signal_of(image).round()
    frame = seeded_uid("drawn cohort", drawer.weights, recipe_hash, seed, k, "frame")
    volumes = {name: Volume(signal[c : c + 1], grid, Quantity.MR, frame) for c, name in enumerate(CONTRASTS)}
    volumes["labels"] = Volume(tissues_of(classes)[None], grid, Quantity.LABEL, frame)
    cc = grid.voxel_volume / 1000
    about = {
        "id": name_of(k),
        "number": k,
        "seed": seed,
        "generator": drawer.told(),
        "condition": {
            "kind": traits.get("tumour", {}).get("kind", "drawn"),
            "volumes_cc": {part.name: round(int((classes == part).sum()) * cc, 3) for part in TUMOUR},
        },
        **traits,
    }
    return Made(name_of(k), Case(volumes, source=Source(frame=frame, modality="MR")), about)


def _head(drawing: _Drawing, recipe_hash: str, k: int) -> tuple[Tensor, Grid, dict[str, Any]]:
    """Classes on the generator's lattice, where it lies, and how they came to be."""
    lattice, labeller, job = drawing.lattice, drawing.labeller, drawing.job
    if labeller is None:
        subject, tries = subject_of(job.recipe, recipe_hash, job.seed, k, job.heads)
        classes, grid = on_lattice(subject.labels, lattice)
        return classes, grid, {"recipe": recipe_hash, "tries": tries, **subject.traits}
    noise = stage_generator(labeller.weights, job.seed, k, "labels")
    bits = draw(labeller, torch.zeros(0, *lattice.shape), noise)
    grid = lattice.about(np.zeros(3))
    return from_drawn_bits(bits[None])[0], grid, {"generator_of_labels": labeller.told()}


def on_lattice(labels: Volume, lattice: Lattice) -> tuple[Tensor, Grid]:
    """Classes of a head's tissues as generators learn them, and where they lie.

    Parameters
    ----------
    labels
        Tissues, shape ``(1, i, j, k)``.
    lattice
        The voxels; the box lies about the middle of the brain.
    """
    brain = torch.tensor([int(t) for t in BRAIN], dtype=torch.uint8)
    fine = box_about(torch.isin(labels.data[0], brain), labels.grid, lattice)
    classes = coarse(classes_of(resample(labels, fine).data[0]))
    return classes, lattice.about(fine.center)


def _swept(out: Path, entries: Entries) -> None:
    """Takes away what a killed run left half done."""
    whole = {name_of(k) for k in entries}
    for path in (*out.glob(".SPD-*.part"), *out.glob(".SPD-*.old"), *out.glob("SPD-*-000")):
        if path.name not in whole:
            shutil.rmtree(path, ignore_errors=True)


def _published(drawing: _Drawing, entries: Entries, out: Path) -> list[Path]:
    strips = [
        (_caption(entries[k]["traits"], drawing.drawer.name), out / name_of(k) / PREVIEW)
        for k in sorted(entries)[: ROWS * PAGES]
    ]
    sheets = write_sheets(strips, out)
    beside = list(sheets)
    if drawing.labeller is None:
        write_recipe(drawing.job, out)
        beside.append(out / RECIPE)
    about = {"seed": drawing.job.seed, **_about(drawing)}
    publish(out, entries, about, drawing.drawer.pipeline.card.get("licence"), beside)
    return sheets


def _caption(traits: Mapping[str, Any], drawer: str) -> str:
    condition = traits["condition"]
    parts = condition["volumes_cc"]
    core = parts[ConditionClass.NCR.name] + parts[ConditionClass.ET.name] + parts[ConditionClass.RC.name]
    return f"{traits['id']}\n{condition['kind']} {core:.1f} cc\n{drawer}"
