"""Organs at risk as solids, painted into the tissues they lie in.

Places are LPS mm from the anterior commissure of the mean head; sides mirror each other. Sizes follow

- chiasm 14 mm wide, 44 mm² in a coronal cut: Wagner et al., AJNR 18, 723 (1997); nerve 3.0 × 5.9 mm,
  chiasm 3.5 × 15.0 mm, tract 2.8 × 5.1 mm: PubMed 8370820 (110 patients, coronal MRI);
- pituitary 0.60 cc and 5.6 mm high (meta-analysis, Brain Sci. 13, 89 (2023)), 0.38 ± 0.20 cc and cochlea
  0.11 ± 0.07 cc as contoured for radiotherapy (Br. J. Radiol. 88, 20140413 (2015), table 1);
- lacrimal gland 0.68 to 0.77 cc: Ophthalmic Plast. Reconstr. Surg. 30, 388 (2014), 499 patients;
- hippocampus 1.7 to 5.7 cc by how its borders are drawn ("Hippocampal volume measurements using magnetic
  resonance imaging in normal young adults", review within it);
- lens about 4 mm thick and 9 mm wide (from memory, unverified).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from imaging.organ import Organ
from imaging.tissue import Tissue

from . import face
from .face import Face
from .solids import Field, Solid, ball, bent, brick, carved, ellipsoid, rod, union

_CROSSING = (0.0, -4.5, -16.5)
_NERVE = (
    rod((31.2, -45.5, -33.0), (27.0, -37.0, -32.0), (1.9, 1.9)),
    rod((27.0, -37.0, -32.0), face.ORBIT_APEX, (1.9, 1.8)),
    rod(face.ORBIT_APEX, (6.0, -9.5, -18.5), (1.8, 2.0)),
)
_CHIASM = (
    rod((5.6, -9.0, -18.0), _CROSSING, (2.0, 2.2)),
    rod(_CROSSING, (5.8, 0.8, -14.5), (2.2, 1.9)),
)
_TRACT = tuple(bent([(5.8, 0.8, -14.5), (13.5, 7.0, -11.5), (19.0, 14.5, -8.5), (21.0, 21.0, -5.5)], 1.6))
PITUITARY = (0.0, -7.0, -24.0)
_PITUITARY = (ball(PITUITARY, (6.6, 5.0, 3.2)),)
_STALK = (rod((0.0, -6.0, -21.5), (0.0, -2.5, -15.0), (0.9, 0.9)),)
# Back and floor of the sella; the ethmoid and the roof of the sphenoid sinus are its other walls.
_SELLA = (
    rod((0.0, -0.6, -22.5), (6.0, -0.6, -22.5), (1.2, 1.2)),
    brick((-1.0, -1.6, -32.0), (6.5, 0.4, -22.5)),
)
_SELLA_FLOOR = (carved(ball(PITUITARY, (8.2, 6.6, 4.8)), lambda _x, _y, z: z - PITUITARY[2]),)
COCHLEA = (24.5, 19.5, -37.5)
_COCHLEA = (ball(COCHLEA, (3.4, 3.4, 2.8)),)
_LUMEN = 1.2  # bone around the cochlea's fluid that a contour takes in (mm, assumed)
_HIPPOCAMPUS = (
    rod((22.5, 9.0, -17.5), (26.5, 28.0, -8.5), (6.4, 5.0)),
    rod((26.5, 28.0, -8.5), (22.0, 38.0, -1.0), (4.6, 3.0)),
)
_LENS = (4.7, 2.1, 4.7)
_LACRIMAL = (42.0, -55.0, -22.5)
Paint = Callable[..., None]
_BONES = (Tissue.SKULL, Tissue.MARROW)


def organs(how: Face, x: Field, y: Field, z: Field, label: Field) -> tuple[Field, Tensor]:
    """Tissues with those of small organs in them, and the organ of each place (uint8)."""
    organ = torch.zeros(x.shape, dtype=torch.uint8)
    if x.numel() == 0 or float(z.min()) > 0 or float(z.max()) < -130 or float(y.min()) > 50:
        return label, organ
    ax = x.abs()
    right = (x < 0).to(torch.uint8)

    def paint(where: Tensor, of: Organ, tissue: Tissue | None = None) -> None:
        nonlocal label
        sided = of not in (Organ.CHIASM, Organ.PITUITARY, Organ.MANDIBLE)
        organ.copy_(torch.where(where, right + int(of) if sided else int(of), organ))
        if tissue is not None:
            label = torch.where(where, float(tissue), label)

    def inside(solids: tuple[Solid, ...], *of: Tissue) -> Tensor:
        found = union(ax, y, z, solids) < 0
        if of and bool(found.any()):
            found &= torch.isin(label, torch.tensor([float(t) for t in of]))
        return found

    _eyes(how, ax, y, z, label, paint)
    paint(inside(_HIPPOCAMPUS, Tissue.GREY, Tissue.WHITE), Organ.HIPPOCAMPUS_L)
    paint(inside(_COCHLEA, *_BONES), Organ.COCHLEA_L)
    lumen = (organ == Organ.COCHLEA_L) | (organ == Organ.COCHLEA_R)
    label = torch.where(lumen & (union(ax, y, z, _COCHLEA) < -_LUMEN), float(Tissue.FLUID), label)
    paint(inside(face.parts(how).jaw, *_BONES), Organ.MANDIBLE)
    label = torch.where(inside(face.parts(how).teeth, *_BONES), float(Tissue.TOOTH), label)
    soft = (Tissue.CSF, Tissue.GREY, Tissue.WHITE, Tissue.MARROW, Tissue.DURA)
    label = torch.where(inside((*_SELLA, *_SELLA_FLOOR), *soft), float(Tissue.SKULL), label)
    paint(inside(_PITUITARY), Organ.PITUITARY, Tissue.GLAND)
    label = torch.where(inside(_STALK), float(Tissue.GLAND), label)
    eye = label == Tissue.EYE
    paint(inside(_TRACT) & (label != Tissue.BRAINSTEM), Organ.OPTIC_TRACT_L, Tissue.NERVE)
    paint(inside(_NERVE) & ~eye, Organ.OPTIC_NERVE_L, Tissue.NERVE)
    paint(inside(_CHIASM), Organ.CHIASM, Tissue.NERVE)
    return label, organ


def _eyes(how: Face, ax: Field, y: Field, z: Field, label: Field, paint: Paint) -> None:
    if float(y.min()) > -40 or float(z.max()) < -55:
        return
    eye = label == Tissue.EYE
    paint(eye, Organ.EYE_L)
    depth = face.EYE[1] - how.eye + 5.6
    lens = ellipsoid(ax, y, z, (face.EYE[0], depth, face.EYE[2]), _LENS) < 0
    paint(eye & lens, Organ.LENS_L, Tissue.LENS)
    near = ellipsoid(ax, y, z, _LACRIMAL, (7.5, 7.5, 7.5)) < 0
    shell = (face.orbit(how, ax, y, z) < -0.4) & (face.eye(how, ax, y, z) > 0.6)
    soft = (label == Tissue.FAT) | (label == Tissue.SCALP)
    paint(near & shell & soft & (ax > face.EYE[0]) & (z > face.EYE[2]), Organ.LACRIMAL_L, Tissue.GLAND)
