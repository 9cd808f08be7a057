"""A given label map made into a head like the built-in ones: its own tissues, finer ones and organs added.

The given head is brought to the place and size of the average head, so that both vary alike. What a map of
six tissues does not tell comes from depth (marrow within bone, fat under the skin) or from the average head
bent onto it, kept only where the given tissue allows it.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import max_pool3d

from imaging.grid import Grid, axial
from imaging.organ import NAMES, Organ
from imaging.tissue import BONE, BRAIN, Tissue
from imaging.volume import Quantity, Volume
from imaging.warp import lattice, sample

from .atlas_fit import Fit, fitted
from .labelling import average_head
from .raster import Pose, drawn
from .subject import Subject

_LOW, _HIGH = np.array([-104.0, -116.0, -140.0]), np.array([104.0, 126.0, 110.0])
_TABLE = 1.9  # of the skull's compact tables (mm), as in the built-in head
_SKIN, _FAT = 1.8, 4.4  # depth of the fat under the skin (mm), as in the built-in head
_NOSTRIL = 7.0  # radius (mm) that openings of the airways are closed by
_AIRY = 0.3  # share of the built-in cavities that a map with air of its own has as air
_KEPT = 0.5  # share of a carried organ that must fit, or it is left out

# Where the average head's own tissues and organs may come to lie.
_SOFT = (Tissue.SCALP, Tissue.FAT, Tissue.CSF, Tissue.EYE)
_NEURAL = (Tissue.GREY, Tissue.WHITE, Tissue.CSF)
_ALLOWED: dict[Tissue, tuple[Tissue, ...]] = {
    Tissue.EYE: _SOFT,
    Tissue.LENS: _SOFT,
    Tissue.NERVE: (*_SOFT, *_NEURAL),
    Tissue.GLAND: (*_SOFT, *_NEURAL, *BONE),
    Tissue.TOOTH: BONE,
    Tissue.FLUID: BONE,
    Tissue.BRAINSTEM: (Tissue.GREY, Tissue.WHITE),
    Tissue.DURA: (Tissue.CSF,),
    Tissue.AIR: (*BONE, Tissue.SCALP, Tissue.FAT),
}
_ORGAN_IN: dict[Organ, tuple[Tissue, ...]] = {
    Organ.CHIASM: (Tissue.NERVE,),
    Organ.OPTIC_NERVE_L: (Tissue.NERVE,),
    Organ.OPTIC_TRACT_L: (Tissue.NERVE,),
    Organ.EYE_L: (Tissue.EYE,),
    Organ.LENS_L: (Tissue.LENS,),
    Organ.COCHLEA_L: (*BONE, Tissue.FLUID),
    Organ.HIPPOCAMPUS_L: (Tissue.GREY, Tissue.WHITE),
    Organ.PITUITARY: (Tissue.GLAND,),
    Organ.LACRIMAL_L: (Tissue.GLAND,),
    Organ.MANDIBLE: (Tissue.SKULL, Tissue.MARROW),
}
_ORGAN_IN |= {Organ(o + 1): t for o, t in _ORGAN_IN.items() if o.name.endswith("_L")}

Labels = UInt8[Tensor, "i j k"]
Mask = Bool[Tensor, "i j k"]


def given_head(shares: Mapping[Tissue, Volume], name: str, voxel_mm: float = 1.0) -> Subject:
    """A head for `synth.atlas.varied`.

    Parameters
    ----------
    shares
        Share of each tissue in each voxel (0 to 1), all on one grid; what none of them fills is outside.
    name
        Whose head it is, for the traits.
    voxel_mm
        Voxel size of the result.

    Returns
    -------
    Subject
        In the place and size of the average head ; ``traits["anatomy"]`` says which tissues and organs
        were carried over from the built-in head, and which organs found no place.

    Raises
    ------
    ValueError
        If there is no skull, no brain or no skin, or the maps lie on different grids.
    """
    _expect_head(shares, name)
    how = fitted(shares)
    grid = axial(_LOW, _HIGH, (voxel_mm,) * 3)
    labels = _read(shares, how, grid)
    labels = _aired(labels, voxel_mm)
    average, organs, _ = drawn(average_head(), Pose(np.eye(3), field=how.bend), grid)
    labels = _finer(labels, average.data[0], voxel_mm)
    labels, tissues = _carried(labels, average.data[0])
    kept, told = _organs(labels, organs.data[0], voxel_mm)
    size = np.linalg.norm(how.to_given[:, :3], axis=0)
    traits = {"head": name, "given_size": [round(float(s), 4) for s in size]}
    traits |= {"carried_tissues": tissues, **told}
    return Subject(
        Volume(labels[None], grid, Quantity.LABEL),
        Volume(kept[None], grid, Quantity.LABEL),
        {"anatomy": traits},
    )


def _expect_head(shares: Mapping[Tissue, Volume], name: str) -> None:
    for what, tissues in (("skull", BONE), ("brain", BRAIN), ("scalp", (Tissue.SCALP, Tissue.FAT))):
        if not any(float(shares[t].data.max()) > 0.5 for t in tissues if t in shares):
            raise ValueError(
                f"expected a head with {what}, got none in {name}; map its number or file to {what}"
            )
    grids = [v.grid for v in shares.values()]
    if any(g != grids[0] for g in grids):
        raise ValueError(f"expected the maps of {name} on one grid, got several; resample them to one")


def _read(shares: Mapping[Tissue, Volume], how: Fit, grid: Grid) -> Labels:
    """The tissue of the largest share at each place, read linearly; the lowest plane of a neck goes on."""
    given = next(iter(shares.values())).grid
    tissues = [t for t in shares if t != Tissue.OUTSIDE]
    data = torch.cat([shares[t].data for t in tissues]).float()
    inverse = np.linalg.inv(given.affine)
    to_index = torch.from_numpy(inverse[:3, :3] @ how.to_given[:, :3]).float()
    shift = torch.from_numpy(inverse[:3, :3] @ how.to_given[:, 3] + inverse[:3, 3]).float()
    of_given = torch.from_numpy(how.to_given[:, :3].copy()).float()
    origin = torch.from_numpy(how.to_given[:, 3].copy()).float()
    down = int(np.argmax(np.abs(given.affine[2, :3])))
    numbers = torch.tensor([int(t) for t in tissues], dtype=torch.uint8)
    size = torch.tensor(given.shape)
    out = torch.zeros(grid.shape, dtype=torch.uint8)
    step = 8
    for first in range(0, grid.shape[0], step):
        places = lattice(grid, first, first + step)
        index = places @ to_index.T + shift
        beyond = (index < -0.5) | (index > size - 0.5)
        low = (
            index[:, down] < size[down] / 2 if given.affine[2, down] > 0 else index[:, down] > size[down] / 2
        )
        beyond[:, down] &= ~low
        share = sample(data, given, places @ of_given.T + origin)
        most, which = share.max(dim=0)
        label = numbers[which]
        label[(most < 1 - share.sum(dim=0)) | beyond.any(dim=1)] = int(Tissue.OUTSIDE)
        out[first : first + step] = label.reshape(-1, *grid.shape[1:])
    return out


def _aired(labels: Labels, voxel_mm: float) -> Labels:
    """Air outside the head as OUTSIDE, enclosed air as AIR, whichever the map called it."""
    hollow = (labels == Tissue.AIR) | (labels == Tissue.OUTSIDE)
    body = ~hollow.numpy()
    # Closed on every second voxel: nostrils are wider than a voxel.
    coarse = body[::2, ::2, ::2]
    r = max(round(_NOSTRIL / 2 / voxel_mm), 1)
    padded = np.pad(coarse, ((r + 1,) * 2, (r + 1,) * 2, (r + 1, r + 1)))
    padded[:, :, : r + 1] = padded[:, :, r + 1 : r + 2]  # the neck goes on
    away = ndimage.distance_transform_edt(~padded)
    # One voxel less all round, or the skin would have a shell of air.
    closed = ndimage.distance_transform_edt(away <= r) > r + 1
    filled = ndimage.binary_fill_holes(closed)[r + 1 : -r - 1, r + 1 : -r - 1, r + 1 : -r - 1]
    fine = np.repeat(np.repeat(np.repeat(filled, 2, 0), 2, 1), 2, 2)
    within = torch.from_numpy(fine[: body.shape[0], : body.shape[1], : body.shape[2]].copy())
    air = torch.where(within, int(Tissue.AIR), int(Tissue.OUTSIDE)).to(torch.uint8)
    return torch.where(hollow, air, labels)


def _finer(labels: Labels, average: Labels, voxel_mm: float) -> Labels:
    """Marrow between tables, fat between skin and muscle, where the map has one bone and one scalp."""
    out = labels.clone()
    has = set(torch.unique(labels).tolist())
    if Tissue.MARROW not in has:
        bone = (labels == Tissue.SKULL).numpy()
        deep = torch.from_numpy(ndimage.distance_transform_edt(bone, voxel_mm) > _TABLE + voxel_mm / 2)
        out[deep] = int(Tissue.MARROW)
    if Tissue.FAT not in has:
        depth = torch.from_numpy(ndimage.distance_transform_edt((labels != Tissue.OUTSIDE).numpy(), voxel_mm))
        scalp = labels == Tissue.SCALP
        fat = (depth > _SKIN) & ((depth < _FAT) | (average == Tissue.FAT))
        near_bone = torch.from_numpy(ndimage.binary_dilation((labels == Tissue.SKULL).numpy()))
        out[scalp & fat & ~near_bone] = int(Tissue.FAT)
    return out


def _carried(labels: Labels, average: Labels) -> tuple[Labels, list[str]]:
    """Tissues that the map lacks, from the average head, where its own tissue allows them, and which."""
    out = labels.clone()
    has = set(torch.unique(labels).tolist())
    hollow = average == Tissue.AIR
    # Maps made from MRI alone often take sinuses for bone.
    if int((hollow & (labels == Tissue.AIR)).sum()) < _AIRY * int(hollow.sum()):
        has.discard(Tissue.AIR)
    lacking = [t for t in _ALLOWED if t not in has]
    for tissue in lacking:
        out[(average == tissue) & _any(labels, _ALLOWED[tissue])] = int(tissue)
    return out, [t.name.lower() for t in lacking]


def _organs(labels: Labels, average: Labels, voxel_mm: float) -> tuple[Labels, dict[str, list[str]]]:
    """Organs that found their tissue, and what is told of them."""
    out, flat = torch.zeros_like(average), labels.reshape(-1)
    for organ, tissues in _ORGAN_IN.items():
        asked = average == organ
        near = _grown(asked, voxel_mm) if organ is Organ.MANDIBLE else asked
        places = near.reshape(-1).nonzero()[:, 0]
        fits = places[torch.isin(flat[places], torch.tensor([int(t) for t in tissues], dtype=torch.uint8))]
        if len(fits) >= max(_KEPT * int(asked.sum()), 1):
            out.view(-1)[fits] = int(organ)
    there = {name: all(bool((out == o).any()) for o in organs) for name, organs in NAMES.items()}
    return out, {
        "carried": [name for name, found in there.items() if found],
        "left_out": [name for name, found in there.items() if not found],
    }


def _grown(mask: Mask, voxel_mm: float) -> Mask:
    """The mask with 4 mm more on every side: jaws differ in place more than they differ in kind."""
    r = round(4.0 / voxel_mm)
    out = mask[None].float()
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * r + 1, r
        out = max_pool3d(out, size, stride=1, padding=padding)
    return out[0] > 0.5


def _any(labels: Labels, tissues: tuple[Tissue, ...]) -> Mask:
    table = torch.zeros(max(Tissue) + 1, dtype=torch.bool)
    table[list(tissues)] = True
    return table[labels.long()]
