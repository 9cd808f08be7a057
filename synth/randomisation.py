"""How much the samples of a training differ."""

from dataclasses import dataclass

from .looks import SEQUENCES

ANY = "any"  # the name of a channel that may show any sequence
_SHARES = (
    "randomised",
    "artefacts",
    "thick",
    "stripped",
    "lesions",
    "cavities",
    "organs",
    "hollow",
    "grafted",
    "missing",
)


@dataclass(frozen=True)
class Randomisation:
    """How much samples differ.

    Parameters
    ----------
    shape, spacing
        Lattice of a sample: voxels and their size (mm).
    rotation
        Greatest rotation about each axis (degrees).
    scale
        Greatest change of size along each axis, as a share.
    shift
        Greatest offset of the sample's centre from the head's (mm).
    deformation
        Standard deviation of the smooth displacement at its knots (mm).
    randomised
        Share of samples with random instead of physical contrast.
    artefacts
        Share of images with each artefact; 0 for clean ones.
    thick
        Share of images that are stacks of thick slices, unless images are clean.
    stripped
        Share of samples without skull and scalp, as public tumour sets have them.
    cut
        Greatest part of the sample that its field of view leaves out at each face (mm); half of the samples
        are cut, and what is left out is dark and counts as outside.
    lesions
        Share of samples that are centred on a tumour, where the head has one: tumours are few voxels.
    cavities
        Share of samples that are centred on a cavity: around the sinuses air and bone are hardest to tell.
    organs
        Share of samples that are centred on an organ, where the library knows them.
    hollow
        Share of samples whose cavities reach one voxel or two into the bone around them: walls of sinuses
        are thinner than label maps drawn from MRI have them.
    grafted
        Share of samples that get the tumour of a head besides their own, at any place of the brain: a library
        has few tumours, and where they lie says nothing of where others do.
    contrasts
        Sequences of a sample's channels, as :func:`synth.looks.physical_look` names them, or ``any``; with
        none, one channel of any contrast.
    sequences
        Those that a channel of any contrast is drawn from; T1 counts twice.
    missing
        Share of channels that are left out and stay 0, never all of a sample's.

    Raises
    ------
    ValueError
        If a size is not positive, a share lies outside 0..1, or there is no such sequence.
    """

    shape: tuple[int, int, int] = (128, 128, 128)
    spacing: float = 1.0
    rotation: float = 15.0
    scale: float = 0.12
    shift: float = 12.0
    deformation: float = 3.0
    randomised: float = 0.5
    artefacts: float = 0.3
    thick: float = 0.3
    stripped: float = 0.0
    cut: float = 0.0
    lesions: float = 0.0
    cavities: float = 0.0
    organs: float = 0.0
    hollow: float = 0.0
    grafted: float = 0.0
    contrasts: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ("t1", "t1", "t1c", "t2", "flair", "pd")
    missing: float = 0.0

    def __post_init__(self) -> None:
        if min(self.shape) < 8 or self.spacing <= 0:
            raise ValueError(
                f"expected 8 voxels a side or more of positive size, got {self.shape} of {self.spacing} mm"
            )
        for name in ("rotation", "scale", "shift", "deformation", "cut"):
            if getattr(self, name) < 0:
                raise ValueError(f"expected {name} of 0 or more, got {getattr(self, name)}")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"expected {name} as a share of 0 to 1, got {getattr(self, name)}")
        if (centred := self.lesions + self.cavities + self.organs) > 1 + 1e-9:
            raise ValueError(f"expected lesions, cavities and organs of 1 or less together, got {centred:g}")
        asked = [*(name for name in self.contrasts if name != ANY), *self.sequences]
        if unknown := [name for name in asked if name not in SEQUENCES]:
            raise ValueError(f"expected contrasts of {', '.join(SEQUENCES)}, got {unknown[0]!r}")
        if not self.sequences:
            raise ValueError("expected a sequence or more that any contrast is drawn from, got none")
