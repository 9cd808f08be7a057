"""What is prescribed, and what will be delivered."""

from dataclasses import dataclass

from .beams import Beam


@dataclass(frozen=True)
class Prescription:
    """Total dose to the target and how many fractions it is given in."""

    dose_gy: float
    n_fractions: int

    def __post_init__(self) -> None:
        if not 0 < self.dose_gy <= 200 or not 1 <= self.n_fractions <= 100:
            raise ValueError(
                "expected a prescription of 0-200 Gy in 1-100 fractions such as 60/30, "
                f"got {self.dose_gy:g}/{self.n_fractions}"
            )


def parse_prescription(text: str) -> Prescription:
    """The prescription written as ``60/30`` (total Gy / fractions).

    Raises
    ------
    ValueError
        If the text is anything else.
    """
    dose, _, fractions = text.partition("/")
    try:
        return Prescription(float(dose), int(fractions))
    except ValueError:
        raise ValueError(
            f"expected a prescription of 0-200 Gy in 1-100 fractions such as 60/30, got {text}"
        ) from None


@dataclass(frozen=True, eq=False)
class Plan:
    """Beams on one machine that together deliver a prescription."""

    beams: tuple[Beam, ...]
    prescription: Prescription
    machine: str
    name: str = "spindose"
