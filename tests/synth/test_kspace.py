import math

import numpy as np
import pytest
import torch

from synth.artefacts import bias_field, rician
from synth.kspace import Pose, ghosted, motion, moved, random_poses, truncated

SPACING = (1.0, 1.0, 1.0)


def blob() -> torch.Tensor:
    image = torch.zeros(32, 36, 12)
    image[10:20, 12:22, 3:9] = 1.0
    image[14:16, 15:18, 4:8] = 0.4
    return image


def test_a_head_that_stays_still_gives_its_image_back() -> None:
    out = motion(blob(), SPACING, 1, [Pose(0.0), Pose(0.4), Pose(0.7)])
    assert float((out - blob()).abs().max()) < 1e-5


def test_a_head_that_moved_before_the_scan_is_drawn_where_it_went() -> None:
    out = motion(blob(), SPACING, 1, [Pose(0.0, shift=(3.0, -2.0, 1.0))])
    assert torch.allclose(out, blob().roll((3, -2, 1), dims=(0, 1, 2)), atol=1e-4)


def test_a_quarter_turn_about_k_takes_i_to_j() -> None:
    image = torch.zeros(21, 21, 3)
    image[16, 10, 1] = 1.0
    out = moved(image, SPACING, Pose(0.0, rotation=(0.0, 0.0, 90.0)))
    assert float(out[10, 16, 1]) == pytest.approx(1, abs=1e-4)


def test_a_turn_counts_in_millimetres_however_long_the_voxels_are() -> None:
    image = torch.zeros(41, 21, 3)
    image[30, 10, 1] = 1.0  # 5 mm from the centre along i, voxels of 0.5 mm
    out = moved(image, (0.5, 1.0, 1.0), Pose(0.0, rotation=(0.0, 0.0, 90.0)))
    assert float(out[20, 15, 1]) == pytest.approx(1, abs=1e-4)


def test_movement_smears_along_the_phase_encoding_axis_alone() -> None:
    image = torch.zeros(32, 32, 4)
    image[12:20, 12:20, :] = 1.0
    out = motion(image, SPACING, 1, [Pose(0.0), Pose(0.55, shift=(0.0, 4.0, 0.0))])
    assert float(out[16, :10].abs().max()) > 0.02
    assert float(out[:10, 16].abs().max()) < 1e-4


def test_the_centre_of_k_space_sees_the_head_where_it_is() -> None:
    for seed in range(20):
        poses = random_poses(2.0, torch.Generator().manual_seed(seed))
        at_centre = [pose for pose in poses if pose.start <= 0.5][-1]
        assert at_centre.shift == at_centre.rotation == (0.0, 0.0, 0.0)
        assert poses[0].start == 0.0


@pytest.mark.parametrize("n", [2, 3, 4])
def test_ghosts_lie_a_fraction_of_the_field_of_view_apart_and_leave_the_head_as_it_was(n: int) -> None:
    image = torch.zeros(24, 36, 4)
    image[8:16, 2:6] = 1.0
    out = ghosted(image, 1, n, 0.1)
    assert torch.allclose(out[8:16, 2:6], torch.ones(8, 4, 4), atol=1e-5)
    for m in range(1, n):
        first = 2 + m * 36 // n
        assert torch.allclose(out[8:16, first : first + 4], torch.full((8, 4, 4), 0.1), atol=1e-5)
    assert float(out[:6].abs().max()) < 1e-5


def test_each_ghost_carries_the_square_of_its_strength_in_energy() -> None:
    image = torch.zeros(20, 48, 2)
    image[5:15, 3:9] = torch.rand(10, 6, 2, generator=torch.Generator().manual_seed(0)) + 0.5
    energy, ghost = image.square().sum(), ghosted(image, 1, 4, 0.2).square().sum()
    assert float(ghost / energy) == pytest.approx(1 + 3 * 0.2**2, rel=1e-4)


def test_an_edge_overshoots_by_nine_per_cent_of_its_height() -> None:
    # Wilbraham and Gibbs: (2/π) Si(π) − 1 = 17.9 % of half the jump, 8.95 % of the whole.
    image = torch.zeros(2, 2048, 2)
    image[:, 512:1536] = 1.0
    out = truncated(image, 1, 0.1)
    assert float(out.max()) == pytest.approx(1.0895, abs=0.003)
    assert float(out.min()) == pytest.approx(-0.0895, abs=0.003)


def test_ringing_has_the_period_of_two_measured_voxels() -> None:
    image = torch.zeros(1, 1024, 1)
    image[:, 256:768] = 1.0
    row = truncated(image, 1, 0.125)[0, 300:420, 0].numpy() - 1
    crossings = np.flatnonzero(np.diff(np.sign(row)))
    assert np.diff(crossings).mean() == pytest.approx(1 / 0.125, rel=0.02)


def test_all_of_k_space_is_the_whole_image() -> None:
    assert torch.allclose(truncated(blob(), 0, 1.0), blob(), atol=1e-6)


def test_fewer_lines_keep_the_mean() -> None:
    assert float(truncated(blob(), 1, 0.3).mean()) == pytest.approx(float(blob().mean()), rel=1e-5)


@pytest.mark.parametrize("snr", [0.5, 3.0, 30.0])
def test_noise_has_both_moments_of_rice(snr: float) -> None:
    # Rice: E[M²] = A² + 2σ²; E[M] = σ √(π/2) L½(−A²/2σ²).
    image = torch.full((100, 100, 20), snr)
    noisy = rician(image, 1.0, torch.Generator().manual_seed(0)).double()
    assert float(noisy.square().mean()) == pytest.approx(snr**2 + 2, rel=0.01)
    x = torch.tensor(snr**2 / 4, dtype=torch.double)
    # L½(−2x) e^(...) by scaled Bessel functions.
    mean = math.sqrt(math.pi / 2) * ((1 + 2 * x) * torch.special.i0e(x) + 2 * x * torch.special.i1e(x))
    assert float(noisy.mean()) == pytest.approx(float(mean), rel=5e-3)


def test_shading_has_no_mean_logarithm_and_varies_over_centimetres() -> None:
    field = bias_field((60, 70, 50), 0.1, torch.Generator().manual_seed(3))
    assert float(field.log().mean()) == pytest.approx(0, abs=1e-4)
    log = field.log()
    near = torch.corrcoef(torch.stack([log[:-3].flatten(), log[3:].flatten()]))[0, 1]
    assert float(near) > 0.95
    assert 0.03 < float(log.std()) < 0.2
