"""Whether the two places that a NIfTI file gives its voxels are one.

A NIfTI-1 header holds a rigid qform and an affine sform, each with a code of the space that it leads to.
They may lead to different spaces; in one space they must agree, and neither may mirror the other.
"""

from pathlib import Path

import nibabel as nib
import numpy as np

_FAR = 1.0  # mm that corners may lie apart: rounding and a rigid fit of an affine


def expect_one_place(path: Path) -> None:
    """Refuses a NIfTI file whose qform and sform put it in two places, or mirror each other.

    What cannot be read at all is left to :func:`imaging.nifti.read_nifti`.

    Raises
    ------
    ValueError
        Saying how they disagree.
    """
    try:
        image = nib.load(path)
    except Exception:  # noqa: BLE001 - the reader says what is wrong with a file that does not read
        return
    if not isinstance(image, nib.Nifti1Image):
        return
    header = image.header
    codes = int(header["qform_code"]), int(header["sform_code"])
    if min(codes) <= 0 or len(image.shape) < 3:
        return
    with np.errstate(all="ignore"):
        try:
            rigid, affine = header.get_qform(), header.get_sform()
        except (ValueError, nib.spatialimages.HeaderDataError):
            raise ValueError(
                "expected a NIfTI file whose qform is a rotation, got one that is none; write it again"
            ) from None
    if np.sign(np.linalg.det(rigid[:3, :3])) != np.sign(np.linalg.det(affine[:3, :3])):
        raise ValueError(
            "expected a NIfTI file whose qform and sform agree on left and right, got two that mirror each "
            "other; set both after checking left and right"
        )
    ends = [(0.0, float(n - 1)) for n in image.shape[:3]]
    corners = np.array(np.meshgrid(*ends)).reshape(3, -1)
    apart = np.abs((rigid - affine)[:3, :3] @ corners + (rigid - affine)[:3, 3:]).max()
    if codes[0] == codes[1] and apart > _FAR:
        raise ValueError(
            f"expected a NIfTI file whose qform and sform put it in one place, got {apart:.0f} mm between "
            "them; set both to the right one"
        )
