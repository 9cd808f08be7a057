"""How tumours are distributed: kinds, places, volumes and counts, each with where it comes from.

A figure is ``verified`` if its source was read for this table; the others are from memory or
assumed, and say so. Volumes are log-normal between two bounds.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import torch


class Kind(StrEnum):
    """What grows in a head."""

    NONE = "none"
    GLIOBLASTOMA = "glioblastoma"
    LOW_GRADE = "low_grade"
    MENINGIOMA = "meningioma"
    METASTASES = "metastases"


@dataclass(frozen=True)
class Source:
    """Where a figure comes from, and whether it was read there."""

    text: str
    verified: bool


@dataclass(frozen=True)
class Sizes:
    """A log-normal distribution cut at both ends.

    Parameters
    ----------
    median
        Median before cutting.
    spread
        Standard deviation of the natural logarithm.
    low, high
        Bounds that every draw lies within.

    Raises
    ------
    ValueError
        If a value is negative or not finite, or the bounds leave no room about the median.
    """

    median: float
    spread: float
    low: float
    high: float

    def __post_init__(self) -> None:
        values = (self.median, self.spread, self.low, self.high)
        if not all(math.isfinite(v) for v in values) or self.spread < 0 or self.low <= 0:
            raise ValueError(f"expected positive sizes and a spread of 0 or more, got {values}")
        if not self.low <= self.median <= self.high:
            raise ValueError(f"expected low <= median <= high, got {values}")

    def draw(self, generator: torch.Generator) -> float:
        """One value within the bounds."""
        while True:
            value = self.median * math.exp(self.spread * float(torch.randn(1, generator=generator)))
            if self.low <= value <= self.high:
                return value


@dataclass(frozen=True)
class Place:
    """Where tumours of a kind begin.

    Parameters
    ----------
    name
        What the table calls it.
    share
        Share of all tumours of this kind; the shares of a table sum to 1.
    center
        Distance from the midline, y, z (LPS, mm, from the anterior commissure).
    spread
        Standard deviation along each (mm); both are drawn by eye from an atlas (assumed).
    """

    name: str
    share: float
    center: tuple[float, float, float]
    spread: tuple[float, float, float]


GLIOMA_PLACES = (
    Place("frontal", 0.40, (26.0, -38.0, 22.0), (5.0, 12.0, 10.0)),
    Place("temporal", 0.29, (46.0, 12.0, -14.0), (3.0, 10.0, 4.0)),
    Place("parietal", 0.14, (30.0, 48.0, 34.0), (6.0, 9.0, 8.0)),
    Place("occipital", 0.03, (24.0, 78.0, 6.0), (4.0, 5.0, 6.0)),
    Place("deep", 0.14, (24.0, 6.0, 12.0), (5.0, 12.0, 5.0)),
)
GLIOMA_PLACES_SOURCE = Source("Larjavaara et al., Neuro-Oncology 9, 319 (2007), abstract", verified=True)

# Sites within the skull, shares of the page's 95 % (without ventricle, orbit and spine).
MENINGIOMA_PLACES = (
    Place("falx", 25 / 95, (3.0, 0.0, 62.0), (1.0, 40.0, 14.0)),
    Place("convexity", 20 / 95, (62.0, 10.0, 42.0), (8.0, 38.0, 16.0)),
    Place("sphenoid", 20 / 95, (34.0, -24.0, -18.0), (8.0, 5.0, 4.0)),
    Place("olfactory", 10 / 95, (7.0, -48.0, -14.0), (3.0, 6.0, 3.0)),
    Place("suprasellar", 10 / 95, (5.0, -16.0, -16.0), (4.0, 3.0, 3.0)),
    Place("posterior fossa", 10 / 95, (40.0, 50.0, -40.0), (10.0, 14.0, 8.0)),
)
MENINGIOMA_PLACES_SOURCE = Source(
    "Brain Science Foundation, Meningioma locations (brainsciencefoundation.org): falx and parasagittal "
    "25 %, convexity 20, sphenoid wing 20, olfactory groove 10, suprasellar 10, posterior fossa 10",
    verified=True,
)

# Centre and spread are not used: a place is drawn among all grey-white borders of the region.
METASTASIS_PLACES = (
    Place("cerebrum", 0.80, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    Place("cerebellum", 0.15, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    Place("brainstem", 0.05, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
)
METASTASIS_PLACES_SOURCE = Source(
    "from memory: Delattre et al., Arch. Neurol. 45, 741 (1988)", verified=False
)

# One, two, three, four, five or more.
METASTASIS_COUNTS = (0.49, 0.21, 0.13, 0.06, 0.11)
METASTASIS_COUNTS_SOURCE = Source("Delattre et al., Arch. Neurol. 45, 741 (1988), abstract", verified=True)
MOST_METASTASES = 10  # five or more are spread evenly up to this number (assumed)

# cc: enhancing rim and necrosis of glioblastoma, all of a low-grade glioma, a meningioma, one metastasis.
VOLUMES: dict[Kind, Sizes] = {
    Kind.GLIOBLASTOMA: Sizes(30.0, 0.75, 2.0, 110.0),
    Kind.LOW_GRADE: Sizes(36.6, 0.8, 2.0, 120.0),
    Kind.MENINGIOMA: Sizes(14.0, 0.9, 0.8, 80.0),
    Kind.METASTASES: Sizes(0.9, 1.3, 0.08, 20.0),
}
VOLUMES_SOURCE: dict[Kind, Source] = {
    Kind.GLIOBLASTOMA: Source(
        "median assumed between 18.2 mL (quartiles 8.2 to 41.7; enhancing part alone; World Neurosurg. 115, "
        "e448 (2018)) and 42.4 mL (Hamada, Egypt. J. Neurol. Psychiatr. Neurosurg. 53, 135 (2016)), both "
        "abstracts read; spread assumed",
        verified=False,
    ),
    Kind.LOW_GRADE: Source(
        "Smith et al., J. Clin. Oncol. 26, 1338 (2008): median 36.6 cm3, range 0.7 to 246.1 on FLAIR, "
        "abstract read; spread assumed, cut to what one hemisphere holds",
        verified=True,
    ),
    Kind.MENINGIOMA: Source("assumed; symptoms begin at 21 mL (Yamada, Front. Neurol. 2021)", verified=False),
    Kind.METASTASES: Source(
        "median 0.9 cm3, quartiles 0.4 and 3.6, of 103 metastases (Radiat. Oncol., s13014-023-02277-6, "
        "table 2, read); spread between those of the two quartiles",
        verified=True,
    ),
}

# Volume of oedema as a multiple of the tumour's, where there is oedema; from memory, unverified.
OEDEMA: dict[Kind, Sizes] = {
    Kind.GLIOBLASTOMA: Sizes(1.5, 0.6, 0.2, 5.0),
    Kind.LOW_GRADE: Sizes(0.08, 0.6, 0.02, 0.3),
    Kind.MENINGIOMA: Sizes(1.0, 0.8, 0.1, 4.0),
    Kind.METASTASES: Sizes(3.0, 0.7, 0.3, 12.0),
}
MOST_OEDEMA = 110.0  # cc (assumed)
# Share with oedema. Meningioma: 69.4 %, Malays. J. Med. Sci. 24(3), 33 (2017), abstract read; the
# others from memory, unverified.
WITH_OEDEMA: dict[Kind, float] = {
    Kind.GLIOBLASTOMA: 1.0,
    Kind.LOW_GRADE: 0.4,
    Kind.MENINGIOMA: 0.694,
    Kind.METASTASES: 0.85,
}

# Share of the volume that pushes tissue aside; the rest takes its place (assumed).
DISPLACED: dict[Kind, float] = {
    Kind.GLIOBLASTOMA: 0.75,
    Kind.LOW_GRADE: 0.3,
    Kind.MENINGIOMA: 0.88,
    Kind.METASTASES: 0.8,
}
SWELLING = 0.3  # how much more room oedematous white matter takes (assumed)
# With these, half of the glioblastomas shift the midline by more than 2 mm. Found to hold against: 74 % of
# 114 patients presented with midline shift (Gamburg et al., Int. J. Radiat. Oncol. Biol. Phys. 48, 1359
# (2000), abstract read; it does not say from how many mm).

# Share of the tumour that is removed. Low-grade: median 88 %, range 5 to 100 (Smith 2008, abstract
# read); used for every kind, with a third complete (assumed).
COMPLETE_RESECTIONS = 0.35
RESECTED = (0.70, 0.98)

# Shares of the volume, each even between two bounds (assumed).
NECROSIS = (0.15, 0.6)  # of a glioblastoma's core
RING = (0.15, 0.6)  # of a metastasis that has a ring
INFILTRATION = (0.05, 0.35)  # beyond a glioblastoma's core
LOW_GRADE_WITH_UPTAKE = 0.2
LOW_GRADE_ENHANCING = (0.01, 0.06)


def between(bounds: tuple[float, float], u: float) -> float:
    """The value a share ``u`` of the way from the first bound to the second."""
    return bounds[0] + (bounds[1] - bounds[0]) * u
