"""Cases of every layout arrive as the same classes, and samples of them vary as they should."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from safetensors.torch import load_file

from app.contour_cases import labelled_cases
from app.contour_held_out import dice_of
from app.contour_material import ReadyCase, Task, prepare_cases, split_cases
from app.contour_samples import MixedContours, RealContours, known_everywhere
from imaging.case import Case
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_mr
from imaging.folder import write_case
from imaging.grid import Grid
from imaging.nifti import write_nifti
from imaging.phantoms import sphere
from imaging.segmentations import write_labels, write_seg_nrrd
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.contour.classes import HEAD, ORGANS, HeadClass, OrganClass
from planning.contour.known import HEAD_KNOWN, ORGANS_KNOWN, allowed
from synth.randomisation import Randomisation

GRID = Grid((30, 32, 28), np.diag([2.0, 2.0, 2.0, 1.0]))
TASK = Task(ORGANS_KNOWN, len(ORGANS.names), 2.0, {})
HEAD_TASK = Task(HEAD_KNOWN, len(HEAD.names), 2.0, {})
LAYOUTS = ("rtstruct", "slicer", "labels", "case")
HOW = Randomisation(shape=(16, 16, 16), spacing=2.0, shift=10.0, artefacts=0.0, missing=0.0)


def drawn() -> StructureSet:
    balls = {"Eye_L": (40, 20, 30, 7), "Eye_R": (18, 20, 30, 7), "Brainstem": (29, 44, 24, 9)}
    return StructureSet(
        GRID,
        {
            name: Structure(
                sphere(GRID, np.array([x, y, z], dtype=np.float64), float(r)), RoiType.ORGAN, (9, 9, 9)
            )
            for name, (x, y, z, r) in balls.items()
        },
    )


def image(seed: int = 0) -> Volume:
    """A ball that is brighter where structures are."""
    generator = torch.Generator().manual_seed(seed)
    head = sphere(GRID, np.array([29.0, 31.0, 27.0]), 27.0)
    some = torch.stack([s.mask for s in drawn().structures.values()]).any(dim=0)
    data = 60.0 * head + 60.0 * some + torch.rand(GRID.shape, generator=generator)
    return Volume(data.round()[None], GRID, Quantity.MR)


def put(layout: str, folder: Path, seed: int = 0) -> Path:
    """One case of a layout."""
    folder.mkdir(parents=True)
    mr, source = image(seed), Source(patient_id=f"secret-{seed}", study_uid="1.2", frame="1.2.9")
    if layout == "rtstruct":
        series = write_mr(mr, source, folder / "MR")
        for path in (folder / "MR").iterdir():
            dataset = dcmread(path)
            dataset.EchoTime, dataset.RepetitionTime, dataset.ScanningSequence = "9", "600", "SE"
            dataset.save_as(path)
        write_rtstruct(drawn(), series, GRID, folder / "RS.dcm")
        return folder
    if layout == "case":
        write_case(Case({"t1": mr}, drawn(), source), folder)
        return folder
    write_nifti(mr, folder / "scan_t1.nii.gz")
    if layout == "slicer":
        write_seg_nrrd(drawn(), folder / "anything.seg.nrrd")
    else:
        write_labels(drawn(), folder / "labels.nii.gz", folder / "labels.txt")
    return folder


def ready(data: Path, task: Task, out: Path) -> tuple[list[ReadyCase], dict[str, str]]:
    return prepare_cases(labelled_cases([data]), task, out, lambda *_: None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_arrives_as_the_structures_that_were_drawn(layout: str, tmp_path: Path) -> None:
    """On voxels of the scan's own size the classes are those of the masks, voxel by voxel."""
    put(layout, tmp_path / "data" / "somebody")
    (found,), left_out = ready(tmp_path / "data", TASK, tmp_path / "out")
    assert left_out == {}
    assert found.contrasts == ("t1",)
    assert set(found.structures) == {"Eye", "Brainstem"}
    assert "secret" not in repr(found) + found.path.name
    tensors = load_file(found.path)
    wanted = allowed({name: s.mask for name, s in drawn().structures.items()}, ORGANS_KNOWN, 10)
    # The box about the head is cut from an upright grid that begins where the scan does.
    same = tensors["allowed"][: GRID.shape[0], : GRID.shape[1], : GRID.shape[2]]
    assert same.equal(wanted)
    assert tensors["mr"].shape[1:] == tensors["allowed"].shape
    inside = (tensors["allowed"] == 1 << OrganClass.BRAINSTEM) | (same == (1 << 4 | 1 << 5))
    assert float(tensors["mr"][0][inside].float().min()) > 0.7  # half of it elsewhere
    assert {1 << 1, 1 << 4 | 1 << 5} == set(tensors["allowed"][tuple(tensors["places"].long().T)].tolist())


