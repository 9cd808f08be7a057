import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from imaging.grid import Grid, axial
from imaging.nifti import read_nifti
from imaging.phantoms import sphere
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume, expect_finite
from planning.displacement import displaced, expect_displacement
from synth.anatomy import anatomy
from synth.contrast import Mprage, SpinEcho
from synth.mri import MriRecipe, images
from synth.protocol import Chance, Protocol, drawn, random_body, signal
from synth.subject import Subject
from synth.tables import physical_table, random_table

NEVER = Chance(0.0, 0.0, 0.0)
CLEAN = MriRecipe(
    bias=NEVER,
    thick=NEVER,
    motion=NEVER,
    ghosting=NEVER,
    gibbs=NEVER,
    wrap=NEVER,
    bottom=NEVER,
    crop=NEVER,
    deface=0.0,
    distortion=0.0,
    snr=(1e5, 1e5),
    white=(600.0, 600.0),
    t1_sequences=("mprage",),
    fields=(3.0,),
)


@pytest.fixture(scope="module")
def subject() -> Subject:
    labels = anatomy(3.0)
    return Subject(labels, Volume(torch.zeros_like(labels.data), labels.grid, Quantity.LABEL))


@pytest.fixture(scope="module")
def grid(subject: Subject) -> Grid:
    return axial(np.array([-84.0, -108.0, -96.0]), np.array([84.0, 108.0, 104.0]), (4.0, 4.0, 4.0))


def shot(subject: Subject, grid: Grid, recipe: MriRecipe, seed: int = 0) -> dict[str, Volume]:
    return images(subject, recipe, torch.Generator().manual_seed(seed), grid)[0]


def pure(subject: Subject, grid: Grid, *tissues: Tissue) -> torch.Tensor:
    """Voxels that hold nothing else."""
    from synth.sampling import sampled, voxel_taps

    table = torch.zeros(256)
    table[list(tissues)] = 1.0
    return sampled(subject.labels.data[0], table, voxel_taps(subject.labels.grid, grid)) > 0.999


def test_images_lie_on_the_grid_asked_for_with_what_was_drawn_as_json(subject: Subject, grid: Grid) -> None:
    volumes, traits = images(subject, MriRecipe(), torch.Generator().manual_seed(1), grid)
    assert {"t1", "t1c", "t2", "flair"} <= set(volumes)
    for name in ("t1", "t1c", "t2", "flair"):
        assert volumes[name].grid == grid
        expect_finite(volumes[name].expect(Quantity.MR))
        assert float(volumes[name].data.min()) >= 0
    assert json.loads(json.dumps(traits)) == traits
    assert traits["field"] in (1.5, 3.0)
    assert {"tr", "te", "sequence"} <= set(traits["t2"])


def test_one_seed_gives_the_same_bits_whatever_the_number_of_threads(subject: Subject, grid: Grid) -> None:
    always = Chance(1.0, 0.05, 0.3)
    recipe = MriRecipe(
        contrasts=("t1",),
        motion=always,
        ghosting=always,
        gibbs=Chance(1.0, 0.7, 0.8),
        wrap=always,
        distortion=1.0,
        deface=1.0,
    )
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = shot(subject, grid, recipe, 5)
        torch.set_num_threads(2)
        two = shot(subject, grid, recipe, 5)
    finally:
        torch.set_num_threads(threads)
    assert set(one) == set(two)
    assert all(torch.equal(one[name].data, two[name].data) for name in one)
    assert not torch.equal(one["t1"].data, shot(subject, grid, recipe, 6)["t1"].data)


def test_images_have_the_contrast_of_their_sequences(subject: Subject, grid: Grid) -> None:
    volumes = shot(subject, grid, CLEAN)

    def mean(name: str, tissue: Tissue) -> float:
        return float(volumes[name].data[0][pure(subject, grid, tissue)].mean())

    assert (
        mean("t1", Tissue.FAT) > mean("t1", Tissue.WHITE) > mean("t1", Tissue.GREY) > mean("t1", Tissue.CSF)
    )
    assert mean("t2", Tissue.CSF) > mean("t2", Tissue.GREY) > mean("t2", Tissue.WHITE)
    assert mean("flair", Tissue.CSF) < 0.2 * mean("flair", Tissue.WHITE)
    assert mean("t1", Tissue.WHITE) == pytest.approx(600, rel=0.05)
    assert mean("t2", Tissue.OUTSIDE) < 1


