"""What contours tell of voxels: sets of classes by hand."""

import pytest
import torch

from planning.contour.classes import HEAD, ORGANS, HeadClass, OrganClass
from planning.contour.known import HEAD_KNOWN, ORGANS_KNOWN, allowed, base_of, bits, matched, own_known

ALL = (1 << len(HEAD.names)) - 1
ALL_ORGANS = (1 << len(ORGANS.names)) - 1


def row(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool).reshape(len(values), 1, 1)


def sets(found: torch.Tensor) -> list[int]:
    return found.flatten().tolist()


def test_outside_a_tumours_parts_anything_else_may_be() -> None:
    """BraTS: one voxel of each part, and one of none of them, which is unknown and no background."""
    masks = {"NCR": row(1, 0, 0, 0), "ET": row(0, 1, 0, 0), "Edema": row(0, 0, 1, 0)}
    tumour = (HeadClass.CORE, HeadClass.ENHANCING, HeadClass.OEDEMA)
    wanted = [*(1 << c for c in tumour), ALL & ~bits(tumour)]
    assert sets(allowed(masks, HEAD_KNOWN, len(HEAD.names))) == wanted
    assert wanted[-1] >> HeadClass.CAVITY & 1  # nobody drew it


def test_a_side_that_is_missing_leaves_the_rest_unknown() -> None:
    eye, lens = 1 << OrganClass.EYE, 1 << OrganClass.LENS
    one = allowed({"Eye_L": row(1, 0)}, ORGANS_KNOWN, len(ORGANS.names))
    assert sets(one) == [eye | lens, ALL_ORGANS]
    both = allowed({"Eye_L": row(1, 0, 0), "Eye_R": row(0, 1, 0)}, ORGANS_KNOWN, len(ORGANS.names))
    assert sets(both) == [eye | lens, eye | lens, ALL_ORGANS & ~eye]
    no_side = allowed({"Cochlea": row(1, 0)}, ORGANS_KNOWN, len(ORGANS.names))
    assert sets(no_side) == [1 << OrganClass.COCHLEA, ALL_ORGANS & ~(1 << OrganClass.COCHLEA)]


@pytest.mark.parametrize("eye", [(1, 1, 0), (1, 0, 0)])
def test_an_eye_may_be_drawn_with_its_lens_or_without(eye: tuple[int, ...]) -> None:
    lens = row(0, 1, 0)
    masks = {"Eye_L": row(*eye), "Eye_R": row(0, 0, 0), "Lens_L": lens, "Lens_R": row(0, 0, 0)}
    found = sets(allowed(masks, ORGANS_KNOWN, len(ORGANS.names)))
    assert found[:2] == [1 << OrganClass.EYE, 1 << OrganClass.LENS]


def test_brains_hold_fluid_and_bodies_all_but_air_outside() -> None:
    masks = {"External": row(1, 1, 0), "Brain": row(1, 0, 0)}
    inside, beside, outside = sets(allowed(masks, HEAD_KNOWN, len(HEAD.names)))
    assert inside >> HeadClass.FLUID & 1
    assert not inside >> HeadClass.BONE & 1
    assert beside >> HeadClass.BONE & 1
    assert not beside >> HeadClass.BRAIN & 1
    assert outside == 1 << HeadClass.OUTSIDE


def test_where_contours_contradict_each_other_nothing_is_known() -> None:
    masks = {"Brainstem": row(1, 1, 0), "Pituitary": row(0, 1, 1)}
    stem, gland = 1 << OrganClass.BRAINSTEM, 1 << OrganClass.PITUITARY
    assert sets(allowed(masks, ORGANS_KNOWN, len(ORGANS.names))) == [stem, ALL_ORGANS, gland]
    with pytest.raises(ValueError, match="got none of them"):
        allowed({"Heart": row(1)}, ORGANS_KNOWN, len(ORGANS.names))


def test_every_class_of_a_network_is_some_structures() -> None:
    for known, classes in ((HEAD_KNOWN, HEAD), (ORGANS_KNOWN, ORGANS)):
        inside = set[int]().union(*(m.may for m in known.values()))
        assert inside == set(range(1, len(classes.names)))
        assert all(m.only <= m.may for m in known.values())


def test_names_are_matched_by_tg_263_and_by_synonyms() -> None:
    synonyms = {"OpticNrv_L": ("N. opticus li",), "Brainstem": ("Hirnstamm",)}
    names = ["optic nrv_r", "N opticus LI", "HIRNSTAMM", "Eye_L", "PTV 60"]
    found = matched(names, ORGANS_KNOWN, synonyms)
    assert found == {
        "optic nrv_r": "OpticNrv_R",
        "N opticus LI": "OpticNrv_L",
        "HIRNSTAMM": "Brainstem",
        "Eye_L": "Eye_L",
    }
    assert matched(["Body", "oedema"], HEAD_KNOWN, {}) == {"Body": "External", "oedema": "Edema"}
    with pytest.raises(ValueError, match="got 'Heart'"):
        matched(names, ORGANS_KNOWN, {"Heart": ()})
    with pytest.raises(ValueError, match="under one name"):
        matched(names, ORGANS_KNOWN, {"Eye_L": ("oculus",), "Eye_R": ("Oculus",)})


def test_ones_own_structures_are_classes_in_their_order_without_sides() -> None:
    known = own_known(["Parotid_L", "Parotid_R", "SpinalCord"])
    assert {name: (set(m.may), set(m.only)) for name, m in known.items()} == {
        "Parotid": ({1}, {1}),
        "SpinalCord": ({2}, {2}),
    }
    assert base_of("Eye_L") == "Eye"
