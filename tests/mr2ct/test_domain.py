"""What is no whole MRI of a head is refused in one sentence."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial
from imaging.intensity import head_mask
from imaging.phantoms import ellipsoid
from imaging.volume import Quantity, Volume
from mr2ct.domain import expect_head_scan, explained, unlike_adult, unlike_head_ct, unseen_in_mr
from mr2ct.lie import lie
from mr2ct.skull import Skull
from synth.anatomy import anatomy
from synth.patient import patient


def scan(change: Callable[[torch.Tensor], torch.Tensor]) -> Volume:
    """A smooth ball in noise, changed."""
    grid = axial(np.zeros(3), np.full(3, 120.0), (4.0,) * 3)
    at = torch.from_numpy(np.moveaxis(np.indices(grid.shape), 0, -1)).float() - 14.5
    ball = (at.norm(dim=-1) < 12).float()
    noise = torch.rand(grid.shape, generator=torch.Generator().manual_seed(0))
    return Volume(change(ball * (600 + 10 * at[..., 0]) + 20 * noise)[None], grid, Quantity.MR)


def without(planes: slice) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, :, planes] = 0
        return x

    return change


def speck(x: torch.Tensor) -> torch.Tensor:
    """A head behind empty planes, beyond which something glimmers."""
    x = without(slice(0, 4))(x)
    x[10, 10, 0] = 200
    return x


def test_whole_scans_pass_whatever_their_scale_and_surroundings() -> None:
    for factor in (1e-3, 1.0, 50.0):
        expect_head_scan(scan(lambda x, f=factor: f * x))
    expect_head_scan(scan(without(slice(0, 6))))  # empty planes at an end are padding
    expect_head_scan(scan(speck))
    expect_head_scan(scan(lambda x: x - 30))  # a filter's ringing goes below 0


@pytest.mark.parametrize("name", ["t1", "t1c", "t2", "flair"])
def test_every_contrast_of_a_patient_passes(name: str) -> None:
    expect_head_scan(patient(5, 3.0).volumes[name])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (torch.zeros_like, "signal in it"),
        (torch.ones_like, "signal in it"),
        (lambda x: x - 1000, "not the CT"),
        (lambda x: x.clamp(max=620), "not saturated"),
        (without(slice(13, 16)), "got 3 planes without signal"),
    ],
)
def test_what_is_no_whole_scan_is_refused(
    change: Callable[[torch.Tensor], torch.Tensor], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        expect_head_scan(scan(change))


def test_one_bad_contrast_among_several_is_enough() -> None:
    good, bad = scan(lambda x: x), scan(without(slice(10, 12)))
    both = Volume(torch.cat([good.data, bad.data]), good.grid, Quantity.MR)
    with pytest.raises(ValueError, match="got 2 planes"):
        expect_head_scan(both)
    with pytest.raises(ValueError, match="in MR signal, got HU"):
        expect_head_scan(Volume(good.data, good.grid, Quantity.HU))


def test_told_to_go_on_it_says_what_is_wrong_but_never_takes_a_ct_or_nothing() -> None:
    (said,) = expect_head_scan(scan(without(slice(13, 16))), anyway=True)
    assert "got 3 planes without signal" in said
    assert expect_head_scan(scan(lambda x: x), anyway=True) == ()
    for change in (torch.zeros_like, lambda x: x - 1000):
        with pytest.raises(ValueError, match="expected"):
            expect_head_scan(scan(change), anyway=True)


def moved(volume: Volume, matrix: np.ndarray) -> Volume:
    """The same voxels as another header would place them."""
    affine = np.eye(4)
    affine[:3, :3] = matrix
    return Volume(volume.data, Grid(volume.grid.shape, affine @ volume.grid.affine), volume.quantity)


@pytest.fixture(scope="module")
def head() -> tuple[Volume, Volume]:
    """T1 of a patient and where its head is."""
    mr = patient(5, 3.0).volumes["t1"]
    return mr, head_mask(mr)


def test_an_adult_is_told_from_an_infant_and_a_torso_by_size(head: tuple[Volume, Volume]) -> None:
    mr, mask = head
    assert unlike_adult(mr, mask, ()) == ()
    # Circumferences: 57 cm in men, 35 cm at birth (WHO Child Growth Standards).
    infant = np.eye(3) * 35 / 57
    (reason,) = unlike_adult(moved(mr, infant), moved(mask, infant), ())
    assert "as an infant's head" in reason
    assert unlike_adult(moved(mr, infant), moved(mask, infant), ("left", "front")) == ()
    (reason,) = unlike_adult(moved(mr, 1.8 * np.eye(3)), moved(mask, 1.8 * np.eye(3)), ())
    assert "larger than a head" in reason


def test_a_bottle_as_large_as_a_head_is_told_by_its_filling() -> None:
    grid = axial(np.full(3, -120.0), np.full(3, 120.0), (4.0,) * 3)
    mask = ellipsoid(grid, np.zeros(3), np.array([75.0, 95.0, 100.0]))
    noise = torch.rand(grid.shape, generator=torch.Generator().manual_seed(0))
    mr = Volume((300 * mask + 20 * noise)[None], grid, Quantity.MR)
    inside = Volume(mask[None].to(torch.uint8), grid, Quantity.LABEL)
    (reason,) = unlike_adult(mr, inside, ())
    assert "alike throughout" in reason


@pytest.mark.parametrize(
    ("matrix", "crown", "face"),
    [
        ((1, 1, 1), "top", "front"),
        ((-1, 1, -1), "neck", "front"),  # hung by the feet
        ((1, 1, -1), "neck", "front"),  # slices counted from the wrong end
        ((-1, -1, 1), "top", "back"),  # lying on the face
    ],
)
def test_a_header_that_turns_a_head_over_is_told(matrix: tuple[int, int, int], crown: str, face: str) -> None:
    ct = moved(patient(5, 3.0).volumes["ct"], np.diag(matrix).astype(float))
    found = lie(ct, anatomy(4.0))
    assert (found.crown, found.face) == (crown, face)
    reasons = unlike_head_ct(Skull(65.0, 1.0), found, 100.0, whole=True)
    assert bool(reasons) == (matrix != (1, 1, 1))
    assert all(f"the header says {crown}" in reason for reason in reasons)


def test_a_ct_explains_the_signal_of_its_tissues_and_nothing_of_noise(head: tuple[Volume, Volume]) -> None:
    grid, half = head[0].grid, torch.ones(1, *head[0].grid.shape, dtype=torch.uint8)
    everywhere = Volume(half, grid, Quantity.LABEL)
    draws = torch.rand(2, 1, *grid.shape, generator=torch.Generator().manual_seed(0))
    ct, noise = (Volume(d, grid, q) for d, q in zip(draws, (Quantity.HU, Quantity.MR), strict=True))
    # Whatever the contrast: of a fall as of a rise, all that sixteen equal classes leave is 1 of 256.
    falls = Volume(1000 / (1 + ct.data), grid, Quantity.MR)
    assert explained(falls, ct, everywhere) == pytest.approx(1 - 1 / 256, abs=1e-4)
    # Of noise sixteen means of n voxels explain 15 / n.
    assert explained(noise, ct, everywhere) == pytest.approx(0, abs=100 / noise.data.numel())
    flat = Volume(torch.ones_like(noise.data), grid, Quantity.MR)
    assert explained(flat, ct, everywhere) == 0
    (clause,) = unseen_in_mr(0.03)
    assert "explains 3 %" in clause
    assert unseen_in_mr(0.35) == ()
    with pytest.raises(ValueError, match="with voxels"):
        explained(noise, ct, Volume(torch.zeros_like(half), grid, Quantity.LABEL))


@pytest.mark.parametrize("name", ["t1", "t1c", "t2", "flair"])
def test_the_true_ct_explains_every_contrast_of_a_patient(name: str) -> None:
    case = patient(5, 3.0)
    mr = case.volumes[name]
    share = explained(mr, case.volumes["ct"], head_mask(mr))
    assert unseen_in_mr(share) == ()
    bent = Volume(case.volumes["ct"].data.flip(1, 2, 3), mr.grid, Quantity.HU)
    assert explained(mr, bent, head_mask(mr)) < share / 2
