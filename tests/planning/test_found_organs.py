"""Organs, sides and tumours of shares that are known: balls in a head whose place and turn are chosen."""

import numpy as np
import pytest
import torch

from imaging.agreement import dice
from imaging.grid import Grid, axial, positions
from imaging.phantoms import sphere
from imaging.volume import Quantity, Volume
from planning.contour.classes import HeadClass, OrganClass
from planning.contour.head import organ_box, tissues, tumour
from planning.contour.margins import expand
from planning.contour.organs import RULES, Found, organs
from planning.contour.sides import midplane, off

GRID = axial(np.array([-60.0, -75.0, -60.0]), np.array([60.0, 45.0, 20.0]), (1.0, 1.0, 1.0))
BALLS = {
    OrganClass.BRAINSTEM: ((0.0, 18.0, -35.0), 14.0),
    OrganClass.CHIASM: ((0.0, -5.0, -16.0), 4.0),
    OrganClass.OPTIC_NERVE: ((16.0, -25.0, -25.0), 5.0),
    OrganClass.EYE: ((31.0, -53.0, -33.0), 12.0),
    OrganClass.LENS: ((31.0, -63.0, -33.0), 4.0),
    OrganClass.COCHLEA: ((24.5, 19.5, -37.5), 3.5),
    OrganClass.HIPPOCAMPUS: ((25.0, 22.0, -12.0), 8.0),
    OrganClass.PITUITARY: ((0.0, -7.0, -26.0), 4.5),
    OrganClass.LACRIMAL: ((43.0, -52.0, -20.0), 4.5),
}
UPRIGHT = np.eye(3)
TURN = np.deg2rad(12.0)
TURNED = np.array([[np.cos(TURN), -np.sin(TURN), 0], [np.sin(TURN), np.cos(TURN), 0], [0, 0, 1.0]])


def labels(turn: np.ndarray = UPRIGHT, grid: Grid = GRID) -> torch.Tensor:
    """Balls of every organ, both of those with sides."""
    out = torch.zeros(grid.shape, dtype=torch.long)
    for kind, (middle, radius) in BALLS.items():
        for side in (1.0, -1.0) if middle[0] else (1.0,):
            at = turn @ (np.array(middle) * [side, 1.0, 1.0])
            out[sphere(grid, at, radius)] = int(kind)
    return out


def shares(classes: torch.Tensor, n: int = len(OrganClass), grid: Grid = GRID) -> Volume:
    """As a network that is nine tenths sure gives them."""
    one = torch.nn.functional.one_hot(classes, n).movedim(-1, 0).float()
    return Volume(0.9 * one + 0.1 / n, grid, Quantity.PROBABILITY)


def found(classes: torch.Tensor, other: torch.Tensor | None = None) -> Found:
    eyes = (classes == OrganClass.EYE) | (classes == OrganClass.LENS)
    plane = midplane(eyes, classes >= 0, GRID)
    return organs(shares(classes), shares(classes if other is None else other), plane, GRID)


@pytest.mark.parametrize(
    "turn", [np.eye(3), TURNED, TURNED.T], ids=["upright", "to the left", "to the right"]
)
def test_every_organ_is_found_on_its_side_of_a_turned_head(turn: np.ndarray) -> None:
    classes = labels(turn)
    made = found(classes)
    assert not made.missing
    assert not made.doubts
    assert set(made.masks) == {name for rule in RULES for name in rule.names}
    for rule in RULES:
        middle, _ = BALLS[rule.of[0]]
        for name, side in zip(rule.names, (1.0, -1.0), strict=False):
            at = positions(GRID, made.masks[name].nonzero().double().mean(dim=0, keepdim=True).numpy())[0]
            assert np.linalg.norm(at - turn @ (np.array(middle) * [side, 1, 1])) < (
                1.5 if "Eye" in name else 0.6
            )
            assert made.agreement[name] == pytest.approx(1)
    eye = made.masks["Eye_L"]
    assert bool((made.masks["Lens_L"] & eye).sum() == made.masks["Lens_L"].sum())


