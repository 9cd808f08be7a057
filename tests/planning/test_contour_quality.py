import itertools
from pathlib import Path

import numpy as np
import pytest

from planning.contour.quality import ALL, Quality, calibrated, read_quality, write_quality


def test_what_agreement_is_worth_is_learnt_and_never_falls() -> None:
    # Dice is half of the agreement of lenses and all of it of eyes.
    at = np.linspace(0.2, 1.0, 17)
    found = {"Lens_L": [(a, a / 2) for a in at], "Eye_L": [(a, a) for a in at], "Pituitary": [(0.5, 0.4)]}
    quality = calibrated(found, 17)
    for a in (0.2, 0.55, 0.9):
        assert quality.expected("Lens_L", a) == pytest.approx(a / 2, abs=0.01)
        assert quality.expected("Eye_L", a) == pytest.approx(a, abs=0.01)
    # Too few of one: all structures together speak for it.
    assert quality.expected("Pituitary", 0.6) == quality.expected("Chiasm", 0.6)
    grid = [quality.expected(ALL, a) for a in np.linspace(0, 1, 50)]
    assert all(b >= a for a, b in itertools.pairwise(grid))
    assert quality.patients == 17
    assert quality.spread < 0.05


def test_a_calibration_comes_back_from_its_file_and_others_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [(float(a), float(np.clip(a - 0.2 * rng.random(), 0, 1))) for a in rng.random(40)]
    quality = calibrated({"Eye_L": pairs}, 4)
    path = tmp_path / "quality.json"
    write_quality(quality, path)
    back = read_quality(path)
    assert back.patients == 4
    assert back.expected("Eye_L", 0.77) == pytest.approx(quality.expected("Eye_L", 0.77))
    for text in ("{", "{}", '{"knots": {"all": [[0.5, 2]]}, "spread": 0, "patients": 1}', '{"knots": []}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="expected a calibration of contours' quality"):
            read_quality(path)
    with pytest.raises(ValueError, match="contour more heads"):
        calibrated({}, 0)
    with pytest.raises(ValueError, match="expected knots of all"):
        Quality({"Eye_L": [(0.0, 0.0), (1.0, 1.0)]})
