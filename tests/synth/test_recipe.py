import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import pytest

from imaging.grid import corners
from imaging.tissue import Tissue
from synth.config import filled
from synth.recipe import GridRecipe, LabelRecipe, Recipe, fingerprint, parse, to_toml


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    low: float
    high: float = 2.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"expected low <= high, got {self.low} and {self.high}")


@dataclass(frozen=True)
class Outer:
    number: float = 1.0
    count: int = 1
    flag: bool = False
    word: str = "a"
    colour: Colour = Colour.RED
    pair: tuple[float, float] = (0.0, 1.0)
    words: tuple[str, ...] = ("a",)
    inner: Inner = Inner(1.0)
    shares: Mapping[str, float] = field(default_factory=lambda: {"a": 1.0})
    inners: Mapping[Colour, Inner] = field(default_factory=lambda: {Colour.RED: Inner(0.0)})
    maybe: float | None = None


def test_values_take_the_types_of_their_fields():
    made = filled(
        Outer(),
        {
            "number": 3,
            "colour": "blue",
            "pair": [1, 2],
            "words": ["x", "y"],
            "inner": {"high": 5},
            "shares": {"b": 0.5, "c": 0.5},
            "inners": {"blue": {"low": 1}, "red": {"high": 9}},
            "maybe": 4,
        },
        (),
    )
    assert made == Outer(
        3.0,
        colour=Colour.BLUE,
        pair=(1.0, 2.0),
        words=("x", "y"),
        inner=Inner(1.0, 5.0),
        shares={"b": 0.5, "c": 0.5},
        inners={Colour.RED: Inner(0.0, 9.0), Colour.BLUE: Inner(1.0)},
        maybe=4.0,
    )
    assert isinstance(made.number, float)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"nmber": 1}, r"expected keys number, .* in \[t\] of the recipe, got 'nmber'"),
        ({"number": "1"}, r"number in \[t\] of the recipe: expected a finite number, got '1'"),
        ({"number": float("nan")}, "finite number"),
        ({"number": True}, "finite number"),
        ({"count": 1.5}, "count .*: expected a whole number, got 1.5"),
        ({"count": True}, "whole number"),
        ({"flag": 1}, "expected true or false, got 1"),
        ({"word": 1}, "expected text, got 1"),
        ({"colour": "green"}, "expected one of red, blue, got 'green'"),
        ({"pair": [1]}, "expected a list of 2, got 1"),
        ({"pair": 1}, "expected a list, got 1"),
        ({"words": "x"}, "expected a list, got 'x'"),
        ({"inner": 1}, "expected a table, got 1"),
        ({"inner": {"low": 9}}, r"\[t.inner\] of the recipe: expected low <= high"),
        ({"shares": 1}, "expected a table, got 1"),
        ({"inners": {"blue": {"high": 1}}}, "expected keys low, high, got high"),
        ({"inners": {"blue": {"low": 9}}}, r"\[t.inners.blue\] of the recipe: expected low <= high"),
    ],
)
def test_a_wrong_value_is_named_by_table_and_key(table, sentence):
    with pytest.raises(ValueError, match=sentence):
        filled(Outer(), table, ("t",))


def test_an_empty_text_is_the_default_recipe():
    assert parse("") == Recipe()


def test_a_recipe_written_as_toml_reads_back_the_same():
    recipe = parse(
        "[grid]\nshape = [64, 64, 64]\nspacing = [3, 3, 3]\n"
        "[tumour]\nshares = { glioblastoma = 1 }\nvolumes = { low_grade = { median = 20 } }\n"
        "[mri.bias]\nprobability = 0.5\n[labels]\nnumbers = { grey = 50 }\n[about]\nname = 'a \"b\"'\n"
    )
    assert parse(to_toml(recipe)) == recipe
    assert recipe.mri.bias.probability == 0.5
    assert recipe.mri.bias.high == Recipe().mri.bias.high


def test_only_what_cases_are_drawn_from_changes_the_fingerprint():
    before = fingerprint(Recipe())
    assert fingerprint(parse("[about]\nname = 'x'\n[labels]\nnumbers = { grey = 50 }")) == before
    assert fingerprint(parse("[anatomy]\nsize_sd = 0.02")) != before
    assert fingerprint(parse("[grid]\nspacing = [1, 1, 1]")) == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("grid = ", "expected a recipe in TOML"),
        ("[grdi]\n", "expected tables grid, anatomy, .* in the recipe, got 'grdi'"),
        ("[grid]\nspacing = [-1, 1, 1]", r"\[grid\] of the recipe: expected a spacing"),
        ("[grid]\nshape = [0, 10, 10]", r"\[grid\] of the recipe: expected a shape"),
        ("[grid]\nfine = 1.5", "expected fine of at most the spacing of 1 mm, got 1.5"),
        ("[labels]\nnumbers = { brian = 3 }", "unknown tissue 'brian'"),
        ("[labels]\nnumbers = { grey = 5 }", "got 5 for both grey and white"),
        ("[labels]\nnumbers = { grey = 256 }", "0 to 255 for grey, got 256"),
        (
            "[tumour]\nshares = { astro = 1 }",
            r"\[tumour\] of the recipe: expected kinds .* got astro",
        ),
        ("[tumour]\nvolume_cc = 5000", r"\[tumour\] of the recipe: .*less than a brain"),
        ("[mri]\ncontrasts = ['t9']", r"\[mri\] of the recipe: expected contrasts of .*, got t9"),
        ("[ct]\nkernels = ['sharp']", r"\[ct\] of the recipe: expected kernels"),
        ("[anatomy]\nsize_sd = -0.1", r"\[anatomy\] of the recipe: expected anatomy size_sd"),
        ("[about]\nlicence = ''", "expected licence as one line"),
    ],
)
def test_a_bad_recipe_gets_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_both_grids_cover_one_box():
    for recipe in (GridRecipe(), GridRecipe((64, 72, 64), (3.0, 3.0, 3.0), 2.0)):
        scan, lattice = recipe.scan, recipe.lattice
        np.testing.assert_allclose(corners(scan)[0], corners(lattice)[0], atol=recipe.fine / 2 + 1e-6)
        assert (corners(lattice)[-1] >= corners(scan)[-1] - 1e-6).all()
        np.testing.assert_allclose(scan.center, recipe.center, atol=1e-9)
    assert GridRecipe().lattice.shape == (240, 280, 240)


def test_numbers_of_a_label_map_are_each_tissues_own():
    table = LabelRecipe({"grey": 50}).table
    assert table[Tissue.GREY] == 50
    assert len(set(table)) == len(Tissue)
    assert LabelRecipe().table == tuple(range(len(Tissue)))


def test_every_table_is_a_frozen_config():
    for field_ in dataclasses.fields(Recipe):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(getattr(Recipe(), field_.name), dataclasses.fields(field_.default_factory)[0].name, 0)
