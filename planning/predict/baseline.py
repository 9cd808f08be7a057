"""What a dose predictor has to beat: the mean dose at so many millimetres from a target.

The oldest knowledge of planning (Wu et al., "Patient geometry-driven information retrieval for IMRT treatment
plan quality control", Med. Phys. 36, 5497 (2009), ask for the same distances), with nothing of organs, beams
or the patient's outline.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .channels import Sees, names_of
from .site import Site

_BINS = 49  # of signed distances of 60 mm inside a target to 60 mm from it: 2.5 mm each


@dataclass(frozen=True, eq=False)
class ByDistance:
    """Mean dose by distance from the nearest target.

    Parameters
    ----------
    share
        Dose as a share of the nearest target's prescription, by target of the site and bin of distance,
        shape ``(targets, bins)``; 0 where no patient had such a voxel.
    """

    share: Float[Tensor, "targets bins"]


def by_distance(patients: Iterable[Mapping[str, Tensor]], site: Site) -> ByDistance:
    """The mean over voxels of patients, of whom one is looked at at a time.

    Parameters
    ----------
    patients
        ``image`` ``(1, c, i, j, k)`` with all planes of the site (:func:`.channels.names_of`),
        ``dose`` (Gy) and ``known`` ``(1, 1, i, j, k)``.
    site
        Whose targets.
    """
    n = len(site.targets) * _BINS
    total, count = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for patient in patients:
        where, level = _where(patient["image"][0], site)
        known = patient["known"][0, 0].cpu()
        share = (patient["dose"][0, 0].cpu() / level)[known].double()
        total.index_add_(0, where[known], share)
        count.index_add_(0, where[known], torch.ones_like(share))
    return ByDistance((total / count.clamp(min=1)).float().view(len(site.targets), _BINS))


def foretold(baseline: ByDistance, patient: Mapping[str, Tensor], site: Site) -> Float[Tensor, "1 1 i j k"]:
    """The dose (Gy) that distances alone foretell of a patient, as :func:`by_distance` takes it."""
    where, level = _where(patient["image"][0], site)
    dose = baseline.share.flatten()[where] * level
    return dose[None, None].to(patient["image"].device) * patient["known"]


def _where(
    planes: Float[Tensor, "c i j k"], site: Site
) -> tuple[Int64[Tensor, "i j k"], Float[Tensor, "i j k"]]:
    """Number of the nearest target and bin of each voxel, and that target's prescription (Gy)."""
    names = names_of(site, Sees())
    targets = [drawn.name for drawn in site.targets]
    away = planes[[names.index(f"distance {name}") for name in targets]].float().cpu()
    levels = planes[[names.index(name) for name in targets]].float().amax(dim=(1, 2, 3)).cpu()
    # A target that was not drawn is far from everything and prescribed nothing.
    away = torch.where((levels > 0).view(-1, 1, 1, 1), away, torch.inf)
    # Inside several the highest counts, as if all of its inside were nearer than what lies around it.
    inside = torch.where(away < 0, away - 2 * levels.view(-1, 1, 1, 1), away)
    nearest = inside.argmin(dim=0)
    distance = away.gather(0, nearest[None])[0].clamp(-1, 1)
    bins = ((distance + 1) / 2 * (_BINS - 1)).round().long()
    return nearest * _BINS + bins, (levels * site.prescription)[nearest]
