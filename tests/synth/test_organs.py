import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.organ import Organ
from imaging.tissue import Tissue
from imaging.volume import Volume
from synth.labelling import average_head
from synth.raster import drawn, straight

GRID = axial(np.array([-72.0, -75, -125]), np.array([72.0, 45, 5]), (0.8,) * 3)
SIDED = (
    Organ.OPTIC_NERVE_L,
    Organ.OPTIC_TRACT_L,
    Organ.EYE_L,
    Organ.LENS_L,
    Organ.COCHLEA_L,
    Organ.HIPPOCAMPUS_L,
    Organ.LACRIMAL_L,
)


@pytest.fixture(scope="module")
def mean() -> tuple[Volume, Volume]:
    labels, organs, _ = drawn(average_head(), straight(), GRID)
    return labels, organs


def cc(organs: Volume, *of: Organ) -> float:
    inside = torch.isin(organs.data, torch.tensor(of, dtype=torch.uint8))
    return int(inside.sum()) * organs.grid.voxel_volume / 1000


def places(organs: Volume, *of: Organ) -> np.ndarray:
    inside = torch.isin(organs.data[0], torch.tensor(of, dtype=torch.uint8))
    return torch.nonzero(inside).numpy() * organs.grid.spacing + organs.grid.affine[:3, 3]


@pytest.mark.parametrize(
    ("organs_of", "low", "high"),
    [
        # Sources stand in synth/organs.py; those of eye and nerve follow from diameters.
        ((Organ.CHIASM,), 0.2, 0.5),
        ((Organ.OPTIC_NERVE_L,), 0.45, 0.75),
        ((Organ.OPTIC_TRACT_L,), 0.15, 0.4),
        ((Organ.EYE_L, Organ.LENS_L), 6.8, 8.5),
        ((Organ.LENS_L,), 0.15, 0.25),
        ((Organ.COCHLEA_L,), 0.04, 0.2),
        ((Organ.HIPPOCAMPUS_L,), 2.8, 4.0),
        ((Organ.PITUITARY,), 0.3, 0.6),
        ((Organ.LACRIMAL_L,), 0.6, 0.8),
    ],
)
def test_organs_have_published_volumes(
    mean: tuple[Volume, Volume], organs_of: tuple[Organ, ...], low: float, high: float
) -> None:
    assert low < cc(mean[1], *organs_of) < high


@pytest.mark.parametrize("organ", SIDED)
def test_left_is_plus_x_and_the_sides_mirror_each_other(mean: tuple[Volume, Volume], organ: Organ) -> None:
    left, right = places(mean[1], organ), places(mean[1], Organ(organ + 1))
    assert left[:, 0].min() > 0
    assert right[:, 0].max() < 0
    # Folds of the cortex alone differ.
    assert len(left) == pytest.approx(len(right), rel=0.01)
    np.testing.assert_allclose(left.mean(axis=0), right.mean(axis=0) * [-1, 1, 1], atol=0.2)


def test_the_chiasm_is_as_wide_as_measured(mean: tuple[Volume, Volume]) -> None:
    # 14.0 mm, standard deviation 1.7: Wagner et al., AJNR 18, 723 (1997).
    x = places(mean[1], Organ.CHIASM)[:, 0]
    assert 14.0 - 2 * 1.7 < np.ptp(x) + 0.8 < 14.0 + 2 * 1.7


def test_the_optic_pathway_is_one_piece_from_eye_to_eye(mean: tuple[Volume, Volume]) -> None:
    from scipy.ndimage import generate_binary_structure, label

    of = (
        Organ.EYE_L,
        Organ.EYE_R,
        Organ.OPTIC_NERVE_L,
        Organ.OPTIC_NERVE_R,
        Organ.CHIASM,
        Organ.OPTIC_TRACT_L,
        Organ.OPTIC_TRACT_R,
    )
    inside = torch.isin(mean[1].data[0], torch.tensor(of, dtype=torch.uint8)).numpy()
    assert label(inside, generate_binary_structure(3, 3))[1] == 1


def test_optic_nerves_are_about_five_centimetres_long(mean: tuple[Volume, Volume]) -> None:
    # 45 to 55 mm from globe to chiasm (Gray's Anatomy).
    p = places(mean[1], Organ.OPTIC_NERVE_L)
    ends = p[p[:, 1].argmin()], p[p[:, 1].argmax()]
    assert 43 < np.linalg.norm(ends[0] - ends[1]) < 56


