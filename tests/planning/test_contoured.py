import numpy as np
import pytest
import torch

from imaging.contours import to_polygons
from imaging.dicom.rtdose import read_rtdose
from imaging.dicom.rtstruct_reader import read_contours
from imaging.grid import Grid, axial, indices, positions
from imaging.roi_contours import ContourSet, RoiContours
from imaging.structures import RoiType
from imaging.volume import Quantity, Volume
from planning.check import dvh as d
from planning.check.contoured import contoured_histogram, contoured_histograms
from planning.check.layers import contoured_volume_cc, even_odd_area

# 1 mm voxels: indices are millimetres, and plane k lies at z = k - 30.
GRID = axial(np.full(3, -30.5), np.full(3, 30.5), (1.0, 1.0, 1.0))
MIDDLE = 30.0


def gradient(direction, at_origin=30.0, spacing=2.5):
    """A dose that rises linearly (Gy/mm), ``at_origin`` in the middle of the grid."""
    grid = axial(np.full(3, -45.0), np.full(3, 45.0), (spacing,) * 3)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    values = at_origin + positions(grid, index.astype(np.float64)) @ np.asarray(direction)
    return Volume(torch.from_numpy(values.reshape(1, *grid.shape)).float(), grid, Quantity.DOSE)


def circle(radius, x=0.0, y=0.0, n=240):
    angle = 2 * np.pi * np.arange(n) / n
    # Of the circle's own area, not inscribed.
    r = radius * np.sqrt(2 * np.pi / n / np.sin(2 * np.pi / n))
    return np.column_stack([MIDDLE + x + r * np.cos(angle), MIDDLE + y + r * np.sin(angle)])


def box(half_x, half_y, x=0.0, y=0.0):
    corners = np.array([[-half_x, -half_y], [half_x, -half_y], [half_x, half_y], [-half_x, half_y]])
    return corners + MIDDLE + [x, y]


def ball(radius, step):
    z = np.arange(-radius, radius + 1e-9, step)
    return {MIDDLE + t: [circle(max(np.sqrt(radius**2 - t**2), 0.01))] for t in z}


def cylinder(radius, half_height, step):
    return {MIDDLE + t: [circle(radius)] for t in np.arange(-half_height, half_height + 1e-9, step)}


def cap(t):
    """Share of a ball of radius 1 above the plane at t."""
    return (1 - t) ** 2 * (2 + t) / 4


@pytest.mark.parametrize("step", [1.0, 3.0])
@pytest.mark.parametrize("direction", [(0, 0.5, 0), (0, 0, 0.5), (0.3, 0.0, -0.4)])
def test_a_ball_in_a_linear_dose_has_the_histogram_of_its_caps(step, direction):
    got = contoured_histogram(gradient(direction), ball(12.0, step), GRID)
    assert got.volume_cc == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=2e-3)
    assert got.share_inside == 1
    assert d.mean(got) == pytest.approx(30, abs=0.01)
    for t in (-0.9, -0.5, 0.0, 0.5, 0.9):
        assert d.dose_at_share(got, 100 * cap(t)) == pytest.approx(30 + 6 * t, abs=0.03)
        assert d.share_at_dose(got, 30 + 6 * t) == pytest.approx(100 * cap(t), abs=0.3)
    assert d.maximum(got) == pytest.approx(36, abs=0.1)
    assert d.minimum(got) == pytest.approx(24, abs=0.1)


@pytest.mark.parametrize("step", [1.0, 3.0])
def test_a_cylinder_goes_on_for_half_a_slice_at_both_ends(step):
    got = contoured_histogram(gradient((0, 0, 0.5)), cylinder(10.0, 12.0, step), GRID)
    length = 24 + step
    assert got.volume_cc == pytest.approx(np.pi * length / 10, rel=1e-5)
    for percent in (1.0, 5.0, 50.0, 95.0, 99.0):
        assert d.dose_at_share(got, percent) == pytest.approx(
            30 + (0.5 - percent / 100) * length / 2, abs=0.01
        )


