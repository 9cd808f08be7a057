"""Volumes that generators learn from: cases of any folder brought to one lattice, one file each.

Each case is read once, and only what a batch needs is in memory, so a cohort of any size fits.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import avg_pool3d
from torch.utils.data import Dataset

from imaging.atomic import whole_file
from imaging.brats_folder import CONTRASTS, CaseFiles, find_cases
from imaging.brightness import scaled
from imaging.grid import Grid, axial, positions
from imaging.nifti import read_nifti
from imaging.resample import resample
from imaging.shapes import Point
from imaging.tissue import BRAIN, Tissue
from imaging.volume import Quantity, Volume
from synth.conditions import ConditionClass, classes_of, planes, to_bits, with_brats
from synth.on_the_fly import generator_of
from synth.render import render

from .cohort_manifest import RECIPE
from .console import Progress

_BRAIN = torch.tensor([int(t) for t in BRAIN], dtype=torch.uint8)
_FINER = 2  # voxels of reading along each side of a voxel of learning


@dataclass(frozen=True)
class Lattice:
    """Voxels that volumes are learnt on: the box lies about the middle of the head or brain.

    Parameters
    ----------
    shape
        Voxels along x, y, z.
    spacing
        Their size (mm).
    """

    shape: tuple[int, int, int] = (64, 64, 64)
    spacing: float = 3.0

    def about(self, middle: Point, finer: int = 1) -> Grid:
        """The voxels of its box about a point (LPS, mm), each cut into ``finer`` along every side."""
        half = np.array(self.shape) * self.spacing / 2
        return axial(middle - half, middle + half, (self.spacing / finer,) * 3)


def prepare_volumes(data: Sequence[Path], lattice: Lattice, out: Path, progress: Progress) -> list[Path]:
    """One safetensors file for each case; those that are there from an earlier run stay.

    Parameters
    ----------
    data
        Folders of cases in BraTS layout; cohorts of the project bring the tissues of the whole head with
        them. Where a case has no labels, what is brighter than nothing counts as brain.
    lattice
        Where volumes are brought to.
    out
        Gets ``00000.safetensors`` and so on: ``image`` (4, i, j, k) float16 between -1 and 1 (0 to 1.5 of
        the scale of `imaging.brightness`), ``classes`` (i, j, k) uint8, ``present`` (4,).
    progress
        Called with what happens and the share that is done.

    Raises
    ------
    ValueError
        If a folder holds no case, or what lies in ``out`` was made otherwise.
    """
    out.mkdir(parents=True, exist_ok=True)
    cases = [(case, label_numbers(folder)) for folder in data for case in find_cases(folder)]
    made = []
    for n, (case, numbers) in enumerate(cases):
        path = out / f"{n:05d}.safetensors"
        key = json.dumps({"case": case.folder.name, "lattice": asdict(lattice)})
        if not path.is_file():
            tensors = volume_example(case, lattice, numbers)
            with whole_file(path) as part:
                save_file(tensors, part, metadata={"key": key})
        elif _key(path) != key:
            raise ValueError("expected prepared volumes of these cases, got others'; name another folder")
        made.append(path)
        progress("Reading cases", (n + 1) / len(cases))
    return made


def volume_example(case: CaseFiles, lattice: Lattice, numbers: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Tensors of one case, as :func:`prepare_volumes` writes them.

    Parameters
    ----------
    case
        Its files.
    lattice
        Where volumes are brought to.
    numbers
        Number of each tissue in its label map, in the order of `imaging.tissue.Tissue`.
    """
    tissues = None if case.labels is None else read_tissues(case.labels, numbers)
    here = placed(read_scans(case), lattice, tissues, read_seg(case))
    return {"image": here.image.half(), "classes": here.classes, "present": here.present}


@dataclass(frozen=True, eq=False)
class Placed:
    """A case on the lattice that a generator knows.

    Parameters
    ----------
    image
        Contrasts between -1 and 1 (0 to 1.5 of the scale of `imaging.brightness`), shape ``(4, i, j, k)``.
    signal
        The same as MR signal in the unit of its files; 0 in a contrast that is not there.
    classes
        Of each voxel (`synth.conditions.ConditionClass`), shape ``(i, j, k)``.
    present
        Which contrasts there are, shape ``(4,)``.
    grid
        Where the lattice lies.
    """

    image: Tensor
    signal: Tensor
    classes: Tensor
    present: Tensor
    grid: Grid


def placed(
    scans: Mapping[str, Volume],
    lattice: Lattice,
    tissues: Volume | None = None,
    tumour: Volume | None = None,
) -> Placed:
    """A case brought to a lattice about the middle of its brain.

    Parameters
    ----------
    scans
        Contrasts by name, one at least, each on its own grid.
    lattice
        Where they are brought to.
    tissues
        Of the whole head; without them what is brighter than nothing counts as brain.
    tumour
        BraTS labels that are laid over the tissues.

    Raises
    ------
    ValueError
        If nothing of a head is seen.
    """
    first = next(iter(scans.values()))
    seen = first.data[0] > 0 if tissues is None else torch.isin(tissues.data[0], _BRAIN)
    fine = box_about(seen, first.grid if tissues is None else tissues.grid, lattice)
    signal = torch.zeros(len(CONTRASTS), *lattice.shape)
    unit = torch.zeros_like(signal)
    for c, name in enumerate(CONTRASTS):
        if name in scans:
            here = resample(scans[name], fine).data.float().clamp(min=0)
            signal[c] = avg_pool3d(here[None], _FINER)[0, 0]
            unit[c] = scaled(signal[c])
    classes = _brain(unit.amax(dim=0)) if tissues is None else classes_of(resample(tissues, fine).data[0])
    if tumour is not None:
        classes = with_brats(classes, resample(tumour, fine).data[0].long())
    present = torch.tensor([name in scans for name in CONTRASTS])
    return Placed(unit / 0.75 - 1, signal, coarse(classes), present, lattice.about(fine.center))


