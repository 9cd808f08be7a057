from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

import app.anatomies
from app.anatomies import read_anatomies
from imaging.grid import Grid
from imaging.nifti import write_nifti
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.subject import Subject

GRID = Grid((5, 5, 5), np.eye(4))
MAP = '{ 0 = "outside", 1 = "scalp", 2 = "skull", 3 = "csf", 4 = "grey" }'


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Mapping[Tissue, Volume]]:
    """What is handed on for each head, instead of fitting it."""
    out: dict[str, Mapping[Tissue, Volume]] = {}

    def keep(shares: Mapping[Tissue, Volume], name: str) -> Subject:
        out[name] = shares
        labels = Volume(torch.zeros(1, 5, 5, 5, dtype=torch.uint8), GRID, Quantity.LABEL)
        return Subject(labels, labels, {"anatomy": {"head": name}})

    monkeypatch.setattr(app.anatomies, "given_head", keep)
    return out


def label_file(folder: Path, name: str = "a.nii.gz", highest: int = 4) -> None:
    data = (torch.arange(125) % (highest + 1)).reshape(1, 5, 5, 5).to(torch.uint8)
    write_nifti(Volume(data, GRID, Quantity.LABEL), folder / name)


def mapping(folder: Path, text: str) -> Path:
    (folder / "anatomy.toml").write_text(text, encoding="utf-8")
    return folder


def one_map(folder: Path, numbers: str = MAP, file: str = "a.nii.gz") -> Path:
    return mapping(folder, f'[[head]]\nname = "one"\nlabels = "{file}"\nmap = {numbers}\n')


def test_a_label_map_becomes_a_share_of_each_tissue(
    tmp_path: Path, told: dict[str, Mapping[Tissue, Volume]]
) -> None:
    label_file(tmp_path)
    (subject,) = read_anatomies(one_map(tmp_path))
    assert subject.traits["anatomy"]["head"] == "one"
    shares = told["one"]
    assert set(shares) == {Tissue.OUTSIDE, Tissue.SCALP, Tissue.SKULL, Tissue.CSF, Tissue.GREY}
    assert bool((torch.stack([v.data for v in shares.values()]).sum(dim=0) == 1).all())
    assert float(shares[Tissue.SKULL].data.sum()) == 25


def test_two_numbers_may_be_one_tissue(tmp_path: Path, told: dict[str, Mapping[Tissue, Volume]]) -> None:
    label_file(tmp_path)
    read_anatomies(one_map(tmp_path, '{ 0 = "outside", 1 = "scalp", 2 = "skull", 3 = "grey", 4 = "grey" }'))
    assert float(told["one"][Tissue.GREY].data.sum()) == 50


def test_shares_of_255_become_shares_of_one(tmp_path: Path, told: dict[str, Mapping[Tissue, Volume]]) -> None:
    for name, value in (("g", 255.0), ("s", 0.0), ("b", 51.0)):
        data = torch.full((1, 5, 5, 5), value)
        write_nifti(Volume(data, GRID, Quantity.PROBABILITY), tmp_path / f"{name}.nii")
    read_anatomies(mapping(tmp_path, '[[head]]\nmaps = {grey = "g.nii", scalp = "s.nii", skull = "b.nii"}'))
    assert float(told["head 1"][Tissue.GREY].data.max()) == 1.0
    assert float(told["head 1"][Tissue.SKULL].data.max()) == pytest.approx(0.2)


def test_a_mapping_file_may_name_its_folder(tmp_path: Path, told: dict[str, Mapping[Tissue, Volume]]) -> None:
    maps, elsewhere = tmp_path / "maps", tmp_path / "docs"
    maps.mkdir()
    elsewhere.mkdir()
    label_file(maps)
    file = elsewhere / "mine.toml"
    file.write_text(
        f'folder = "../maps"\n[[head]]\nname = "x"\nlabels = "a.nii.gz"\nmap = {MAP}\n', encoding="utf-8"
    )
    assert len(read_anatomies(file)) == 1
    assert "x" in told


@pytest.mark.data
def test_the_documented_example_lists_the_training_heads(
    data: Path, told: dict[str, Mapping[Tissue, Volume]], tmp_path: Path
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "anatomy.toml").read_text(encoding="utf-8")
    folder = str(data / "head")
    file = tmp_path / "anatomy.toml"
    file.write_text(text.replace("../../shared/data/head", folder), encoding="utf-8")
    assert len(read_anatomies(file)) == 3
    assert set(told) == {"usc_ants19", "ants19", "ants40"}
    # Two ways to say what one head is: they agree on where its brain lies.
    maps, labels = told["ants19"][Tissue.WHITE].data > 0.5, told["usc_ants19"][Tissue.WHITE].data > 0.5
    assert 2 * int((maps & labels).sum()) / (int(maps.sum()) + int(labels.sum())) > 0.9


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder of label maps, got an empty one"):
        read_anatomies(tmp_path)


