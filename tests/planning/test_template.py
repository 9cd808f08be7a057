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
    ],
)
def test_other_files_are_refused_in_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "template.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        read_template(path)
    with pytest.raises(ValueError, match="got no such file"):
        read_template(tmp_path / "nothing.toml")