@pytest.mark.parametrize("step", [1.0, 3.0])
def test_a_cone_has_its_volume_and_a_whole_end_only_at_its_base(step):
    z = np.arange(0, 24 + 1e-9, step)
    cone = {MIDDLE - 12 + t: [circle(max(t / 2, 0.01))] for t in z}
    got = contoured_histogram(gradient((0, 0, 1.0)), cone, GRID)
    volume = np.pi * 12**2 * (24 / 3 + step / 2)
    assert got.volume_cc == pytest.approx(volume / 1000, rel=3e-3)
    # Share below z = 0, half its height: 1/8 of the cone.
    assert 100 - d.share_at_dose(got, 30.0) == pytest.approx(
        100 * np.pi * 12**2 * 24 / 3 / 8 / volume, abs=0.2
    )
    assert d.maximum(got) == pytest.approx(42 + step / 2, abs=0.05)
    assert d.minimum(got) == pytest.approx(18, abs=1.0)


def test_a_box_smaller_than_a_voxel_off_its_centre_has_its_volume_and_straight_line():
    drawn = {MIDDLE + t: [box(0.3, 0.2, x=0.4, y=0.1)] for t in (-0.5, 0.0, 0.5)}
    got = contoured_histogram(gradient((1.0, 0, 0)), drawn, GRID)
    assert got.volume_cc == pytest.approx(0.6 * 0.4 * 1.5 / 1000, rel=1e-6)
    for percent in (2.0, 50.0, 98.0):
        assert d.dose_at_share(got, percent) == pytest.approx(30.7 - 0.6 * percent / 100, abs=0.01)


def test_voxels_that_contours_cut_count_by_their_share():
    """The same box moved through the voxels keeps its volume; its mask does not."""
    volumes = [
        contoured_volume_cc({MIDDLE + t: [box(2.7, 2.7, x=x)] for t in range(-3, 4)}, GRID)
        for x in (0.0, 0.3, 0.5)
    ]
    assert volumes == pytest.approx([5.4 * 5.4 * 7 / 1000] * 3, rel=1e-9)


def test_one_plane_stands_for_a_slab_and_two_for_what_lies_between_and_half_a_slice_more():
    assert contoured_volume_cc({MIDDLE: [box(5, 5)]}, GRID, thickness=3.0) == pytest.approx(0.3)
    assert contoured_volume_cc({MIDDLE: [box(5, 5)], MIDDLE + 4: [box(5, 5)]}, GRID) == pytest.approx(0.8)


def test_a_structure_that_skips_slices_stays_in_two():
    drawn = {MIDDLE + t: [box(5, 5)] for t in (-6, -4, 6, 8)}
    got = contoured_histogram(gradient((0, 0, 1.0)), drawn, GRID)
    assert got.volume_cc == pytest.approx(0.8)
    # 4 mm around -5 and 4 mm around 7: nothing from -3 to 5.
    assert d.share_at_dose(got, 28.0) == d.share_at_dose(got, 34.0) == pytest.approx(50, abs=0.1)


def test_two_planes_that_are_one_but_for_rounding_leave_a_structure_whole():
    drawn = {MIDDLE + t: [box(5, 5)] for t in (-6, -3, 0, 0.06, 3, 6)}
    assert contoured_volume_cc(drawn, GRID) == pytest.approx(1.5, rel=0.01)


def test_planes_that_are_as_far_apart_as_a_slice_is_thick_have_no_gap():
    drawn = {MIDDLE + t: [box(5, 5)] for t in (-2, 0, 4)}
    assert contoured_volume_cc(drawn, GRID) == pytest.approx(0.4 + 0.2)
    assert contoured_volume_cc(drawn, GRID, thickness=4.0) == pytest.approx(0.6 + 0.4)


def test_two_small_parts_far_apart_share_the_volume():
    drawn = {MIDDLE + t: [box(0.5, 0.5, x=-28, y=-28), box(0.5, 0.5, x=28, y=28)] for t in (-1, 0, 1)}
    got = contoured_histogram(gradient((0.5, 0, 0)), drawn, GRID)
    assert got.volume_cc == pytest.approx(0.006)
    assert d.share_at_dose(got, 30.0) == pytest.approx(50, abs=0.5)
    assert d.minimum(got) == pytest.approx(30 - 14.25, abs=0.03)
    assert d.maximum(got) == pytest.approx(30 + 14.25, abs=0.03)


