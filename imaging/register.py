"""An anatomy prior brought onto an MRI of any contrast.

The prior is a label map, so its match with an image cannot be a difference of intensities. We
maximise the mutual information of the image's intensity and the prior's tissue (Wells et al.,
Med. Image Anal. 1, 35 (1996)), with the tissue as a probability per class instead of a number:
that is the likelihood of the image under tissue classes whose intensity histograms are learned
from the alignment itself, as in unified segmentation (Ashburner and Friston, NeuroImage 26, 839
(2005)). No contrast is assumed. SimpleITK offers mutual information of scalar images only, where
halfway between outside (0) and brain (4) would be skull (2); hence our own, with torch's gradients.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import ndimage
from scipy.optimize import minimize
from torch import Tensor

from .grid import Grid, around
from .intensity import normalise
from .resample import resample
from .shapes import Floats
from .tissue import SIMPLER, TUMOUR, Tissue
from .tissue_maps import tissue_maps
from .volume import Quantity, Volume
from .warp import lattice, sample, warp

# Tissues that one MRI can hardly tell apart share a class.
_CLASSES: tuple[tuple[Tissue, ...], ...] = (
    (Tissue.OUTSIDE,),
    (Tissue.SCALP, Tissue.FAT),
    (Tissue.SKULL, Tissue.MARROW),
    (Tissue.CSF,),
    (Tissue.GREY,),
    (Tissue.WHITE, Tissue.BRAINSTEM, *(t for t in TUMOUR if t not in SIMPLER)),
    (Tissue.AIR,),
    (Tissue.EYE,),
)
_N_BINS = 48
_MARGIN_MM = 15.0
_STRAIN = 0.4
_PRIOR_MM = 1.5
_PRIOR_BLUR_MM = 2.0


@dataclass(frozen=True)
class Deformation:
    """How finely and how stiffly the prior is bent; defaults chosen on real heads.

    Parameters
    ----------
    knots_mm
        Spacing of the control points, one per pass.
    voxels_mm
        Voxels of the image in each pass.
    n_steps
        L-BFGS steps per pass.
    stiffness
        Weight of the bending of the field against mutual information (nats).
    """

    knots_mm: tuple[float, ...] = (24.0, 12.0)
    voxels_mm: tuple[float, ...] = (4.0, 3.0)
    n_steps: tuple[int, ...] = (40, 40)
    stiffness: float = 0.02


@dataclass(frozen=True, eq=False)
class _Image:
    """Voxels of the MRI that the match is measured on."""

    points: Float[Tensor, "n 3"]
    bins: Int64[Tensor, " n"]


def align(prior: Volume, mr: Volume, head: Volume, deformation: Deformation | None = None) -> Volume:
    """Displacement (mm) that takes each position of the MRI to its place in the prior.

    From a pose found by trying heights and tilts of the head, through an affine map, to a smooth
    deformation. Only what the scan saw counts, so a cut vertex or neck does no harm. The same
    input gives the same field.

    Parameters
    ----------
    prior
        Labels of a head (:class:`imaging.tissue.Tissue`) from vertex to neck.
    mr
        MR signal, best without its bias field.
    head
        Label 1 inside the head, on the MRI's grid.
    deformation
        How to bend the prior.

    Returns
    -------
    Volume
        Displacement, shape ``(3, i, j, k)``, on an upright grid that covers the scan.
    """
    prior.expect(Quantity.LABEL)
    how = deformation or Deformation()
    signal = normalise(mr, head)
    with _one_thread():
        return _aligned(_classes(prior), signal, head, how)


def _aligned(classes: Volume, signal: Volume, head: Volume, how: Deformation) -> Volume:
    """Displacement that takes the image to the prior's classes: pose, then coarse to fine."""
    pose = _pose(classes, signal, head)
    knots = around(signal.grid, (how.knots_mm[0],) * 3)
    field = torch.zeros((3, *knots.shape))
    for knots_mm, voxels_mm, n_steps in zip(how.knots_mm, how.voxels_mm, how.n_steps, strict=True):
        finer = around(signal.grid, (knots_mm,) * 3)
        start = sample(field, knots, lattice(finer)).reshape(3, *finer.shape)
        knots = finer
        field = _bend(classes, _image(signal, head, voxels_mm), pose, knots, start, n_steps, how.stiffness)
    return _displacement(pose, field, knots, around(signal.grid, (4.0,) * 3), signal.frame)


