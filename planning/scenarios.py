"""What may be otherwise on the day: the patient lies elsewhere, or tissue is denser than the scan says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from imaging.resample import resample
from imaging.volume import Quantity, Volume, expect_finite

from .beams import Beam

# Share of the body that may lie beyond the given uncertainty: a scan's outermost slice, no more.
_BEYOND_AT_MOST = 0.05
# Nobody is so unsure of a density that water could be air or bone: what is more is in other units.
_MOST_UNSURE = 1.0


@dataclass(frozen=True)
class Scenario:
    """One way in which a treatment may differ from its plan.

    Parameters
    ----------
    name
        What it is called in reports.
    shift
        How far the patient lies from where the plan has them (LPS, mm).
    density_sigmas
        Error of the relative electron density, in standard deviations, everywhere alike.
    probability
        How likely it is among those that it is listed with.

    Raises
    ------
    ValueError
        If a number is not finite or the probability is not 0..1.
    """

    name: str
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    density_sigmas: float = 0.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not np.isfinite([*self.shift, self.density_sigmas]).all():
            raise ValueError(f"expected a finite shift and density error, got {self.shift}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"expected a probability of 0 to 1, got {self.probability:g}")

    @property
    def nominal(self) -> bool:
        """Whether nothing differs."""
        return not any(self.shift) and self.density_sigmas == 0


NOMINAL = Scenario("as planned")


def setup_scenarios(mm: float = 3.0) -> tuple[Scenario, ...]:
    """The plan as it is, and the patient shifted by ``mm`` either way along each axis; equally likely.

    Raises
    ------
    ValueError
        If the shift is not above 0 and at most 20 mm.
    """
    if not 0 < mm <= 20:
        raise ValueError(f"expected a set-up error above 0 and at most 20 mm, got {mm:g}")
    ways = ("left", "right", "back", "front", "head", "foot")  # +x, -x, +y, -y, +z, -z in LPS
    shifts = [sign * mm * np.eye(3)[axis] for axis in range(3) for sign in (1, -1)]
    return combined(
        Scenario(f"{mm:g} mm to the {way}", (float(s[0]), float(s[1]), float(s[2])))
        for way, s in zip(ways, shifts, strict=True)
    )


def density_scenarios(sigmas: Sequence[float] = (-1.0, 1.0)) -> tuple[Scenario, ...]:
    """The plan as it is, and density off by so many standard deviations everywhere; equally likely."""
    return combined(
        Scenario(f"density {k:+g} standard deviations", density_sigmas=float(k)) for k in sigmas if k
    )


def combined(*lists: Sequence[Scenario] | Iterator[Scenario]) -> tuple[Scenario, ...]:
    """The plan as it is, then what else the lists hold, equally likely."""
    others = [scenario for one in lists for scenario in one if not scenario.nominal]
    share = 1 / (len(others) + 1)
    return tuple(replace(scenario, probability=share) for scenario in (NOMINAL, *others))


def expect_scenarios(scenarios: Sequence[Scenario]) -> tuple[Scenario, ...]:
    """These scenarios, if the plan as it is comes first and their probabilities sum to one.

    Raises
    ------
    ValueError
        If not.
    """
    if not scenarios or not scenarios[0].nominal:
        raise ValueError("expected the plan as it is as the first scenario; use setup_scenarios or combined")
    total = sum(scenario.probability for scenario in scenarios)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"expected probabilities that sum to 1, got {total:g}; use combined")
    return tuple(scenarios)


def shifted(beams: Sequence[Beam], scenario: Scenario) -> tuple[Beam, ...]:
    """The beams as they meet the patient, in the patient's coordinates.

    Tissue moves with the patient, so that a patient who lies further left is a patient in place under
    an isocentre further right.
    """
    shift = np.array(scenario.shift)
    return tuple(replace(beam, isocenter=beam.isocenter - shift) for beam in beams)


def perturbed(density: Volume, scenario: Scenario, deviation: Volume | None = None) -> Volume:
    """The density of a scenario: so many standard deviations more in every voxel of the body, at least 0.

    Errors are taken as fully correlated, which bounds the error of any radiological depth.

    Parameters
    ----------
    density
        Relative electron density, zero outside the body.
    scenario
        Says how many standard deviations.
    deviation
        One standard deviation of the relative electron density, on any grid.

    Raises
    ------
    ValueError
        If the deviation is needed and missing, or for what :func:`expect_deviation` refuses.
    """
    if scenario.density_sigmas == 0:
        return density
    if deviation is None:
        raise ValueError(
            f"expected the standard deviation of the density for the scenario '{scenario.name}', got none; "
            "give one as a volume, or leave the scenario out"
        )
    sigma = resample(expect_deviation(deviation, density), density.grid).data[:1]
    body = density.data > 0
    moved = (density.data + scenario.density_sigmas * sigma).clamp(min=0) * body
    return Volume(moved, density.grid, Quantity.DENSITY, density.frame)


def expect_deviation(deviation: Volume, density: Volume | None = None) -> Volume:
    """This standard deviation, if it can be one of that density; of any, where none is known yet.

    Raises
    ------
    ValueError
        If it is not a finite relative electron density from 0 to 1, lies in another frame of reference, or
        leaves out part of the body.
    """
    expect_finite(deviation.expect(Quantity.DENSITY))
    if bool((deviation.data < 0).any()):
        raise ValueError("expected standard deviations of at least 0, got a negative one; give sigma, not HU")
    if float(deviation.data.max()) > _MOST_UNSURE:
        raise ValueError(
            f"expected a standard deviation of at most {_MOST_UNSURE:g} of the density relative to water, "
            f"got {float(deviation.data.max()):g}; divide by that of water, or convert it from HU"
        )
    if density is not None:
        _expect_over(deviation, density)
    return deviation


def _expect_over(deviation: Volume, density: Volume) -> None:
    """Nothing, if a deviation is told where the body is."""
    if deviation.frame and density.frame and deviation.frame != density.frame:
        raise ValueError(
            "expected the density and its standard deviation in one frame of reference, got two; "
            "register them first"
        )
    ones = Volume(torch.ones_like(deviation.data[:1], dtype=torch.float32), deviation.grid, Quantity.DENSITY)
    body = density.data > 0
    beyond = float((body & (resample(ones, density.grid).data == 0)).sum() / body.sum().clamp(min=1))
    if beyond > _BEYOND_AT_MOST:
        raise ValueError(
            f"expected a standard deviation for the whole body, got none for {100 * beyond:.0f} % of it; "
            "give it on the grid of the scan"
        )
