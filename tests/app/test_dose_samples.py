"""Samples of patients with doses are parts of these patients, however they are turned."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from app.dose_material import DoseSource, ReadyDose, prepare_doses, read_whole, split_doses
from app.dose_samples import DoseSamples, Varied
from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.predict.aimed import coplanar
from planning.predict.channels import Sees, chosen, names_of
from planning.predict.lattice import Sizes
from planning.predict.patient import Patient
from planning.predict.site import read_site

SITE = read_site("openkbp")
FAR = [name.startswith("distance") for name in names_of(SITE, Sees())]
STILL = Varied(turned=0.0)


def ball(path: Path) -> Patient:
    """A ball of water with a ball of a target in its middle, and a dose that falls away from it."""
    radius = float(path.read_text(encoding="utf-8"))
    grid = axial(np.full(3, -80.0), np.full(3, 80.0), (5.0, 5.0, 4.0))
    body, ptv = sphere(grid, np.zeros(3), 70.0), sphere(grid, np.zeros(3), radius)
    dose = torch.where(ptv, 70.0, 35.0) * body
    drawn = {"PTV70": Structure(ptv, RoiType.PTV, (255, 0, 0), 70.0)}
    return Patient(
        Volume(torch.where(body, 0.0, -1000.0)[None], grid, Quantity.HU),
        StructureSet(grid, drawn),
        Volume(body[None].to(torch.uint8), grid, Quantity.LABEL),
        Volume(dose[None], grid, Quantity.DOSE),
    )


def dose_less(path: Path) -> Patient:
    one = ball(path)
    return Patient(one.ct, one.structures, one.possible)


@pytest.fixture
def ready(tmp_path: Path) -> list[ReadyDose]:
    for n, radius in enumerate((20, 25, 30)):
        (tmp_path / f"{n}.txt").write_text(str(radius), encoding="utf-8")
    sources = [DoseSource(tmp_path / f"{n}.txt", ball) for n in range(3)]
    found, left_out = prepare_doses(sources, SITE, Sizes(), tmp_path / "ready", lambda *_: None)
    assert not left_out
    return found


def samples(ready: list[ReadyDose], varied: Varied, shape: tuple[int, int, int]) -> DoseSamples:
    return DoseSamples(ready, chosen(SITE, Sees()), FAR, shape, varied, seed=3)


def test_a_still_sample_is_a_window_of_its_patient_or_of_its_mirror_image(ready: list[ReadyDose]) -> None:
    with safe_open(ready[0].path, framework="pt") as file:
        dose, size = file.get_tensor("dose"), file.get_tensor("bits").shape
    wide = samples(ready[:1], STILL, (size[0] + 8, size[1] - 8, size[2]))
    one = wide[0]
    assert one["image"].shape == (len(FAR), size[0] + 8, size[1] - 8, size[2])
    windows = [whole[:, :, b : b + size[1] - 8] for whole in (dose, dose.flip(1)) for b in range(9)]
    inner = [one["dose"][:, a : a + size[0]] for a in range(9)]
    assert any(torch.equal(w, i) for w in windows for i in inner)
    beyond = one["image"][:, 0] if float(one["known"][:, 0].sum()) == 0 else one["image"][:, -1]
    distance = FAR.index(True)
    assert float(beyond[distance].min()) == 1.0


def test_a_turned_ball_is_a_ball_with_its_dose(ready: list[ReadyDose]) -> None:
    shape = (48, 48, 48)
    still = samples(ready[:1], STILL, shape)[0]
    for n in range(4):
        turned = samples(ready[:1], Varied(turned=1.0, degrees=30.0, stretch=0.0), shape)[n]
        for part in ("known", "bits"):
            assert float((turned[part] > 0).sum()) == pytest.approx(float((still[part] > 0).sum()), rel=0.03)
        inside = turned["known"]
        assert float(turned["dose"][inside].min()) > 34.9  # not halved at the surface
        assert float(turned["dose"].max()) <= 70.01


def test_stretched_distances_still_grow_by_a_millimetre_a_millimetre(ready: list[ReadyDose]) -> None:
    how = Varied(turned=1.0, degrees=20.0, stretch=0.2)
    name = names_of(SITE, Sees()).index("distance PTV70")
    for n in range(4):
        far = 60 * samples(ready[:1], how, (48, 48, 48))[n]["image"][name].numpy()
        slope = np.linalg.norm(np.gradient(far, *ready[0].spacing), axis=0)
        assert np.median(slope[(far > 5) & (far < 40)]) == pytest.approx(1.0, abs=0.03)


def test_a_sample_depends_on_its_number_alone_and_all_patients_take_turns(ready: list[ReadyDose]) -> None:
    one, other = (samples(ready, Varied(), (32, 32, 32)) for _ in range(2))
    _ = other[7]
    for name, t in one[4].items():
        assert torch.equal(t, other[4][name])
    targets = [float((samples(ready, STILL, (48, 48, 48))[n]["bits"] > 0).sum()) for n in range(6)]
    assert sorted(targets[:3]) == sorted(targets[3:])
    assert len(set(targets)) == 3


def test_patients_are_made_once_and_told_why_they_are_left_out(tmp_path: Path) -> None:
    for n, radius in enumerate((20, 20, 25)):
        (tmp_path / f"{n}.txt").write_text(str(radius), encoding="utf-8")
    sources = [DoseSource(tmp_path / f"{n}.txt", ball) for n in range(2)]
    sources.append(DoseSource(tmp_path / "2.txt", dose_less))
    found, left_out = prepare_doses(sources, SITE, Sizes(), tmp_path / "ready", lambda *_: None)
    assert len(found) == 1
    assert left_out["patient 2"] == "it is the same as another one"
    assert "with the dose of a plan" in left_out["patient 3"]
    before = found[0].path.stat().st_mtime_ns
    again, _ = prepare_doses(sources, SITE, Sizes(), tmp_path / "ready", lambda *_: None)
    assert again == found
    assert again[0].path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="expected a patient with a dose, got none of 1"):
        prepare_doses(sources[2:], SITE, Sizes(), tmp_path / "ready", lambda *_: None)


def test_a_plans_own_beams_are_what_is_seen(tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_text("20", encoding="utf-8")
    front = coplanar([0.0], np.zeros(3))
    sources = [DoseSource(tmp_path / "0.txt", ball, beams=beams) for beams in (None, front)]
    found, _ = prepare_doses(sources, SITE, Sizes(), tmp_path / "ready", lambda *_: None)
    plane = [names_of(SITE, Sees()).index("beams all")]
    share = [read_whole(case, plane)["image"] for case in found]
    assert set(share[1].unique().tolist()) & {0.0, 1.0} == {0.0, 1.0}
    assert float(share[1].mean()) < float((share[0] > 0).float().mean())


def test_fewer_patients_are_among_more_and_nobody_is_in_both(tmp_path: Path) -> None:
    many = [ReadyDose(tmp_path, f"{n:02}", f"p{n // 2}", 70.0, (4.0, 4.0, 3.0)) for n in range(20)]
    split = [split_doses(many, (), {}, 0.2, most) for most in (3, 5, 0)]
    taught = [{c.patient for c in s.training} for s in split]
    assert taught[0] < taught[1] < taught[2]
    assert [len(t) for t in taught] == [3, 5, 8]
    assert all(not t & {c.patient for c in s.held_out} for t, s in zip(taught, split, strict=True))
    with pytest.raises(ValueError, match="got one in both"):
        split_doses(many, many[:1], {}, 0.2)


def test_variations_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="share of 0 to 1"):
        Varied(turned=2.0)
