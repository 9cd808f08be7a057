"""Synthetic CTs of an MRI that need no network, for a learned one to be beside."""

from imaging.volume import Volume
from mr2ct.baselines import atlas, four_classes_of_tissues, three_classes_of_tissues
from mr2ct.bulk import to_ct

from .head_ct import Aligned


def from_mri(found: Aligned) -> dict[str, Volume]:
    """Bulk densities and the atlas of one MRI (HU), by what they are.

    Bulk densities are of tissues that the MRI's own signal tells apart, the atlas's of the alignment alone.

    Parameters
    ----------
    found
        The anatomy aligned to the MRI (:func:`app.head_ct.aligned`), which takes about a minute.
    """
    return {
        "3 classes of the MRI": three_classes_of_tissues(found.tissues),
        "4 classes of the MRI": four_classes_of_tissues(found.tissues),
        "bulk of the aligned anatomy": to_ct(found.tissues),
        "atlas": atlas(found.maps, found.head),
    }
