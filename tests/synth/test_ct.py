import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial
from imaging.phantoms import sphere
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.composition import CORTICAL_BONE, hounsfield
from synth.ct import CtRecipe, noise_power, reconstructed, response, true_ct
from synth.metal import backprojected, crowns, projector, streaks, with_fillings
from synth.subject import Subject

FINE = axial(np.full(3, -40.0), np.full(3, 40.0), (1.6, 1.6, 1.6))
GRID = axial(np.full(3, -40.0), np.full(3, 40.0), (2.0, 2.0, 2.0))
STILL = CtRecipe(
    noise=(0.0, 0.0), texture=0.0, variation=0.0, cortical=(1.0, 1.0), trabecular=(1.0, 1.0), dental=0.0
)


def skull() -> Subject:
    """A ball of grey matter in a shell of bone, skin around it."""
    data = torch.zeros(FINE.shape, dtype=torch.uint8)
    for radius, tissue in ((36.0, Tissue.SCALP), (31.0, Tissue.SKULL), (23.0, Tissue.GREY)):
        data[sphere(FINE, np.zeros(3), radius)] = int(tissue)
    return subject(data)


def subject(data: torch.Tensor) -> Subject:
    labels = Volume(data[None], FINE, Quantity.LABEL)
    return Subject(labels, Volume(torch.zeros_like(labels.data), FINE, Quantity.LABEL))


def scan(recipe: CtRecipe, seed: int = 0, who: Subject | None = None, grid: Grid = GRID) -> dict[str, Volume]:
    return true_ct(who or skull(), recipe, torch.Generator().manual_seed(seed), grid)[0]


def test_a_ct_comes_with_electron_and_mass_density_and_what_was_drawn() -> None:
    volumes, traits = true_ct(skull(), CtRecipe(), torch.Generator().manual_seed(0), GRID)
    assert {name: v.quantity for name, v in volumes.items()} == {
        "ct": Quantity.HU,
        "electron_density": Quantity.DENSITY,
        "mass_density": Quantity.MASS_DENSITY,
    }
    assert all(v.grid == GRID for v in volumes.values())
    assert json.loads(json.dumps(traits)) == traits
    assert traits["kernel"] in ("soft", "standard", "bone")


def test_densities_are_the_same_whatever_the_noise() -> None:
    quiet, loud = scan(CtRecipe(noise=(0.0, 0.0))), scan(CtRecipe(noise=(60.0, 60.0)))
    assert torch.equal(quiet["electron_density"].data, loud["electron_density"].data)
    assert torch.equal(quiet["mass_density"].data, loud["mass_density"].data)
    assert not torch.equal(quiet["ct"].data, loud["ct"].data)


def test_one_seed_gives_the_same_bits_whatever_the_number_of_threads() -> None:
    data = skull().labels.data[0].clone()
    data[10:13, 24:27, 20:24] = int(Tissue.METAL)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = scan(CtRecipe(), 4, subject(data))
        torch.set_num_threads(2)
        two = scan(CtRecipe(), 4, subject(data))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one[name].data, two[name].data) for name in one)


def middle(volume: Volume) -> float:
    return float(volume.data[0, 19:21, 19:21, 19:21].mean())


def test_grey_matter_has_its_ct_number_and_densities() -> None:
    volumes = scan(STILL)
    # Texture within soft tissue has a standard deviation of 2 HU and no mean.
    assert middle(volumes["ct"]) == pytest.approx(39, abs=4)
    assert middle(volumes["electron_density"]) == pytest.approx(1.0343, abs=4e-3)
    assert middle(volumes["mass_density"]) == pytest.approx(1.039, abs=4e-3)


def test_bone_and_its_densities_grow_with_the_subjects_bone() -> None:
    def bone(factor: float) -> dict[str, float]:
        volumes = scan(replace(STILL, cortical=(factor, factor)))
        ring = GRID.affine[0, 3] + 2.0 * np.arange(GRID.shape[0])
        at = int(np.abs(ring - 27).argmin())
        return {name: float(v.data[0, at, 19:21, 19:21].mean()) for name, v in volumes.items()}

    thin, dense = bone(0.8), bone(1.2)
    assert thin["ct"] == pytest.approx(0.8 * 1150, abs=25)
    assert dense["ct"] == pytest.approx(1.2 * 1150, abs=25)
    # The stoichiometric line between marrow and compact bone: Δρe per ΔHU.
    slope = (1.7806 - 1.0231) / (hounsfield(CORTICAL_BONE, 1.92) - 11.2)
    assert dense["electron_density"] - thin["electron_density"] == pytest.approx(slope * 0.4 * 1150, rel=0.02)
    assert dense["mass_density"] > thin["mass_density"] > 1.4