@pytest.mark.parametrize("keyhole", [False, True])
def test_a_hole_is_no_part_of_a_structure(keyhole):
    mask = np.zeros((61, 61), dtype=bool)
    mask[20:41, 20:41] = True
    mask[27:34, 27:34] = False
    polygons = to_polygons(mask) if keyhole else [box(10.5, 10.5), box(3.5, 3.5)[::-1]]
    assert len(polygons) == (1 if keyhole else 2)
    # What marching squares cut off the outer corners, the hole's give back.
    drawn = {MIDDLE + t: polygons for t in (-2, 0, 2)}
    got = contoured_histogram(gradient((1.0, 0, 0)), drawn, GRID)
    assert got.volume_cc == pytest.approx((21**2 - 7**2) * 6 / 1000, rel=1e-6)
    # 7 of 21 columns hold 14 rows instead of 21.
    hole = d.share_at_dose(got, 26.5) - d.share_at_dose(got, 33.5)
    assert hole == pytest.approx(100 * 7 * 14 / (21**2 - 7**2), abs=0.5)


def test_a_shape_that_moves_from_slice_to_slice_lies_between_them():
    drawn = {MIDDLE - 4: [circle(6.0, x=-3.0)], MIDDLE: [circle(6.0)], MIDDLE + 4: [circle(6.0, x=3.0)]}
    got = contoured_histogram(gradient((1.0, 0, -0.75)), drawn, GRID)
    # An oblique cylinder along x = 3/4 z, with a dose that does not change along it, and straight ends.
    assert got.volume_cc == pytest.approx(np.pi * 36 * 12 / 1000, rel=1e-3)
    assert d.mean(got) == pytest.approx(30, abs=0.02)
    assert d.dose_at_share(got, 50.0) == pytest.approx(30, abs=0.02)


def test_area_is_that_of_the_points_inside_an_odd_number_of_polygons():
    assert even_odd_area([box(5, 3)]) == pytest.approx(60, rel=1e-12)
    assert even_odd_area([box(5, 3), box(2, 1)]) == pytest.approx(52, rel=1e-12)
    assert even_odd_area([box(5, 3), box(5, 3)]) == pytest.approx(60, rel=1e-12)
    assert even_odd_area([circle(7.0)]) == pytest.approx(np.pi * 49, rel=1e-9)
    star = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]], dtype=np.float64)
    assert even_odd_area([star]) == pytest.approx(4 * 4 - 0.5 * 4 * 3, rel=1e-12)


def test_the_histogram_does_not_depend_on_the_grid_that_the_contours_refer_to():
    turned = Grid((61, 61, 31), np.diag([-0.5, 1.5, -2.0, 1.0]))
    drawn = ball(10.0, 2.0)
    there = {}
    for k, (polygon,) in drawn.items():
        lps = positions(GRID, np.column_stack([polygon, np.full(len(polygon), k)]))
        moved = indices(turned, lps)
        there[float(moved[0, 2])] = [np.ascontiguousarray(moved[:, :2])]
    dose = gradient((0.3, 0.5, -0.2))
    ours, theirs = contoured_histogram(dose, drawn, GRID), contoured_histogram(dose, there, turned)
    assert theirs.volume_cc == pytest.approx(ours.volume_cc, rel=1e-9)
    for percent in (2.0, 50.0, 98.0):
        assert d.dose_at_share(theirs, percent) == pytest.approx(d.dose_at_share(ours, percent), abs=0.02)


def test_the_part_off_the_dose_grid_is_told():
    half = axial(np.array([0.0, -30, -30]), np.array([30.0, 30, 30]), (2.0, 2.0, 2.0))
    dose = Volume(torch.full((1, *half.shape), 5.0), half, Quantity.DOSE)
    got = contoured_histogram(dose, cylinder(10.0, 5.0, 1.0), GRID)
    assert got.share_inside == pytest.approx(0.5, abs=0.005)


