"""Doses that depend on the distance from the nearest target alone are foretold exactly."""

import torch

from planning.predict.baseline import by_distance, foretold
from planning.predict.channels import Sees, names_of
from planning.predict.site import read_site

SITE = read_site("openkbp")
NAMES = names_of(SITE, Sees())
SHAPE = (24, 8, 8)


def patient(high: float | None, low: float) -> dict[str, torch.Tensor]:
    """A slab of PTV56 and, perhaps, one of PTV70 inside it; distances along i, 5 mm a voxel."""
    planes = torch.zeros(len(NAMES), *SHAPE)
    planes[[n for n, name in enumerate(NAMES) if name.startswith("distance")]] = 1.0
    i = torch.arange(24.0).view(-1, 1, 1).expand(SHAPE)
    slabs = {"PTV56": (8, 16, low), **({} if high is None else {"PTV70": (10, 14, high)})}
    level, dose = torch.zeros(SHAPE), torch.zeros(SHAPE)
    for name, (first, end, gy) in slabs.items():
        inside = (i >= first) & (i < end)
        outward = torch.maximum(first - i, i - end + 1)
        inward = torch.minimum(i - first, end - 1 - i) + 1
        away = torch.where(inside, -5 * inward, 5 * outward) + torch.where(inside, 2.5, -2.5)
        planes[NAMES.index(name)] = inside * gy / SITE.prescription
        planes[NAMES.index(f"distance {name}")] = (away / 60).clamp(-1, 1)
        level = torch.where(inside, gy, level)
    outside = level == 0
    away = planes[NAMES.index("distance PTV56")] * 60
    dose = torch.where(outside, low * torch.exp(-away / 20), level)
    known = torch.ones(1, 1, *SHAPE, dtype=torch.bool)
    known[..., 0] = False
    return {"image": planes[None], "dose": dose[None, None] * known, "known": known}


def test_a_dose_by_distance_is_learnt_and_scales_with_what_is_prescribed() -> None:
    known = by_distance([patient(70.0, 56.0), patient(None, 56.0)], SITE)
    for told in (patient(70.0, 56.0), patient(None, 56.0), patient(60.0, 50.0)):
        said = foretold(known, told, SITE)
        torch.testing.assert_close(said, told["dose"], atol=1e-3, rtol=1e-5)
        assert float(said[..., 0].max()) == 0.0  # no dose where none may be


def test_a_place_that_no_patient_had_gets_nothing() -> None:
    known = by_distance([], SITE)
    assert float(foretold(known, patient(70.0, 56.0), SITE).max()) == 0.0
