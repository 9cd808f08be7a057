"""Our dose beside the reference's, on TG119 and in water; the last line is JSON.

What is left between the two on TG119 is how depth is found. The reference gives a voxel the depth of
whichever traced ray passed within half a ray spacing of its centre (1.06 mm on the far side of the
phantom), at the middle of that ray's path through the voxel; ours is the depth of the voxel's own
centre. Theirs scatters around ours without bias, most in the skin where rays come in at a slant. With
``--depths`` the reference's depths, written by ``benchmarks/peer/depths.py``, go through our engine:
what then remains is the difference of the bixels' dose.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from imaging.grid import Grid, indices
from imaging.shapes import Point, Points
from imaging.volume import Quantity, Volume
from planning.beams import Beam, source_position
from planning.check.gamma import gamma_pass
from planning.dose.bixel_dose import FULL_CUTOFF, blocks
from planning.dose.bixels import Bixels
from planning.machine import Machine, load_machine

from .tg119 import REFERENCE_SHIFT, dose, phantom, reference_beams, scan, stored

Figures = dict[str, float | int | None]
Profile = Float64[np.ndarray, " n"]

# Depths of the stored profiles (mm).
_PROFILES = (15, 50, 100, 200)
# How far away a dose may be found (mm).
_DISTANCE = 0.5


def main() -> None:
    """The same fluence in the same phantom, and open fields in water."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of tg119.npz and reference/")
    parser.add_argument("--depths", type=Path, help="the reference's depths")
    asked = parser.parse_args()
    machine = load_machine("generic-6mv")
    figures = {**_tg119(asked.data, machine), **_water(asked.data, machine)}
    if asked.depths is not None:
        cubes = torch.from_numpy(stored(asked.depths)["depths"].transpose(0, 3, 2, 1).copy())
        with patch("planning.dose.bixel_dose.fan_depth", partial(_theirs, asked.data, cubes)):
            same = _tg119(asked.data, machine)
        figures |= {f"{name}_with_reference_depths": value for name, value in same.items()}
    print(json.dumps(figures))


def _theirs(
    folder: Path, cubes: Float[Tensor, "b i j k"], density: Volume, source: Point, points: Points
) -> Float[Tensor, " n"]:
    """The reference's depths in the place of :func:`planning.dose.fan.fan_depth`."""
    beams = reference_beams(stored(folder / "reference/tg119_5_beams.npz"))[0]
    apart = [float(np.linalg.norm(source_position(beam, 1000.0) - source)) for beam in beams]
    if min(apart) > 1e-6:
        raise ValueError("expected a beam of the reference, got another source; its depths are not known")
    voxel = torch.from_numpy(np.rint(indices(density.grid, points)).astype(np.int64))
    # No ray was taken for voxels that no bixel reaches.
    return torch.nan_to_num(cubes[int(np.argmin(apart))][tuple(voxel.T)], nan=0.0)


def _tg119(folder: Path, machine: Machine) -> Figures:
    """Root mean square over the whole grid, over the body, and gamma."""
    body, reference = phantom(scan(folder)), stored(folder / "reference/tg119_5_beams.npz")
    beams, bixels = reference_beams(reference, REFERENCE_SHIFT)
    weights = torch.from_numpy(reference["fluence"]).float()
    ours = torch.zeros(body.inside.shape)
    ours[body.inside] = dose(body, beams, bixels, weights, machine)
    unit = np.float32(reference["dose_opt_gy_per_unit"])
    theirs = torch.from_numpy(reference["dose_opt"].transpose(2, 1, 0).astype(np.float32) * unit)
    percent = 100 * (ours - theirs) / theirs.max()
    judged = gamma_pass(_volume(theirs, body.density.grid), _volume(ours, body.density.grid), 1.0, 1.0, 10.0)
    skin = torch.nn.functional.avg_pool3d(body.inside[None].float(), 3, 1, 1)[0] < 1
    deep = body.inside & ~skin
    return {
        "dose_rms_percent": float(percent.square().mean().sqrt()),
        "dose_rms_body_percent": float(percent[body.inside].square().mean().sqrt()),
        "dose_rms_under_the_skin_percent": float(percent[deep].square().mean().sqrt()),
        "dose_worst_percent": float(percent.abs().max()),
        "gamma_1_1_percent": judged.pass_percent,
        "gamma_points": judged.n_points,
        "gamma_failed": int(judged.failed.data.sum()),
        "gamma_failed_in_outermost_layer": int(judged.failed.data[0][skin].sum()),
    }


