from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.organ import NAMES
from imaging.structures import RoiType
from planning.contour.organs import RULES
from planning.contour.template import read_template, structure_set

ONE = '[[structure]]\nis = "Eye_L"\nname = "Auge links"\ntype = "ORGAN"\ncolor = [1, 2, 3]\n'


def test_the_template_that_comes_along_lists_every_organ_by_its_name_of_tg_263() -> None:
    template = read_template()
    names = {e.name for e in template}
    assert {name for rule in RULES for name in rule.names} <= names & {*NAMES, "Brainstem"}
    assert len({e.color for e in template}) == len(template)
    assert [e.name for e in template if e.kind is RoiType.EXTERNAL] == ["Body"]


def test_contours_are_written_as_a_template_says_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "clinic.toml"
    path.write_text(ONE)
    mask = torch.ones(2, 2, 2, dtype=torch.bool)
    drawn = structure_set(
        {"Brain": mask, "Eye_L": mask}, Grid((2, 2, 2), np.eye(4)), read_template(path), "1.2"
    )
    assert list(drawn.structures) == ["Auge links"]
    assert drawn.structures["Auge links"].color == (1, 2, 3)
    assert drawn.frame == "1.2"


def test_risk_volumes_are_their_organs_grown_by_what_their_names_say() -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    brainstem = torch.zeros(21, 21, 21, dtype=torch.bool)
    brainstem[10, 10, 10] = True
    drawn = structure_set({"Brainstem": brainstem}, Grid((21, 21, 21), affine), read_template())
    assert list(drawn.structures) == ["Brainstem", "Brainstem_PRV03"]  # those of other organs are left out
    assert drawn.structures["Brainstem_PRV03"].kind is RoiType.AVOIDANCE
    i, j, k = drawn.mask("Brainstem_PRV03").nonzero().unbind(dim=1)
    assert (int(i.min()), int(i.max()), int(j.min()), int(j.max())) == (7, 13, 7, 13)
    assert (int(k.min()), int(k.max())) == (8, 12)  # 3 mm beyond half a voxel of 2 mm: 4 mm from its middle


def test_what_is_made_of_others_is_left_out_where_nothing_remains(tmp_path: Path) -> None:
    path = tmp_path / "clinic.toml"
    path.write_text(ONE.replace('is = "Eye_L"', 'is = "Eye_L - Brain"'))
    mask = torch.ones(2, 2, 2, dtype=torch.bool)
    grid = Grid((2, 2, 2), np.eye(4))
    assert not structure_set({"Brain": mask, "Eye_L": mask}, grid, read_template(path)).structures
    lone = structure_set({"Brain": ~mask, "Eye_L": mask}, grid, read_template(path))
    assert list(lone.structures) == ["Auge links"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a template of"),
        ("[[structure]", "in TOML"),
        (ONE + ONE, "once, got Auge links twice"),
        (ONE.replace("ORGAN", "EVIL"), "expected a type of EXTERNAL"),
        (ONE.replace("3]", "300]"), "expected colours of 0 to 255"),
        (ONE.replace("[1, 2, 3]", "[1, 2]"), "three whole numbers"),
        (ONE.replace("Auge links", "a\\\\b"), "without a backslash"),
        (ONE.replace("color", "colour"), "expected is, name, type and color"),
        (ONE.replace('"Eye_L"', "3"), "expected words"),
        (ONE.replace('"Eye_L"', '""'), "expected a structure, or what is made of some"),
        (ONE.replace('"Eye_L"', '"Eye_L * 2"'), "expected structures, margins and signs"),
    ],
)
def test_other_files_are_refused_in_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "template.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        read_template(path)
    with pytest.raises(ValueError, match="got no such file"):
        read_template(tmp_path / "nothing.toml")
