"""One patient: named volumes, structures, and whose they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .source import Source
from .structures import StructureSet
from .volume import Volume


@dataclass(frozen=True, eq=False)
class Case:
    """Everything known of one patient.

    Parameters
    ----------
    volumes
        Volumes by name, such as ``t1``, ``t1c``, ``t2``, ``flair``, ``ct``, ``labels``, ``dose``.
    structures
        Contoured regions, where there are any.
    source
        Identity and headers, for writers alone.
    """

    volumes: Mapping[str, Volume]
    structures: StructureSet | None = None
    source: Source = field(default_factory=Source)
