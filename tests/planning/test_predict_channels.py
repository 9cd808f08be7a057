"""What a predictor sees, against closed forms: distances of balls, shadows of boxes, doses brought back."""

import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial, positions
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.predict.aimed import aimed, coplanar, covered
from planning.predict.channels import Sees, chosen, names_of, seen
from planning.predict.distances import signed_distance
from planning.predict.lattice import Sizes, brought, lattice_of, returned
from planning.predict.patient import Patient
from planning.predict.site import read_site

GRID = axial(np.full(3, -60.0), np.full(3, 60.0), (4.0, 4.0, 3.0))
OPENKBP, BRAIN = read_site("openkbp"), read_site("brain")


def patient(grid: Grid = GRID, prescription: float = 70.0, target: str = "PTV70") -> Patient:
    body = sphere(grid, np.zeros(3), 55.0)
    ptv, organ = sphere(grid, np.array([15.0, 0, 0]), 16.0), sphere(grid, np.array([-25.0, 5, 0]), 9.0)
    organ_name = "LeftParotid" if target == "PTV70" else "Eye_L"
    drawn = {
        target: Structure(ptv, RoiType.PTV, (255, 0, 0), prescription),
        organ_name: Structure(organ, RoiType.ORGAN, (0, 255, 0)),
    }
    hu = torch.where(body, 0.0, -1000.0)[None]
    away = torch.from_numpy(np.linalg.norm(lattice(grid) - [15.0, 0, 0], axis=-1)).float()
    dose = (prescription * torch.exp(-((away / 40) ** 2)) * body)[None]
    return Patient(
        Volume(hu, grid, Quantity.HU),
        StructureSet(grid, drawn),
        Volume(body[None].to(torch.uint8), grid, Quantity.LABEL),
        Volume(dose, grid, Quantity.DOSE),
    )


def lattice(grid: Grid) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    return positions(grid, index.reshape(-1, 3).astype(float)).reshape(*grid.shape, 3)


def test_distances_from_a_ball_are_those_from_its_middle_less_its_radius() -> None:
    signed = signed_distance(sphere(GRID, np.zeros(3), 30.0), GRID).numpy()
    true = np.linalg.norm(lattice(GRID), axis=-1) - 30.0
    assert np.abs(signed - true).max() < 3.5  # mm, of voxels whose diagonal is 6.4
    assert abs((signed - true).mean()) < 0.7


def test_distances_from_a_half_space_are_exact() -> None:
    mask = torch.zeros(GRID.shape, dtype=torch.bool)
    mask[:10] = True
    signed = signed_distance(mask, GRID)[:, 5, 5]
    expected = torch.tensor([4.0 * (n - 9) - 1.5 if n > 9 else 1.5 - 4.0 * (10 - n) for n in range(30)])
    # Inside, the grid's own border is a surface too.
    assert torch.allclose(signed[6:], expected[6:])


def test_an_empty_structure_has_no_distance() -> None:
    with pytest.raises(ValueError, match="an empty one"):
        signed_distance(torch.zeros(GRID.shape, dtype=torch.bool), GRID)


@pytest.mark.parametrize(("gantry", "axis"), [(0.0, 1), (90.0, 0), (180.0, 1), (270.0, 0)])
def test_a_beam_covers_the_shadow_of_its_target(gantry: float, axis: int) -> None:
    box = np.abs(lattice(GRID)).max(axis=-1) < 14.0
    beam = coplanar([gantry], np.zeros(3))[0]
    places = lattice(GRID).reshape(-1, 3)
    inside = covered(torch.from_numpy(box), GRID, beam, places).reshape(GRID.shape)
    across = np.delete(np.abs(lattice(GRID)), axis, axis=-1)
    # The field reaches 5 mm beyond 12 or 15 mm, narrowing or widening by 60 / 1000 along the way.
    assert inside[(across < 12.0).all(axis=-1)].min() == pytest.approx(1.0)
    assert inside[(across > 28.0).any(axis=-1)].max() == 0.0