def test_a_folder_without_a_mapping_is_refused(tmp_path: Path) -> None:
    label_file(tmp_path)
    with pytest.raises(ValueError, match=r"expected anatomy\.toml to say what the maps are"):
        read_anatomies(tmp_path)
    with pytest.raises(ValueError, match=r"expected anatomy\.toml"):
        read_anatomies(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"one \[\[head\]\] or more"),
        ("head = 3", r"one \[\[head\]\] or more"),
        ("[[head", "expected TOML with every key once"),
        ("surprise = 1", r"expected \[\[head\]\] and folder in anatomy\.toml, got surprise"),
        ('folder = "nowhere"\n[[head]]', "the folder that anatomy.toml names"),
        ("[[head]]", "either labels and map, or maps, of head 1"),
        ('[[head]]\nlabels = "a.nii.gz"', "either labels and map, or maps"),
        ("[[head]]\nwhat = 2", "expected name, labels, map and maps of head 1, got what"),
        ("[[head]]\nname = 2", "as a table with a name"),
        ("[[head]]\nmaps = {}", "maps of head 1 as a table"),
        ('[[head]]\nmaps = {gray = "a.nii.gz"}', "a tissue of outside, .*, got 'gray'"),
        ('[[head]]\nmaps = {grey = "a.nii.gz", skull = "a.nii.gz"}', "one file twice"),
        ('[[head]]\nmaps = {grey = "b.nii.gz"}', r"the file b\.nii\.gz of head 1 in the folder, got none"),
        ('[[head]]\nmaps = {grey = "../a.nii.gz"}', "inside the folder"),
        ('[[head]]\nmaps = {grey = "/etc/hosts"}', "inside the folder"),
        ("[[head]]\nmaps = {grey = 3}", "expected the name of a file"),
    ],
)
def test_a_mapping_that_cannot_be_followed_gets_one_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    label_file(tmp_path)
    with pytest.raises(ValueError, match=sentence) as error:
        read_anatomies(mapping(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ('{ 0 = "outside", 1 = "scalp", 3 = "csf", 4 = "grey" }', "expected one to have skull"),
        ('{ 0 = "outside", 2 = "skull", 4 = "grey" }', "expected one to have scalp"),
        ('{ 0 = "outside", 1 = "scalp", 2 = "skull", 3 = "csf" }', "expected one to have brain"),
        ('{ 1 = "scalp", 01 = "skull", 4 = "grey" }', "label number of one once, got 1 twice"),
        ('{ 1 = "scalp", 1 = "skull", 4 = "grey" }', "TOML with every key once"),
        ('{ 1 = "scalp", 2 = "bones", 4 = "grey" }', "got 'bones'"),
        ('{ one = "scalp", 2 = "skull", 4 = "grey" }', "whole numbers of 0 or more, got one"),
        (
            '{ 0 = "outside", 1 = "scalp", 2 = "skull", 4 = "grey" }',
            r"every number in a\.nii\.gz, got none for 3",
        ),
    ],
)
def test_label_numbers_that_overlap_or_lack_a_tissue_get_one_sentence(
    tmp_path: Path, numbers: str, sentence: str
) -> None:
    label_file(tmp_path)
    with pytest.raises(ValueError, match=sentence) as error:
        read_anatomies(one_map(tmp_path, numbers))
    assert "\n" not in str(error.value)


def test_a_label_map_whose_file_holds_no_skull_is_refused(tmp_path: Path) -> None:
    data = torch.tensor([0, 1, 3, 4, 4] * 25, dtype=torch.uint8).reshape(1, 5, 5, 5)
    write_nifti(Volume(data, GRID, Quantity.LABEL), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="expected a head with skull, got none in one"):
        read_anatomies(one_map(tmp_path))


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    label_file(tmp_path)
    (folder / "a.nii.gz").symlink_to(tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="inside the folder"):
        read_anatomies(one_map(folder))


def test_a_file_that_is_no_nifti_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.nii\.gz of one: expected a NIfTI file"):
        read_anatomies(one_map(tmp_path))


def test_two_heads_of_one_name_and_shares_beyond_255_are_refused(tmp_path: Path) -> None:
    label_file(tmp_path)
    one = f'[[head]]\nname = "x"\nlabels = "a.nii.gz"\nmap = {MAP}\n'
    with pytest.raises(ValueError, match="under its own name"):
        read_anatomies(mapping(tmp_path, one + one))
    for name in "gsb":
        write_nifti(
            Volume(torch.full((1, 5, 5, 5), 999.0), GRID, Quantity.PROBABILITY), tmp_path / f"{name}.nii"
        )
    with pytest.raises(ValueError, match=r"shares of 0 to 1 or 0 to 255 in g\.nii, got 999"):
        read_anatomies(
            mapping(tmp_path, '[[head]]\nmaps = {grey = "g.nii", scalp = "s.nii", skull = "b.nii"}')
        )
