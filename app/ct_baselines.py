"""Synthetic CTs of an MRI that need no network, for a learned one to be beside."""

from dataclasses import dataclass

from imaging.intensity import correct_bias, head_mask
from imaging.register import fit
from imaging.resample import resample
from imaging.volume import Volume
from mr2ct.baselines import atlas, four_classes_of_tissues, three_classes_of_tissues
from mr2ct.bulk import to_ct
from mr2ct.tissue_classes import classify
from synth.anatomy import anatomy

from .console import Progress
from .head_ct import ct_grid

_PRIOR_VOXELS = 1.5  # mm


@dataclass(frozen=True, eq=False)
class FromMri:
    """What one registration of the built-in anatomy to an MRI gives.

    Parameters
    ----------
    tissues
        Labels (:class:`imaging.tissue.Tissue`) on an upright grid that covers the MRI.
    cts
        Synthetic CTs (HU) on that grid, by what they are.
    """

    tissues: Volume
    cts: dict[str, Volume]


def from_mri(mr: Volume, progress: Progress) -> FromMri:
    """Bulk densities and the atlas of one MRI of any contrast; takes about a minute.

    The anatomy comes from ``synth``, is aligned to the scan by ``imaging`` and read by ``mr2ct``. Bulk
    densities are of tissues that the MRI's own signal tells apart, the atlas's of the alignment alone.

    Parameters
    ----------
    mr
        MR signal, shape ``(1, i, j, k)``.
    progress
        Told what happens now and the share of it that is done.

    Raises
    ------
    ValueError
        If the scan shows no head.
    """
    mr = resample(mr, ct_grid(mr.grid))
    title = "Baselines from the MRI"
    progress(title, 0.0)
    head = head_mask(mr)
    mr = correct_bias(mr, head)
    aligned = fit(anatomy(_PRIOR_VOXELS), mr, head)
    progress(title, 0.7)
    tissues = classify(mr, head, aligned)
    cts = {
        "3 classes of the MRI": three_classes_of_tissues(tissues),
        "4 classes of the MRI": four_classes_of_tissues(tissues),
        "bulk of the aligned anatomy": to_ct(tissues),
        "atlas": atlas(aligned, head),
    }
    progress(title, 1.0)
    return FromMri(tissues, cts)