def test_beams_widen_behind_the_isocentre() -> None:
    ball = sphere(GRID, np.zeros(3), 20.0)
    front = Beam(0.0, 0.0, 0.0, np.zeros(3))
    y = np.array([-55.0, 55.0])  # towards the source of gantry 0, and away from it
    reach = [
        np.interp(0.5, covered(ball, GRID, front, points)[::-1], x[::-1])
        for points, x in ((np.stack([x, np.full(200, at), 0 * x], -1), x) for at in y for x in [X])
    ]
    assert reach[1] / reach[0] == pytest.approx((1000 + 55) / (1000 - 55), rel=0.01)


X = np.linspace(0.0, 50.0, 200)


def test_nine_equidistant_beams_meet_in_the_target_and_thin_out_around_it() -> None:
    one = patient()
    target, body = one.structures.mask("PTV70"), one.possible.data[0] > 0
    density = Volume(body[None].float(), GRID, Quantity.DENSITY)
    share, fields = aimed([target], body, density, coplanar(OPENKBP.gantry, np.array([15.0, 0, 0])))
    assert float(share[0][target].min()) == 1.0
    assert float(fields[0][target].mean()) == pytest.approx(1.0, abs=0.05)
    assert float(share[0][sphere(GRID, np.array([-30.0, 0, 0]), 10.0)].mean()) < 0.5
    away = torch.from_numpy(np.abs(lattice(GRID)[..., 2]) > 35.0) & body
    assert float(share[0][away].max()) == 0.0  # no coplanar beam leaves its slices
    assert float(share[0][~body].max()) == 0.0
    with pytest.raises(ValueError, match="got none; switch beams off"):
        aimed([target], body, density, ())


def test_opposed_beams_in_water_attenuate_to_the_same_on_both_sides() -> None:
    grid = axial(np.full(3, -50.0), np.full(3, 50.0), (5.0,) * 3)
    body, ball = torch.ones(grid.shape, dtype=torch.bool), sphere(grid, np.zeros(3), 15.0)
    water = Volume(torch.ones(1, *grid.shape), grid, Quantity.DENSITY)
    _, fields = aimed([ball], body, water, coplanar([0.0, 180.0], np.zeros(3)))
    along = fields[0, 10, :, 10]
    assert torch.allclose(along, along.flip(0), atol=1e-3)
    _, one = aimed([ball], body, water, coplanar([0.0], np.zeros(3)))
    mid = one[0, 10, :, 10]
    # 30 mm deeper: exponential of depth times the inverse square of distance.
    expected = np.exp(-0.0046 * 30.0) * ((1000 - 17.5) / (1000 + 12.5)) ** 2
    assert float(mid[12] / mid[6]) == pytest.approx(expected, rel=1e-3)


def test_planes_are_named_and_can_be_switched_off() -> None:
    every = names_of(OPENKBP, Sees())
    assert len(set(every)) == len(every) == len(seen(patient(), OPENKBP).planes)
    without = names_of(OPENKBP, Sees(beams=False, distances=False))
    assert not [n for n in without if n.startswith(("beams", "fields", "distance PTV"))]
    assert [every[n] for n in chosen(OPENKBP, Sees(beams=False, distances=False))] == list(without)
    assert names_of(OPENKBP, Sees(False, False, False, False, False)) == (
        "density",
        "possible",
        "PTV70",
        "PTV63",
        "PTV56",
    )


def test_a_patient_is_shown_on_its_own_voxels_without_loss() -> None:
    one = patient()
    found = seen(one, OPENKBP)
    assert np.allclose(found.grid.spacing, GRID.spacing)
    assert found.dose is not None
    inside = one.possible.data > 0
    back = returned(found.dose, found.known, found.grid, one.possible)
    assert one.dose is not None
    assert torch.allclose(back[inside], one.dose.data[inside], atol=1e-3)
    plane = dict(zip(names_of(OPENKBP, Sees()), found.planes, strict=True))
    assert float(plane["PTV70"].max()) == pytest.approx(1.0)
    assert float(plane["distance PTV63"].min()) == 1.0  # no such target: far everywhere
    assert float(plane["density"][found.known].mean()) == pytest.approx(1.0, abs=0.01)
    bit = [d.name for d in OPENKBP.structures].index("LeftParotid")
    n_bits = int(((found.bits >> bit) & 1).sum())
    assert n_bits == int(one.structures.mask("LeftParotid").sum())


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (6.5, 6.5, 5.0)])
def test_doses_survive_other_voxels_there_and_back(spacing: tuple[float, float, float]) -> None:
    grid = axial(np.full(3, -60.0), np.full(3, 60.0), spacing)
    one = patient(grid)
    found = seen(one, OPENKBP, Sizes((4.0, 4.0, 3.0), (4.0, 4.0, 3.0)))
    assert np.allclose(found.grid.spacing, (4.0, 4.0, 3.0))
    assert found.dose is not None
    assert one.dose is not None
    back = returned(found.dose, found.known, found.grid, one.possible)
    inside = one.possible.data > 0
    assert float((back - one.dose.data)[inside].abs().mean()) < 0.7  # Gy of 70
    assert float(back[~inside].abs().max()) == 0.0


