"""Predicted doses in the walk: which networks foretell, what is kept, and what the page says of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app import predicted_dose
from app.approved import MARK
from app.catalogue import SHIPPED, import_files
from app.catalogue import catalogue as kept_models
from app.predicted_dose import Foretold, cautions, figures, foretold, rows, with_prediction
from app.request import Request
from app.steps import Walk
from app.train_dose import DoseRun, card
from imaging.case import Case
from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from models.dose_unet import dose_unet
from models.weights import save_weights
from planning.arrange import arrange, arrange_arcs
from planning.check.dvh import histograms, parts_of
from planning.goals import parse_goal
from planning.plan import Prescription
from planning.predict.aimed import standing
from planning.predict.site import read_site

REQUEST = Request(Prescription(60.0, 30))
GRID = axial(np.full(3, -60.0), np.full(3, 60.0), (5.0, 5.0, 5.0))
BODY = sphere(GRID, np.zeros(3), 50.0)
DRAWN = StructureSet(
    GRID,
    {
        "Body": Structure(BODY, RoiType.EXTERNAL, (0, 255, 0)),
        "Brainstem": Structure(sphere(GRID, np.array([0.0, 15.0, -20.0]), 10.0), RoiType.ORGAN, (0, 0, 255)),
        "PTV": Structure(sphere(GRID, np.array([20.0, 0.0, 0.0]), 15.0), RoiType.PTV, (255, 0, 0), 60.0),
    },
)
KNOWN = {"volume of PTV (cm³)": [100.0, 200.0, 300.0]}
CT = Volume(torch.where(BODY, 0.0, -1000.0)[None], GRID, Quantity.HU)


def quiet(title: str, share: float) -> None:
    pass


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """An untrained network with the card of a trained one."""
    run = DoseRun(read_site("brain"), net={"features": (4, 4, 4, 4, 4, 4), "stages": 1})
    torch.manual_seed(0)
    none = {"training": 1, "held out": 1, "left out": {}}
    took = {"patients": none, "steps": 1, "seconds": 1.0, "loss": 1.0, "held_out": {}, "traits": KNOWN}
    path = tmp_path / "dose-brain.safetensors"
    save_weights(dose_unet(run.config.net).state_dict(), card(run, took), path)
    return path


def test_only_approved_networks_foretell_and_others_mark_every_output(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicted_dose, "ZOO", weights.parent / "none")
    assert "no dose predictor is approved" in with_prediction(REQUEST, allow_unapproved=True).dose_note
    monkeypatch.setattr(predicted_dose, "ZOO", weights.parent)
    assert "no dose predictor is approved" in with_prediction(REQUEST).dose_note
    tried = with_prediction(REQUEST, allow_unapproved=True)
    assert (tried.dose_weights, tried.mark) == ((weights,), MARK)
    alone = replace(REQUEST, prediction=False)
    assert with_prediction(alone, allow_unapproved=True) is alone
    model = import_files(SHIPPED["dose-brain"][0], [weights, weights.with_suffix(".json")], "me", "a test")
    assert model is not None
    kept_models().configure(model.name, model.revision, {"site": "head"}, "me", "a test")
    kept_models().approve(model.name, model.revision, "me", "a test")
    approved = with_prediction(REQUEST)
    assert [path.name for path in approved.dose_weights] == [weights.name]
    assert (approved.mark, approved.dose_note) == ("", "")
    approved.dose_weights[0].write_bytes(b"x")
    with pytest.raises(ValueError, match="altered"):
        with_prediction(REQUEST)


def test_a_foretold_dose_lies_in_the_body_and_is_kept(weights: Path, tmp_path: Path) -> None:
    request = replace(REQUEST, dose_weights=(weights,))
    walk = Walk(tmp_path / "walk", quiet)
    walk.case("contours", "Contours", {}, lambda: Case({}, DRAWN))
    told = foretold(walk, CT, DRAWN, "Body", arrange(DRAWN, 5), request)
    assert told is not None
    for volume in (told.dose, told.sigma):
        assert volume.grid == GRID
        assert float(volume.data[0][~BODY].abs().max()) == 0.0
    assert any("volume of PTV" in why for why in told.unlike)
    again = foretold(walk, CT, DRAWN, "Body", arrange(DRAWN, 5), replace(request, seed=5))
    assert again is not None
    assert torch.equal(again.dose.data, told.dose.data)
    assert again.unlike == told.unlike
    other = foretold(walk, CT, DRAWN, "Body", arrange_arcs(DRAWN), replace(request, style="sparing"))
    assert other is not None
    assert not torch.equal(other.dose.data, told.dose.data)
    with pytest.raises(ValueError, match="style"):
        foretold(walk, CT, DRAWN, "Body", arrange(DRAWN, 5), replace(request, style="brave"))
    assert foretold(walk, CT, DRAWN, "Body", arrange(DRAWN, 5), REQUEST) is None


def test_what_was_wanted_stands_beside_what_was_reached() -> None:
    dose = Volume(torch.full((1, *GRID.shape), 30.0), GRID, Quantity.DOSE)
    sure, unsure = (replace(dose, data=torch.full_like(dose.data, s)) for s in (0.5, 4.0))
    reached = histograms(replace(dose, data=dose.data + 2), DRAWN)
    goals = [parse_goal("Brainstem", f"Dmean <= {limit} Gy") for limit in (25, 30, 35)]
    given = (parts_of(DRAWN), reached, goals, REQUEST.prescription)
    found = figures(Foretold(dose, sure), *given)
    assert found["structures"]["Brainstem"] == {
        "predicted_mean_gy": 30.0,
        "achieved_mean_gy": 32.0,
        "sigma_gy": 0.5,
    }
    assert [one["reach"] for one in found["goals"]] == ["out of reach", "doubtful", "within reach"]
    assert any(row.value == "32.0 Gy" and row.expected == "30.0 ± 0.5 Gy predicted" for row in rows(found))
    (out,) = cautions(found, REQUEST)
    assert "Brainstem Dmean <= 25 Gy is out of reach" in out
    doubts = cautions(figures(Foretold(dose, unsure, ("It is strange.",)), *given), REQUEST)
    assert [word in one for word, one in zip(("disagree", "It is strange."), doubts, strict=True)] == [1, 1]
    assert figures(None, *given) == {}
    assert cautions({}, replace(REQUEST, dose_note="None is approved.")) == ("None is approved.",)


def test_some_directions_stand_for_all_that_an_arc_passes() -> None:
    turn = [float(angle) for angle in range(0, 360, 2)]
    taken = [beam.gantry for beam in standing(turn, np.zeros(3), turning=True)]
    assert len(taken) == 18
    assert np.diff(taken) == pytest.approx(20.0, abs=2.0)
    fields = [0.0, 40.0, 200.0]
    assert [beam.gantry for beam in standing(fields, np.zeros(3))] == fields
