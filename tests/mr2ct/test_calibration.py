"""Intervals and samples of CT numbers, held against errors of a known kind."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume
from mr2ct.calibration import (
    TISSUES,
    Calibration,
    calibrated,
    common,
    deviation,
    drawn,
    half_width,
    observed,
    read_calibration,
    tissue_of,
    write_calibration,
)
from mr2ct.convert import SyntheticCt

GRID = axial(np.zeros(3), np.full(3, 120.0), (2.0,) * 3)
LEVELS = (-800.0, -80.0, 30.0, 900.0)  # HU of each tissue
TOLD = 20.0  # HU: the deviation that networks tell everywhere
BODY = torch.ones(GRID.shape, dtype=torch.bool)
QUARTERS = torch.arange(GRID.shape[0])[:, None, None].expand(GRID.shape) * 4 // GRID.shape[0]


def answered() -> SyntheticCt:
    """A block of each tissue, side by side."""
    hu = torch.tensor(LEVELS)[QUARTERS]
    told = torch.full((1, *GRID.shape), TOLD)
    return SyntheticCt(
        Volume(hu[None], GRID, Quantity.HU, "1.2"),
        Volume(told, GRID, Quantity.HU_DEVIATION, "1.2"),
        Volume(torch.zeros_like(told), GRID, Quantity.HU_DEVIATION, "1.2"),
    )


def fine(scale: float, n: int, seed: int = 0) -> Iterator[tuple[SyntheticCt, Volume, Mask]]:
    """Patients whose voxels err by themselves, ``scale`` times what is told."""
    g = torch.Generator().manual_seed(seed)
    for _ in range(n):
        found = answered()
        error = scale * TOLD * torch.randn(GRID.shape, generator=g)
        yield found, Volume(found.ct.data + error, GRID, Quantity.HU), BODY


def whole(scale: float, n: int) -> Iterator[tuple[SyntheticCt, Volume, Mask]]:
    """Patients each of whose tissues errs all over alike: by the quantiles of a normal distribution."""
    errors = torch.special.ndtri((torch.arange(n) + 0.5) / n)
    for k in range(n):
        found = answered()
        error = scale * TOLD * errors[(k + 7 * QUARTERS) % n]
        yield found, Volume(found.ct.data + error, GRID, Quantity.HU), BODY


def told(patients: Iterable[tuple[SyntheticCt, Volume, Mask]]) -> Calibration:
    return calibrated([observed(*one) for one in patients])


def test_tissues_are_told_apart_by_ct_number() -> None:
    assert tissue_of(answered().ct).unique().tolist() == [0, 1, 2, 3]
    assert [int(tissue_of(answered().ct)[k, 0, 0]) for k in (0, 20, 40, 59)] == [0, 1, 2, 3]


def test_intervals_hold_their_share_of_new_patients() -> None:
    """Normal errors of half and of twice what is told: 1.645 deviations hold 90 %, whatever was told."""
    for scale in (0.5, 2.0):
        found = told(fine(scale, 3))
        for name in TISSUES:
            assert found.factors[name]["0.9"] == pytest.approx(1.645 * scale, rel=0.02)
        for ours, truth, _ in fine(scale, 2, seed=9):
            width = half_width(ours.ct, deviation(ours, found), found, 0.9)
            held = (truth.data - ours.ct.data).abs() <= width.data
            assert float(held.float().mean()) == pytest.approx(0.9, abs=0.01)
        assert float(deviation(answered(), found).data.mean()) == pytest.approx(scale * TOLD, rel=0.02)
        assert deviation(answered(), found).quantity is Quantity.HU_DEVIATION


def test_errors_that_lie_together_are_told_from_those_of_voxels() -> None:
    apart, together = told(fine(1.5, 3)), told(whole(1.5, 60))
    for name in TISSUES:
        alone, patch, voxel = apart.parts[name]
        assert alone == pytest.approx(0, abs=0.01)
        assert patch == pytest.approx(0, abs=0.02)  # means over 1000 voxels
        assert voxel == pytest.approx(1.0, rel=0.03)  # in squares of the deviation that holds 68 %
        alone, patch, voxel = together.parts[name]
        assert alone == pytest.approx(1.0, rel=0.05)
        assert patch == pytest.approx(0, abs=1e-3)
        assert voxel == pytest.approx(0, abs=1e-3)


def test_samples_err_as_patients_do() -> None:
    parts = dict.fromkeys(TISSUES, (0.25, 0.5, 1.0))
    given = Calibration({name: {"0.9": 1.0} for name in TISSUES}, parts)
    g = torch.Generator().manual_seed(3)
    ct, sigma = answered().ct, answered().uncertainty
    errors = [(drawn(ct, sigma, given, g).data - ct.data)[0] / TOLD for _ in range(40)]
    stack = torch.stack(errors)
    assert float(stack.square().mean()) == pytest.approx(1.75, rel=0.1)
    means = torch.stack([stack[:, k == QUARTERS].mean(dim=1) for k in (1, 2)])
    assert float(means.square().mean()) == pytest.approx(0.25, rel=0.6)
    # Neighbours 2 mm apart share more than places 24 mm apart.
    near = float((stack[:, :, :-1] * stack[:, :, 1:]).mean())
    far = float((stack[:, :, :-12] * stack[:, :, 12:]).mean())
    assert near > far + 0.4
    assert torch.equal(
        drawn(ct, sigma, given, torch.Generator().manual_seed(5)).data,
        drawn(ct, sigma, given, torch.Generator().manual_seed(5)).data,
    )


def test_the_common_error_is_that_of_samples_without_their_fine_one() -> None:
    given = Calibration({name: {"0.9": 1.0} for name in TISSUES}, dict.fromkeys(TISSUES, (0.25, 0.5, 0.0)))
    g = torch.Generator().manual_seed(4)
    ct, sigma = answered().ct, answered().uncertainty
    errors = torch.stack([(drawn(ct, sigma, given, g).data - ct.data)[0] for _ in range(40)])
    told = common(ct, sigma, given).data[0]
    assert float((errors / told).square().mean()) == pytest.approx(1.0, rel=0.1)


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    found = told(fine(1.0, 2))
    write_calibration(found, tmp_path / "c.json")
    again = read_calibration(tmp_path / "c.json")
    assert again == found
    for wrong in ("[]", "{}", json.dumps({"factors": {"air": {"0.9": 1}}, "parts": {}}), "nonsense"):
        (tmp_path / "c.json").write_text(wrong)
        with pytest.raises(ValueError, match="expected a calibration"):
            read_calibration(tmp_path / "c.json")


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(ValueError, match="expected patients with every tissue"):
        calibrated([])
    found, truth, body = next(fine(1.0, 1))
    with pytest.raises(ValueError, match="none with bone"):
        told([(found, truth, body & (QUARTERS < 3))])
    with pytest.raises(ValueError, match="expected a share of"):
        half_width(found.ct, found.uncertainty, told(fine(1.0, 1)), 0.42)
    with pytest.raises(ValueError, match="0 or more for each tissue"):
        Calibration({}, {}, math.nan)
