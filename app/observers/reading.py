"""Contours of one patient by every observer, on one grid, from whatever files they come in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import RTStructureSetStorage

from imaging.dicom.rtstruct_reader import read_rtstruct
from imaging.dicom.series import read_series
from imaging.folder import read_case
from imaging.grid import Grid, close
from imaging.nifti import read_nifti
from imaging.resample import resample_structures
from imaging.segmentations_reader import label_names, read_labels, read_seg_nrrd
from imaging.shapes import Mask
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity

from .study import ENDINGS, Study

_NIFTI = (".nii", ".nii.gz")
_GREY = (160, 160, 160)


@dataclass(frozen=True, eq=False)
class Drawn:
    """What observers drew of one patient.

    Parameters
    ----------
    grid
        The grid of all masks: that of the first person who drew.
    masks
        By structure, then by observer, in the study's order.
    absent
        Observers without any contours.
    notes
        What a reader must know, one sentence each.
    """

    grid: Grid
    masks: Mapping[str, Mapping[str, Mask]]
    absent: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class Names:
    """What structures are called: by the study, or else by who first draws one.

    Letters of any case, spaces, dots, dashes and underscores make no difference.
    """

    study: Study
    known: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for wanted in self.study.structures:
            for name in (wanted.name, *wanted.synonyms):
                if self.known.setdefault(bare(name), wanted.name) != wanted.name:
                    raise ValueError(
                        f"expected {name} to name one structure of the study, got two; rename one"
                    )

    def of(self, name: str) -> str:
        """The study's name of a structure; empty where the study does not ask for it."""
        if self.study.structures:
            return self.known.get(bare(name), "")
        return self.known.setdefault(bare(name), name)


def bare(name: str) -> str:
    """Letters and digits of a name, in lower case."""
    return "".join(c for c in name.casefold() if c.isalnum()) or name


def read_patient(study: Study, number: int, names: Names) -> Drawn:
    """Contours of one patient by every observer who drew some.

    Parameters
    ----------
    study
        The study.
    number
        Which of its patients, from 0.
    names
        What structures are called; it learns new ones where the study does not name them.

    Raises
    ------
    ValueError
        If nobody drew, a file cannot be read, an observer drew a structure twice, or contours lie on another
        grid or frame of reference and the study does not have them resampled.
    """
    folder = study.folder / study.patients[number].folder
    sets: dict[str, StructureSet] = {}
    absent = []
    for observer in [*study.people, *study.models]:
        path = _path(folder, observer.folder)
        if path is None:
            absent.append(observer.name)
            continue
        try:
            sets[observer.name] = _read(path, folder, study)
        except ValueError as error:
            raise ValueError(f"patient {number + 1}, {observer.name}: {error}") from None
    if not sets:
        raise ValueError(f"expected contours of patient {number + 1}, got none of any observer")
    first = next(iter(sets.values()))
    notes: list[str] = []
    masks: dict[str, dict[str, Mask]] = {}
    for observer in study.observers:
        if observer.name in sets:
            where = f"patient {number + 1}, {observer.name}"
            placed = _placed(sets[observer.name], first, where, notes, resample=study.analysis.resample)
            _sorted_in(masks, placed, observer.name, names, where, notes)
    return Drawn(first.grid, masks, tuple(absent), tuple(notes))


def _placed(
    one: StructureSet, first: StructureSet, where: str, notes: list[str], *, resample: bool
) -> StructureSet:
    """Structures on the grid of the first ones."""
    if one.frame and first.frame and one.frame != first.frame:
        raise ValueError(f"{where}: expected contours in one frame of reference, got another; register them")
    if close(one.grid, first.grid):
        return one
    if not resample:
        raise ValueError(
            f"{where}: expected contours on the grid of the first person's, got another; "
            "draw them on one scan, or give --resample"
        )
    notes.append(f"{where}: contours were resampled to the first person's grid.")
    return resample_structures(one, first.grid)


