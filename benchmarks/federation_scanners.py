"""Three synthetic hospitals, each with a scanner of its own, that learn synthetic CT together.

Spin echoes of 1.5 T in thick slices, magnetisation-prepared gradient echoes of 3 T, and gradient echoes of
3 T, noisy and strongly shaded: unequal cohorts of :mod:`synth`, and eight validation patients of each
scanner, in one place, whom no arm sees.
"""

from functools import partial
from pathlib import Path

from app.cohort import Asked, read_recipe, walk_cohort
from app.cohort_job import Job
from app.federation.learning import Weights, score
from app.federation.mr2ct_task import Mr2ctTask, config_of
from app.federation.study import Study
from app.paired_cases import paired_cases
from app.paired_material import prepare_pairs

from .federation_arms import Experiment
from .record import say

_NET = {"features": [12, 16, 24, 36, 48, 48]}
_MODEL = {"net": _NET, "shape": [64, 64, 64], "window": [64, 64, 64], "spacing": 2.5}
_PLAIN = Study("scanners", "mr2ct", _MODEL, rounds=8, steps=50, least_sites=3)
_RECIPE = """[grid]
shape = [96, 112, 96]
spacing = [2.0, 2.0, 2.0]
fine = 1.6

[tumour]
post_operative = 0.1

[mri]
contrasts = ["t1"]
deface = 0.0
wrap = {{ probability = 0.0 }}
bottom = {{ probability = 0.0 }}
crop = {{ probability = 0.0 }}
{scanner}

[about]
name = "Synthetic heads of one hospital's scanner"
"""
_SCANNERS = {
    "spin echo": """fields = [1.5]
t1_sequences = ["spin_echo"]
thick = { probability = 1.0, low = 4.0, high = 6.0 }
orientations = ["axial"]
snr = [15.0, 30.0]""",
    "mprage": """fields = [3.0]
t1_sequences = ["mprage"]
thick = { probability = 0.0 }
snr = [30.0, 70.0]""",
    "gradient echo": """fields = [3.0]
t1_sequences = ["gradient_echo"]
thick = { probability = 0.0 }
snr = [12.0, 25.0]
bias = { probability = 1.0, low = 0.25, high = 0.4 }""",
}
_PATIENTS = {"spin echo": 24, "mprage": 16, "gradient echo": 10}
_VALIDATION = 8  # of each scanner
_SEED = 100


def scanners(keep: Path) -> Experiment:
    """Three hospitals, whose cohorts are made where they are not kept."""
    home = keep / "scanners"
    sites: dict[str, Path] = {}
    apart: list[Path] = []
    for n, (name, scanner) in enumerate(_SCANNERS.items()):
        recipe = home / f"{name.replace(' ', '-')}.toml"
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(_RECIPE.format(scanner=scanner), encoding="utf-8")
        sites[name] = home / "sites" / name
        apart.append(home / "validation" / name)
        for k, (out, size) in enumerate(((sites[name], _PATIENTS[name]), (apart[-1], _VALIDATION))):
            job = Job(read_recipe(str(recipe)), _SEED + 10 * n + k, "brats")
            walk_cohort(Asked(job, size, out, 1), say)
    ready = home / "ready"
    return Experiment(_PLAIN, sites, ready, home, partial(_validated, apart, ready), "mae_hu")


def _validated(patients: list[Path], ready: Path, study: Study, weights: Weights) -> dict[str, float]:
    """Errors (HU) on validation patients: of all scanners, and of each."""
    config, samples = config_of(study)
    each = {}
    for folder in patients:
        pairs, _ = prepare_pairs(paired_cases([folder]).pairs, config.spacing, ready, say)
        found = score(weights, Mr2ctTask(config, samples, (), pairs)).errors["mae_hu"]
        each[f"mae_hu, {folder.name}"] = found
    return {"mae_hu": sum(each.values()) / len(each), **each}