def box_about(seen: Tensor, grid: Grid, lattice: Lattice) -> Grid:
    """The lattice's box, in finer voxels, about the middle of what is seen."""
    at = torch.nonzero(seen).double().numpy()
    if len(at) == 0:
        raise ValueError("expected a scan that shows a head, got an empty one; leave the case out")
    low, high = np.percentile(at, [1, 99], axis=0)
    return lattice.about(positions(grid, ((low + high) / 2)[None])[0], _FINER)


def _brain(bright: Tensor) -> Tensor:
    fine = (bright > 0.02).repeat_interleave(_FINER, 0).repeat_interleave(_FINER, 1)
    return (fine.repeat_interleave(_FINER, 2) * int(ConditionClass.BRAIN)).to(torch.uint8)


def read_scans(case: CaseFiles) -> dict[str, Volume]:
    """The contrasts of a case by name."""
    return {name: read_nifti(path, Quantity.MR) for name, path in case.contrasts.items()}


def read_seg(case: CaseFiles) -> Volume | None:
    """The tumour of a case as BraTS numbers its parts since 2023, if it has one."""
    if case.seg is None:
        return None
    seg = read_nifti(case.seg, Quantity.LABEL)
    return replace(seg, data=torch.where(seg.data == 4, 3, seg.data)) if case.old else seg


def read_tissues(path: Path, numbers: tuple[int, ...] = ()) -> Volume:
    """A label map in the project's own numbers.

    Parameters
    ----------
    path
        The file.
    numbers
        Its number of each tissue, in the order of `imaging.tissue.Tissue`; the project's own for none.

    Raises
    ------
    ValueError
        If it holds another number.
    """
    labels = read_nifti(path, Quantity.LABEL)
    table = torch.full((256,), 255, dtype=torch.uint8)
    for tissue, number in zip(Tissue, numbers or tuple(int(t) for t in Tissue), strict=True):
        table[number] = int(tissue)
    tissues = table[labels.data.long().clamp(0, 255)]
    if bool((tissues == 255).any()):
        raise ValueError("expected tissues as the cohort's recipe numbers them, got another label")
    return Volume(tissues, labels.grid, Quantity.LABEL, labels.frame)


def coarse(classes: Tensor) -> Tensor:
    """The class that most of a voxel's eight parts belong to."""
    return avg_pool3d(planes(classes[None]), _FINER)[0].argmax(dim=0).to(torch.uint8)


def label_numbers(folder: Path) -> tuple[int, ...]:
    """Label numbers of a cohort, from the recipe that lies beside its cases; empty without one."""
    path = folder / RECIPE
    if not path.is_file():
        return ()
    named = tomllib.loads(path.read_text(encoding="utf-8")).get("labels", {}).get("numbers", {})
    return tuple(int(named.get(tissue.name.lower(), int(tissue))) for tissue in Tissue)


def _key(path: Path) -> str:
    with safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get("key", "")


class VolumeExamples(Dataset[dict[str, Tensor]]):
    """An endless supply of prepared volumes, mirrored and shifted, sample n the same for any worker.

    Parameters
    ----------
    paths
        Files of :func:`prepare_volumes`.
    seed
        Which stream.
    shift
        Greatest shift along each axis (voxels).
    length
        Samples in an epoch.
    rendered
        Whether samples bring a render of their labels, for networks that start from one.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        seed: int,
        shift: int = 3,
        length: int = 10_000_000,
        rendered: bool = False,
    ) -> None:
        self.paths, self.seed, self.shift, self.length = list(paths), seed, shift, length
        self.rendered = rendered

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample ``index``: ``image`` (4, i, j, k), ``condition`` (12, i, j, k), ``present`` (4,).

        With a ``render`` like the image, where they were asked for.
        """
        if not 0 <= index < self.length:
            raise IndexError(index)
        generator = generator_of(self.seed, index)
        which = int(torch.randint(len(self.paths), (1,), generator=generator))
        found = load_file(self.paths[which])
        image, classes = found["image"].float(), found["classes"]
        if float(torch.rand(1, generator=generator)) < 0.5:  # no side of a head is special
            image, classes = image.flip(1), classes.flip(0)
        by = torch.randint(-self.shift, self.shift + 1, (3,), generator=generator).tolist()
        image, classes = _shifted(image, by, -1.0), _shifted(classes[None], by, 0.0)[0]
        return {
            "image": image,
            "condition": planes(classes[None])[0],
            "present": found["present"].float(),
            **({"render": render(classes, len(image), generator)} if self.rendered else {}),
        }


class LabelExamples(Dataset[dict[str, Tensor]]):
    """The classes of such a supply as analog bits, for a generator that draws whole patients' labels.

    Parameters
    ----------
    volumes
        Where they come from.
    """

    def __init__(self, volumes: VolumeExamples) -> None:
        self.volumes = volumes

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample ``index``: ``image`` (4, i, j, k) of -1 and 1, ``condition`` (0, i, j, k)."""
        condition = self.volumes[index]["condition"]
        return {"image": to_bits(condition.argmax(0)[None])[0], "condition": condition[:0]}


def _shifted(values: Tensor, by: Sequence[int], outside: float) -> Tensor:
    """Moved by whole voxels along the last axes; what comes in from beyond is empty."""
    out = values
    for axis, n in enumerate(by, start=1):
        if n:
            out = out.roll(n, axis)
            out.narrow(axis, 0 if n > 0 else out.shape[axis] + n, abs(n)).fill_(outside)
    return out