def _sorted_in(
    masks: dict[str, dict[str, Mask]],
    drawn: StructureSet,
    observer: str,
    names: Names,
    where: str,
    notes: list[str],
) -> None:
    unknown = []
    for name, structure in drawn.structures.items():
        called = names.of(name)
        if not called:
            unknown.append(name)
        elif observer in masks.setdefault(called, {}):
            raise ValueError(
                f"{where}: expected {called} once, got it twice under other names; leave one out"
            )
        else:
            masks[called][observer] = structure.mask
            if not bool(structure.mask.any()):
                notes.append(f"{where}: {called} is empty; it is scored as nothing drawn (Dice 0).")
    if unknown:
        notes.append(f"{where}: not asked for and left out: {', '.join(unknown)}.")


def _path(patient: Path, name: str) -> Path | None:
    """An observer's folder, or file of that name; None where there is neither or nothing in it."""
    for ending in ("", *ENDINGS):
        path = patient / f"{name}{ending}"
        if path.is_file() or (path.is_dir() and any(not p.name.startswith(".") for p in path.iterdir())):
            return path
    return None


def _read(path: Path, patient: Path, study: Study) -> StructureSet:
    """Structures of one observer, by what is there."""
    if path.is_file():
        return _read_file(path, path.parent, patient, study)
    if (path / "case.json").is_file():
        structures = read_case(path).structures
        if structures is None:
            raise ValueError("expected a case with structures, got one without")
        return structures
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    segmentations = [p for p in files if p.name.endswith(".seg.nrrd")]
    maps = [p for p in files if p.name.endswith(_NIFTI)]
    drawn = [p for p in path.rglob("*") if p.is_file() and _is_rtstruct(p)] if not maps else []
    kinds = [segmentations, maps, drawn]
    if sum(map(bool, kinds)) != 1 or len(segmentations) > 1 or len(drawn) > 1:
        raise ValueError(
            "expected one .seg.nrrd, one RTSTRUCT, a case, or NIfTI files of an observer, "
            f"got {len(segmentations)}, {len(drawn)} and {len(maps)} NIfTI files; leave one"
        )
    if maps:
        return _read_maps(maps, [p for p in files if p.suffix in (".txt", ".label")], study)
    return _read_file((segmentations or drawn)[0], path, patient, study)


def _read_file(path: Path, folder: Path, patient: Path, study: Study) -> StructureSet:
    if path.name.endswith(".seg.nrrd"):
        return read_seg_nrrd(path)
    if path.name.endswith(_NIFTI):
        return _read_maps([path], [], study)
    scan = patient / study.analysis.scan if study.analysis.scan else folder
    volume, source = read_series(scan)
    return read_rtstruct(path, volume.grid, source)


def _read_maps(maps: list[Path], descriptions: list[Path], study: Study) -> StructureSet:
    """A label map with the names of its labels, or masks that are named for what they are."""
    if len(maps) == 1 and (descriptions or study.labels):
        if len(descriptions) > 1:
            raise ValueError(f"expected one description of a label map, got {len(descriptions)}; leave one")
        return read_labels(maps[0], label_names(descriptions[0]) if descriptions else study.labels)
    volumes = {p.name.removesuffix(".gz").removesuffix(".nii"): read_nifti(p, Quantity.LABEL) for p in maps}
    grid = next(iter(volumes.values())).grid
    for name, volume in volumes.items():
        if not close(volume.grid, grid):
            raise ValueError(f"expected masks of one observer on one grid, got {name} on another")
        if int(volume.data.max()) > 1 or int(volume.data.min()) < 0:
            raise ValueError(
                f"expected a mask of 0 and 1 in {name}, got labels; name them under [labels] of the study"
            )
    return StructureSet(
        grid, {name: Structure(v.data[0] > 0, RoiType.ORGAN, _GREY) for name, v in volumes.items()}
    )


def _is_rtstruct(file: Path) -> bool:
    try:
        header = dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except (InvalidDicomError, OSError, ValueError):
        return False
    return header.get("SOPClassUID") == RTStructureSetStorage
