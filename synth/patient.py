"""One synthetic patient with a brain tumour: MRI in four contrasts, true CT, labels, contours.

Everything follows from the seed: a head, a glioblastoma in it, four MR images by signal
equations with the scanner's shading, blur and noise, and the CT that this head would have.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool3d

from imaging.case import Case
from imaging.shapes import Mask
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.tissue import BRAIN, Tissue
from imaging.uids import seeded_uid
from imaging.volume import Quantity, Volume

from . import contrast
from .anatomy import anatomy
from .artefacts import bias_field, blur, rician, texture
from .density import to_hu
from .tissues import column
from .tumour import grow, random_growth

FIELD = 3.0  # tesla
_RESOLUTION = 1.1  # full width at half maximum of the images (mm)
_WHITE_LEVEL = 600.0  # where white matter lies in T1, so that values fill an integer file
_SNR = 35.0
_MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"


def patient(seed: int, spacing: float = 1.0) -> Case:
    """A synthetic patient, the same one for the same seed.

    Parameters
    ----------
    seed
        Which patient; not negative.
    spacing
        Voxel size (mm).

    Returns
    -------
    Case
        Volumes ``t1``, ``t1c``, ``t2``, ``flair`` (MR signal), ``ct`` (HU) and ``labels``
        (`imaging.tissue.Tissue`) on one upright grid and in one frame of reference; structures
        ``GTV`` (necrosis and enhancing rim), ``Brain``, ``Brainstem``, ``Eye_L``, ``Eye_R``.

    Raises
    ------
    ValueError
        If the seed is negative or the spacing not positive.
    """
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, got {seed}")
    generator = torch.Generator().manual_seed(seed)
    head = anatomy(spacing, generator)
    frame = seeded_uid("synthetic patient", seed, "frame")
    labels = grow(head, random_growth(generator), generator)
    labels = Volume(labels.data, labels.grid, Quantity.LABEL, frame)
    volumes = _images(labels, generator)
    volumes["ct"] = to_hu(labels, generator)
    volumes["labels"] = labels
    return Case(volumes, contours(labels), _source(seed, frame, labels.grid.shape[2]))


def contours(labels: Volume) -> StructureSet:
    """Target and organs of a label map.

    The brain is closed over its sulci and ventricles, as a physician draws it.
    """
    tissue = labels.expect(Quantity.LABEL).data[0]
    x = labels.grid.affine[0, 3] + labels.grid.spacing[0] * torch.arange(tissue.shape[0])
    left = (x > 0)[:, None, None]
    eye = tissue == Tissue.EYE
    gtv = (tissue == Tissue.NECROSIS) | (tissue == Tissue.ENHANCING)
    organ = RoiType.ORGAN
    brain = _closed(_any(tissue, *BRAIN), max(round(4.0 / float(labels.grid.spacing[0])), 1))
    brain &= _any(tissue, *BRAIN, Tissue.CSF)
    return StructureSet(
        labels.grid,
        {
            "GTV": Structure(gtv, RoiType.GTV, (255, 64, 64)),
            "Brain": Structure(brain, organ, (255, 200, 150)),
            "Brainstem": Structure(tissue == Tissue.BRAINSTEM, organ, (80, 160, 255)),
            "Eye_L": Structure(eye & left, organ, (120, 220, 120)),
            "Eye_R": Structure(eye & ~left, organ, (60, 160, 60)),
        },
        labels.frame,
    )


def _images(labels: Volume, generator: torch.Generator) -> dict[str, Volume]:
    t1, t2, pd = (column(name, FIELD) for name in ("t1", "t2", "pd"))
    enhanced = contrast.with_agent(t1, column("uptake"))
    signals = {
        "t1": contrast.mprage(pd, t1, t2, contrast.T1),
        "t1c": contrast.mprage(pd, enhanced, t2, contrast.T1),
        "t2": contrast.spin_echo(pd, t1, t2, contrast.T2),
        "flair": contrast.inversion_recovery(pd, t1, t2, contrast.FLAIR),
    }
    tissue = labels.data[0].long()
    spacing = float(labels.grid.spacing.max())
    uneven = _unevenness(tissue, spacing, generator)
    out: dict[str, Volume] = {}
    for name, signal in signals.items():
        scale = _WHITE_LEVEL / float(signal[Tissue.WHITE])
        image = blur((signal * scale)[tissue] * uneven, _RESOLUTION, spacing)
        image = image * bias_field(labels.grid.shape, 0.08, generator)
        image = rician(image, _WHITE_LEVEL / _SNR, generator)
        out[name] = Volume(image[None], labels.grid, Quantity.MR, labels.frame)
    return out


def _unevenness(tissue: Tensor, spacing: float, generator: torch.Generator) -> Float[Tensor, "i j k"]:
    """Variation within tissues, a few per cent, coarser than a voxel; strongest in muscle and tumour."""
    i, j, k = tissue.shape
    noise = texture((i, j, k), 4.0, spacing, generator)
    strength = torch.full((max(Tissue) + 1,), 0.03)
    strength[[Tissue.SCALP, Tissue.ENHANCING, Tissue.NECROSIS, Tissue.MARROW]] = 0.12
    return noise.mul_(strength[tissue]).add_(1)


def _any(tissue: Tensor, *kinds: Tissue) -> Mask:
    table = torch.zeros(max(Tissue) + 1, dtype=torch.bool)
    table[list(kinds)] = True
    return table[tissue.long()]


def _closed(mask: Mask, radius: int) -> Mask:
    """Closing with a cube, one axis after the other."""
    out = mask[None].float()
    for sign in (1, -1):
        for axis in range(3):
            size, padding = [1, 1, 1], [0, 0, 0]
            size[axis], padding[axis] = 2 * radius + 1, radius
            out = sign * max_pool3d(sign * out, size, stride=1, padding=padding)
    return out[0] > 0.5


def _source(seed: int, frame: str, n_slices: int) -> Source:
    def uid(*what: object) -> str:
        return seeded_uid("synthetic patient", seed, *what)

    return Source(
        patient_id=f"SYNTH-{seed}",
        patient_name="SYNTHETIC^PATIENT",
        study_uid=uid("study"),
        study_id=str(seed),
        series_uid=uid("series"),
        instance_uids=tuple(uid("instance", k) for k in range(n_slices)),
        sop_class=_MR_IMAGE_STORAGE,
        frame=frame,
        modality="MR",
    )
