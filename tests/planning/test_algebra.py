import numpy as np
import pytest
import torch

from imaging.grid import Grid
from planning.contour.algebra import combined, derived
from planning.contour.margins import expand

GRID = Grid((24, 24, 12), np.diag([1.0, 1.0, 2.0, 1.0]))


def box(low: int, high: int) -> torch.Tensor:
    mask = torch.zeros(GRID.shape, dtype=torch.bool)
    mask[low:high, 8:16, 4:8] = True
    return mask


MASKS = {"PTV": box(6, 12), "Brainstem": box(10, 18), "Eye_L": box(20, 22)}


def test_signs_mean_what_sets_and_margins_mean() -> None:
    ptv, stem, eye = MASKS.values()
    for text, wanted in (
        ("PTV", ptv),
        ("PTV | Eye_L", ptv | eye),
        ("PTV & Brainstem", ptv & stem),
        ("PTV - Brainstem", ptv & ~stem),
        ("PTV + 3", expand(ptv, GRID, 3.0)),
        ("PTV + 3 mm - 2.5mm", expand(expand(ptv, GRID, 3.0), GRID, -2.5)),
        ("PTV + 4 - PTV", expand(ptv, GRID, 4.0) & ~ptv),
        ("PTV - (Brainstem + 3)", ptv & ~expand(stem, GRID, 3.0)),
        ("(PTV | Eye_L) & (Brainstem - 1)", (ptv | eye) & expand(stem, GRID, -1.0)),
    ):
        assert torch.equal(combined(text, MASKS, GRID), wanted), text


def test_a_definition_gives_a_new_structure_its_name() -> None:
    name, mask = derived("PRV_Brainstem = Brainstem + 3", MASKS, GRID)
    assert name == "PRV_Brainstem"
    assert torch.equal(mask, expand(MASKS["Brainstem"], GRID, 3.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a definition"),
        ("x", "expected a definition"),
        ("x = " + "(" * 600, "expected a definition"),
        ("PTV = Eye_L", "expected a new name"),
        ("x = Lung", "expected one of the structures PTV, Brainstem, Eye_L, got Lung"),
        ("x = PTV +", "expected a margin in mm after"),
        ("x = PTV + Eye_L", "joins structures"),
        ("x = PTV |", "expected a structure, got its end"),
        ("x = (PTV", "expected a parenthesis to close"),
        ("x = PTV Eye_L", "to end, got Eye_L after it"),
        ("x = PTV + 300", "at most 100 mm"),
        ("x = PTV; import os", "expected structures, margins and signs, got '; import o'"),
        ("x = 3 + PTV", "expected a structure, got 3"),
    ],
)
def test_anything_else_gets_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        derived(text, MASKS, GRID)
