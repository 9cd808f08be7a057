"""Organs of a plan by the contouring networks, and what is said where there are none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app import plan_organs
from app.approved import MARK
from app.contoured import Contourer
from app.patient import contoured
from app.plan_organs import Organs, organs, with_contours
from app.request import Request
from app.steps import Walk
from imaging.case import Case
from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from planning.contour.convert import Contoured
from planning.contour.nets import HEAD_NET, ORGAN_NET
from planning.contour.quality import Quality
from planning.plan import Prescription

REQUEST = Request(Prescription(60.0, 30))
GRID = axial(np.full(3, -60.0), np.full(3, 60.0), (2.5, 2.5, 2.5))
CT_GRID = axial(np.full(3, -60.0), np.full(3, 60.0), (2.0, 2.0, 2.0))
EVEN = Quality({"all": [(0.0, 0.0), (1.0, 1.0)]}, 0.0, 3)


def quiet(title: str, share: float) -> None:
    pass


class Known(Contourer):
    """Draws balls; counts how often it was asked."""

    asked = 0

    def __call__(self, mr: Volume) -> Contoured:
        Known.asked += 1
        assert mr.data[3].any()
        assert not mr.data[:3].any()  # a FLAIR alone
        masks = {
            "Body": sphere(GRID, np.zeros(3), 55.0),
            "Brain": sphere(GRID, np.zeros(3), 40.0),
            "Brainstem": sphere(GRID, np.array([0.0, 10.0, -20.0]), 10.0),
            "GTV": sphere(GRID, np.array([20.0, 0.0, 0.0]), 8.0),
        }
        labels = Volume(torch.zeros(1, *GRID.shape, dtype=torch.uint8), GRID, Quantity.LABEL, mr.frame)
        return Contoured(
            masks, labels, {**dict.fromkeys(masks, 1.0), "Brainstem": 0.5}, {"Eye_L": "is not seen"}, {}
        )


@pytest.fixture
def nets(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Known(torch.nn.Identity(), torch.nn.Identity(), HEAD_NET, ORGAN_NET, EVEN)
    monkeypatch.setattr(plan_organs, "contourer_of", lambda *_: known)


def test_without_approved_models_the_aligned_anatomy_serves_and_the_plan_says_so(tmp_path: Path) -> None:
    scan = tmp_path / "t1.nii.gz"
    request = with_contours(REQUEST, scan)
    assert not request.contour_files
    assert "no contouring models are approved" in request.contour_note
    tried = with_contours(REQUEST, scan, allow_unapproved=True)
    assert (tried.contrast, tried.mark) == ("t1", MARK)
    assert set(tried.contour_files) >= {"contour-head.safetensors", "contour-organs.safetensors"}
    assert "--contrast" in with_contours(REQUEST, tmp_path / "x.nii.gz", allow_unapproved=True).contour_note
    assert with_contours(REQUEST, tmp_path / "x.nii.gz", "t2", allow_unapproved=True).contrast == "t2"
    bulk = replace(REQUEST, networks=False)
    assert with_contours(bulk, scan, allow_unapproved=True) is bulk
    with pytest.raises(ValueError, match="expected an MRI to plan from, got a CT"):
        with_contours(REQUEST, tmp_path / "ct.nii.gz", allow_unapproved=True)


@pytest.mark.usefixtures("nets")
def test_organs_are_drawn_once_on_the_grid_of_the_ct_with_risk_volumes(tmp_path: Path) -> None:
    weights = tmp_path / "contour-head.safetensors"
    weights.write_bytes(b"weights")
    mr = Volume(torch.rand(1, *GRID.shape), GRID, Quantity.MR, "1.2.3")
    request = replace(REQUEST, contour_files={weights.name: weights}, contrast="flair")
    Known.asked = 0
    for _ in range(2):  # the second time from what was kept
        walk = Walk(tmp_path / "out", quiet)
        for step in ("scan", "synthetic_ct"):
            walk.case(step, step, {}, lambda: Case({"mr": mr}))
        made = organs(walk, mr, CT_GRID, request)
        assert made.structures is not None
        assert list(made.structures.structures) == ["Body", "Brain", "Brainstem", "Brainstem_PRV03"]
        assert made.structures.grid == CT_GRID
        cc = float(made.structures.mask("Brainstem").sum()) * CT_GRID.voxel_volume
        assert cc == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.05)
        grown = float(made.structures.mask("Brainstem_PRV03").sum()) * CT_GRID.voxel_volume
        assert grown == pytest.approx(4 / 3 * np.pi * 13**3, rel=0.08)
        assert made.cautions == (
            "Look at Brainstem: it is expected to have a Dice of 0.50.",
            "No Eye_L is drawn: it is not seen.",
        )
    assert Known.asked == 1


@pytest.mark.usefixtures("nets")
def test_they_take_the_place_of_the_aligned_anatomys(tmp_path: Path) -> None:
    labels = torch.full(CT_GRID.shape, int(Tissue.OUTSIDE), dtype=torch.uint8)
    labels[sphere(CT_GRID, np.zeros(3), 50.0)] = int(Tissue.SCALP)
    labels[sphere(CT_GRID, np.zeros(3), 38.0)] = int(Tissue.WHITE)
    labels[sphere(CT_GRID, np.array([30.0, -40.0, 0.0]), 8.0)] = int(Tissue.EYE)
    tissues = Volume(labels[None], CT_GRID, Quantity.LABEL, "1.2.3")
    mr = Volume(torch.ones(1, *GRID.shape), GRID, Quantity.MR, "1.2.3")
    found = plan_organs.drawn(mr, CT_GRID, {}, "flair", quiet)
    drawn = found.structures
    assert drawn is not None
    gtv = sphere(CT_GRID, np.array([20.0, 0.0, 0.0]), 6.0)
    made = contoured(tissues, gtv, REQUEST, drawn=found)
    assert torch.equal(made.mask("Brain"), drawn.mask("Brain"))
    assert torch.equal(made.mask("GTV"), gtv)  # the planner's, not the networks'
    assert float(made.mask("Eye_L").sum()) * CT_GRID.voxel_volume == pytest.approx(
        4 / 3 * np.pi * 512, rel=0.1
    )
    whole = contoured(tissues, gtv, REQUEST, drawn=Organs(made, whole=True))
    assert whole.structures.keys() == made.structures.keys()