def test_densities_of_a_mixed_voxel_are_means_by_volume() -> None:
    # Mass is kept: the mean over the coarse grid is that over the fine one.
    volumes = scan(STILL)
    data = skull().labels.data[0]
    shares = {
        t: float((data == t).double().mean())
        for t in (Tissue.OUTSIDE, Tissue.SCALP, Tissue.SKULL, Tissue.GREY)
    }
    density = {Tissue.OUTSIDE: 0.001205, Tissue.SCALP: 1.0524, Tissue.SKULL: 1.69990, Tissue.GREY: 1.0393}
    expected = sum(shares[t] * density[t] for t in shares)
    assert float(volumes["mass_density"].data.double().mean()) == pytest.approx(expected, rel=2e-3)


def test_air_around_the_head_is_minus_a_thousand_also_beyond_the_subjects_grid() -> None:
    wide = axial(np.full(3, -60.0), np.full(3, 60.0), (2.0, 2.0, 2.0))
    volumes = scan(STILL, grid=wide)
    assert float(volumes["ct"].data[0, 0].mean()) == pytest.approx(-1000, abs=1)


@pytest.mark.parametrize("kernel", ["soft", "standard", "bone"])
def test_noise_of_filtered_backprojection_has_no_slow_waves(kernel: str) -> None:
    flat = torch.zeros(128, 128, 24)
    noise = reconstructed(flat, (1.0, 1.0), kernel, 10.0, torch.Generator().manual_seed(0)).numpy()
    power = (np.abs(np.fft.fft2(noise, axes=(0, 1))) ** 2).mean(axis=2)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128), indexing="ij"))
    slow, top = power[(f > 0) & (f < 0.02)].mean(), power[(f > 0.15) & (f < 0.25)].mean()
    assert slow < 0.15 * top
    # Where the kernel still passes everything, power follows the ramp.
    low, twice = power[(f > 0.03) & (f < 0.05)].mean(), power[(f > 0.07) & (f < 0.09)].mean()
    expected = noise_power(np.array([0.08]), kernel) / noise_power(np.array([0.04]), kernel)
    assert twice / low == pytest.approx(float(expected[0]), rel=0.12)


def test_the_standard_kernel_has_the_noise_asked_for_and_bone_more_and_soft_less() -> None:
    flat = torch.zeros(96, 96, 12)
    std = {
        kernel: float(reconstructed(flat, (1.0, 1.0), kernel, 7.0, torch.Generator().manual_seed(1)).std())
        for kernel in ("soft", "standard", "bone")
    }
    assert std["standard"] == pytest.approx(7.0, rel=0.02)
    assert std["soft"] < std["standard"] < std["bone"]


@pytest.mark.parametrize("kernel", ["soft", "standard", "bone"])
def test_a_kernel_keeps_the_mean_and_falls_to_a_half_where_it_says(kernel: str) -> None:
    from synth.ct import KERNELS

    assert float(response(np.array([0.0]), kernel)[0]) == 1.0
    assert float(response(np.array([KERNELS[kernel][0]]), kernel)[0]) == pytest.approx(0.5)
    image = torch.rand(40, 44, 3, generator=torch.Generator().manual_seed(2))
    out = reconstructed(image, (1.0, 1.0), kernel, 0.0, torch.Generator())
    assert torch.allclose(out.mean(dim=(0, 1)), image.mean(dim=(0, 1)), atol=1e-5)


def test_the_bone_kernel_enhances_edges_and_others_do_not() -> None:
    frequency = np.linspace(0, 0.5, 200)
    assert response(frequency, "bone").max() > 1.05
    assert response(frequency, "standard").max() == 1.0


