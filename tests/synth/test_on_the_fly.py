import hashlib
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import max_pool3d
from torch.utils.data import DataLoader

from imaging.grid import axial
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.anatomy import anatomy
from synth.looks import physical_look, random_look
from synth.on_the_fly import (
    Library,
    OnTheFly,
    generator_of,
    library,
    rendered,
    sample,
)
from synth.poses import places_of
from synth.quick_scan import Scan, scanned
from synth.randomisation import Randomisation
from synth.subject import Subject

STILL = Randomisation(
    (24, 28, 20), 8.0, rotation=0.0, scale=0.0, shift=0.0, deformation=0.0, randomised=0.0, artefacts=0.0
)
MOVED = replace(
    STILL, rotation=20.0, scale=0.15, shift=10.0, deformation=6.0, randomised=0.5, artefacts=0.5, cut=30.0
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def heads() -> Library:
    head = anatomy(4.0)
    return library([Subject(head, Volume(torch.zeros_like(head.data), head.grid, Quantity.LABEL))])


def digest(samples: list[dict[str, torch.Tensor]]) -> str:
    out = hashlib.sha256()
    for one in samples:
        out.update(one["image"].numpy().tobytes() + one["labels"].numpy().tobytes())
    return out.hexdigest()


def test_a_sample_depends_on_seed_and_index_alone_whoever_makes_it(heads: Library) -> None:
    stream = OnTheFly(heads, MOVED, seed=3, length=6)
    alone = digest([stream[n] for n in range(6)])
    for n_workers in (1, 2):
        loader = DataLoader(stream, batch_size=None, num_workers=n_workers)
        assert digest(list(loader)) == alone
    assert digest([stream[n] for n in reversed(range(6))][::-1]) == alone
    assert digest([OnTheFly(heads, MOVED, seed=4)[n] for n in range(6)]) != alone


def test_batches_hold_images_and_the_tissues_of_their_voxels(heads: Library) -> None:
    batch = next(iter(DataLoader(OnTheFly(heads, MOVED, seed=1), batch_size=3)))
    assert batch["image"].shape == (3, 1, *MOVED.shape)
    assert batch["labels"].shape == (3, *MOVED.shape)
    assert batch["labels"].dtype is torch.uint8
    assert 0 <= float(batch["image"].min()) <= float(batch["image"].max()) <= 1.5


def test_without_motion_the_head_comes_back_as_it_is() -> None:
    # Every other voxel of a lattice whose middle is the sample's middle, or its mirror image.
    labels = torch.randint(0, 6, (41, 41, 41), generator=generator(), dtype=torch.uint8)
    how = replace(STILL, shape=(21, 21, 21), spacing=2.0)
    found = sample(Library(labels[None], 1.0), how, generator(1))[1]
    wanted = labels[::2, ::2, ::2]
    assert torch.equal(found, wanted) or torch.equal(found, wanted.flip(0))


def test_organs_move_with_the_tissues_that_they_lie_in() -> None:
    labels = torch.randint(0, 6, (1, 48, 48, 48), generator=generator(), dtype=torch.uint8)
    heads = Library(labels, 8.0, organs=(labels * 3) % 17)
    made = OnTheFly(heads, replace(MOVED, cut=60.0), seed=5)
    for n in range(6):
        one = made[n]
        assert torch.equal(one["organs"], (one["labels"] * 3) % 17)
    assert "organs" not in OnTheFly(Library(labels, 8.0), MOVED, seed=5)[0]


def test_samples_may_be_centred_on_organs_small_ones_as_often_as_large_ones() -> None:
    organs = torch.zeros(1, 60, 60, 60, dtype=torch.uint8)
    organs[0, 10:14, 10:14, 10:14] = 10
    organs[0, 36:56, 36:56, 36:56] = 6
    heads = Library(torch.ones_like(organs), 8.0, organs=organs)
    how = replace(STILL, shape=(16, 16, 16), spacing=8.0, organs=1.0)
    made = OnTheFly(heads, how, seed=0)
    seen = [int(made[n]["organs"][7:9, 7:9, 7:9].max()) for n in range(80)]
    assert set(seen) == {6, 10}
    assert 24 <= seen.count(10) <= 56
    nowhere = OnTheFly(Library(torch.ones_like(organs), 8.0, organs=torch.zeros_like(organs)), how, seed=0)
    assert int(nowhere[0]["organs"].max()) == 0


@pytest.mark.parametrize("seed", range(12))
def test_the_map_of_places_never_folds(seed: int) -> None:
    how = Randomisation((64, 72, 64), 2.0, rotation=25.0, scale=0.2, shift=20.0, deformation=12.0)
    head = torch.zeros(10, 10, 10, dtype=torch.uint8)
    places = places_of(head.shape, 1.0, how, generator(seed)).double()
    steps = [how.spacing * (n - 1) / (c - 1) for n, c in zip(how.shape, places.shape[1:], strict=True)]
    inner = (slice(None), slice(None, -1), slice(None, -1), slice(None, -1))
    columns = [places.diff(dim=a + 1) / steps[a] for a in range(3)]
    trimmed = [c[:, : places.shape[1] - 1, : places.shape[2] - 1, : places.shape[3] - 1] for c in columns]
    jacobian = torch.stack(trimmed, dim=-1).movedim(0, -2)
    determinant = torch.linalg.det(jacobian)
    # Half of the heads are mirrored: one sign everywhere.
    assert float((determinant * determinant.flatten()[0].sign()).min()) > 0
    assert places[inner].shape[0] == 3


def test_a_random_look_shuffles_brightness_and_a_physical_one_keeps_its_order() -> None:
    random = [random_look(generator(n)).mean.mean(dim=1) for n in range(60)]
    brighter = sum(float(m[Tissue.WHITE] > m[Tissue.GREY]) for m in random)
    assert 12 < brighter < 48
    for n in range(20):
        t2 = physical_look(generator(n), "t2").mean.mean(dim=1)
        t1 = physical_look(generator(n), "t1").mean.mean(dim=1)
        assert t2[Tissue.CSF] > t2[Tissue.WHITE] > t2[Tissue.SKULL]
        assert t1[Tissue.WHITE] > t1[Tissue.CSF]


def test_contrast_agent_brightens_what_takes_it_up() -> None:
    plain, enhanced = (physical_look(generator(5), kind).mean for kind in ("t1", "t1c"))
    ratio = (enhanced / plain.clamp(min=1e-6)).mean(dim=1)
    assert ratio[Tissue.ENHANCING] > 1.2 * ratio[Tissue.GREY]


def test_rendering_has_the_mean_and_spread_of_its_look() -> None:
    look = random_look(generator(2))
    labels = torch.full((40, 40, 40), int(Tissue.GREY), dtype=torch.uint8)
    look = replace(look, mean=torch.full_like(look.mean, 5.0), spread=torch.full_like(look.spread, 0.5))
    image = rendered(labels, look, generator(3))
    assert float(image.mean()) == pytest.approx(5.0, abs=0.02)
    assert float(image.std()) == pytest.approx(0.5, rel=0.02)


def test_ghosts_lie_half_a_field_of_view_away() -> None:
    image = torch.zeros(20, 20, 20)
    image[3, 10, 10] = 1
    out = scanned(image, Scan(blur=(0.1, 0.1, 0.1), ghost=0.2), generator())
    assert float(out[13, 10, 10] / out[3, 10, 10]) == pytest.approx(0.2, rel=1e-4)


def test_ringing_overshoots_an_edge_by_nine_per_cent() -> None:
    # Gibbs: 8.95 % of the jump, whatever part of k-space is cut.
    image = torch.zeros(4, 4, 512)
    image[..., 128:384] = 1
    out = scanned(image, Scan(blur=(0.05, 0.05, 0.05), axis=1, ringing=0.25), generator())
    assert float(out.max()) == pytest.approx(1.0895, abs=0.006)


def test_wrap_moves_what_lies_outside_the_field_of_view_by_its_length() -> None:
    image = torch.zeros(6, 6, 40)
    image[:, :, 2] = 1.0
    out = scanned(image, Scan(blur=(0.05, 0.05, 0.05), axis=1, wrap=5), generator())
    assert int(out[0, 0].argmax()) == 2 + 30
    assert float(out[:, :, 2].max()) == 0


def test_thick_slices_keep_the_mean_signal() -> None:
    image = torch.rand(24, 24, 24, generator=generator())
    out = scanned(image, Scan(blur=(0.05, 0.05, 0.05), slices=4.0), generator())
    assert float(out.mean()) == pytest.approx(float(image.mean()), rel=0.02)
    assert float(out.diff(dim=2).abs().mean()) < 0.4 * float(image.diff(dim=2).abs().mean())


def test_noise_alone_is_rayleigh() -> None:
    out = scanned(torch.zeros(40, 40, 40), Scan(noise=0.1), generator())
    assert float(out.mean()) == pytest.approx(0.1 * (torch.pi / 2) ** 0.5, rel=0.02)


def test_bad_settings_and_libraries_are_refused() -> None:
    with pytest.raises(ValueError, match="8 voxels a side"):
        Randomisation(shape=(4, 64, 64))
    with pytest.raises(ValueError, match="deformation of 0 or more"):
        Randomisation(deformation=-1.0)
    with pytest.raises(ValueError, match="share of 0 to 1"):
        Randomisation(randomised=1.5)
    with pytest.raises(ValueError, match="at least one subject"):
        library([])


def test_the_library_keeps_its_voxel_size(heads: Library) -> None:
    grid = axial(torch.zeros(3).double().numpy(), torch.full((3,), 16.0).double().numpy(), (2.0, 2.0, 2.0))
    empty = Volume(torch.zeros(1, *grid.shape, dtype=torch.uint8), grid, Quantity.LABEL)
    assert library([Subject(empty, empty)]).spacing == 2.0
    assert heads.spacing == 4.0
    assert generator_of(1, 0).initial_seed() != generator_of(0, 1).initial_seed()


@pytest.mark.gpu
def test_samples_on_a_gpu_have_the_labels_of_the_cpu(heads: Library) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    there = Library(heads.labels.cuda(), heads.spacing)
    for n in range(4):
        _, here = sample(heads, MOVED, generator_of(0, n))
        image, labels = sample(there, MOVED, generator_of(0, n))
        assert image.is_cuda
        assert float((labels.cpu() == here).float().mean()) > 0.999


@pytest.mark.parametrize(("about", "kind"), [("lesions", Tissue.ENHANCING), ("cavities", Tissue.AIR)])
def test_samples_are_centred_on_a_tumour_or_cavity_as_often_as_asked(about: str, kind: Tissue) -> None:
    labels = torch.zeros(60, 60, 60, dtype=torch.uint8)
    labels[:] = int(Tissue.WHITE)
    labels[8:12, 44:48, 20:24] = int(kind)
    how, heads = replace(STILL, shape=(16, 16, 16), spacing=1.0, shift=4.0), Library(labels[None], 1.0)
    for share, low, high in ((0.0, 0, 0), (0.5, 20, 40), (1.0, 60, 60)):
        seen = [
            bool((sample(heads, replace(how, **{about: share}), generator(n))[1] == int(kind)).any())
            for n in range(60)
        ]
        assert low <= sum(seen) <= high
    with pytest.raises(ValueError, match="lesions, cavities and organs of 1 or less together"):
        Randomisation(lesions=0.6, cavities=0.5)


def test_hollow_cavities_reach_a_voxel_or_two_into_bone_and_nowhere_else(heads: Library) -> None:
    reached = []
    for n in range(12):
        _, before = sample(heads, STILL, generator(n))
        _, after = sample(heads, replace(STILL, hollow=1.0), generator(n))
        air = (before == Tissue.AIR).float()[None, None]
        near = [max_pool3d(air, k, stride=1, padding=k // 2)[0, 0] > 0 for k in (3, 5)]
        bone = (before == Tissue.SKULL) | (before == Tissue.MARROW)
        new = after != before
        assert bool((after[new] == Tissue.AIR).all() and bone[new].all() and near[1][new].all())
        assert bool((after == Tissue.AIR)[near[0] & bone].all())
        reached.append(bool((new & ~near[0]).any()))
    assert 0 < sum(reached) < 8


def test_thick_slices_have_a_share_of_their_own() -> None:
    thick = [Scan.drawn(0.3, 1.5, generator(n), thick=0.7).slices > 1 for n in range(300)]
    assert sum(thick) == pytest.approx(210, abs=25)
    assert sum(Scan.drawn(0.3, 1.5, generator(n)).slices > 1 for n in range(300)) == pytest.approx(90, abs=25)


def test_contrasts_show_one_head_and_some_may_be_missing(heads: Library) -> None:
    names = ("t1", "t1c", "t2", "flair")
    whole = OnTheFly(
        heads, replace(STILL, shape=(32, 32, 32), spacing=6.0, contrasts=names, randomised=0.0), 0
    )
    for n in range(4):
        found = whole[n]
        assert found["image"].shape == (4, 32, 32, 32)
        fluid, white = found["labels"] == int(Tissue.CSF), found["labels"] == int(Tissue.WHITE)
        ratio = [float(c[fluid].median() / c[white].median()) for c in found["image"]]
        assert ratio[0] < 1 < ratio[2]  # fluid is dark in T1 and bright in T2, and nulled in FLAIR
        assert ratio[3] < ratio[2]
    some = OnTheFly(heads, replace(whole.how, missing=0.5), 0)
    left = [int((some[n]["image"].flatten(1).amax(1) > 0).sum()) for n in range(30)]
    assert min(left) >= 1
    assert 1.8 < sum(left) / 30 < 2.6  # half of four, and one more where none was left
    with pytest.raises(ValueError, match="contrasts of t1"):
        Randomisation(contrasts=("t3",))
