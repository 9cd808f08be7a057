"""Pictures: what lies left, right, up and down, and that the same scan is the same picture."""

import io

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from imaging.grid import Grid, axial, positions
from imaging.phantoms import sphere
from imaging.planes import Plane, cut, extent, target_center
from imaging.show import Wash, palette, plane_picture, three_planes, window
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume


def grid(spacing: float = 4.0) -> Grid:
    return axial(np.full(3, -60.0), np.full(3, 60.0), (spacing, spacing, spacing))


def hu(mask: torch.Tensor, lattice: Grid) -> Volume:
    return Volume(torch.where(mask, 400.0, -1000.0)[None], lattice, Quantity.HU)


def drawn(structures: dict[str, tuple[torch.Tensor, RoiType]], lattice: Grid) -> StructureSet:
    return StructureSet(lattice, {n: Structure(m, kind, (1, 2, 3)) for n, (m, kind) in structures.items()})


def pixels(png: bytes) -> np.ndarray:
    return imread(io.BytesIO(png))[..., :3]


def centroid(image: np.ndarray, chosen: np.ndarray) -> tuple[float, float]:
    """Rows from the top and columns from the left of the chosen pixels, as shares of the image."""
    rows, columns = np.nonzero(chosen)
    return float(rows.mean() / image.shape[0]), float(columns.mean() / image.shape[1])


@pytest.mark.parametrize(
    ("plane", "place", "row", "column"),
    [
        (Plane.AXIAL, (30, 0, 0), 0.5, 0.75),  # the patient's left is on the right
        (Plane.AXIAL, (0, -30, 0), 0.25, 0.5),  # anterior is up
        (Plane.CORONAL, (30, 0, 0), 0.5, 0.75),
        (Plane.CORONAL, (0, 0, 30), 0.25, 0.5),  # superior is up
        (Plane.SAGITTAL, (0, -30, 0), 0.5, 0.25),  # anterior is on the left
        (Plane.SAGITTAL, (0, 0, 30), 0.25, 0.5),
    ],
)
def test_a_sphere_shows_where_radiologists_expect_it(plane, place, row, column):
    lattice = grid()
    center = np.array(place, dtype=np.float64)
    image = pixels(plane_picture(hu(sphere(lattice, center, 10.0), lattice), plane, at=np.zeros(3)))
    # The letters are thin: the sphere's own pixels are those that are white all around.
    white = image.min(axis=-1) > 0.95
    solid = white[5:-5, 5:-5] & white[:-10, 5:-5] & white[10:, 5:-5] & white[5:-5, :-10] & white[5:-5, 10:]
    assert centroid(solid, solid) == pytest.approx((row, column), abs=0.02)