def disc(n: int, radius: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    c = np.arange(n) - (n - 1) / 2
    return (((c[:, None] - x) ** 2 + (c[None, :] - y) ** 2) < radius**2).astype(np.float32)


def test_projections_of_a_disc_are_its_chords_and_backproject_to_it() -> None:
    image = disc(80, 25.0)
    matrix, (n_angles, n_bins) = projector((80, 80))
    rays = np.asarray(matrix @ image.reshape(-1, 1)).reshape(n_angles, n_bins)
    assert rays.sum(axis=1) == pytest.approx(np.full(n_angles, image.sum()), rel=1e-5)
    assert rays[0].max() == pytest.approx(50, abs=1.5)
    back = backprojected(matrix, rays[None], (80, 80))[0]
    assert back[30:50, 30:50].mean() == pytest.approx(1, abs=0.01)
    assert abs(back[2:8, 2:8].mean()) < 0.02


def water(n: int = 80) -> tuple[torch.Tensor, Grid]:
    grid = axial(np.array([-80.0, -80.0, -2.0]), np.array([80.0, 80.0, 2.0]), (2.0, 2.0, 2.0))
    return torch.from_numpy(disc(n, 34.0))[:, :, None].repeat(1, 1, 2), grid


def test_slices_without_metal_have_no_streaks() -> None:
    image, grid = water()
    none = torch.zeros_like(image)
    out = streaks(image, none, none, (12.0, 31.0), grid, torch.Generator())
    assert not bool(out.any())


def test_two_pieces_of_metal_leave_a_dark_band_between_them() -> None:
    image, grid = water()
    gold = torch.from_numpy(disc(80, 3.0, x=-15) + disc(80, 3.0, x=15))[:, :, None].repeat(1, 1, 2)
    gold[:, :, 1] = 0
    relative = image * (1 - gold) + 31.0 * gold
    out = streaks(
        relative, torch.zeros_like(gold), gold, (12.0, 31.0), grid, torch.Generator().manual_seed(0)
    )
    between, aside = out[34:46, 38:42, 0].mean(), out[34:46, 8:14, 0].mean()
    assert float(between) < -0.1
    assert float(between) < float(aside)
    assert not bool(out[:, :, 1].any())


def test_gold_streaks_more_than_titanium() -> None:
    image, grid = water()
    metal = torch.from_numpy(disc(80, 3.0, x=-15) + disc(80, 3.0, x=15))[:, :, None].repeat(1, 1, 2)
    none, beside = torch.zeros_like(metal), (image > 0) & (metal == 0)
    rough = {}
    for name, titanium, gold, value in (("titanium", metal, none, 12.0), ("gold", none, metal, 31.0)):
        relative = image * (1 - metal) + value * metal
        out = streaks(relative, titanium, gold, (12.0, 31.0), grid, torch.Generator().manual_seed(0))
        rough[name] = float(out[beside].abs().mean())
    assert rough["gold"] > 2 * rough["titanium"] > 0


def toothed() -> Subject:
    data = skull().labels.data[0].clone()
    data[20:30, 8:14, 10:16] = int(Tissue.TOOTH)
    return subject(data)


def test_crowns_sit_on_teeth_and_are_told() -> None:
    before = toothed()
    after = with_fillings(before, 1.0, torch.Generator().manual_seed(0))
    changed = after.labels.data != before.labels.data
    assert bool(changed.any())
    assert set(before.labels.data[changed].tolist()) == {int(Tissue.TOOTH)}
    assert set(after.labels.data[changed].tolist()) == {int(Tissue.METAL)}
    assert 1 <= after.traits["dental"]["crowns"] <= 5
    golden = crowns(after.labels)
    assert golden is not None
    assert torch.equal(golden, changed[0])


@pytest.mark.parametrize(("who", "probability"), [(toothed(), 0.0), (skull(), 1.0)])
def test_without_luck_or_teeth_there_are_no_crowns(who: Subject, probability: float) -> None:
    after = with_fillings(who, probability, torch.Generator().manual_seed(0))
    assert after.traits["dental"] == {"crowns": 0}
    assert torch.equal(after.labels.data, who.labels.data)
    assert crowns(after.labels) is None


def test_a_crown_is_as_dense_as_gold_and_a_plate_as_titanium() -> None:
    who = with_fillings(toothed(), 1.0, torch.Generator().manual_seed(0))
    assert float(scan(STILL, who=who)["mass_density"].data.max()) > 10
    data = skull().labels.data[0].clone()
    data[24:28, 24:28, 24:28] = int(Tissue.METAL)
    volumes = scan(STILL, who=subject(data))
    assert float(volumes["mass_density"].data.max()) == pytest.approx(4.51, rel=1e-4)
    # 22 electrons in 47.867 g/mol.
    assert float(volumes["electron_density"].data.max()) == pytest.approx(
        4.51 * 22 / 47.867 / 0.5551, rel=2e-3
    )
    assert float(volumes["ct"].data.max()) == 3071


def test_subjects_with_crowns_are_as_many_as_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    n = sum(with_fillings(toothed(), 0.3, generator).traits["dental"]["crowns"] > 0 for _ in range(120))
    assert n / 120 == pytest.approx(0.3, abs=0.12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kernels": ("smooth",)}, "kernels of soft, standard, bone, got smooth"),
        ({"kernels": ()}, "got none"),
        ({"noise": (-1.0, 3.0)}, "noise to ascend"),
        ({"dental": 2.0}, "dental to ascend between 0 and 1"),
        ({"cortical": (1.2, 0.8)}, "cortical to ascend"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(STILL, **change)


def test_bone_is_as_dense_as_the_anatomy_says() -> None:
    frail = replace(skull(), traits={"anatomy": {"bone_density": 0.7}, "dental": {"crowns": 0}})
    normal, less = (float(scan(STILL, who=who)["ct"].data.max()) for who in (skull(), frail))
    assert less == pytest.approx(0.7 * normal, rel=0.05)
