import numpy as np
import pytest

from planning.beams import Beam, bev_axes, expect_angles, project, source_position

LEFT, POSTERIOR, HEAD = np.eye(3)
ISO = np.array([10.0, -20.0, 30.0])


def _beam(gantry=0.0, couch=0.0, collimator=0.0):
    return Beam(float(gantry), float(couch), float(collimator), ISO)


@pytest.mark.parametrize(
    ("gantry", "couch", "side"),
    [
        (0, 0, -POSTERIOR),
        (90, 0, LEFT),
        (180, 0, POSTERIOR),
        (270, 0, -LEFT),
        (0, 90, -POSTERIOR),
        (90, 270, HEAD),
        (90, 90, -HEAD),
        (270, 90, HEAD),
        (90, 315, (LEFT + HEAD) / np.sqrt(2)),
        (45, 0, (LEFT - POSTERIOR) / np.sqrt(2)),
    ],
)
def test_source_stands_where_the_named_angles_say(gantry, couch, side):
    np.testing.assert_allclose(source_position(_beam(gantry, couch), 1000.0), ISO + 1000 * side, atol=1e-9)


@pytest.mark.parametrize(
    ("angles", "x", "y"),
    [
        ((0, 0, 0), LEFT, HEAD),
        ((180, 0, 0), -LEFT, HEAD),
        ((90, 0, 0), POSTERIOR, HEAD),
        ((270, 0, 0), -POSTERIOR, HEAD),
        # Seen from the source at gantry 0, x turns towards the head.
        ((0, 0, 90), HEAD, -LEFT),
        # The table turns the head to the patient's fixed right, so x lies along the feet.
        ((0, 90, 0), -HEAD, LEFT),
    ],
)
def test_field_axes_at_named_angles(angles, x, y):
    axes = bev_axes(_beam(*angles))
    np.testing.assert_allclose(axes[0], x, atol=1e-12)
    np.testing.assert_allclose(axes[1], y, atol=1e-12)


def test_axes_are_right_handed_and_of_unit_length_at_any_angles():
    axes = bev_axes(_beam(37.0, 291.0, 113.0))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1.0)


def test_projection_magnifies_what_is_nearer_to_the_source():
    points = ISO + np.array([[10.0, 0.0, 5.0], [10.0, -500.0, 5.0], [10.0, 1000.0, 5.0]])
    seen = project(_beam(), points, 1000.0)
    np.testing.assert_allclose(seen, [[10, 5], [20, 10], [5, 2.5]], atol=1e-12)


@pytest.mark.parametrize("angles", [(361, 0, 0), (0, -1, 0), (0, 0, float("nan"))])
def test_angles_outside_the_circle_are_refused(angles):
    with pytest.raises(ValueError, match="angle of 0-360 degrees"):
        expect_angles(_beam(*angles))
