"""What comes in together: a plan, its structures, doses and CT."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset


@dataclass(frozen=True, eq=False)
class IncomingSet:
    """Headers of what came, and where the doses are."""

    plan: Dataset
    structures: Dataset | None
    doses: Mapping[Path, Dataset]
    ct: Sequence[Dataset]

    @property
    def beside(self) -> dict[str, Sequence[Dataset]]:
        """What came with the plan, by what it is."""
        drawn = [] if self.structures is None else [self.structures]
        return {"structures": drawn, "dose": list(self.doses.values()), "CT": self.ct}


def text(dataset: Dataset, keyword: str) -> str:
    """A value as text; empty where there is none."""
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()
