"""Dose predictors learn, go on where they were stopped, and predict on any voxels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from app.dose_material import DoseSource
from app.predict_dose import load_predictor, predict_folder
from app.train_dose import DoseRun, train_dose
from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from models.dose_unet import dose_unet
from models.fit import Fit
from models.weights import expect_small
from planning.predict.channels import Sees
from planning.predict.patient import Patient
from planning.predict.predicted import predicted
from planning.predict.site import read_site

TINY = {"features": (4, 4, 4, 4, 4, 4), "stages": 2}
RUN = DoseRun(
    read_site("openkbp"), fit=Fit(steps=6, warmup=1, checkpoint_s=0.0), shape=(32, 32, 32), net=TINY
)


def made(at: float, spacing: float = 5.0, sides: bool = True) -> Patient:
    """A ball of water with a target beside its middle; the dose falls with the distance from the target."""
    grid = axial(np.full(3, -60.0), np.full(3, 60.0), (spacing, spacing, min(spacing, 4.0)))
    body, ptv = sphere(grid, np.zeros(3), 50.0), sphere(grid, np.array([at, 0, 0]), 15.0)
    organ = sphere(grid, np.array([-at, 0, 0]), 10.0)
    dose = (torch.where(ptv, 70.0, 30.0) * body)[None]
    drawn = {
        "PTV70": Structure(ptv, RoiType.PTV, (255, 0, 0), 70.0),
        "LeftParotid" if sides else "RightParotid": Structure(organ, RoiType.ORGAN, (0, 255, 0)),
    }
    return Patient(
        Volume(torch.where(body, 0.0, -1000.0)[None], grid, Quantity.HU),
        StructureSet(grid, drawn),
        Volume(body[None].to(torch.uint8), grid, Quantity.LABEL),
        Volume(dose, grid, Quantity.DOSE),
    )


def read(path: Path) -> Patient:
    return made(float(path.read_text(encoding="utf-8")))


@pytest.fixture
def sources(tmp_path: Path) -> list[DoseSource]:
    for n in range(4):
        (tmp_path / f"{n}.txt").write_text(str(5.0 * n), encoding="utf-8")
    return [DoseSource(tmp_path / f"{n}.txt", read) for n in range(4)]


def quiet(_: str, __: float) -> None: ...


def stopping(after: int):
    seen = []

    def progress(title: str, _: float) -> None:
        seen.append(title)
        if sum(t.startswith("Training") for t in seen) > after:
            raise KeyboardInterrupt

    return progress


def test_a_training_leaves_weights_a_card_and_curves(sources: list[DoseSource], tmp_path: Path) -> None:
    out = tmp_path / "run"
    took = train_dose(RUN, sources, out, quiet)
    assert took["steps"] == 6
    assert took["patients"] == {"training": 3, "held out": 1, "left out": {}}
    assert {"dose.safetensors", "losses.png", "watch.png"} <= {p.name for p in out.iterdir()}
    card = json.loads((out / "dose.json").read_text(encoding="utf-8"))
    assert card["metrics"]["held_out"] == took["held_out"]
    assert "not a medical device" in card["limits"]
    assert not any(str(tmp_path) in str(value) for value in card.values())
    predictor = load_predictor([out / "dose.safetensors"])
    assert predictor.config.sees == Sees()
    assert predictor.site.name == "openkbp"


def test_a_killed_training_goes_on_to_the_same_bits(sources: list[DoseSource], tmp_path: Path) -> None:
    shared = tmp_path / "ready"
    train_dose(RUN, sources, tmp_path / "whole", quiet, prepared=shared)
    with pytest.raises(KeyboardInterrupt):
        train_dose(RUN, sources, tmp_path / "killed", stopping(3), prepared=shared)
    train_dose(RUN, sources, tmp_path / "killed", quiet, prepared=shared)
    one, other = (load_file(tmp_path / name / "dose.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(t, other[name]) for name, t in one.items())
    with pytest.raises(ValueError, match="that this run began with, got others"):
        train_dose(replace(RUN, histogram=0.0), sources, tmp_path / "killed", quiet, prepared=shared)


def test_learning_lowers_the_error_of_the_patient_that_is_learnt(
    sources: list[DoseSource], tmp_path: Path
) -> None:
    run = replace(RUN, fit=Fit(steps=40, warmup=5, learning_rate=5e-3, average=0.8, muon=True))
    few = replace(run, fit=Fit(steps=1, warmup=1))
    one, other = sources[:1], sources[1:2]
    before = train_dose(few, one, tmp_path / "few", quiet, validation=other, prepared=tmp_path / "ready")
    after = train_dose(run, one, tmp_path / "more", quiet, validation=other, prepared=tmp_path / "ready")
    assert after["loss"] < before["loss"]
    assert after["held_out"]["dose_gy"] < 0.5 * before["held_out"]["dose_gy"]
    assert after["held_out"]["histogram_gy"] < 0.5 * before["held_out"]["histogram_gy"]


def test_networks_that_see_less_have_fewer_planes(sources: list[DoseSource], tmp_path: Path) -> None:
    run = replace(RUN, sees=Sees(beams=False, surface=False), fit=Fit(steps=1, warmup=1))
    train_dose(run, sources, tmp_path / "less", quiet, prepared=tmp_path / "ready")
    weights = tmp_path / "less" / "dose.safetensors"
    assert load_predictor([weights]).config.net.inputs == RUN.config.net.inputs - 4
    train_dose(replace(RUN, fit=run.fit), sources, tmp_path / "all", quiet, prepared=tmp_path / "ready")
    with pytest.raises(ValueError, match="expected networks that see the same"):
        load_predictor([weights, tmp_path / "all" / "dose.safetensors"])
    with pytest.raises(ValueError, match="planes of the site brain"):
        load_predictor([weights], "brain")
    # Weights of a network that sees other planes are a start all the same.
    again = replace(RUN, fit=run.fit, start=weights)
    assert train_dose(again, sources, tmp_path / "on", quiet, prepared=tmp_path / "ready")["steps"] == 1


@pytest.fixture
def trained(sources: list[DoseSource], tmp_path: Path) -> list[Path]:
    out = []
    for seed in (0, 1):
        run = replace(RUN, seed=seed, fit=Fit(steps=2, warmup=1))
        train_dose(run, sources, tmp_path / f"seed{seed}", quiet, prepared=tmp_path / "ready")
        out.append(tmp_path / f"seed{seed}" / "dose.safetensors")
    return out


def test_predictions_lie_on_the_patients_own_voxels(trained: list[Path]) -> None:
    predictor = load_predictor(trained)
    means = []
    for spacing in (2.0, 5.0, 7.0):
        one = made(10.0, spacing)
        dose, sigma = predicted(one, predictor.nets, predictor.site, predictor.config)
        inside = one.possible.data > 0
        for volume in (dose, sigma):
            assert volume.grid == one.ct.grid
            assert float(volume.data[~inside].abs().max()) == 0.0
            assert float(volume.data.min()) >= 0.0
        assert float(sigma.data[inside].mean()) > 0.0
        means.append(float(dose.data[inside].mean()))
    assert means == pytest.approx([means[1]] * 3, rel=0.1)


def test_a_mirrored_patient_gets_the_mirrored_dose(trained: list[Path]) -> None:
    predictor = load_predictor(trained)
    dose, sigma = predicted(made(10.0), predictor.nets, predictor.site, predictor.config)
    mirrored, spread = predicted(made(-10.0, sides=False), predictor.nets, predictor.site, predictor.config)
    assert torch.allclose(dose.data.flip(1), mirrored.data, atol=0.1)
    assert torch.allclose(sigma.data.flip(1), spread.data, atol=0.1)


def test_a_folder_of_predictions_is_there_whole_or_not_at_all(
    trained: list[Path], sources: list[DoseSource], tmp_path: Path
) -> None:
    written = []

    def write(dose: Volume, patient: Patient, path: Path) -> None:
        assert dose.grid == patient.ct.grid
        path.write_text(",data\n", encoding="utf-8")
        written.append(path.name)

    predictor, folders = load_predictor(trained), [s.path for s in sources[:2]]
    took = predict_folder(folders, predictor, tmp_path / "said", quiet, read, write)
    assert took["patients"] == 2
    assert sorted(p.name for p in (tmp_path / "said").iterdir()) == sorted(written)

    def broken(path: Path) -> Patient:
        if path == folders[1]:
            raise ValueError("expected a patient, got none")
        return read(path)

    with pytest.raises(ValueError, match="expected a patient"):
        predict_folder(folders, predictor, tmp_path / "half", quiet, broken, write)
    assert not (tmp_path / "half").exists()
    with pytest.raises(ValueError, match="of different names"):
        predict_folder([folders[0]] * 2, predictor, tmp_path / "twice", quiet, read, write)
    with pytest.raises(ValueError, match="expected weights of a dose predictor"):
        load_predictor([])


@pytest.mark.parametrize("site", ["openkbp", "brain"])
def test_usual_networks_of_shipped_sites_may_be_shipped(site: str) -> None:
    expect_small(dose_unet(DoseRun(read_site(site)).config.net).state_dict())


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="--held-out between 0 and 1"):
        replace(RUN, held_out=1.0)
    with pytest.raises(ValueError, match="at most 16 MiB"):
        train_dose(replace(RUN, net={"features": (128,) * 6}), [], Path("nowhere"), quiet)
    with pytest.raises(ValueError, match="weight of histograms"):
        _ = replace(RUN, histogram=-1.0).config