@pytest.mark.parametrize(("words", "enhancing"), [(("t1n", "t2f"), 3), (("t1", "flair"), 4)])
def test_labels_of_brats_of_any_year_arrive_as_their_classes(
    words: tuple[str, str], enhancing: int, tmp_path: Path
) -> None:
    folder = tmp_path / "A-1"
    folder.mkdir()
    seg = torch.zeros(GRID.shape, dtype=torch.uint8)
    at = {1: HeadClass.CORE, 2: HeadClass.OEDEMA, enhancing: HeadClass.ENHANCING}
    for n, label in enumerate(at):
        seg[12 + 2 * n, 14:18, 14:18] = label
    for n, word in enumerate(words):
        write_nifti(image(n), folder / f"A-1-{word}.nii.gz")
    write_nifti(Volume(seg[None], GRID, Quantity.LABEL), folder / "A-1-seg.nii.gz")
    (found,), _ = ready(tmp_path, HEAD_TASK, tmp_path / "out")
    assert found.contrasts == ("t1", "flair")
    here = load_file(found.path)["allowed"][: GRID.shape[0], : GRID.shape[1], : GRID.shape[2]]
    for label, one in at.items():
        assert set(here[seg == label].tolist()) == {1 << one}
    unknown = (1 << len(HEAD.names)) - 1 - sum(1 << c for c in at.values())
    assert set(here[seg == 0].tolist()) == {unknown}
    # Of small organs it says nothing: it is left out, by its number.
    with pytest.raises(ValueError, match=r"case 1: expected structures of Brainstem.*got none of them"):
        ready(tmp_path, TASK, tmp_path / "other")


def test_examinations_of_one_patient_stay_together_and_doubles_are_left_out(tmp_path: Path) -> None:
    for n, name in enumerate(("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000")):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        write_nifti(image(n), folder / f"{name}-t1n.nii.gz")
        seg = torch.zeros(1, *GRID.shape, dtype=torch.uint8)
        seg[0, 14, 14, 14 + n] = 1
        write_nifti(Volume(seg, GRID, Quantity.LABEL), folder / f"{name}-seg.nii.gz")
    put("slicer", tmp_path / "data" / "one", 7)
    put("slicer", tmp_path / "data" / "the same", 7)
    task = Task({**HEAD_KNOWN}, len(HEAD.names), 4.0, {})
    cases, left_out = ready(tmp_path / "data", task, tmp_path / "out")
    assert [c.files.name for c in cases] == ["case 1", "case 2", "case 3", "case 4"]
    assert left_out == {"case 5": "it is the same as case 4"}
    split = split_cases(cases, left_out, 0.4)
    parts = [{c.patient for c in part} for part in (split.training, split.watched, split.held_out)]
    assert not parts[0] & parts[2]
    assert parts[1] == set()  # too few to watch any
    assert cases[0].patient == cases[1].patient
    assert "BraTS" not in json.dumps([c.files.name for c in cases]) + json.dumps(left_out)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[ReadyCase]:
    folder = tmp_path_factory.mktemp("cases")
    for n in range(2):
        put("slicer", folder / "data" / str(n), n)
    return ready(folder / "data", TASK, folder / "out")[0]


def test_samples_depend_on_seed_and_number_alone(cases: list[ReadyCase]) -> None:
    one, other = RealContours(cases, HOW, 3), RealContours(cases, HOW, 3)
    forth = [one[n] for n in (0, 1, 2)]
    back = [other[n] for n in (2, 1, 0)]
    for a, b in zip(forth, back[::-1], strict=True):
        assert all(a[name].equal(b[name]) for name in ("image", "allowed"))
    assert not forth[0]["image"].equal(forth[1]["image"])
    assert not RealContours(cases, HOW, 4)[0]["image"].equal(forth[0]["image"])


def test_image_and_classes_are_moved_alike(cases: list[ReadyCase]) -> None:
    """Structures are twice as bright as the rest of the head, wherever a sample shows them."""
    found = RealContours(cases, HOW, 0)
    for n in range(4):
        sample = found[n]
        assert sample["image"].shape == (4, 16, 16, 16)
        assert float(sample["image"][1:].abs().max()) == 0  # contrasts that the case lacks
        drawn_here = (sample["allowed"] == 2) | (sample["allowed"] == (1 << 4 | 1 << 5))
        bright = sample["image"][0] > 0.75
        if drawn_here.sum() > 50:
            agree = 2 * int((drawn_here & bright).sum()) / int(drawn_here.sum() + bright.sum())
            assert agree > 0.7
    assert any(int((found[n]["allowed"] == 2).sum()) > 50 for n in range(4))


def test_the_share_of_real_samples_is_as_asked(cases: list[ReadyCase]) -> None:
    real = RealContours(cases, HOW, 0)
    mixed = MixedContours(real, real, ORGANS, 0.3, seed=5)
    drawn_real = sum(mixed.is_real(n) for n in range(2000)) / 2000
    assert drawn_real == pytest.approx(0.3, abs=0.04)  # four standard deviations
    labels = torch.tensor([[[8, 4, 8]]], dtype=torch.uint8)
    organs = torch.tensor([[[0, 1, 9]]], dtype=torch.uint8)
    told = known_everywhere({"image": torch.zeros(1), "labels": labels, "organs": organs}, ORGANS)
    assert told["allowed"].flatten().tolist() == [1 << 1, 1 << 2, 1 << 5]


def test_dice_counts_what_lies_where_it_cannot_and_passes_over_what_is_unknown() -> None:
    """Set {1}: found at one of two voxels, once where it cannot be, once where it may be: 2/(2+1+1)."""
    best = torch.tensor([1, 0, 1, 1, 0]).reshape(5, 1, 1)
    may = torch.tensor([0b010, 0b010, 0b101, 0b111, 0b001], dtype=torch.int32).reshape(5, 1, 1)
    assert dice_of(best, may, {"One": 0b010, "Nowhere": 0b100}) == {"One": pytest.approx(2 / 4)}
    whole = dice_of(best, may, {"Both": 0b110})
    assert whole == {"Both": pytest.approx(2 * 1 / (2 + 1 + 1))}