def test_a_tissue_is_as_bright_as_its_signal_equation_says(subject: Subject, grid: Grid) -> None:
    recipe = replace(CLEAN, contrasts=("t2",), t2=Protocol((4000.0, 4000.0), (90.0, 90.0)), variation=0.0)
    image = shot(subject, grid, recipe)["t2"].data[0]
    body = random_body(3.0, 0.0, torch.Generator())
    expected = signal(SpinEcho(4000.0, 90.0), body.pd, body.t1, body.t2, 3.0)
    white, csf = (float(image[pure(subject, grid, t)].mean()) for t in (Tissue.WHITE, Tissue.CSF))
    assert csf / white == pytest.approx(float(expected[Tissue.CSF] / expected[Tissue.WHITE]), rel=0.05)


def test_a_voxel_of_many_tissues_holds_the_mean_of_their_signals(subject: Subject, grid: Grid) -> None:
    body = random_body(3.0, 0.0, torch.Generator())
    table = physical_table(Mprage(), body)
    from synth.sampling import sampled, voxel_taps

    codes = subject.labels.data[0]
    taps = voxel_taps(subject.labels.grid, grid)
    whole = sampled(codes, table[:, 5].contiguous(), taps)
    parts = sum(float(table[t, 5]) * sampled(codes, torch.eye(24)[t].contiguous(), taps) for t in Tissue)
    assert torch.allclose(whole, torch.as_tensor(parts), atol=1e-5)


def test_contrast_agent_brightens_glands_and_leaves_csf(subject: Subject, grid: Grid) -> None:
    body = random_body(1.5, 0.0, torch.Generator())
    plain, agent = (physical_table(SpinEcho(550.0, 12.0), body, agent=a) for a in (False, True))
    assert float(agent[Tissue.GLAND, 5] / plain[Tissue.GLAND, 5]) > 1.2
    ratio = float(agent[Tissue.CSF, 5] / plain[Tissue.CSF, 5])
    assert ratio == pytest.approx(1, abs=0.05)


def test_flair_nulls_the_fluid_of_every_subject() -> None:
    generator = torch.Generator().manual_seed(0)
    for field in (1.5, 3.0):
        body = random_body(field, 0.05, generator)
        sequence = drawn("flair", MriRecipe().flair, float(body.t1[Tissue.CSF]), generator)
        table = physical_table(sequence, body)
        assert float(table[Tissue.CSF].max()) < 0.1


def test_thick_slices_stay_on_a_grid_of_their_own_if_asked(subject: Subject, grid: Grid) -> None:
    recipe = replace(
        CLEAN, contrasts=("t1",), thick=Chance(1.0, 8.0, 8.0), gap=(2.0, 2.0), orientations=("coronal",)
    )
    filled = shot(subject, grid, recipe)["t1"]
    native = shot(subject, grid, replace(recipe, native=True))["t1"]
    assert filled.grid == grid
    assert native.grid.spacing.tolist() == pytest.approx([4.0, 10.0, 4.0])
    rough = filled.data[0].diff(dim=1).abs().mean()
    assert float(rough) < float(
        shot(subject, grid, replace(CLEAN, contrasts=("t1",)))["t1"].data[0].diff(dim=1).abs().mean()
    )