def test_a_constant_dose_is_the_same_up_to_the_surface() -> None:
    one = patient()
    flat = Volume(torch.full((1, *GRID.shape), 50.0) * one.possible.data, GRID, Quantity.DOSE)
    there = axial(np.full(3, -60.0), np.full(3, 60.0), (7.0, 7.0, 6.0))
    dose, known = brought(flat, one.possible, there)
    assert torch.allclose(dose[0][known], torch.tensor(50.0))
    back = returned(dose, known, there, one.possible)
    assert torch.allclose(back[one.possible.data > 0], torch.tensor(50.0))


def test_a_turned_scan_is_shown_upright() -> None:
    turned = GRID.affine.copy()
    turned[:, [0, 1]] = turned[:, [1, 0]]  # i runs along y, j along x
    one = patient(Grid(GRID.shape, turned))
    grid = lattice_of(one.possible, Sizes())
    assert np.allclose(np.diag(grid.affine)[:3], GRID.spacing)
    straight, again = seen(patient(), OPENKBP), seen(one, OPENKBP)
    assert again.dose is not None
    assert straight.dose is not None
    assert float(again.dose.sum()) == pytest.approx(float(straight.dose.sum()), rel=0.01)


def test_a_mirrored_patient_is_seen_mirrored() -> None:
    one = patient()
    flipped = Patient(
        Volume(one.ct.data.flip(1), GRID, Quantity.HU),
        StructureSet(
            GRID,
            {n: Structure(s.mask.flip(0), s.kind, s.color, s.prescription_gy) for n, s in _sides(one)},
        ),
        Volume(one.possible.data.flip(1), GRID, Quantity.LABEL),
    )
    assert torch.allclose(seen(flipped, OPENKBP).planes, seen(one, OPENKBP).planes.flip(1), atol=0.03)


def _sides(one: Patient) -> list[tuple[str, Structure]]:
    other = {"LeftParotid": "RightParotid"}
    return [(other.get(n, n), s) for n, s in one.structures.structures.items()]


def test_styles_and_prescriptions_are_told() -> None:
    one = patient(prescription=54.0, target="PTV")
    name = BRAIN.styles[1]
    plane = dict(zip(names_of(BRAIN, Sees()), seen(one, BRAIN, style=name).planes, strict=True))
    assert float(plane["PTV"].max()) == pytest.approx(54 / 60)
    assert [float(plane[f"style {s}"].max()) for s in BRAIN.styles] == [0.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="expected a style of"):
        seen(one, BRAIN, style="hasty")


def test_what_cannot_be_shown_is_refused() -> None:
    one = patient()
    nowhere = Volume(torch.zeros_like(one.possible.data), GRID, Quantity.LABEL)
    with pytest.raises(ValueError, match="where dose may be, got none"):
        lattice_of(nowhere, Sizes())
    with pytest.raises(ValueError, match="three positive sides"):
        Sizes((4.0, 4.0, 3.0), (3.0, 4.0, 3.0))
    empty = Structure(torch.zeros(GRID.shape, dtype=torch.bool), RoiType.PTV, (0, 0, 0), 56.0)
    more = StructureSet(GRID, {**one.structures.structures, "PTV56": empty})
    with pytest.raises(ValueError, match="target PTV56 with voxels"):
        seen(Patient(one.ct, more, one.possible), OPENKBP)
