"""The CT of a plan: by networks unless told otherwise, refused where they have nothing to say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from app import head_ct
from app.ct_nets import shipped
from app.head_ct import HeadCt, asked, bulk_ct, network_ct
from app.request import Request
from imaging.case import Case
from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.volume import Quantity, Volume
from planning.plan import Prescription

RX = Prescription(60.0, 30)
GRID = axial(np.full(3, -100.0), np.full(3, 100.0), (4.0,) * 3)


def quiet(_title: str, _share: float) -> None:
    pass


def bottle() -> Volume:
    """Signal that is alike throughout a ball of the size of a head."""
    inside = sphere(GRID, np.zeros(3), 85.0)
    noise = torch.rand(inside.shape, generator=torch.Generator().manual_seed(1))
    return Volume((100.0 * inside + noise)[None], GRID, Quantity.MR)


def test_a_bottle_is_no_head_and_the_refusal_says_what_else_there_is() -> None:
    with pytest.raises(ValueError, match=r"alike throughout.*plan on bulk densities with --bulk"):
        network_ct(bottle(), quiet)


def test_a_ct_is_refused_as_an_mri_before_anything_is_computed() -> None:
    ct = Volume(torch.where(bottle().data > 50, 40.0, -1000.0), GRID, Quantity.MR)
    with pytest.raises(ValueError, match="give the MRI, not the CT"):
        network_ct(ct, quiet)


def test_networks_and_their_intervals_are_what_a_ct_follows_from() -> None:
    assert len(asked(Request(RX))["networks"]) == len(shipped()) + 1  # type: ignore[arg-type]
    assert asked(Request(RX, networks=False)) == {}


def test_cautions_are_kept_beside_the_ct(tmp_path: Path) -> None:
    made = HeadCt(Case({"ct": Volume(bottle().data, GRID, Quantity.HU)}), ("A void of 3 cm³.",))
    head_ct.write(made, tmp_path)
    again = head_ct.read(tmp_path)
    assert again.cautions == made.cautions
    assert torch.equal(again.case.volumes["ct"].data, made.case.volumes["ct"].data)
    assert json.loads((tmp_path / "cautions.json").read_text()) == ["A void of 3 cm³."]


@pytest.mark.slow
def test_bulk_densities_are_there_for_what_networks_refuse() -> None:
    """Without what they may be off by, which nobody knows."""
    made = bulk_ct(bottle(), quiet).volumes
    assert set(made) == {"ct", "tissues", "partitions"}
    assert made["ct"].grid == made["tissues"].grid == made["partitions"].grid
    assert float(made["ct"].data.max()) > 1000  # a skull all the same