def test_a_displacement_takes_its_image_back_and_not_further_away() -> None:
    fine = axial(np.full(3, -40.0), np.full(3, 40.0), (1.0, 1.0, 1.0))
    data = torch.where(sphere(fine, np.zeros(3), 38.0), int(Tissue.GREY), int(Tissue.OUTSIDE))
    for place in np.random.default_rng(0).uniform(-25, 25, (40, 3)):
        data[sphere(fine, place, 5.0)] = int(Tissue.WHITE)
    data[sphere(fine, np.array([0.0, -5.0, 5.0]), 7.0)] = int(Tissue.AIR)
    labels = Volume(data.to(torch.uint8)[None], fine, Quantity.LABEL)
    ball = Subject(labels, Volume(torch.zeros_like(labels.data), fine, Quantity.LABEL))
    grid = axial(np.full(3, -40.0), np.full(3, 40.0), (2.0, 2.0, 2.0))
    recipe = replace(
        CLEAN, contrasts=("t2",), bandwidth=(90.0, 90.0), gradient_error=(5.0, 5.0), distortion=1.0
    )
    bent = shot(ball, grid, recipe, 3)
    u = expect_displacement(bent["displacement"])
    assert u.grid == grid
    assert float(u.data.abs().max()) > 2
    true = shot(ball, grid, replace(recipe, distortion=0.0), 3)["t2"].data[0]
    inside = pure(ball, grid, Tissue.GREY, Tissue.WHITE)

    def likeness(image: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([image[inside], true[inside]]))[0, 1])

    back, worse = (displaced(bent["t2"], u, factor).data[0] for factor in (1.0, -1.0))
    assert likeness(back) > 0.9
    assert likeness(worse) < likeness(back) - 0.01


def test_metal_leaves_a_void_larger_than_itself(subject: Subject, grid: Grid) -> None:
    data = subject.labels.data.clone()
    middle = [n // 2 for n in data.shape[1:]]
    data[0, middle[0] : middle[0] + 2, middle[1] : middle[1] + 2, middle[2] + 10 : middle[2] + 12] = int(
        Tissue.METAL
    )
    clipped = replace(subject, labels=replace(subject.labels, data=data))
    recipe = replace(CLEAN, contrasts=("t2", "t2star"))
    plain, metal = shot(subject, grid, recipe), shot(clipped, grid, recipe)
    lost = {
        name: int((metal[name].data < 0.3 * plain[name].data)[plain[name].data > 100].sum())
        for name in ("t2", "t2star")
    }
    # 2 × 2 × 2 voxels of 3 mm fill 3.4 voxels of 4 mm.
    assert lost["t2"] > 4
    assert lost["t2star"] > 2 * lost["t2"]


def test_defacing_removes_the_nose_from_every_contrast(subject: Subject, grid: Grid) -> None:
    volumes = shot(subject, grid, replace(CLEAN, deface=1.0, contrasts=("t1", "t2")))
    nose = grid.affine[1, 3] + 4.0 * np.arange(grid.shape[1]) < -88
    below = grid.affine[2, 3] + 4.0 * np.arange(grid.shape[2]) < -30
    for volume in volumes.values():
        assert float(volume.data[0][:, nose][:, :, below].max()) == 0
        assert float(volume.data[0][pure(subject, grid, Tissue.WHITE)].min()) > 0


def test_random_contrast_differs_from_image_to_image_and_between_clusters(
    subject: Subject, grid: Grid
) -> None:
    volumes = shot(subject, grid, replace(CLEAN, mode="randomised"), 2)
    white = pure(subject, grid, Tissue.WHITE)
    means = [float(volumes[name].data[0][white].mean()) for name in ("t1", "t1c", "t2", "flair")]
    assert np.ptp(means) > 50
    tables = [random_table(torch.Generator().manual_seed(seed)) for seed in range(12)]
    assert max(float(table[:, [1, 4, 7]].std(dim=1).mean()) for table in tables) > 0.02
    assert min(float(table.min()) for table in tables) >= 0


def test_a_subject_scanned_twice_differs_by_noise_as_told(subject: Subject, grid: Grid) -> None:
    recipe = replace(CLEAN, contrasts=("t1",), snr=(20.0, 20.0))
    air = pure(subject, grid, Tissue.OUTSIDE)
    background = shot(subject, grid, recipe)["t1"].data[0][air].double()
    # Rayleigh: the mean square is 2σ², σ = 600/20.
    assert float(background.square().mean().sqrt()) == pytest.approx(30 * 2**0.5, rel=0.02)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"contrasts": ("t9",)}, "contrasts of t1"),
        ({"contrasts": ()}, "got none"),
        ({"contrasts": ("t1", "t1")}, "each contrast once"),
        ({"mode": "magic"}, "mode of physics, randomised"),
        ({"fields": (7.0,)}, r"fields of 1\.5, 3"),
        ({"t1_sequences": ("epi",)}, "t1_sequences of spin_echo"),
        ({"orientations": ("tilted",)}, "orientations of"),
        ({"snr": (0.0, 10.0)}, "snr to ascend"),
        ({"white": (500.0, 100.0)}, "white to ascend"),
        ({"deface": 1.5}, "deface to ascend between 0 and 1"),
        ({"wrap": Chance(0.5, 0.1, 2.0)}, "wrap to ascend"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(CLEAN, **change)


def test_a_protocol_or_chance_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="fit into tr"):
        Protocol((100.0, 200.0), (150.0, 160.0))
    with pytest.raises(ValueError, match="above 0"):
        Protocol((0.0, 200.0), (1.0, 2.0))
    with pytest.raises(ValueError, match="from 0 to 1"):
        Chance(2.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="two finite numbers"):
        Protocol((100.0, float("inf")), (1.0, 2.0))