def test_a_mirrored_head_has_mirrored_contours_and_no_side_is_swapped() -> None:
    classes = labels(TURNED)
    classes[sphere(GRID, TURNED @ np.array([25.0, 22.0, -12.0]), 4.0)] = 0  # the left one is hollow
    classes[sphere(GRID, TURNED @ np.array([-24.5, 19.5, -37.5]), 9.0)] = 0  # the right cochlea is gone
    made, mirrored = found(classes), found(classes.flip(0))
    assert "Cochlea_R" in made.missing
    assert "Cochlea_L" in mirrored.missing
    for name, mask in made.masks.items():
        twin = name[:-1] + {"L": "R", "R": "L"}[name[-1]] if name.endswith(("_L", "_R")) else name
        assert torch.equal(mirrored.masks[twin], mask.flip(0)), name
    # What an organ encloses belongs to it.
    whole = sphere(GRID, TURNED @ np.array([25.0, 22.0, -12.0]), 8.0)
    assert dice(made.masks["Hippocampus_L"], whole) > 0.95


def test_islands_are_left_out_and_what_cannot_be_is_not_believed() -> None:
    classes = labels()
    clean = found(classes)
    classes[sphere(GRID, np.array([25.0, 30.0, 10.0]), 3.0)] = int(OrganClass.HIPPOCAMPUS)  # an island
    classes[sphere(GRID, np.array([45.0, 20.0, 0.0]), 7.0)] = int(OrganClass.PITUITARY)  # far from the middle
    classes[sphere(GRID, np.array([-24.5, 19.5, -37.5]), 3.5)] = 0
    classes[sphere(GRID, np.array([-24.5, 19.5, -37.5]), 1.2)] = int(OrganClass.COCHLEA)  # 7 voxels
    made = found(classes)
    for name in ("Hippocampus_L", "Pituitary"):
        assert torch.equal(made.masks[name], clean.masks[name])
    assert made.missing == {"Cochlea_R": "is seen as 0.01 cm³ alone, where 0.02 are the least"}
    classes[classes == int(OrganClass.PITUITARY)] = 0
    classes[sphere(GRID, np.array([40.0, 20.0, 0.0]), 7.0)] = int(OrganClass.PITUITARY)
    assert found(classes).missing["Pituitary"] == "is not seen where it should be"


def test_what_is_too_large_is_kept_and_told_and_a_broken_nerve_is_one() -> None:
    classes = labels()
    classes[sphere(GRID, np.array([0.0, -7.0, -26.0]), 9.0)] = int(OrganClass.PITUITARY)
    nerve = (classes == OrganClass.OPTIC_NERVE).nonzero()[:, 1].float().mean().round().int()
    row = classes[:, int(nerve)]
    row[row == int(OrganClass.OPTIC_NERVE)] = 0  # a gap of one voxel
    made = found(classes)
    assert made.doubts == {"Pituitary": "has 3.1 cm³, where 2 are the most"}
    both = made.masks["OpticNrv_L"].nonzero()[:, 1]
    assert int(both.min()) < int(nerve) < int(both.max())


def test_views_that_differ_agree_by_their_overlap() -> None:
    classes = labels()
    moved = classes.clone()
    moved[moved == int(OrganClass.CHIASM)] = 0
    moved[sphere(GRID, np.array([2.0, -5.0, -16.0]), 4.0)] = int(OrganClass.CHIASM)
    one, other = classes == OrganClass.CHIASM, moved == OrganClass.CHIASM
    made = found(classes, moved)
    # Soft Dice of both views' shares within 5 mm of what both show.
    near = expand(one & other, GRID, 5.0)
    a, b = (torch.where(mask, 0.91, 0.01)[near] for mask in (one, other))
    assert made.agreement["OpticChiasm"] == pytest.approx(
        float(2 * torch.minimum(a, b).sum() / (a + b).sum())
    )
    assert made.agreement["Pituitary"] > 0.9


def test_distances_from_the_midplane_are_to_the_left_and_exact_on_any_grid() -> None:
    classes = labels(TURNED)
    plane = midplane(classes == OrganClass.EYE, classes >= 0, GRID)
    assert np.allclose(plane.normal, TURNED[:, 0], atol=0.02)
    affine = np.array(
        [[0, 0, -2, 50.0], [3, 0, 0, -60.0], [0, -1.5, 0, 20.0], [0, 0, 0, 1]], dtype=np.float64
    )
    grid = Grid((20, 30, 40), affine)
    index = np.array([[3.0, 7.0, 11.0], [19.0, 0.0, 39.0]])
    wanted = (positions(grid, index) - plane.point) @ plane.normal
    got = off(plane, grid)[index[:, 0], index[:, 1], index[:, 2]].numpy()
    assert np.allclose(got, wanted, atol=1e-3)


