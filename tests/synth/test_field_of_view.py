import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.field_of_view import cropped, defaced, face_plane, random_window, windowed, wrapped

GRID = axial(np.array([-40.0, -50.0, -40.0]), np.array([40.0, 50.0, 40.0]), (4.0, 4.0, 4.0))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("outside", "seen"), [(1, 13), (2, 14), (15, 3), (17, 5)])
def test_a_voxel_outside_the_field_of_view_appears_a_whole_field_of_view_away(
    axis: int, outside: int, seen: int
) -> None:
    # 18 voxels, of which the field of view holds the middle 12: 3 to 14.
    image = torch.zeros(18, 18, 18)
    image.movedim(axis, 0)[outside] = 1.0
    out = wrapped(image, axis, 12).movedim(axis, 0)
    assert float(out[seen].min()) == 1.0
    assert float(out.sum()) == pytest.approx(18 * 18)


def test_folding_keeps_all_signal_and_leaves_nothing_outside() -> None:
    image = torch.rand(20, 30, 10, generator=torch.Generator().manual_seed(0))
    out = wrapped(image, 1, 7)
    assert float(out.double().sum()) == pytest.approx(float(image.double().sum()), rel=1e-6)
    assert float(out[:, :11].abs().max()) == float(out[:, 18:].abs().max()) == 0.0


def test_folding_is_what_fewer_lines_of_k_space_give() -> None:
    image = torch.rand(2, 24, 2, generator=torch.Generator().manual_seed(1))
    every_second = np.fft.ifft(np.fft.fft(image.numpy(), axis=1)[:, ::2], axis=1).real
    out = wrapped(image, 1, 12)[:, 6:18].numpy()
    assert np.allclose(np.roll(out, 6, axis=1), every_second, atol=1e-6)


def test_a_head_within_the_field_of_view_is_left_alone() -> None:
    image = torch.zeros(10, 10, 10)
    image[3:7, 3:7, 3:7] = 1.0
    assert torch.equal(wrapped(image, 0, 6), image)
    assert torch.equal(wrapped(image, 0, 10), image)


@pytest.mark.parametrize("n", [0, 11])
def test_a_field_of_view_without_voxels_or_with_too_many_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="1 to 10 voxels"):
        wrapped(torch.zeros(10, 10, 10), 0, n)


def test_a_scan_that_ends_early_lacks_its_lower_end() -> None:
    window = random_window((20, 20, 20), 0.25, 0.0, torch.Generator().manual_seed(0))
    assert window == ((0, 20), (0, 20), (5, 20))
    out = windowed(torch.ones(20, 20, 20), window)
    assert float(out[:, :, :5].max()) == 0.0
    assert float(out[:, :, 5:].min()) == 1.0


def test_cropping_cuts_one_end_of_each_axis_and_never_all_of_it() -> None:
    for seed in range(30):
        window = random_window((20, 3, 1), 0.9, 0.99, torch.Generator().manual_seed(seed))
        for (low, high), n in zip(window, (20, 3, 1), strict=True):
            assert 0 <= low < high <= n
        assert window[0][0] == 0 or window[0][1] == 20


def test_cropped_voxels_stay_where_they_were() -> None:
    image = torch.rand(GRID.shape)
    part, grid = cropped(image, GRID, ((2, 10), (3, 25), (1, 4)))
    assert tuple(part.shape) == grid.shape == (8, 22, 3)
    assert grid.affine[:3, 3] == pytest.approx(GRID.affine[:3, 3] + np.array([8.0, 12.0, 4.0]))
    assert torch.equal(part, image[2:10, 3:25, 1:4])


def head() -> Volume:
    data = torch.where(sphere(GRID, np.array([0.0, 0.0, 10.0]), 25.0), int(Tissue.GREY), int(Tissue.SCALP))
    return Volume(data.to(torch.uint8)[None], GRID, Quantity.LABEL)


@pytest.mark.parametrize("degrees", [0.0, 25.0, 45.0])
def test_removing_the_face_leaves_the_whole_brain_and_takes_what_lies_before_it(degrees: float) -> None:
    labels = head()
    normal, offset = face_plane(labels, degrees)
    out = defaced(torch.ones(GRID.shape), GRID, normal, offset)
    assert float(out[labels.data[0] == Tissue.GREY].min()) == 1.0
    assert float(out[:, 0, 0].max()) == 0.0
    assert float(out[:, -1].min()) == 1.0


def test_the_plane_touches_the_brain_but_for_its_buffer() -> None:
    # A ball of 25 mm: its furthest point lies 25 mm from its centre in any direction.
    (ny, nz), offset = face_plane(head(), 30.0)
    assert offset - nz * 10.0 == pytest.approx(25 + 4, abs=4)
    assert np.hypot(ny, nz) == pytest.approx(1)


def test_a_head_without_a_brain_keeps_its_face_by_refusal() -> None:
    empty = Volume(torch.zeros(1, *GRID.shape, dtype=torch.uint8), GRID, Quantity.LABEL)
    with pytest.raises(ValueError, match="head with a brain"):
        face_plane(empty, 30.0)