def around(mean: tuple[Volume, Volume], organ: Organ, mm: float) -> np.ndarray:
    """Tissues within so many mm of an organ, without its own."""
    from scipy.ndimage import distance_transform_edt

    inside = mean[1].data[0].numpy() == organ
    away = distance_transform_edt(~inside, sampling=0.8)
    return mean[0].data[0].numpy()[(away > 0) & (away <= mm)]


@pytest.mark.parametrize("organ", [Organ.COCHLEA_L, Organ.COCHLEA_R])
def test_the_cochlea_lies_in_bone_and_holds_fluid(mean: tuple[Volume, Volume], organ: Organ) -> None:
    assert np.isin(around(mean, organ, 1.5), [Tissue.SKULL, Tissue.MARROW]).mean() > 0.95
    own = mean[0].data[mean[1].data == organ]
    assert 0.1 < float((own == Tissue.FLUID).float().mean()) < 0.9


def test_the_pituitary_lies_below_the_chiasm_in_a_sella_of_bone(mean: tuple[Volume, Volume]) -> None:
    gland, chiasm = places(mean[1], Organ.PITUITARY), places(mean[1], Organ.CHIASM)
    assert 4 < chiasm[:, 2].mean() - gland[:, 2].mean() < 15
    labels = mean[0].data[0].numpy()
    middle = gland.mean(axis=0)
    for direction in ((0, 0, -1), (0, -1, 0), (0, 1, 0)):
        path = middle + np.arange(0, 12, 0.4)[:, None] * np.array(direction)
        index = np.rint((path - GRID.affine[:3, 3]) / 0.8).astype(int)
        assert Tissue.SKULL in labels[tuple(index.T)], direction


def test_lenses_lie_in_front_in_the_eyes(mean: tuple[Volume, Volume]) -> None:
    eye, lens = (places(mean[1], o).mean(axis=0) for o in (Organ.EYE_L, Organ.LENS_L))
    assert 4 < eye[1] - lens[1] < 10
    assert abs(eye[0] - lens[0]) < 0.5
    assert (around(mean, Organ.LENS_L, 0.9) == Tissue.EYE).all()


def test_lacrimal_glands_lie_above_and_beside_the_eyes(mean: tuple[Volume, Volume]) -> None:
    eye, gland = (places(mean[1], o).mean(axis=0) for o in (Organ.EYE_L, Organ.LACRIMAL_L))
    assert gland[0] > eye[0] + 5
    assert gland[2] > eye[2] + 5


def test_hippocampi_lie_in_the_temporal_lobes_beside_the_brainstem(mean: tuple[Volume, Volume]) -> None:
    # 25 mm from the midline: MNI coordinates of the hippocampus are about 26, -20, -15 (RAS), which the mean
    # head's scale of 0.92, 0.94, 0.88 takes to 24, 19, -13.
    middle = places(mean[1], Organ.HIPPOCAMPUS_L).mean(axis=0)
    np.testing.assert_allclose(middle, [24, 19, -13], atol=4)


def test_organs_have_their_own_tissue(mean: tuple[Volume, Volume]) -> None:
    labels, organs = mean[0].data, mean[1].data
    for organ, tissue in (
        (Organ.CHIASM, Tissue.NERVE),
        (Organ.OPTIC_TRACT_R, Tissue.NERVE),
        (Organ.LENS_R, Tissue.LENS),
        (Organ.PITUITARY, Tissue.GLAND),
        (Organ.LACRIMAL_R, Tissue.GLAND),
        (Organ.EYE_R, Tissue.EYE),
    ):
        assert (labels[organs == organ] == tissue).all()
    jaw = labels[organs == Organ.MANDIBLE]
    assert torch.isin(jaw, torch.tensor([Tissue.SKULL, Tissue.MARROW, Tissue.TOOTH], dtype=torch.uint8)).all()


def test_teeth_lie_in_two_arches_and_dura_in_the_midline_and_the_tent(mean: tuple[Volume, Volume]) -> None:
    labels = mean[0].data[0].numpy()
    _, y, z = (np.argwhere(labels == Tissue.TOOTH) * 0.8 + GRID.affine[:3, 3]).T
    assert z.max() < -80
    assert not ((z > -98) & (z < -95) & (y < -48)).any()
    dura = np.argwhere(labels == Tissue.DURA) * 0.8 + GRID.affine[:3, 3]
    front = dura[dura[:, 1] < 20]
    assert np.abs(front[:, 0]).max() < 3
    assert np.abs(dura[dura[:, 1] > 30][:, 0]).max() > 30
