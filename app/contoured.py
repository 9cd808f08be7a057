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
from imaging.dicom.writer import write_ct, write_mr
from imaging.folder import write_case
from imaging.nifti import write_nifti
from imaging.segmentations import write_labels, write_seg_nrrd
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from mr2ct.domain import expect_head_scan
from planning.contour.algebra import derived
from planning.contour.convert import Contoured, contoured
from planning.contour.nets import HEAD_NET, ORGAN_NET, ContourNet
from planning.contour.on_ct import in_place_of_t1, with_numbers_of
from planning.contour.quality import LOOK_BELOW, Quality, read_quality
from planning.contour.template import structure_set

from .console import RESEARCH_ONLY, Progress
from .contour_models import HEAD, ORGANS, QUALITY, ContourModels
from .contour_nets import read_net
from .contrasts import CT, contrasts_of, in_channels
from .ct_nets import ZOO
from .own_contours import with_own
from .read_scans import read_ct, read_mr

_ON_CT = "Contours of a CT alone are less sure than of MRI, and how sure is not calibrated: look at each."
_DERIVED = ((0, 96, 255), (255, 128, 0), (0, 200, 83), (213, 0, 249))


@dataclass(frozen=True)
class Asked:
    """What is to be contoured.

    Parameters
    ----------
    mri
        One to four scans of one head, each another contrast, or one CT; contours lie on the first one's grid.
    out
        A new folder.
    models
        Networks, and how their contours are written.
    contrasts
        Which each is; with none, headers and names tell.
    series
        Which series of its DICOM folder each scan is; with none, there is one in each.
    device
        Where networks run.
    register
        Whether the other scans are first moved to where the first one's head lies.
    derive
        Definitions of structures made of others, as :func:`planning.contour.algebra.derived` reads them, by
        the names that are written.
    own
        Networks of structures of one's own, of ``spindose train contours own``; every file is marked then.
    """

    mri: tuple[Path, ...]
    out: Path
    models: ContourModels
    contrasts: tuple[str, ...] = ()
    series: tuple[int | None, ...] = ()
    device: str = "cpu"
    derive: tuple[str, ...] = ()
    register: bool = False
    own: tuple[Path, ...] = ()


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
    files = {HEAD: folder / HEAD, ORGANS: folder / ORGANS}
    known = {QUALITY: folder / QUALITY} if (folder / QUALITY).is_file() else {}
    return contourer_of(files | known, device)


def contourer_of(files: Mapping[str, Path], device: str = "cpu") -> Contourer:
    """The networks of files by their names, as :attr:`ContourModels.files`; errors as read_contourer."""
    head, head_config = read_net(files[HEAD], HEAD_NET, device)
    organs, organ_config = read_net(files[ORGANS], ORGAN_NET, device)
    quality = read_quality(files[QUALITY]) if QUALITY in files else None
    return Contourer(head, organs, head_config, organ_config, quality)


def contour_scans(asked: Asked, progress: Progress) -> dict[str, Any]:
    """Writes contours of one head into a new folder, whole or not at all, and tells of them.

    ``RTSTRUCT.dcm`` refers to the first scan's series, written into ``MR`` or ``CT`` where it was none;
    ``structures.seg.nrrd`` is for 3D Slicer, ``labels.nii.gz`` with ``labels.txt`` for ITK-SNAP; ``masks`` is
    a case; ``tumour.nii.gz`` has the labels of BraTS; ``contours.json`` says how far each is to be trusted,
    and which models drew them. Every file is marked where not all of them are approved.

    Raises
    ------
    ValueError
        If scans cannot be read, do not show one head in one place, or no brain is found.
    """
    models = asked.models
    nets = contourer_of(models.files, asked.device)
    series = asked.series or (None,) * len(asked.mri)
    names = contrasts_of(asked.mri, asked.contrasts, series)
    progress("Reading the scans", 0.0)
    first, source, shown = _read(asked, names, series)
    progress("Reading the scans", 1.0)
    progress("Contours", 0.0)
    made, quality = nets(shown), nets.quality
    if names == (CT,):
        made, quality = with_numbers_of(first, made), None
    drawn = structure_set(made.masks, first.grid, models.template, first.frame)
    for path in asked.own:
        drawn, made = with_own(drawn, made, shown, path, asked.device)
    drawn = with_derived(drawn, asked.derive)
    progress("Contours", 1.0)
    told = facts(made, quality, first.grid.voxel_volume, names)
    told = {"mark": models.mark, "models": [dict(m) for m in models.models], **told}
    with new_folder(asked.out) as here:
        _write(made, drawn, first, replace(source, mark=models.mark), here)
        (here / "contours.json").write_text(json.dumps({"note": RESEARCH_ONLY, **told}, indent=1) + "\n")
    return {"out": str(asked.out), **told}


def _read(asked: Asked, names: Sequence[str], series: Sequence[int | None]) -> tuple[Volume, Source, Volume]:
    """The scan that contours lie on, whose it is, and what the networks see."""
    if names == (CT,):
        case = read_ct(asked.mri[0], series[0])
        ct = case.volumes["ct"]
        return ct, case.source, in_place_of_t1(ct)
    scans = [read_mr(path, series=n) for path, n in zip(asked.mri, series, strict=True)]
    volumes = [scan.volumes["mr"] for scan in scans]
    for volume in volumes:
        expect_head_scan(volume)
    if asked.register:
        volumes = [volumes[0], *(moved_onto(volume, volumes[0]) for volume in volumes[1:])]
    return volumes[0], scans[0].source, in_channels(volumes, names)


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
    on_ct = [_ON_CT] if told["contrasts"] == [CT] else []
    return [f"Contours: {told['out']}, of {', '.join(told['contrasts'])}", *on_ct, *cautions, *missing]


def _write(made: Contoured, drawn: StructureSet, scan: Volume, source: Source, here: Path) -> None:
    if not source.instance_uids and scan.quantity is Quantity.HU:
        source = write_ct(scan, source, here / "CT", description="CT, as it was given")
    elif not source.instance_uids:
        source = write_mr(scan, source, here / "MR", description="MR, as it was given")
    write_rtstruct(drawn, source, scan.grid, here / "RTSTRUCT.dcm", label=source.mark or "SPINDOSE")
    write_seg_nrrd(drawn, here / "structures.seg.nrrd", source.mark)
    write_labels(drawn, here / "labels.nii.gz", here / "labels.txt", source.mark)
    write_nifti(made.tumour, here / "tumour.nii.gz", source.mark)
    (here / "masks").mkdir()
    write_case(Case({}, drawn, source), here / "masks")