def fit(prior: Volume, mr: Volume, head: Volume, deformation: Deformation | None = None) -> Volume:
    """Probability of each tissue (channel t for ``Tissue(t)``) on 1.5 mm voxels that cover the MRI.

    The prior after :func:`align`, its borders blurred by as much as the alignment may be off.
    """
    return moved_maps(prior, align(prior, mr, head, deformation), mr.grid)


def moved_maps(prior: Volume, field: Volume, grid: Grid) -> Volume:
    """What :func:`fit` gives, of an alignment that is known."""
    return warp(tissue_maps(prior, _PRIOR_MM, _PRIOR_BLUR_MM), field, around(grid, (_PRIOR_MM,) * 3))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: sums in one order on every machine, and no threads waiting on small steps."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _classes(prior: Volume) -> Volume:
    """Probability of each class of the prior, on 3 mm voxels."""
    maps = tissue_maps(prior, 3.0, 1.5)
    data = torch.stack([maps.data[[int(t) for t in tissues]].sum(dim=0) for tissues in _CLASSES])
    return Volume(data, maps.grid, Quantity.PROBABILITY)


def _image(signal: Volume, head: Volume, voxels_mm: float) -> _Image:
    """Intensity bins of the voxels in and around the head; inside and outside have bins of their own."""
    grid = around(signal.grid, (voxels_mm,) * 3)
    sigma = 0.4 * voxels_mm / signal.grid.spacing
    smooth = torch.from_numpy(ndimage.gaussian_filter(signal.data[0].numpy(), sigma))[None]
    values = resample(Volume(smooth, signal.grid, Quantity.MR), grid).data[0]
    share = Volume(head.data.float(), head.grid, Quantity.PROBABILITY)
    inside = resample(share, grid).data[0] >= 0.5
    seen = (
        resample(Volume(torch.ones_like(signal.data), signal.grid, Quantity.PROBABILITY), grid).data[0] > 0.5
    )
    away = torch.from_numpy(ndimage.distance_transform_edt(~inside.numpy(), sampling=voxels_mm))
    used = (seen & (away <= _MARGIN_MM)).reshape(-1)
    bins = (values.clamp(0, 1.2) / 1.2 * (_N_BINS - 1)).long() + _N_BINS * inside.long()
    return _Image(lattice(grid)[used], bins.reshape(-1)[used])