def test_fat_is_brighter_after_a_train_of_echoes_than_its_single_echo_t2_lets_it_be() -> None:
    # Henkelman et al. 1992: why fat is bright in RARE and fast spin-echo imaging.
    body = random_body(3.0, 0.0, torch.Generator())
    single = signal(SpinEcho(4000.0, 100.0), body.pd, body.t1, body.t2, 3.0)
    table = physical_table(SpinEcho(4000.0, 100.0), body)
    assert float(table[Tissue.FAT].mean()) > 1.5 * float(single[Tissue.FAT] / single[Tissue.WHITE])
    assert float(table[Tissue.SCALP].mean()) < 1.0


def test_a_cropped_native_scan_has_a_smaller_grid_and_the_same_one_is_dark_outside(
    subject: Subject, grid: Grid
) -> None:
    recipe = replace(CLEAN, contrasts=("t1",), bottom=Chance(1.0, 0.3, 0.3))
    dark, small = (shot(subject, grid, replace(recipe, native=n))["t1"] for n in (False, True))
    cut = grid.shape[2] - small.grid.shape[2]
    assert cut == round(0.3 * grid.shape[2])
    assert float(dark.data[..., :cut].max()) == 0.0
    assert torch.equal(dark.data[..., cut:], small.data)
    assert small.grid.affine[2, 3] == pytest.approx(grid.affine[2, 3] + 4.0 * cut)


@pytest.mark.data
def test_signal_equations_predict_the_contrast_of_a_real_head(data: Path) -> None:
    # Colin27: spoiled gradient echo at 1.5 T, TR 18, TE 10 ms, 30 degrees (Holmes et al., J. Comput. Assist.
    # Tomogr. 22, 324 (1998)).
    labels = read_nifti(data / "head" / "colin27_labels.nii.gz", Quantity.LABEL)
    real = read_nifti(data / "head" / "colin27_t1.nii.gz", Quantity.MR).data[0].float()
    labels = replace(labels, data=labels.data.to(torch.uint8))
    head = Subject(labels, replace(labels, data=torch.zeros_like(labels.data)))
    fixed = Protocol((18.0, 18.0), (10.0, 10.0), flip=(30.0, 30.0))
    recipe = replace(
        CLEAN,
        contrasts=("t1",),
        fields=(1.5,),
        t1_sequences=("gradient_echo",),
        t1_gradient_echo=fixed,
        variation=0.0,
    )
    made = shot(head, labels.grid, recipe)["t1"].data[0]

    def brightness(image: torch.Tensor, tissue: Tissue) -> float:
        inside = binary_erosion((labels.data[0] == tissue).numpy())
        return float(np.median(image.numpy()[inside]))

    for tissue, within in ((Tissue.GREY, 0.06), (Tissue.CSF, 0.1), (Tissue.SCALP, 0.15)):
        ratios = [brightness(image, tissue) / brightness(image, Tissue.WHITE) for image in (made, real)]
        assert ratios[0] == pytest.approx(ratios[1], abs=within)