def test_without_two_eyes_the_plane_stands_upright_in_the_middle() -> None:
    classes = labels()
    head = classes >= 0
    one = classes == OrganClass.EYE
    one[: GRID.shape[0] // 2] = False
    plane = midplane(one, head, GRID)
    assert plane.normal.tolist() == [1, 0, 0]
    assert plane.point == pytest.approx(GRID.center, abs=1e-6)
    with pytest.raises(ValueError, match="expected a head with voxels inside"):
        midplane(one, torch.zeros_like(head), GRID)


def head() -> torch.Tensor:
    """Skull and brain with a tumour of three parts, a metastasis, a speck, and orbital fat like a tumour."""
    out = torch.zeros(GRID.shape, dtype=torch.long)
    for middle, radius, kind in (
        ((0, 0, -20), 39.0, HeadClass.BONE),
        ((0, 0, -20), 36.0, HeadClass.BRAIN),
        ((0, 18, -35), 12.0, HeadClass.BRAINSTEM),
        ((18, -8, -8), 12.0, HeadClass.OEDEMA),
        ((18, -8, -8), 8.0, HeadClass.ENHANCING),
        ((18, -8, -8), 5.0, HeadClass.CORE),
        ((-16, -12, -20), 4.0, HeadClass.ENHANCING),
        ((-20, 10, -10), 1.5, HeadClass.OEDEMA),
        ((40, -55, -30), 6.0, HeadClass.OEDEMA),
        ((31, -53, -33), 12.0, HeadClass.EYE),
        ((-31, -53, -33), 12.0, HeadClass.EYE),
    ):
        out[sphere(GRID, np.array(middle, dtype=np.float64), radius)] = int(kind)
    return out


def test_a_tumour_has_the_parts_of_brats_and_nothing_beside_the_brain_is_one() -> None:
    classes = head()
    share = shares(classes, len(HeadClass))
    brain = sphere(GRID, np.array([0.0, 0.0, -20.0]), 36.0)
    made = tumour(share, brain, GRID).data[0]
    wanted = torch.zeros_like(made)
    for kind, number in ((HeadClass.CORE, 1), (HeadClass.OEDEMA, 2), (HeadClass.ENHANCING, 3)):
        wanted[classes == int(kind)] = number
    wanted[sphere(GRID, np.array([-20.0, 10.0, -10.0]), 2.5)] = 0
    wanted[sphere(GRID, np.array([40.0, -55.0, -30.0]), 8.0)] = 0
    assert torch.equal(made, wanted)
    finer = axial(np.array([0.0, -30.0, -30.0]), np.array([40.0, 10.0, 10.0]), (0.7, 0.7, 2.0))
    cc = float((tumour(share, brain, finer).data > 0).sum()) * finer.voxel_volume / 1000
    assert cc == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.05)
    assert int(tissues(share).data.max()) > 0


def test_what_lies_among_fat_is_no_tumour_even_where_it_was_counted_into_the_brain() -> None:
    classes = head()
    fat = sphere(GRID, np.array([-20.0, -50.0, -5.0]), 8.0)
    classes[fat] = int(HeadClass.SOFT)
    classes[sphere(GRID, np.array([-20.0, -50.0, -5.0]), 4.0)] = int(HeadClass.OEDEMA)
    brain = sphere(GRID, np.array([0.0, 0.0, -20.0]), 36.0)
    there = tumour(shares(classes, len(HeadClass)), brain | fat, GRID).data[0]
    assert not there[fat].any()
    assert torch.equal(there, tumour(shares(head(), len(HeadClass)), brain, GRID).data[0])


def test_small_organs_lie_in_a_box_about_eyes_and_brainstem() -> None:
    box = organ_box(shares(head(), len(HeadClass)))
    assert box.spacing.tolist() == [1, 1, 1]
    for middle, radius in BALLS.values():
        for side in (1, -1):
            index = np.linalg.inv(box.affine) @ [*(np.array(middle) * [side, 1, 1]), 1.0]
            assert (index[:3] > radius - 1).all()
            assert (index[:3] < np.array(box.shape) - radius).all()
    nothing = organ_box(shares(torch.zeros_like(head()), len(HeadClass)))
    assert nothing.shape == GRID.shape
