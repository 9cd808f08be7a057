"""What a site tells of planned patients: volumes of targets, levels of prescription, mean doses of organs."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from safetensors import safe_open

from app.dose_material import ReadyDose
from planning.predict.site import Site

_CC = (25, 50, 100, 200, 400)
_GY = (5, 10, 20, 30, 40, 50, 60)
_MM3 = (20, 30, 40, 50, 60)
_NONE = "none"


def cells_of(site: Site) -> dict[str, tuple[str, ...]]:
    """Names of cells by histogram."""
    levels = tuple(str(n) for n in range(len(site.targets) + 1))
    return {
        "patients": ("all",),
        "levels of prescription": levels,
        "voxel of a network (mm3)": _labels(_MM3),
        **{f"volume of {t.name} (cm3)": (_NONE, *_labels(_CC)) for t in site.targets},
        **{f"mean dose of {o.name} (Gy)": (_NONE, *_labels(_GY)) for o in site.organs},
    }


def counts_of(cases: Sequence[ReadyDose], site: Site) -> dict[str, dict[str, int]]:
    """Patients by cell; of several plans of a patient the first counts."""
    out = {name: dict.fromkeys(cells, 0) for name, cells in cells_of(site).items()}
    first = {case.patient: case for case in reversed(cases)}
    for case in first.values():
        for name, cell in _cells(case, site).items():
            out[name][cell] += 1
    return out


def _cells(case: ReadyDose, site: Site) -> Mapping[str, str]:
    with safe_open(case.path, framework="pt") as file:
        bits, dose = file.get_tensor("bits"), file.get_tensor("dose")[0]
    inside = {drawn.name: (bits >> n) & 1 > 0 for n, drawn in enumerate(site.structures)}
    found = {name: mask for name, mask in inside.items() if bool(mask.any())}
    cc = {name: float(mask.sum()) * case.voxel_mm3 / 1000 for name, mask in found.items()}
    return {
        "patients": "all",
        "levels of prescription": str(sum(t.name in found for t in site.targets)),
        "voxel of a network (mm3)": _label(case.voxel_mm3, _MM3),
        **{
            f"volume of {t.name} (cm3)": _label(cc[t.name], _CC) if t.name in found else _NONE
            for t in site.targets
        },
        **{
            f"mean dose of {o.name} (Gy)": _label(float(dose[found[o.name]].mean()), _GY)
            if o.name in found
            else _NONE
            for o in site.organs
        },
    }


def _labels(edges: Sequence[int]) -> tuple[str, ...]:
    between = (f"{a} to {b}" for a, b in pairwise(edges))
    return (f"below {edges[0]}", *between, f"{edges[-1]} and above")


def _label(value: float, edges: Sequence[int]) -> str:
    return _labels(edges)[int(torch.bucketize(torch.tensor(value), torch.tensor(edges), right=True))]