def test_contours_that_enclose_nothing_have_no_histogram():
    dose = gradient((1.0, 0, 0))
    flat = np.array([[1.0, 1.0], [5.0, 1.0], [3.0, 1.0]])
    for drawn in ({}, {3.0: []}, {3.0: [flat]}):
        with pytest.raises(ValueError, match="enclose some area"):
            contoured_histogram(dose, drawn, GRID)
    with pytest.raises(ValueError, match="some thickness"):
        contoured_volume_cc({3.0: [box(2, 2)]}, GRID, thickness=0.0)


def drawn_in(polygons, frame="1.2.3", kind=RoiType.ORGAN):
    return ContourSet({"Organ": RoiContours(tuple(polygons), kind, (0, 0, 0))}, frame)


def lps(planes):
    return [
        positions(GRID, np.column_stack([polygon, np.full(len(polygon), k)]))
        for k, polygons in planes.items()
        for polygon in polygons
    ]


def test_a_ball_drawn_on_coronal_planes_has_the_histogram_of_one_drawn_on_axial_planes():
    coronal = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    axial_ball = lps(ball(12.0, 2.0))
    dose = gradient((0.3, 0.5, -0.2))
    for polygons in (axial_ball, [polygon @ coronal.T for polygon in axial_ball]):
        got = contoured_histograms(dose, drawn_in(polygons))["Organ"]
        assert got.volume_cc == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=2e-3)
        slope = 12 * np.linalg.norm([0.3, 0.5, -0.2])
        for t in (-0.8, 0.0, 0.8):
            assert d.dose_at_share(got, 100 * cap(t)) == pytest.approx(30 + slope * t, abs=0.05)


def test_contours_of_another_frame_of_reference_have_no_histogram():
    dose = gradient((1.0, 0, 0))
    there = Volume(dose.data, dose.grid, dose.quantity, "9.9")
    with pytest.raises(ValueError, match="frame of reference"):
        contoured_histograms(there, drawn_in(lps(ball(5.0, 1.0))))
    assert list(contoured_histograms(there, drawn_in(lps(ball(5.0, 1.0)), frame="9.9"))) == ["Organ"]


def test_one_plane_alone_needs_the_thickness_of_its_slice():
    dose = gradient((1.0, 0, 0))
    polygons = lps({MIDDLE: [box(5, 5)]})
    with pytest.raises(ValueError, match="how thick the slices are that Organ"):
        contoured_histograms(dose, drawn_in(polygons))
    assert contoured_histograms(dose, drawn_in(polygons), slice_mm=3.0)["Organ"].volume_cc == pytest.approx(
        0.3
    )
    # Another structure of the set tells it.
    both = ContourSet(
        {**drawn_in(polygons).rois, "Ball": RoiContours(tuple(lps(ball(6.0, 2.0))), RoiType.ORGAN, (0, 0, 0))}
    )
    assert contoured_histograms(dose, both)["Organ"].volume_cc == pytest.approx(0.2)


@pytest.mark.data
@pytest.mark.parametrize("name", ["Sphere_30_X15Z15", "Cylinder_30_0", "Sphere_10_X05"])
@pytest.mark.parametrize("step", [1, 3])
def test_shapes_of_nelms_have_their_analytic_doses(data, name, step):
    # Nelms et al., Med. Phys. 42, 4435 (2015): 1 Gy/mm along z, 16 Gy in the middle of the shapes.
    dose, _ = read_rtdose(
        data / "dvh/nelms/DOSE GRIDS" / f"Linear_SupInf_{step}mm_Aligned.dcm", summation="FRACTION"
    )
    (got,) = contoured_histograms(dose, read_contours(data / "dvh/nelms/STRUCTURES" / f"{name}.dcm")).values()
    if name.startswith("Sphere"):
        assert got.volume_cc == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=2e-3)
        for t in (-0.9, 0.0, 0.9):
            assert d.dose_at_share(got, 100 * cap(t)) == pytest.approx(16 + 12 * t, abs=0.04)
    else:
        assert got.volume_cc == pytest.approx(np.pi * 1.44 * 2.7, rel=2e-3)
        assert d.dose_at_share(got, 99.0) == pytest.approx(2.5 + 0.27, abs=0.02)
        assert d.dose_at_share(got, 1.0) == pytest.approx(29.5 - 0.27, abs=0.02)
