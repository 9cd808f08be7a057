"""``spindose contour``: organs at risk and tumour of one head, by the networks that ship or one's own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from imaging.atomic import new_folder
from imaging.case import Case
from imaging.coregister import moved_onto
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_mr
from imaging.folder import write_case
from imaging.nifti import write_nifti
from imaging.segmentations import write_labels, write_seg_nrrd
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Volume
from models.unet import UNetConfig, unet
from models.weights import load_weights, read_card
from mr2ct.domain import expect_head_scan
from planning.contour.algebra import derived
from planning.contour.classes import CONTRASTS
from planning.contour.convert import Contoured, contoured
from planning.contour.nets import HEAD_NET, ORGAN_NET, ContourNet
from planning.contour.quality import LOOK_BELOW, Quality, read_quality
from planning.contour.template import BRAIN, read_template, structure_set

from .console import RESEARCH_ONLY, Progress
from .contrasts import contrasts_of, in_channels
from .ct_nets import ZOO, on_device
from .plan import read_mr

HEAD, ORGANS, QUALITY = "contour-head.safetensors", "contour-organs.safetensors", "contour-quality.json"
_DERIVED = ((0, 96, 255), (255, 128, 0), (0, 200, 83), (213, 0, 249))


@dataclass(frozen=True)
class Asked:
    """What is to be contoured.

    Parameters
    ----------
    mri
        One to four scans of one head, each another contrast; contours lie on the first one's grid.
    out
        A new folder.
    contrasts
        Which each is; with none, headers and names tell.
    template
        Names, colours and types of what is written.
    weights
        Folder of :data:`HEAD` and :data:`ORGANS`, and perhaps :data:`QUALITY`.
    series
        Which series of a DICOM folder.
    device
        Where networks run.
    register
        Whether the other scans are first moved to where the first one's head lies.
    derive
        Definitions of structures made of others, as :func:`planning.contour.algebra.derived` reads them, by
        the names that are written.
    """

    mri: tuple[Path, ...]
    out: Path
    contrasts: tuple[str, ...] = ()
    template: Path = BRAIN
    weights: Path = ZOO
    series: int | None = None
    device: str = "cpu"
    derive: tuple[str, ...] = ()
    register: bool = False


@dataclass(frozen=True, eq=False)
class Contourer:
    """Both networks with what they were trained with and what their agreement is worth."""

    head: nn.Module
    organs: nn.Module
    head_config: ContourNet
    organ_config: ContourNet
    quality: Quality | None

    def __call__(self, mr: Volume) -> Contoured:
        """Contours of one head, as :func:`planning.contour.convert.contoured`."""
        return contoured(mr, self.head, self.organs, self.head_config, self.organ_config)


def read_contourer(folder: Path = ZOO, device: str = "cpu") -> Contourer:
    """The networks in a folder.

    Raises
    ------
    ValueError
        If one is missing, or is another network than ``spindose train contours`` makes.
    """
    head, head_config = _net(folder / HEAD, HEAD_NET, device)
    organs, organ_config = _net(folder / ORGANS, ORGAN_NET, device)
    known = folder / QUALITY
    quality = read_quality(known) if known.is_file() else None
    return Contourer(head, organs, head_config, organ_config, quality)


def contour_scans(asked: Asked, progress: Progress) -> dict[str, Any]:
    """Writes contours of one head into a new folder, whole or not at all, and tells of them.

    ``RTSTRUCT.dcm`` refers to the first scan's series, which is written into ``MR`` where it was no DICOM;
    ``structures.seg.nrrd`` is for 3D Slicer, ``labels.nii.gz`` with ``labels.txt`` for ITK-SNAP; ``masks`` is
    a case; ``tumour.nii.gz`` has the labels of BraTS; ``contours.json`` says how far each is to be trusted.

    Raises
    ------
    ValueError
        If scans cannot be read, do not show one head in one place, or no brain is found.
    """
    template = read_template(asked.template)
    nets = read_contourer(asked.weights, asked.device)
    names = contrasts_of(asked.mri, asked.contrasts, asked.series)
    progress("Reading the MRI", 0.0)
    scans = [read_mr(path, series=asked.series) for path in asked.mri]
    volumes = [scan.volumes["mr"] for scan in scans]
    for volume in volumes:
        expect_head_scan(volume)
    if asked.register:
        volumes = [volumes[0], *(moved_onto(volume, volumes[0]) for volume in volumes[1:])]
    mr = in_channels(volumes, names)
    progress("Reading the MRI", 1.0)
    progress("Contours", 0.0)
    made = nets(mr)
    drawn = with_derived(structure_set(made.masks, mr.grid, template, volumes[0].frame), asked.derive)
    progress("Contours", 1.0)
    told = facts(made, nets.quality, mr.grid.voxel_volume, names)
    with new_folder(asked.out) as here:
        _write(made, drawn, volumes[0], scans[0].source, here)
        (here / "contours.json").write_text(json.dumps({"note": RESEARCH_ONLY, **told}, indent=1) + "\n")
    return {"out": str(asked.out), **told}


def with_derived(drawn: StructureSet, definitions: Sequence[str]) -> StructureSet:
    """Structures and those made of them, in the order of their definitions; each may use the ones before.

    Raises
    ------
    ValueError
        If a definition is none, or what it makes is empty.
    """
    structures = dict(drawn.structures)
    for n, text in enumerate(definitions):
        name, mask = derived(text, {other: s.mask for other, s in structures.items()}, drawn.grid)
        if not mask.any():
            raise ValueError(f"expected a derived structure with voxels inside, got {name} empty; change it")
        kind = RoiType.PTV if name.upper().startswith("PTV") else RoiType.CONTROL
        structures[name] = Structure(mask, kind, _DERIVED[n % len(_DERIVED)])
    return StructureSet(drawn.grid, structures, drawn.frame)


def facts(
    made: Contoured, quality: Quality | None, voxel_mm3: float, contrasts: Sequence[str]
) -> dict[str, Any]:
    """What is told of contours: volumes, expected Dice, and where a reader must look."""
    structures: dict[str, Any] = {}
    for name, mask in made.masks.items():
        agreement = made.agreement[name]
        expected = None if quality is None else quality.expected(name, agreement)
        doubts = [made.doubts[name]] if name in made.doubts else []
        if expected is not None and expected < LOOK_BELOW:
            doubts.append(f"is expected to have a Dice of {expected:.2f}")
        structures[name] = {
            "cc": round(float(mask.sum()) * voxel_mm3 / 1000, 3),
            "agreement": round(agreement, 3),
            "expected_dice": None if expected is None else round(expected, 3),
            "look": bool(doubts),
            "why": doubts,
        }
    return {
        "contrasts": list(contrasts),
        "structures": structures,
        "missing": dict(made.missing),
        "look_at": [*(name for name, of in structures.items() if of["look"]), *made.missing],
    }


def lines(told: Mapping[str, Any]) -> list[str]:
    """The same for a person."""
    cautions = [
        f"Look at {name}: it {'; it '.join(of['why'])}."
        for name, of in told["structures"].items()
        if of["look"]
    ]
    missing = [f"No {name}: it {why}." for name, why in told["missing"].items()]
    return [f"Contours: {told['out']}, of {', '.join(told['contrasts'])}", *cautions, *missing]


def _write(made: Contoured, drawn: StructureSet, mr: Volume, source: Source, here: Path) -> None:
    if not source.instance_uids:
        source = write_mr(mr, source, here / "MR", description="MR, as it was given")
    write_rtstruct(drawn, source, mr.grid, here / "RTSTRUCT.dcm")
    write_seg_nrrd(drawn, here / "structures.seg.nrrd")
    write_labels(drawn, here / "labels.nii.gz", here / "labels.txt")
    write_nifti(made.tumour, here / "tumour.nii.gz")
    (here / "masks").mkdir()
    write_case(Case({}, drawn, source), here / "masks")


def _net(path: Path, of: ContourNet, device: str) -> tuple[nn.Module, ContourNet]:
    card = read_card(path)
    config = UNetConfig.of(card["config"])
    told = (tuple(card["config"].get("classes", ())), tuple(card["config"].get("contrasts", ())))
    if told != (of.classes.names, CONTRASTS):
        raise ValueError(
            f"expected weights of `spindose train contours` with the card that it writes as {path.name}, "
            "got others"
        )
    net = unet(config)
    load_weights(net, path)
    return on_device(net.eval(), device), replace(of, net=config, spacing=float(card["config"]["spacing"]))
