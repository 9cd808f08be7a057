import json

import numpy as np
import pytest
import torch

from imaging.case import Case
from imaging.folder import read_case, write_case
from imaging.grid import Grid
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume


def some_case() -> Case:
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    affine[:3, 3] = [-10.0, 1 / 3, 7.0]
    grid = Grid((4, 5, 6), affine)
    generator = torch.Generator().manual_seed(0)
    mr = Volume(torch.randn(1, 4, 5, 6, generator=generator), grid, Quantity.MR, "1.2.3")
    labels = Volume(torch.arange(120).reshape(1, 4, 5, 6).to(torch.uint8), grid, Quantity.LABEL, "1.2.3")
    big = Structure(mr.data[0] > -1, RoiType.PTV, (255, 0, 10), 60.0)
    small = Structure(mr.data[0] > 1, RoiType.GTV, (0, 255, 0))
    structures = StructureSet(grid, {"PTV/60: ../x": big, "gtv": small}, "1.2.3")
    source = Source(patient_name="A^B", instance_uids=("1.2", "1.3"), frame="1.2.3")
    return Case({"t1": mr, "labels": labels}, structures, source)


def test_a_case_on_disk_is_the_same_case(tmp_path):
    case = some_case()
    write_case(case, tmp_path)
    again = read_case(tmp_path)
    assert again.source == case.source
    assert list(again.volumes) == ["t1", "labels"]
    for name, volume in case.volumes.items():
        assert torch.equal(again.volumes[name].data, volume.data)
        assert again.volumes[name].quantity is volume.quantity
        assert again.volumes[name].frame == "1.2.3"
        assert again.volumes[name].grid == volume.grid
    for name, structure in case.structures.structures.items():
        same = again.structures.structures[name]
        assert torch.equal(same.mask, structure.mask)
        assert (same.kind, same.color, same.prescription_gy) == (
            structure.kind,
            structure.color,
            structure.prescription_gy,
        )


def test_overlapping_structures_stay_whole(tmp_path):
    write_case(some_case(), tmp_path)
    again = read_case(tmp_path).structures
    assert bool((again.mask("PTV/60: ../x") & again.mask("gtv")).any())


def test_names_of_structures_never_become_paths(tmp_path):
    write_case(some_case(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("structure")) == [
        "structure_000.nii.gz",
        "structure_001.nii.gz",
    ]


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_case(some_case(), tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_file_outside_the_folder_is_refused(tmp_path):
    write_case(some_case(), tmp_path)
    index = json.loads((tmp_path / "case.json").read_text())
    index["volumes"]["t1"]["file"] = "../t1.nii.gz"
    (tmp_path / "case.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="path that leads elsewhere"):
        read_case(tmp_path)


def test_a_folder_without_a_case_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a case folder"):
        read_case(tmp_path)
