"""Scans of one patient brought together where the patient moved, or the table, between them."""

import dataclasses

import numpy as np
import SimpleITK as sitk

from .grid import Grid, around, positions
from .resample import resample
from .shapes import Mask
from .sitk import to_sitk
from .volume import Quantity, Volume

_VOXELS_MM = 2.0
_N_BINS = 48
_SHRINK, _BLUR_MM = (4, 2, 1), (4.0, 2.0, 0.0)
_LOWEST_HU, _HIGHEST_HU = -1000.0, 1500.0  # of a CT, so that metal does not decide
_EVERY = 50  # voxel of the head that a mean is taken over
_FARTHEST_MM, _MOST_TURNED = 150.0, 60.0


def moved_onto(moving: Volume, fixed: Volume) -> Volume:
    """A scan where it would lie if the patient had not moved since another: the same voxels, placed anew.

    Rigid, by the mutual information of both (Mattes et al., IEEE Trans. Med. Imaging 22, 120 (2003)) on
    voxels of 2 mm, from where the middles of both heads agree; SimpleITK's. Nothing is resampled.

    Parameters
    ----------
    moving
        MR signal of the head, shape ``(1, i, j, k)``, any contrast.
    fixed
        MR signal of the same head, any contrast.

    Returns
    -------
    Volume
        ``moving`` on a turned and shifted grid, in the frame of ``fixed``.

    Raises
    ------
    ValueError
        If a volume is no MR signal or empty, or the two do not come together within 150 mm and 60 degrees.
    """
    affine = motion_onto(moving, fixed) @ moving.grid.affine
    return dataclasses.replace(moving, grid=Grid(moving.grid.shape, affine), frame=fixed.frame)


def motion_onto(moving: Volume, fixed: Volume) -> np.ndarray:
    """The motion that :func:`moved_onto` finds: positions (LPS, mm) then to positions now, ``(4, 4)``.

    Refuses as there.
    """
    return np.linalg.inv(_rigid(*(_prepared(volume.expect(Quantity.MR)) for volume in (fixed, moving))))


def degrees_turned(motion: np.ndarray) -> float:
    """The angle that a rigid motion turns by; its rotation is the first three rows and columns."""
    return float(np.degrees(np.arccos(np.clip((np.trace(motion[:3, :3]) - 1) / 2, -1, 1))))


def misalignment(ct: Volume, mr: Volume, head: Mask) -> float:
    """How far a CT of a head lies from an MRI of it (mm), the mean over the head of a rigid correction.

    0 where mutual information is greatest as they lie. Bone is dark in MRI, so a synthetic CT whose skull
    is too thick or too thin on one side shows here as well.

    Parameters
    ----------
    ct
        HU.
    mr
        MR signal.
    head
        Voxels of ``ct`` to take the mean over.

    Raises
    ------
    ValueError
        If the two do not come together within 150 mm and 60 degrees, or the head is empty.
    """
    if not head.any():
        raise ValueError("expected a head to compare, got an empty mask")
    shown = ct.expect(Quantity.HU).data.clamp(_LOWEST_HU, _HIGHEST_HU) - _LOWEST_HU
    signal = dataclasses.replace(ct, data=shown, quantity=Quantity.MR)
    rigid = _rigid(_prepared(signal), _prepared(mr.expect(Quantity.MR)))
    at = positions(ct.grid, head.nonzero()[::_EVERY].double().numpy())
    moved = at @ rigid[:3, :3].T + rigid[:3, 3]
    return float(np.linalg.norm(moved - at, axis=1).mean())


def _rigid(there: sitk.Image, here: sitk.Image) -> np.ndarray:
    """Point of one scan to point of the other, as a 4 x 4 matrix."""
    start = sitk.CenteredTransformInitializer(
        there, here, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums in another order end elsewhere
    method.SetMetricAsMattesMutualInformation(_N_BINS)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 100, gradientMagnitudeTolerance=1e-5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(_SHRINK)
    method.SetSmoothingSigmasPerLevel(_BLUR_MM)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    found = sitk.Euler3DTransform(sitk.CompositeTransform(method.Execute(there, here)).GetBackTransform())
    _expect_near(found)
    return _matrix(found)


def _prepared(volume: Volume) -> sitk.Image:
    if float(volume.data.max()) <= 0:
        raise ValueError("expected scans that show a head to bring together, got an empty one")
    grid = around(volume.grid, (_VOXELS_MM,) * 3)
    image = resample(volume, grid)
    top = float(np.percentile(image.data.numpy(), 99.5))
    return to_sitk(dataclasses.replace(image, data=image.data.float().clamp(0, max(top, 1e-6))))


def _matrix(found: sitk.Euler3DTransform) -> np.ndarray:
    """Point of the fixed scan to point of the moving one, as a 4 x 4 matrix."""
    turn = np.array(found.GetMatrix()).reshape(3, 3)
    middle = np.array(found.GetCenter())
    out = np.eye(4)
    out[:3, :3] = turn
    out[:3, 3] = np.array(found.GetTranslation()) + middle - turn @ middle
    return out


def _expect_near(found: sitk.Euler3DTransform) -> None:
    angle = degrees_turned(np.array(found.GetMatrix()).reshape(3, 3))
    shift = np.linalg.norm(found.GetTranslation())  # of the head's middle, about which it turns
    if angle > _MOST_TURNED or shift > _FARTHEST_MM:
        raise ValueError(
            f"expected scans of one head that come together within {_FARTHEST_MM:g} mm and {_MOST_TURNED:g} "
            f"degrees, got {shift:.0f} mm and {angle:.0f} degrees; check that both show the same patient"
        )
