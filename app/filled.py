"""``spindose synth complete``: the contrasts that a case lacks, drawn by a generator from those that it has.

The generator draws on a lattice of its own with the given contrasts in sight. Those go out byte for byte.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from imaging.atomic import new_folder
from imaging.brats_folder import CONTRASTS, CaseFiles, find_cases
from imaging.grid import Grid, close
from imaging.nifti import write_nifti
from imaging.resample import resample
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.case import stage_generator
from synth.conditions import planes

from .cohort_writers import PARAMETERS
from .console import RESEARCH_ONLY, Progress
from .drawer import Drawer, draw, drawn_by, expect_contrasts, lattice_of, read_drawer, signal_of
from .steps import file_hash
from .volume_examples import Placed, label_numbers, placed, read_scans, read_seg, read_tissues


@dataclass(frozen=True)
class AskedFilled:
    """A case that a generator shall fill in.

    Parameters
    ----------
    case
        Its folder, in BraTS layout.
    generator
        Folder of the pipeline that draws.
    out
        A new folder, after which the files in it are named.
    seed
        Which drawing.
    sampler, n_steps, guidance, device
        As `app.drawer.read_drawer` takes them.

    Raises
    ------
    ValueError
        If the seed is negative.
    """

    case: Path
    generator: Path
    out: Path
    seed: int = 0
    sampler: str | None = None
    n_steps: int = 0
    guidance: float = 1.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"expected --seed of 0 or more, got {self.seed}")

    def file(self, folder: Path, word: str) -> Path:
        """Where a volume goes in a folder that will be ``out``."""
        return folder / f"{self.out.absolute().name}-{word}.nii.gz"


@dataclass(frozen=True, eq=False)
class Opened:
    """A case with all its volumes, and the generator that fills it in.

    Parameters
    ----------
    files
        Where it comes from.
    drawer
        Draws four contrasts from classes.
    scans
        Contrasts by name, in the order of `imaging.brats_folder.CONTRASTS`.
    grid
        That all of them lie on.
    tissues
        Of the whole head, in the project's own numbers, where there is a map of them.
    seg
        BraTS labels since 2023, where there are any.
    """

    files: CaseFiles
    drawer: Drawer
    scans: Mapping[str, Volume]
    grid: Grid
    tissues: Volume | None
    seg: Volume | None

    def on_lattice(self, seg: Volume | None) -> Placed:
        """The case with these BraTS labels where the generator draws."""
        return placed(self.scans, lattice_of(self.drawer), self.tissues, seg)


def complete(asked: AskedFilled, progress: Progress) -> dict[str, Any]:
    """A case with all four contrasts: those that it has as they are, the others drawn from them.

    Drawn contrasts lie on the grid of the given ones and are zero outside the generator's box. The generator
    is told the classes of tissue and tumour where the case has them, and nothing but the scans otherwise.

    Parameters
    ----------
    asked
        The case, the generator, where to.
    progress
        Called with what happens now and the share of it that is done.

    Returns
    -------
    dict
        JSON values: where the case lies, what was given and drawn, and the generator.

    Raises
    ------
    ValueError
        If there is not one case that lacks contrasts, its grids differ, or the generator draws other things.
    """
    files = one_case(asked.case)
    lacking = [name for name in CONTRASTS if name not in files.contrasts]
    if not lacking:
        raise ValueError(
            f"expected a case of one to three of {', '.join(CONTRASTS)}, got all four; nothing is missing"
        )
    case = opened(files, asked, progress)
    here = case.on_lattice(case.seg)
    condition = planes(here.classes[None])[0]
    labelled = case.tissues is not None or case.seg is not None
    if not labelled and case.drawer.settings.render_share > 0:
        raise ValueError(
            "expected a case with labels or seg for a generator that starts from a render of them, "
            "got neither; take a generator that starts from noise"
        )
    if not labelled:  # training drops conditions too; from brightness alone one could tell no tissues
        condition = torch.zeros_like(condition)
    known = here.present.float()[:, None, None, None].expand(here.image.shape)
    facts = {
        "given": list(case.scans),
        "drawn": lacking,
        "condition": "classes" if labelled else "none",
        **about(asked, case.drawer, here, files.contrasts),
    }
    with new_folder(asked.out.absolute()) as folder:
        progress("Drawing", 0.0)
        noise = stage_generator(case.drawer.weights, asked.seed, 0, "complete")
        image = draw(case.drawer, condition, noise, known, here.image)
        drawn = Volume(signal_of(image)[~here.present], here.grid, Quantity.MR)
        for name, path in files.contrasts.items():
            shutil.copyfile(path, asked.file(folder, name))
        for name, signal in zip(lacking, resample(drawn, case.grid).data, strict=True):
            whole = signal.round().to(torch.int16)[None]
            write_nifti(Volume(whole, case.grid, Quantity.MR), asked.file(folder, name))
        _keep_labels(case, asked, folder)
        write_parameters(facts, folder)
        progress("Drawing", 1.0)
    return {"case": str(asked.out), **facts}


def complete_lines(facts: Mapping[str, Any]) -> list[str]:
    """What a person reads at the end."""
    return [
        f"Case:     {facts['case']}",
        f"Given:    {', '.join(facts['given'])}, as they were",
        f"Drawn:    {', '.join(facts['drawn'])}, in voxels of {facts['lattice']['spacing_mm']:g} mm",
        drawn_by(facts),
    ]


def one_case(folder: Path) -> CaseFiles:
    """The one case of a folder.

    Raises
    ------
    ValueError
        If there is none, or more than one.
    """
    cases = find_cases(folder.absolute())
    if len(cases) > 1:
        raise ValueError(f"expected the folder of one case, got one of {len(cases)}; name one of them")
    return cases[0]


def opened(files: CaseFiles, asked: AskedFilled, progress: Progress) -> Opened:
    """A case read whole, with the generator that was asked for.

    Raises
    ------
    ValueError
        If its contrasts lie on several grids, or the generator draws something else.
    """
    progress("Reading the case and the generator", 0.0)
    drawer = expect_contrasts(
        read_drawer(asked.generator, asked.sampler, asked.n_steps, asked.guidance, asked.device)
    )
    scans = read_scans(files)
    grid, *others = (scan.grid for scan in scans.values())
    if not all(close(grid, other) for other in others):
        raise ValueError("expected all contrasts on one grid, got several; resample them to one of them")
    tissues = None if files.labels is None else read_tissues(files.labels, _numbers(files))
    progress("Reading the case and the generator", 1.0)
    return Opened(files, drawer, scans, grid, tissues, read_seg(files))


def about(asked: AskedFilled, drawer: Drawer, here: Placed, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """What a drawing follows from, as JSON values that name no patient."""
    spacing = float(here.grid.spacing[0])
    return {
        "generator": drawer.told(),
        "seed": asked.seed,
        "lattice": {"shape": list(here.grid.shape), "spacing_mm": spacing},
        "detail": f"What was drawn shows no detail finer than {spacing:g} mm, on whatever voxels it lies.",
        "inputs": {name: file_hash(path) for name, path in inputs.items()},
    }


def write_parameters(facts: Mapping[str, Any], folder: Path) -> None:
    """The facts of a drawing beside its files."""
    whole = {"note": RESEARCH_ONLY, "version": version("spindose"), **facts}
    (folder / PARAMETERS).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def _numbers(files: CaseFiles) -> tuple[int, ...]:
    return label_numbers(files.folder.parent)


def _keep_labels(case: Opened, asked: AskedFilled, folder: Path) -> None:
    """The case's label maps: copied, or written in the numbers that such a folder is read with."""
    own = tuple(int(tissue) for tissue in Tissue)
    for word, path, volume, same in (
        ("seg", case.files.seg, case.seg, not case.files.old),
        ("labels", case.files.labels, case.tissues, _numbers(case.files) in ((), own)),
    ):
        if path is None or volume is None:
            continue
        if same:
            shutil.copyfile(path, asked.file(folder, word))
        else:
            write_nifti(volume, asked.file(folder, word))