def _volume(values: Tensor, grid: Grid) -> Volume:
    return Volume(values[None], grid, Quantity.DOSE)


def _water(folder: Path, machine: Machine) -> Figures:
    """The worst point of the axis and the profiles of two open fields, in % of each field's maximum.

    Once with the whole of the kernels, once with the reach that dose is reported with by default.
    """
    reference = stored(folder / "reference/water_box.npz")
    whole = _compared(reference, machine, float(machine.beam.radius[-1]))
    default = _compared(reference, machine, FULL_CUTOFF)
    return {
        "water_worst_percent": whole[0],
        "water_worst_beyond_half_mm_percent": whole[1],
        "water_points": whole[2],
        "water_worst_default_reach_percent": default[0],
    }


def _compared(
    reference: Mapping[str, np.ndarray], machine: Machine, cutoff: float
) -> tuple[float, float, int]:
    """Worst difference, worst of those whose dose is not found nearby (both %), and points compared."""
    worst, beyond, n_points = 0.0, 0.0, 0
    for field, half in (("f100", 50.0), ("f30", 15.0)):
        maximum = float(reference[f"{field}_cax"].max())
        for points, along, theirs in _curves(reference, field):
            # Ours around each point, so that a dose can be looked for nearby.
            steps = np.linspace(-_DISTANCE, _DISTANCE, 11)
            around = (points[:, None] + steps[:, None] * along).reshape(-1, 3)
            near = (
                100 * _open_field(reference, half, around, machine, cutoff).reshape(len(points), -1) / maximum
            )
            wanted = 100 * theirs / maximum
            apart = np.abs(near[:, 5] - wanted)
            found = (near.min(axis=1) <= wanted) & (wanted <= near.max(axis=1))
            worst = max(worst, float(apart.max()))
            beyond = max(beyond, float(apart[~found].max(initial=0.0)))
            n_points += len(points)
    return worst, beyond, n_points


def _curves(reference: Mapping[str, np.ndarray], field: str) -> Iterator[tuple[Points, np.ndarray, Profile]]:
    """Points of the central axis and of each profile, the way along it, and the reference's dose there.

    Only where the reference has dose: it has none behind its water, nor further than 121 mm from the
    axis on the isocentre plane, where its field of 100 mm and 50 mm of reach end.
    """
    steps = float(reference["origin"]) + float(reference["spacing"]) * np.arange(int(reference["n"]))
    x, y, z = np.eye(3)
    surface = float(reference["surface_y"])
    axis = (surface + reference[f"{field}_depth_mm"])[:, None] * y
    curves = [(axis, y, reference[f"{field}_cax"])]
    for depth in _PROFILES:
        plane = steps[np.abs(steps - surface - depth).argmin()]
        for name, along in (("x", x), ("z", z)):
            curves.append(
                (plane * y + steps[:, None] * along, along, reference[f"{field}_prof{name}_d{depth}"])
            )
    for points, along, theirs in curves:
        lit = theirs > 1e-6 * theirs.max()
        yield points[lit], along, theirs[lit].astype(np.float64)


def _open_field(
    reference: Mapping[str, np.ndarray], half: float, points: Points, machine: Machine, cutoff: float
) -> Profile:
    """Our dose of a square field of weight 1 in the reference's water."""
    n, spacing = int(reference["n"]), float(reference["spacing"])
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = reference["origin"]
    water = torch.ones((1, n, n, n))
    water[:, :, affine[1, 3] + spacing * torch.arange(n) < float(reference["surface_y"])] = 0
    density = Volume(water, Grid((n, n, n), affine), Quantity.DENSITY)
    beam = Beam(0.0, 0.0, 0.0, reference["iso"].astype(np.float64))
    edge = np.arange(-half + 2.5, half, 5.0)
    bixels = Bixels(np.stack([a.ravel() for a in np.meshgrid(edge, edge)], axis=1) + REFERENCE_SHIFT)
    dose = torch.zeros(len(points))
    for block in blocks(beam, bixels, density, points, machine, cutoff=cutoff):
        dose[block.voxels] += block.dose.sum(dim=1)
    return dose.double().numpy()


if __name__ == "__main__":
    main()
