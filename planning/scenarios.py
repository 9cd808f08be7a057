"""What may be otherwise on the day: the patient lies or is shaped otherwise, or tissue is denser."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64

from imaging.resample import resample
from imaging.volume import Quantity, Volume, expect_finite

from .beams import Beam
from .displacement import displaced, expect_displacement

# Share of the body that may lie beyond the given uncertainty: a scan's outermost slice, no more.
_BEYOND_AT_MOST = 0.05
# Nobody is so unsure of a density that water could be air or bone: what is more is in other units.
_MOST_UNSURE = 1.0
_LESS_THAN_AIR = 1e-4
_WAYS = (("left", "right"), ("back", "front"), ("head", "foot"))  # +x, -x, +y, -y, +z, -z in LPS


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
    distortion
        How many times the MR distortion of the day's field displaced what the plan was made on.

    Raises
    ------
    ValueError
        If a number is not finite or the probability is not 0..1.
    """

    name: str
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    density_sigmas: float = 0.0
    probability: float = 1.0
    distortion: float = 0.0

    def __post_init__(self) -> None:
        if not np.isfinite([*self.shift, self.density_sigmas, self.distortion]).all():
            raise ValueError(f"expected a finite shift, density error and distortion, got {self.shift}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"expected a probability of 0 to 1, got {self.probability:g}")

    @property
    def nominal(self) -> bool:
        """Whether nothing differs."""
        return not any(self.shift) and self.density_sigmas == 0 and self.distortion == 0


NOMINAL = Scenario("as planned")


def setup_scenarios(mm: float = 3.0) -> tuple[Scenario, ...]:
    """The plan as it is, and the patient shifted by ``mm`` either way along each axis; equally likely.

    Raises
    ------
    ValueError
        If the shift is not above 0 and at most 20 mm.
    """
    return combined(
        _moved(sign * _expect_shift(mm) * np.eye(3)[axis]) for axis in range(3) for sign in (1, -1)
    )


def corner_scenarios(mm: float = 3.0) -> tuple[Scenario, ...]:
    """The plan as it is, and the patient shifted by ``mm`` towards each corner of a cube; equally likely.

    The shift is as long as along an axis: a margin of ``mm`` covers a ball of that radius, not the cube.

    Raises
    ------
    ValueError
        If the shift is not above 0 and at most 20 mm.
    """
    corners = np.array(np.meshgrid((1, -1), (1, -1), (1, -1), indexing="ij")).reshape(3, -1).T
    return combined(_moved(_expect_shift(mm) / np.sqrt(3) * corner) for corner in corners)


def distortion_scenarios(times: Sequence[float] = (1.0,)) -> tuple[Scenario, ...]:
    """The plan as it is, and what it was made on displaced by so many times a distortion; equally likely."""
    return combined(Scenario(_distorted(k), distortion=float(k)) for k in times if k)


def density_scenarios(sigmas: Sequence[float] = (-1.0, 1.0)) -> tuple[Scenario, ...]:
    """The plan as it is, and density off by so many standard deviations everywhere; equally likely."""
    return combined(
        Scenario(f"density {k:+g} standard deviations", density_sigmas=float(k)) for k in sigmas if k
    )


def scaled(scenario: Scenario, factor: float) -> Scenario:
    """The same error so many times, named anew."""
    shift = np.array(scenario.shift) * factor
    sigmas, distortion = scenario.density_sigmas * factor, scenario.distortion * factor
    names = [
        *([_moved(shift).name] if shift.any() else []),
        *([f"density {sigmas:+.3g} standard deviations"] if sigmas else []),
        *([_distorted(distortion)] if distortion else []),
    ]
    return Scenario(
        ", ".join(names) or NOMINAL.name,
        (float(shift[0]), float(shift[1]), float(shift[2])),
        sigmas,
        scenario.probability,
        distortion,
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


def perturbed(
    density: Volume, scenario: Scenario, deviation: Volume | None = None, distortion: Volume | None = None
) -> Volume:
    """The density of a scenario: so many standard deviations more in every voxel of the body, at least 0.

    What the scanner displaced is put back afterwards: the deviation belongs to the tissue.

    Errors are taken as fully correlated, which bounds the error of any radiological depth.

    Parameters
    ----------
    density
        Relative electron density, zero outside the body.
    scenario
        Says how many standard deviations.
    deviation
        One standard deviation of the relative electron density, on any grid.
    distortion
        Displacement (mm) by the MR scanner: tissue at x appears at x + u(x).

    Raises
    ------
    ValueError
        If the deviation or the distortion is needed and missing, or for what :func:`expect_deviation` and
        :func:`planning.displacement.expect_displacement` refuse.
    """
    denser = _denser(density, scenario, deviation)
    if scenario.distortion == 0:
        return denser
    if distortion is None:
        raise ValueError(
            f"expected a displacement field for the scenario '{scenario.name}', got none; "
            "give one, or leave the scenario out"
        )
    expect_displacement(distortion, scenario.distortion)
    expect_over(distortion, density, "a displacement")
    moved = displaced(denser, distortion, scenario.distortion)
    # What rounding leaves of a neighbour is no tissue: the thinnest air in the body has ten times as much.
    return replace(moved, data=moved.data * (moved.data > _LESS_THAN_AIR))


def _denser(density: Volume, scenario: Scenario, deviation: Volume | None) -> Volume:
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
        expect_over(deviation, density, "a standard deviation")
    return deviation


def expect_over(told: Volume, density: Volume, what: str) -> None:
    """Nothing, if something is told where the body is.

    Parameters
    ----------
    told
        What is told.
    density
        Relative electron density, zero outside the body.
    what
        Its name in a sentence, with its article.

    Raises
    ------
    ValueError
        If it lies in another frame of reference or leaves out part of the body.
    """
    if told.frame and density.frame and told.frame != density.frame:
        raise ValueError(
            f"expected the density and {what} in one frame of reference, got two; register them first"
        )
    ones = Volume(torch.ones_like(told.data[:1], dtype=torch.float32), told.grid, Quantity.DENSITY)
    body = density.data > 0
    beyond = float((body & (resample(ones, density.grid).data == 0)).sum() / body.sum().clamp(min=1))
    if beyond > _BEYOND_AT_MOST:
        raise ValueError(
            f"expected {what} for the whole body, got none for {100 * beyond:.0f} % of it; "
            "give it on the grid of the scan"
        )


def _expect_shift(mm: float) -> float:
    if not 0 < mm <= 20:
        raise ValueError(f"expected a set-up error above 0 and at most 20 mm, got {mm:g}")
    return mm


def _moved(shift: Float64[np.ndarray, "3"]) -> Scenario:
    """A shift of the patient, named by its length and the ways it goes."""
    ways = [pair[int(part < 0)] for pair, part in zip(_WAYS, shift, strict=True) if part]
    words = f"{', '.join(ways[:-1])} and {ways[-1]}" if len(ways) > 1 else ways[0]
    x, y, z = (float(part) for part in shift)
    return Scenario(f"{np.linalg.norm(shift):.3g} mm to the {words}", (x, y, z))


def _distorted(times: float) -> str:
    return f"{times:.3g} times the MR distortion"