def _mutual_information(tissue: Float[Tensor, "c n"], bins: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mutual information (nats) of bins and tissue classes."""
    joint = torch.zeros((2 * _N_BINS, tissue.shape[0])).index_add(0, bins, tissue.T) / len(bins) + 1e-9
    return (joint * torch.log(joint / (joint.sum(dim=0) * joint.sum(dim=1, keepdim=True)))).sum()


def _pose(classes: Volume, signal: Volume, head: Volume) -> Float[Tensor, "3 4"]:
    """Affine map from the MRI to the prior."""
    coarse, fine = _image(signal, head, 8.0), _image(signal, head, 4.0)
    middle = coarse.points[coarse.bins >= _N_BINS].mean(dim=0)
    there = _prior_middle(classes)

    def loss_on(image: _Image) -> Callable[[Tensor], Tensor]:
        def loss(p: Tensor) -> Tensor:
            moved = _apply(_affine(p, middle, there), image.points)
            # Scale and shear of heads differ by a tenth; weakly hold them there.
            return (
                -_mutual_information(sample(classes.data, classes.grid, moved), image.bins)
                + 0.01 * ((p[6:] / 0.1) ** 2).sum() / 6
            )

        return loss

    starts = [
        torch.tensor([0, 0, z / 50, pitch, 0, 0, *[0] * 6], dtype=torch.float32)
        for z in (-60.0, -40.0, -20.0, 0.0, 20.0, 40.0)
        for pitch in (-0.3, 0.0, 0.3)
    ]
    tried = [_descend(loss_on(coarse), p, 6) for p in starts]
    best = sorted(tried, key=lambda t: t[1])[:3]
    better = [_descend(loss_on(coarse), p, 25) for p, _ in best]
    p, _ = min(better, key=lambda t: t[1])
    return _affine(_descend(loss_on(fine), p, 25)[0], middle, there)


def _prior_middle(classes: Volume) -> Float[Tensor, "3"]:
    """Middle of the prior's head, from brain to vertex."""
    brain = classes.data[3:6].sum(dim=0).reshape(-1)
    return (lattice(classes.grid) * brain[:, None]).sum(dim=0) / brain.sum()


def _affine(p: Tensor, middle: Tensor, there: Tensor) -> Tensor:
    """3x4 map of shift (50 mm), angles (rad), log scales and shears about the head's middle."""
    c, s = torch.cos(p[3:6]), torch.sin(p[3:6])
    one, zero = torch.ones(()), torch.zeros(())
    rx = torch.stack([one, zero, zero, zero, c[0], -s[0], zero, s[0], c[0]]).reshape(3, 3)
    ry = torch.stack([c[1], zero, s[1], zero, one, zero, -s[1], zero, c[1]]).reshape(3, 3)
    rz = torch.stack([c[2], -s[2], zero, s[2], c[2], zero, zero, zero, one]).reshape(3, 3)
    shear = torch.stack([one, p[9], p[10], zero, one, p[11], zero, zero, one]).reshape(3, 3)
    turn = rz @ ry @ rx @ shear @ torch.diag(torch.exp(p[6:9]))
    shift = there + 50 * p[:3] - turn @ middle
    return torch.cat([turn, shift[:, None]], dim=1)


def _apply(affine: Float[Tensor, "3 4"], points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    return points @ affine[:, :3].T + affine[:, 3]


def _bend(
    classes: Volume,
    image: _Image,
    pose: Float[Tensor, "3 4"],
    knots: Grid,
    start: Floats,
    n_steps: int,
    stiffness: float,
) -> Floats:
    """Displacement (mm) at control points, added after the pose."""
    base = _apply(pose, image.points)
    spacing = float(knots.spacing[0])

    def loss(flat: Tensor) -> Tensor:
        u = flat.reshape(3, *knots.shape)
        moved = base + sample(_smooth(u), knots, image.points).T
        match = _mutual_information(sample(classes.data, classes.grid, moved), image.bins)
        return stiffness * _bending(u / spacing) - match

    best, _ = _descend(loss, start.reshape(-1), n_steps)
    return _smooth(best.reshape(3, *knots.shape))


def _smooth(u: Floats) -> Floats:
    """Control values after a cubic B-spline's weights 1/6, 4/6, 1/6 along each axis."""
    for axis in (1, 2, 3):
        first, last = u.narrow(axis, 0, 1), u.narrow(axis, u.shape[axis] - 1, 1)
        longer = torch.cat([first, u, last], dim=axis)
        n = u.shape[axis]
        u = (longer.narrow(axis, 0, n) + 4 * u + longer.narrow(axis, 2, n)) / 6
    return u


def _bending(u: Floats) -> Float[Tensor, ""]:
    """Mean penalty of strain and its change, in units of the knots.

    Squares alone would let one small place tear, as where a bright tumour lies under the scalp:
    the fourth power of strains beyond what heads differ by forbids that.
    """
    total = torch.zeros(())
    for axis in (1, 2, 3):
        d = u.diff(dim=axis) / _STRAIN
        total = total + (d**2 + d**4).mean() + (d.diff(dim=axis) ** 2).mean()
    return total


def _displacement(pose: Float[Tensor, "3 4"], field: Floats, knots: Grid, grid: Grid, frame: str) -> Volume:
    """The whole map, pose and deformation, as a displacement on a grid."""
    points = lattice(grid)
    u = _apply(pose, points) + sample(field, knots, points).T - points
    return Volume(u.T.reshape(3, *grid.shape).contiguous(), grid, Quantity.DISPLACEMENT, frame)


def _descend(loss: Callable[[Tensor], Tensor], start: Tensor, n_steps: int) -> tuple[Tensor, float]:
    """Parameters of least loss, by L-BFGS, and that loss."""

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        p = torch.from_numpy(x).float().requires_grad_()
        out = loss(p)
        (gradient,) = torch.autograd.grad(out, p)
        return out.item(), gradient.double().numpy()

    found = minimize(
        value,
        start.double().numpy(),
        jac=True,
        method="L-BFGS-B",
        # Gradients per mm of one control point are tiny: the default tolerance would stop at once.
        options={"maxiter": n_steps, "gtol": 1e-9, "ftol": 1e-7},
    )
    return torch.from_numpy(found.x).float(), float(found.fun)
