"""Who contoured what in an observer study, as one TOML file or the folders themselves tell it."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "study.toml"
ENDINGS = (".seg.nrrd", ".dcm", ".nii.gz", ".nii")  # of an observer's one file
_LARGEST = 10_000_000  # bytes of a study file
_KEYS = {"title", "observers", "patients", "structures", "labels", "times", "analysis"}
_LONGEST = 100  # characters of a name


@dataclass(frozen=True)
class Observer:
    """A person or a model that contours.

    Parameters
    ----------
    name
        What it is called in results.
    model
        Whether it is a model, which is never part of what it is measured against.
    site
        Where a person works; empty where it is not told.
    folder
        Name of its folder, or of its one file, in every patient's folder.
    """

    name: str
    model: bool = False
    site: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Patient:
    """A patient's folder and site; results call patients by their number alone."""

    folder: str = field(repr=False)
    site: str = ""


@dataclass(frozen=True)
class Wanted:
    """A structure, other names that it goes by, and tolerances (mm) of surface Dice where it has its own."""

    name: str
    synonyms: tuple[str, ...] = ()
    tolerances: tuple[float, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Minutes that one observer took for one patient: by hand, and to correct a model's contours."""

    patient: int
    observer: str
    manual: float
    corrected: float


@dataclass(frozen=True)
class Analysis:
    """How contours are compared.

    Parameters
    ----------
    tolerances
        Of surface Dice (mm).
    region
        What is added around all contours of a structure (mm) for the region of STAPLE and kappas.
    margin
        By how much less Dice (0..1) a model may have and not be called inferior.
    resample
        Whether contours on other grids are brought to the first person's.
    scan
        Folder or file of the MR series in every patient's folder, which RTSTRUCTs were drawn on; those in the
        observer's own folder otherwise.
    seed, n_resamples
        Of intervals by drawing patients again.
    """

    tolerances: tuple[float, ...] = (1.0, 2.0)
    region: float = 10.0
    margin: float = 0.05
    resample: bool = False
    scan: str = ""
    seed: int = 0
    n_resamples: int = 2000

    def __post_init__(self) -> None:
        if not self.tolerances or not all(0 < t <= 50 for t in self.tolerances):
            raise ValueError(f"expected tolerances of 0-50 mm, got {list(self.tolerances)}")
        if not 0 <= self.region <= 100 or not 0 < self.margin < 1:
            raise ValueError(
                f"expected region_mm of 0-100 and a margin of Dice between 0 and 1, "
                f"got {self.region:g} and {self.margin:g}"
            )
        if self.seed < 0 or not 100 <= self.n_resamples <= 100_000:
            raise ValueError("expected a seed of 0 or more and 100 to 100000 resamples, got others")


@dataclass(frozen=True)
class Study:
    """A study: its folder, and everything that is told of it."""

    folder: Path
    title: str
    observers: tuple[Observer, ...]
    patients: tuple[Patient, ...]
    structures: tuple[Wanted, ...] = ()
    labels: Mapping[int, str] = field(default_factory=dict)
    times: tuple[Timing, ...] = ()
    analysis: Analysis = field(default_factory=Analysis)

    def tolerances(self, structure: str) -> tuple[float, ...]:
        """Tolerances (mm) of a structure: its own, or those of the study."""
        own = next((w.tolerances for w in self.structures if w.name == structure), ())
        return own or self.analysis.tolerances

    @property
    def people(self) -> tuple[Observer, ...]:
        """Observers that are persons."""
        return tuple(o for o in self.observers if not o.model)

    @property
    def models(self) -> tuple[Observer, ...]:
        """Observers that are models."""
        return tuple(o for o in self.observers if o.model)


def read_study(path: Path, models: Sequence[str] = ()) -> Study:
    """A study by its TOML file, or by a folder with one, or with ``PATIENT/OBSERVER`` in it.

    Parameters
    ----------
    path
        The TOML file or the folder.
    models
        Without a TOML file: which observers are models.

    Raises
    ------
    ValueError
        If the file is not as ``docs/observer_study.toml`` has it, a name leads out of the folder, or there is
        no patient or no person.
    """
    file = path / FILE if path.is_dir() else path
    if not path.is_dir() and not path.is_file():
        raise ValueError("expected a study's folder or TOML file, got a path where there is nothing")
    if not file.is_file():
        return _expect_people(_of_folders(path, models))
    if models:
        raise ValueError(f"expected models to be named in {file.name}, got --model too; leave one out")
    if file.stat().st_size > _LARGEST:
        raise ValueError("expected a TOML file of a study, got one of more than 10 MB")
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected TOML with every key once in {file.name}, got a fault: {error}") from None
    return _expect_people(_of_toml(told, file.parent))


def _expect_people(study: Study) -> Study:
    if not study.people:
        raise ValueError("expected at least one person among the observers, got models alone")
    if any(o.name.casefold() == "people" for o in study.observers):
        raise ValueError("expected observers under names of their own, got one called people; rename it")
    if not study.patients:
        raise ValueError("expected a folder for each patient in the study's folder, got none")
    return study


def _of_folders(folder: Path, models: Sequence[str]) -> Study:
    patients = [Patient(p.name) for p in _inside(folder) if p.is_dir()]
    there = [p for patient in patients for p in _inside(folder / patient.folder)]
    names = sorted({p.name for p in there if p.is_dir() or p.name.endswith(ENDINGS)})
    if unknown := set(models) - set(names):
        raise ValueError(f"expected models among the observers {', '.join(names)}, got {min(unknown)}")
    observers = tuple(Observer(name, name in models, "", name) for name in names)
    return Study(folder, "Observer study", observers, tuple(patients))


def _inside(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _of_toml(told: Mapping[str, Any], folder: Path) -> Study:
    _expect_keys(told, _KEYS, "a study")
    observers = tuple(_observer(name, t) for name, t in _table(told, "observers").items())
    listed = _table(told, "patients")
    if listed:
        patients = tuple(
            Patient(_name(n), _text(_sub(t, {"site"}, "each patient"), "site")) for n, t in listed.items()
        )
    else:
        patients = tuple(Patient(p.name) for p in _inside(folder) if p.is_dir())
    structures = tuple(_wanted(name, t) for name, t in _table(told, "structures").items())
    rows = told.get("times", [])
    if not isinstance(rows, list):
        raise ValueError("expected times as [[times]] tables, got something else")  # noqa: TRY004
    return Study(
        folder,
        _text(told, "title") or "Observer study",
        observers,
        patients,
        structures,
        _labels(_table(told, "labels")),
        tuple(_timing(row, patients, {o.name for o in observers}) for row in rows),
        _analysis(_table(told, "analysis")),
    )


def _observer(name: str, told: Any) -> Observer:
    table = _sub(told, {"kind", "site", "folder"}, name)
    kind = table.get("kind")
    if kind not in ("person", "model"):
        raise ValueError(f'expected kind = "person" or "model" of observer {_name(name)}, got {kind!r}')
    return Observer(
        _plain(name), kind == "model", _text(table, "site"), _name(_text(table, "folder") or name)
    )


def _wanted(name: str, told: Any) -> Wanted:
    table = _sub(told, {"synonyms", "tolerances_mm"}, name)
    synonyms = table.get("synonyms", [])
    if not isinstance(synonyms, list) or not all(isinstance(s, str) for s in synonyms):
        raise ValueError(f"expected synonyms of {name} as a list of names, got {synonyms!r}")
    tolerances = _numbers(table, "tolerances_mm", ())
    if not all(0 < t <= 50 for t in tolerances):
        raise ValueError(f"expected tolerances of 0-50 mm of {name}, got {list(tolerances)}")
    return Wanted(_plain(name), tuple(synonyms), tolerances)


def _labels(told: Mapping[str, Any]) -> dict[int, str]:
    if not all(n.isdecimal() and isinstance(name, str) for n, name in told.items()):
        raise ValueError('expected labels as numbers with names, such as 1 = "Brain", got something else')
    return {int(n): name for n, name in told.items()}


def _timing(row: Any, patients: Sequence[Patient], observers: set[str]) -> Timing:
    table = _sub(row, {"patient", "observer", "manual", "corrected"}, "[[times]]")
    folders = [p.folder for p in patients]
    if table.get("patient") not in folders or table.get("observer") not in observers:
        raise ValueError("expected the patient and the observer of each of the [[times]] to be of the study")
    minutes = [_number(table, key, math.nan) for key in ("manual", "corrected")]
    if not all(0 < m < 10_000 for m in minutes):
        raise ValueError("expected manual and corrected minutes above 0 in each of the [[times]], got others")
    return Timing(folders.index(table["patient"]), table["observer"], *minutes)


def _analysis(told: Mapping[str, Any]) -> Analysis:
    keys = {"tolerances_mm", "region_mm", "margin", "resample", "scan", "seed", "resamples"}
    _expect_keys(told, keys, "[analysis]")
    resample, seed, resamples = told.get("resample", False), told.get("seed", 0), told.get("resamples", 2000)
    if not isinstance(resample, bool) or type(seed) is not int or type(resamples) is not int:
        raise ValueError("expected resample as true or false, seed and resamples as whole numbers")
    return Analysis(
        _numbers(told, "tolerances_mm", (1.0, 2.0)),
        _number(told, "region_mm", 10.0),
        _number(told, "margin", 0.05),
        resample,
        _name(_text(told, "scan")) if told.get("scan") else "",
        seed,
        resamples,
    )


def _expect_keys(table: Mapping[str, Any], keys: set[str], where: str) -> None:
    if unknown := set(table) - keys:
        raise ValueError(f"expected {', '.join(sorted(keys))} in {where}, got {min(unknown)!r}")


def _table(told: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return _sub(told.get(key, {}), None, key)


def _sub(told: Any, keys: set[str] | None, where: str) -> Mapping[str, Any]:
    if not isinstance(told, dict):
        raise ValueError(f"expected {where} as a table, got {told!r}")  # noqa: TRY004
    if keys is not None:
        _expect_keys(told, keys, where)
    return told


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or len(value) > _LONGEST or (value and not value.isprintable()):
        raise ValueError(f"expected {key} as words of at most {_LONGEST} characters, got something else")
    return value


def _plain(name: str) -> str:
    if not 0 < len(name.strip()) <= _LONGEST or not name.isprintable():
        raise ValueError(f"expected names of 1 to {_LONGEST} printable characters, got {name[:_LONGEST]!r}")
    return name


def _name(name: str) -> str:
    """A name that is a folder beside others; anything that leads elsewhere is refused."""
    if Path(name).name != _plain(name) or name in (".", "..") or "\\" in name:
        raise ValueError("expected the name of a folder inside the study's, got a path that leads elsewhere")
    return name


def _number(table: Mapping[str, Any], key: str, default: float) -> float:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected {key} as a number, got {value!r}")  # noqa: TRY004
    return float(value)


def _numbers(table: Mapping[str, Any], key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    values = table.get(key, list(default))
    if not isinstance(values, list):
        raise ValueError(f"expected {key} as a list of numbers, got {values!r}")  # noqa: TRY004
    return tuple(_number({key: v}, key, 0.0) for v in values)
