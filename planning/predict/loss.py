"""What a dose predictor learns from: the dose of voxels, and the histograms of structures.

Histograms after Nguyen et al., "Incorporating human and learned domain knowledge into training deep neural
networks: a differentiable dose-volume histogram and adversarial inspired framework for generating Pareto
optimal dose distributions in radiation therapy", Med. Phys. 47, 837 (2020). They smooth the steps of a
histogram by sigmoids; here sorted doses are compared instead, which is exact: the mean difference of sorted
doses is the area between two cumulative histograms.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from planning.goals import parts

from .site import Site

Dose = Float[Tensor, "b 1 i j k"]
Values = Float[Tensor, " n"]
Loss = Float[Tensor, ""]

_MOST = 16_384  # voxels of a structure that are sorted: more tell the same
_TENTH_CC = 100.0  # mm³


def dose_error(dose: Dose, truth: Dose, known: Bool[Tensor, "b 1 i j k"]) -> Loss:
    """Mean absolute difference (Gy) over voxels where dose may be, each patient alike."""
    axes = (1, 2, 3, 4)
    off = ((dose - truth).abs() * known).sum(dim=axes)
    return (off / known.sum(dim=axes).clamp(min=1)).mean()


def histogram_error(
    dose: Dose,
    truth: Dose,
    bits: Int64[Tensor, "b i j k"],
    site: Site,
    voxel_mm3: Float[Tensor, " b"],
) -> Loss:
    """Mean difference (Gy) of histograms and of what counts of them, each structure of a patient alike.

    Parameters
    ----------
    dose, truth
        Gy, shape ``(b, 1, i, j, k)``.
    bits
        Structures of the site that a voxel is of.
    site
        Which metrics count.
    voxel_mm3
        Volume of a voxel of each patient.
    """
    found = [
        structure_error(dose[n, 0][inside], truth[n, 0][inside], counts, float(voxel_mm3[n]))
        for n, counts, inside in _drawn(bits, site)
    ]
    return torch.stack(found).mean() if found else dose.sum() * 0


def counted_error(
    dose: Dose,
    truth: Dose,
    bits: Int64[Tensor, "b i j k"],
    site: Site,
    voxel_mm3: Float[Tensor, " b"],
) -> Loss:
    """Mean difference (Gy) of the metrics that count, of every voxel of all structures.

    As :func:`histogram_error`; of OpenKBP's metrics this is about its score of histograms.
    """
    found = []
    for n, counts, inside in _drawn(bits, site):
        rising, wanted = (values[n, 0][inside].sort().values for values in (dose, truth))
        volume = float(voxel_mm3[n])
        found += [(metric_of(rising, m, volume) - metric_of(wanted, m, volume)).abs() for m in counts]
    return torch.stack(found).mean() if found else dose.sum() * 0


def _drawn(
    bits: Int64[Tensor, "b i j k"], site: Site
) -> Iterator[tuple[int, tuple[str, ...], Bool[Tensor, "i j k"]]]:
    """Structures of each patient that are there, with what counts of them."""
    for n in range(len(bits)):
        for bit, drawn in enumerate(site.structures):
            inside = (bits[n] >> bit) & 1 > 0
            if (counts := site.counts_of(drawn)) and bool(inside.any()):
                yield n, counts, inside


def structure_error(dose: Values, truth: Values, counts: Sequence[str], voxel_mm3: float) -> Loss:
    """Half the area (Gy) between two histograms, and half the mean difference of what counts.

    Parameters
    ----------
    dose, truth
        Gy, of a structure's voxels.
    counts
        Metrics such as ``D95%``, ``D0.1cc`` and ``Dmean``.
    voxel_mm3
        Volume of a voxel.
    """
    every = -(-len(dose) // _MOST)
    rising, wanted = dose[::every].sort().values, truth[::every].sort().values
    area = (rising - wanted).abs().mean()
    volume = voxel_mm3 * every
    off = [(metric_of(rising, m, volume) - metric_of(wanted, m, volume)).abs() for m in counts]
    return (area + torch.stack(off).mean()) / 2


def metric_of(rising: Values, metric: str, voxel_mm3: float) -> Loss:
    """A metric of sorted doses, by percentiles between which lines are drawn, as NumPy's are.

    ``D0.1cc`` is the dose that the hottest voxels of that volume, one at least, all have, as OpenKBP has it.

    Parameters
    ----------
    rising
        Doses of a structure's voxels, ascending.
    metric
        ``D95%``, ``D0.1cc`` or ``Dmean``.
    voxel_mm3
        Volume of a voxel.
    """
    kind, number = parts(metric)
    if kind == "Dmean":
        return rising.mean()
    n = len(rising)
    if kind == "D%":
        share = 1 - number / 100
    else:
        share = max(1 - max(1, round(number * 10 * _TENTH_CC / voxel_mm3)) / n, 0.0)
    at = share * (n - 1)
    low = min(int(at), n - 1)
    return torch.lerp(rising[low], rising[min(low + 1, n - 1)], at - low)
