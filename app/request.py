"""What a planner asks for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

from imaging.shapes import Point
from planning.contour.barriers import Barriers
from planning.plan import Prescription

_NUMBER = r"\s*([-+]?\d+(?:\.\d+)?)\s*"
_SPHERE = re.compile(",".join([_NUMBER] * 4))


@dataclass(frozen=True, eq=False)
class Sphere:
    """A target given as a sphere: centre (LPS, mm) and radius (mm)."""

    center: Point
    radius: float


@dataclass(frozen=True)
class TargetFile:
    """A target drawn elsewhere: a NIfTI mask, or one ROI of an RTSTRUCT."""

    path: Path
    roi: str = ""


Target = Sphere | TargetFile


class Technique(StrEnum):
    """How the dose is delivered."""

    IMRT = "imrt"
    VMAT = "vmat"


@dataclass(frozen=True)
class Request:
    """Everything that a plan depends on beside the scan and the target.

    Parameters
    ----------
    prescription
        Total dose and fractions.
    ctv_margin, ptv_margin
        GTV to CTV inside the brain, CTV to PTV (mm); ESTRO-EANO 2023 for glioblastoma.
    n_beams
        Number of standing fields, where the gantry does not turn.
    machine
        Name of the machine.
    dose_spacing
        Voxel size of the dose grid (mm).
    seed
        What UIDs follow from; fresh ones where there is none.
    setup_error
        How far the patient may lie from where the plan has them (mm); 0 for a plan that is not robust.
    density_uncertainty
        NIfTI file of one standard deviation of the relative electron density, where there is one.
    robust_ct
        Whether the plan holds against what the networks' CT may be off by.
    expected_value
        Whether the plan is best on average over these errors; otherwise in the worst of them.
    technique
        Standing fields (IMRT) or arcs (VMAT).
    n_arcs
        Number of full arcs.
    arcs
        Arcs as :func:`planning.arcs.parse_arc` reads them, in place of full ones.
    goal_sheet
        TOML file of the goals, as :func:`planning.goals.read_sheet` reads it; the brain sheet where
        there is none.
    networks
        Whether networks make the CT, with what it may be off by; the aligned anatomy otherwise.
    barriers
        What cuts the CTV, and how far beyond it may go.
    ct_weights, ct_intervals
        Those networks, and what was calibrated for them; with none those that ship.
    ct_model
        What the catalogue calls them, where they are of it.
    contour_files, contour_note
        Networks that draw organs, by their files' names; and what to say where there are none.
    contrast
        Of the scan, where they need it.
    prediction
        Whether the plan mimics a dose that networks foretell; otherwise goals alone make it.
    style
        Of planning, which the foretold dose has.
    dose_weights, dose_note
        Those networks; and what to say where there are none.
    mark
        What every output says of itself where a model is not approved.
    """

    prescription: Prescription
    ctv_margin: float = 15.0
    ptv_margin: float = 3.0
    n_beams: int = 9
    machine: str = "generic-6mv"
    dose_spacing: float = 3.0
    seed: int | None = None
    setup_error: float = 0.0
    density_uncertainty: Path | None = None
    expected_value: bool = False
    goal_sheet: Path | None = None
    technique: Technique = Technique.IMRT
    n_arcs: int = 1
    arcs: tuple[str, ...] = ()
    networks: bool = True
    robust_ct: bool = False
    barriers: Barriers = field(default_factory=Barriers)
    ct_weights: tuple[Path, ...] = ()
    ct_intervals: Path | None = None
    ct_model: str = ""
    contour_files: Mapping[str, Path] = field(default_factory=dict)
    contour_note: str = ""
    contrast: str = ""
    prediction: bool = True
    style: str = "balanced"
    dose_weights: tuple[Path, ...] = ()
    dose_note: str = ""
    mark: str = ""

    def __post_init__(self) -> None:
        if not (0 <= self.ctv_margin <= 50 and 0 <= self.ptv_margin <= 50):
            raise ValueError(f"expected a margin of 0-50 mm, got {self.ctv_margin:g} and {self.ptv_margin:g}")
        if self.technique is Technique.IMRT and self.arcs:
            raise ValueError("expected arcs with the technique vmat, got imrt; add --technique vmat")
        if not 0 <= self.setup_error <= 20:
            raise ValueError(f"expected a set-up error of 0-20 mm, got {self.setup_error:g}")
        if self.density_uncertainty is not None and not self.density_uncertainty.is_file():
            raise ValueError("expected a NIfTI file of the density's standard deviation, got no file there")
        if self.robust_ct and (not self.networks or self.density_uncertainty is not None):
            raise ValueError(
                "expected --robust-ct without --bulk, whose errors nobody knows, and without "
                "--density-uncertainty, which stands for the same; leave one out"
            )
        if self.expected_value and not (self.setup_error or self.density_uncertainty or self.robust_ct):
            raise ValueError(
                "expected a set-up error or an uncertain density to take the expected value over, got neither"
            )
        if self.goal_sheet is not None and not self.goal_sheet.is_file():
            raise ValueError("expected a TOML file of goals, got no file there")
        if not 1 <= self.dose_spacing <= 5:
            raise ValueError(
                f"expected a dose grid of 1-5 mm, no coarser than the 5 mm bixels, got {self.dose_spacing:g}"
            )


def parse_technique(text: str) -> Technique:
    """The technique of this name; a ValueError for any other."""
    try:
        return Technique(text.lower())
    except ValueError:
        raise ValueError(f"expected the technique imrt or vmat, got {text}") from None


def parse_target(text: str, roi: str = "") -> Target:
    """The target written as ``x,y,z,r`` (LPS mm), or the file that it is drawn in.

    Raises
    ------
    ValueError
        If the text is neither four numbers with a radius above 0 nor a file that exists.
    """
    numbers = _SPHERE.fullmatch(text)
    if numbers:
        x, y, z, radius = map(float, numbers.groups())
        if radius <= 0:
            raise ValueError(f"expected a target sphere of radius above 0 mm, got {radius:g}")
        return Sphere(np.array([x, y, z]), radius)
    path = Path(text)
    if not path.is_file():
        raise ValueError(
            "expected a target as x,y,z,radius in LPS mm, or the file of a NIfTI mask or RTSTRUCT; "
            "got neither four numbers nor a file that exists"
        )
    return TargetFile(path, roi)
