"""What surrounds a brain in a CT: shells whose openings have a known share of all directions."""

import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.volume import Quantity, Volume
from mr2ct.domain import unlike_head_ct
from mr2ct.lie import Lie
from mr2ct.skull import Skull, skull

UPRIGHT = Lie(0.9, 0.9, "top", "front", np.zeros(3))
BRAIN, BONE, SKIN = 66.0, 74.0, 82.0  # mm


def shells(*, opened_above: float = 1.0, planes: int = 48) -> Volume:
    """Soft ball in a shell of bone in skin; bone is missing in directions higher than ``opened_above``."""
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -94.0
    at = torch.from_numpy(np.moveaxis(np.indices((48, 48, planes)), 0, -1)).float() * 4 - 94
    far = at.norm(dim=-1).clamp(min=1e-3)
    bone = (far > BRAIN) & (far < BONE) & (at[..., 2] / far < opened_above)
    hu = torch.where(far < SKIN, 40.0, -1000.0)
    return Volume(torch.where(bone, 900.0, hu)[None], Grid((48, 48, planes), affine), Quantity.HU)


def test_a_closed_shell_closes_everywhere_around_a_ball_of_its_size() -> None:
    found = skull(shells())
    assert found.closed == 1
    assert found.radius == pytest.approx(BRAIN, abs=6)
    assert unlike_head_ct(found, UPRIGHT, 100.0, whole=True) == ()


def test_calcified_specks_in_a_brain_do_not_make_it_smaller() -> None:
    head = shells()
    for i, j, k in ((24, 24, 24), (20, 26, 24), (30, 22, 26)):
        head.data[0, i : i + 2, j : j + 2, k] = 700.0
    assert skull(head).radius == pytest.approx(BRAIN, abs=6)
    assert skull(head).closed == 1


def test_an_opening_counts_by_its_solid_angle() -> None:
    """Heights of directions are spread evenly (Archimedes): from -0.2 to 1, those above 0.4 are half."""
    found = skull(shells(opened_above=0.4))
    assert found.closed == pytest.approx(0.5, abs=0.08)  # its rim is a voxel wide
    (reason,) = unlike_head_ct(found, UPRIGHT, 100.0, whole=True)
    assert "of directions alone" in reason


def test_what_a_scan_cuts_off_is_not_held_against_it() -> None:
    found = skull(shells(planes=36))  # ends 48 mm above the middle, inside the brain
    assert found.closed == pytest.approx(1, abs=0.02)
    assert skull(shells(planes=24)).closed is None or skull(shells(planes=24)).closed == pytest.approx(1)


def test_water_alone_is_no_head() -> None:
    ball = shells(opened_above=-1.0)
    found = skull(ball)
    assert found.closed == 0
    assert len(unlike_head_ct(found, UPRIGHT, 400.0, whole=True)) >= 2
    assert unlike_head_ct(Skull(40.0, 1.0), UPRIGHT, 100.0, whole=False) == ()
    assert "40 mm" in unlike_head_ct(Skull(40.0, 1.0), UPRIGHT, 100.0, whole=True)[0]
