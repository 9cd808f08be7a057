"""An observer study: organs of synthetic heads, drawn by three people and a model who err in known ways."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from imaging.case import Case
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_mr
from imaging.folder import write_case
from imaging.grid import axial
from imaging.nifti import write_nifti
from imaging.segmentations import write_labels, write_seg_nrrd
from imaging.shapes import Mask
from imaging.source import Source
from imaging.structures import Structure, StructureSet
from imaging.volume import Quantity, Volume
from synth.case import structures
from synth.heads import AnatomyRecipe, head

GRID = axial(np.array([-60.0, -90.0, -75.0]), np.array([60.0, 45.0, 5.0]), (2.5, 2.5, 3.0))
ORGANS = ("Brainstem", "Eye_L", "Eye_R")
# How far outwards each draws (mm), and how much that varies from place to place.
ERRORS = {"Ada": (0.0, 1.0), "Ben": (1.0, 1.2), "Cleo": (-0.8, 1.1), "Net": (0.3, 0.8)}
FRAME = "1.2.826.0.1.3680043.8.498.78"
TOML = """
title = "Organs of synthetic heads"
[observers]
Ada = { kind = "person", site = "North" }
Ben = { kind = "person", site = "North" }
Cleo = { kind = "person", site = "South" }
Net = { kind = "model" }
[patients]
"Doe^Jane" = { site = "North" }
P2 = { site = "North" }
P3 = { site = "South" }
P4 = { site = "South" }
[structures]
Brainstem = { synonyms = ["Hirnstamm"], tolerances_mm = [1, 3] }
Eye_L = {}
Eye_R = {}
[analysis]
scan = "mr"
region_mm = 10
"""


def perturbed(mask: Mask, outwards: float, spread: float, noise: np.random.Generator) -> Mask:
    """A mask whose border is moved along its distance by a smooth field (mm)."""
    inside, spacing = mask.numpy(), GRID.spacing
    distance = ndimage.distance_transform_edt(~inside, sampling=spacing)
    distance -= ndimage.distance_transform_edt(inside, sampling=spacing)
    # Distances jump from one side of the border to the other: smoothed, a step below a voxel counts.
    distance = ndimage.gaussian_filter(distance, 0.7)
    field = ndimage.gaussian_filter(noise.normal(size=inside.shape), 6 / spacing)
    return torch.from_numpy(distance < outwards + spread * field / field.std())


def drawn_by(observer: str, truth: StructureSet, seed: int) -> StructureSet:
    noise = np.random.default_rng([seed, list(ERRORS).index(observer)])
    outwards, spread = ERRORS[observer]
    return StructureSet(
        truth.grid,
        {
            name: Structure(perturbed(truth.mask(name), outwards, spread, noise), s.kind, s.color)
            for name, s in truth.structures.items()
        },
        truth.frame,
    )


def true_organs(seed: int) -> StructureSet:
    subject = head(AnatomyRecipe(), torch.Generator().manual_seed(seed), GRID)
    whole = structures(subject.labels, subject.organs)
    return StructureSet(GRID, {name: whole.structures[name] for name in ORGANS}, FRAME)


def write_as_masks(drawn: StructureSet, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, s in drawn.structures.items():
        write_nifti(Volume(s.mask[None], drawn.grid, Quantity.LABEL), folder / f"{name}.nii.gz")


def write_as_rtstruct(drawn: StructureSet, folder: Path) -> None:
    patient = Source(patient_id="ID-4711", patient_name="Doe^Jane", study_uid=f"{FRAME}.1", frame=FRAME)
    mr = Volume(torch.ones((1, *drawn.grid.shape)), drawn.grid, Quantity.MR, FRAME)
    source = write_mr(mr, patient, folder.parent / "mr", seed=("mr",), when=datetime(2026, 1, 2, tzinfo=UTC))
    folder.mkdir(parents=True)
    write_rtstruct(drawn, source, drawn.grid, folder / "rs.dcm")


def renamed(drawn: StructureSet, names: dict[str, str]) -> StructureSet:
    """Structures under other names; those called nothing are left out."""
    called = {names.get(name, name): s for name, s in drawn.structures.items()}
    return StructureSet(drawn.grid, {name: s for name, s in called.items() if name}, drawn.frame)


def build_study(folder: Path) -> Path:
    """Four patients; the first in every kind of file, Ben without the right eye of the third."""
    for k, patient in enumerate(("Doe^Jane", "P2", "P3", "P4")):
        truth, place = true_organs(k), folder / patient
        by = {observer: drawn_by(observer, truth, k) for observer in ERRORS}
        if k == 0:
            for name in ("Ada", "Ben", "Net"):
                (place / name).mkdir(parents=True)
            write_seg_nrrd(renamed(by["Ada"], {"Brainstem": "brain stem"}), place / "Ada" / "ada.seg.nrrd")
            ben = renamed(by["Ben"], {"Brainstem": "Hirnstamm"})
            write_labels(ben, place / "Ben" / "labels.nii.gz", place / "Ben" / "labels.txt")
            write_as_rtstruct(by["Cleo"], place / "Cleo")
            write_case(Case({}, by["Net"]), place / "Net")
            continue
        for observer, drawn in by.items():
            missing = {"Eye_R": ""} if (k, observer) == (2, "Ben") else {}
            write_as_masks(renamed(drawn, missing), place / observer)
    rows = [
        f'[[times]]\npatient = "{patient}"\nobserver = "{who}"\n'
        f"manual = {14 + 2 * n + k}\ncorrected = {6 + n}"
        for k, patient in enumerate(("Doe^Jane", "P2", "P3", "P4"))
        for n, who in enumerate(("Ada", "Ben"))
    ]
    (folder / "study.toml").write_text(TOML + "\n".join(rows))
    return folder


@pytest.fixture(scope="session")
def observer_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study; copy it before changing it."""
    return build_study(tmp_path_factory.mktemp("observers"))


@pytest.fixture(scope="session")
def truth_of_study() -> Callable[[int], StructureSet]:
    """The contours that everybody's were made of."""
    return true_organs