def test_a_cut_through_a_linear_field_holds_the_positions_of_its_pixels():
    # A field that equals x + 2y + 3z is reproduced by trilinear interpolation, on a turned grid too.
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    lattice = Grid((40, 40, 40), turn @ np.diag([3.0, 3.0, 3.0, 1.0]) @ _shift(-19.5))
    index = np.stack(np.meshgrid(*[np.arange(40.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    field = positions(lattice, index) @ np.array([1.0, 2.0, 3.0])
    volume = Volume(torch.from_numpy(field.reshape(1, 40, 40, 40)).float(), lattice, Quantity.MR)
    low, high = np.full(3, -30.0), np.full(3, 30.0)
    image = cut(volume, Plane.CORONAL, np.array([0.0, 7.0, 0.0]), low, high)
    step = 60 / image.shape[0]
    x = low[0] + (np.arange(image.shape[1]) + 0.5) * step
    z = low[2] + (np.arange(image.shape[0]) + 0.5) * step
    np.testing.assert_allclose(image, x[None, :] + 2 * 7.0 + 3 * z[:, None], atol=1e-3)


def _shift(by: float) -> np.ndarray:
    shift = np.eye(4)
    shift[:3, 3] = by
    return shift


def test_the_target_center_is_the_center_of_the_first_ptv():
    lattice = grid(2.0)
    center = np.array([13.0, -9.0, 21.0])
    structures = drawn(
        {
            "empty": (torch.zeros(lattice.shape, dtype=torch.bool), RoiType.PTV),
            "GTV": (sphere(lattice, np.zeros(3), 9.0), RoiType.GTV),
            "PTV": (sphere(lattice, center, 15.0), RoiType.PTV),
        },
        lattice,
    )
    found = target_center(structures)
    assert found is not None
    np.testing.assert_allclose(found, center, atol=1e-6)


def test_no_target_has_no_center():
    lattice = grid()
    assert target_center(drawn({"Eye": (sphere(lattice, np.zeros(3), 9.0), RoiType.ORGAN)}, lattice)) is None


def test_the_external_contour_is_framed_with_a_margin():
    lattice = grid(2.0)
    body = drawn({"BODY": (sphere(lattice, np.zeros(3), 31.1), RoiType.EXTERNAL)}, lattice)
    low, high = extent(hu(body.mask("BODY"), lattice), body)
    np.testing.assert_allclose(high, 32 + 8, atol=1e-9)  # the outer face of the outermost voxel, and 8 mm
    np.testing.assert_allclose(low, -high, atol=1e-9)


def test_a_contour_is_drawn_in_its_color_around_the_structure():
    lattice = grid(2.0)
    target = drawn({"PTV": (sphere(lattice, np.array([20.0, 0, 0]), 15.0), RoiType.PTV)}, lattice)
    empty = Volume(torch.full((1, *lattice.shape), -1000.0), lattice, Quantity.HU)
    image = pixels(plane_picture(empty, Plane.AXIAL, target, at=np.zeros(3)))
    color = np.array([int(palette(target)["PTV"][n : n + 2], 16) for n in (1, 3, 5)]) / 255
    line = np.abs(image - color).max(axis=-1) < 0.1
    rows, columns = np.nonzero(line)
    assert centroid(image, line) == pytest.approx((0.5, 0.5 + 20 / 120), abs=0.01)
    across = (columns.max() - columns.min()) / image.shape[1] * 120
    assert across == pytest.approx(30, abs=2)  # the sphere's diameter within a voxel
    assert (rows.max() - rows.min()) / image.shape[0] * 120 == pytest.approx(30, abs=2)


def test_three_planes_are_the_same_bytes_every_time():
    lattice = grid()
    body = sphere(lattice, np.zeros(3), 50.0)
    structures = drawn(
        {
            "BODY": (body, RoiType.EXTERNAL),
            "$PTV": (sphere(lattice, np.zeros(3), 20.0), RoiType.PTV),
            "empty": (torch.zeros(lattice.shape, dtype=torch.bool), RoiType.ORGAN),
        },
        lattice,
    )
    dose = Volume(body[None] * 60.0, lattice, Quantity.DOSE)
    wash = Wash(66.0, 12.0, (12.0, 57.0, 90.0))
    first = three_planes(hu(body, lattice), structures, dose, wash, title="x")
    assert first == three_planes(hu(body, lattice), structures, dose, wash, title="x")
    assert first.startswith(b"\x89PNG")
    assert first != three_planes(hu(body, lattice), structures)


def test_a_dose_difference_is_orange_above_zero_and_purple_below():
    lattice = grid(2.0)
    empty = Volume(torch.full((1, *lattice.shape), -1000.0), lattice, Quantity.HU)
    left = sphere(lattice, np.array([30.0, 0, 0]), 20.0).float()
    right = sphere(lattice, np.array([-30.0, 0, 0]), 20.0).float()
    difference = Volume((left - right)[None] * 1.8, lattice, Quantity.DOSE)
    wash = Wash(1.8, 0.3, opacity=1.0, signed=True)
    image = pixels(plane_picture(empty, Plane.AXIAL, None, difference, wash, np.zeros(3)))
    row, columns = image.shape[0] // 2, image.shape[1]
    more, less = image[row, columns * 3 // 4], image[row, columns // 4]
    assert more[0] > more[1] > more[2]  # the patient's left is on the right
    assert less[2] > less[0] > less[1]
    assert image[row, columns // 2].max() < 0.05  # below the threshold nothing is drawn


def test_colors_of_up_to_eight_organs_differ():
    lattice = grid(20.0)
    full = torch.ones(lattice.shape, dtype=torch.bool)
    kinds = [RoiType.EXTERNAL, RoiType.GTV, RoiType.CTV, RoiType.PTV, *[RoiType.ORGAN] * 8]
    colors = palette(drawn({str(n): (full, kind) for n, kind in enumerate(kinds)}, lattice))
    assert len(set(colors.values())) == len(kinds)


def test_an_mr_window_spans_its_signal_and_an_empty_one_does_not_fail():
    lattice = grid(20.0)
    data = torch.linspace(0, 1000, 6**3).reshape(1, 6, 6, 6)
    low, high = window(Volume(data, lattice, Quantity.MR))
    assert 0 < low < 20
    assert 975 < high < 985
    assert window(Volume(data * 0, lattice, Quantity.MR)) == (0.0, 1.0)
