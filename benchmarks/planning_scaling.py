"""How the dose kernels grow, and how far from this machine's limits they are.

``python -m benchmarks.planning_scaling``. A cube of water, square fields; bixels, voxels and beams
grow one at a time. A kernel cannot be faster than what it must move over the measured bandwidth, nor
than its matrix products over their measured rate; the share of that limit which each kernel reaches,
and what its time goes to, are reported. Look-ups, exponentials and Fourier transforms are in no limit:
a kernel of those reaches a small share of its own.
"""

import cProfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch.utils.flop_counter import FlopCounterMode

from imaging.grid import Grid, axial, positions
from imaging.shapes import Points
from imaging.volume import Quantity, Volume
from planning.beams import Beam, source_position
from planning.dose import field
from planning.dose.aperture import lattice_over
from planning.dose.bixel_dose import blocks
from planning.dose.bixels import Bixels
from planning.dose.fan import fan_depth
from planning.dose.influence import Influence, adjoint, apply, influence
from planning.machine import Machine, load_machine

from .record import report
from .roofline import Roof, best, better, measured, peak_growth

_PICTURE = Path(__file__).parent / "results" / "planning_scaling.png"
# Making the matrix, its product, its transpose; tracing rays, and dose and its transpose without a matrix.
KERNELS = ("influence", "apply", "adjoint", "views", "forward", "backward")
_SIDE = 200.0
# What stays while another number grows: beams, side of the field (mm), voxel (mm).
_BEAMS, _FIELD, _VOXEL = 3, 70.0, 4.0


@dataclass(frozen=True, eq=False)
class Setup:
    """A cube of water, beams around it and a square field of bixels for each, ``field`` mm wide."""

    density: Volume
    points: Points
    beams: Sequence[Beam]
    bixels: Sequence[Bixels]
    field: float


def main() -> None:
    """Grows each number in turn, and reports."""
    machine = load_machine("generic-6mv")
    counts = sorted({1, torch.get_num_threads()})
    before = [measured(n) for n in counts]
    _measure(setup(2, 30.0, 8.0), machine)
    grown = {
        "bixels": [_measure(setup(_BEAMS, f, _VOXEL), machine) for f in (30.0, 50.0, 80.0, 120.0)],
        "voxels": [_measure(setup(_BEAMS, _FIELD, v), machine) for v in (8.0, 6.0, 4.0, 3.0)],
        "beams": [_measure(setup(n, _FIELD, _VOXEL), machine) for n in (1, 2, 4, 8)],
    }
    # Other processes only take away: the better of two times is nearer to the machine.
    roofs = [better(first, measured(n)) for n, first in zip(counts, before, strict=True)]
    roof = roofs[-1]
    grown = {axis: [_beside_limits(run, roof) for run in runs] for axis, runs in grown.items()}
    _draw(grown, roof)
    largest = grown["voxels"][-1]
    figures: dict[str, object] = {
        f"{kernel}_share_of_limit": largest[f"{kernel}_share"] for kernel in KERNELS
    }
    figures |= {
        f"{kernel}_s_by_{axis}": exponent(runs, f"n_{axis}", f"{kernel}_s")
        for axis, runs in grown.items()
        for kernel in KERNELS
    }
    figures |= {f"roof_{r.n_threads}_threads": vars(r) | {"bandwidth": r.bandwidth} for r in roofs}
    figures |= {**_held(setup(1, _FIELD, 3.0), machine), "largest": largest}
    for kernel in KERNELS:
        limit = (
            "memory" if largest[f"{kernel}_memory_limit_s"] == largest[f"{kernel}_limit_s"] else "arithmetic"
        )
        print(f"{kernel} reaches {largest[f'{kernel}_share']:.0%} of its limit, which is {limit}")
    print(f"picture: {_PICTURE}")
    report("planning_scaling", figures)  # type: ignore[arg-type] # a mapping of mappings


def setup(n_beams: int, side: float, voxel: float) -> Setup:
    """Beams evenly around a cube of water, with a square field of 5 mm bixels each."""
    grid = axial(np.full(3, -_SIDE / 2), np.full(3, _SIDE / 2), (voxel, voxel, voxel))
    edge = np.arange(-side / 2 + 2.5, side / 2, 5.0)
    bixels = Bixels(np.stack([a.ravel() for a in np.meshgrid(edge, edge, indexing="ij")], axis=1))
    return Setup(
        Volume(torch.ones((1, *grid.shape)), grid, Quantity.DENSITY),
        _centers(grid),
        [Beam(360.0 * n / n_beams, 0.0, 0.0, np.zeros(3)) for n in range(n_beams)],
        [bixels] * n_beams,
        side,
    )


def _centers(grid: Grid) -> Points:
    return positions(grid, np.argwhere(np.ones(grid.shape)).astype(np.float64))


def _measure(case: Setup, machine: Machine) -> dict[str, float]:
    """Seconds of every kernel, what it must move and multiply, and memory."""
    arguments = (case.beams, case.bixels, case.density, case.points, machine)
    held = []
    growth = peak_growth(lambda: held.append(influence(*arguments)))
    matrix = held.pop()
    weights, slope = torch.ones(matrix.n_bixels), torch.ones(matrix.n_voxels)
    lattice = lattice_over((-case.field / 2, case.field / 2), (-case.field / 2, case.field / 2), 5.0)
    maps = torch.ones(len(case.beams), *lattice.shape)
    seen = field.views(case.beams, case.density, case.points, machine)
    seconds = {
        "influence": best(lambda: influence(*arguments), 2),
        "apply": best(lambda: apply(matrix, weights)),
        "adjoint": best(lambda: adjoint(matrix, slope)),
        "views": best(lambda: field.views(case.beams, case.density, case.points, machine), 2),
        "forward": best(lambda: field.dose(seen, maps, lattice), 3),
        "backward": best(lambda: field.adjoint(seen, slope, lattice), 3),
    }
    found: dict[str, float] = {
        "n_bixels": matrix.n_bixels,
        "n_voxels": matrix.n_voxels,
        "n_beams": len(case.beams),
        "n_entries": matrix.n_entries,
        "matrix_bytes": matrix.n_bytes,
        "peak_bytes": growth,
    }
    least_flops = {"apply": 2.0 * len(matrix.values), "adjoint": 2.0 * len(matrix.values)}
    least_flops["influence"] = flops(case, machine)
    for kernel, n_bytes in _least_bytes(matrix, len(case.beams)).items():
        found |= {
            f"{kernel}_s": seconds[kernel],
            f"{kernel}_least_bytes": n_bytes,
            f"{kernel}_flops": least_flops.get(kernel, 0.0),
        }
    return found


def _beside_limits(run: dict[str, float], roof: Roof) -> dict[str, float]:
    """A run with the least time that the machine allows each kernel, and the share of it reached."""
    limits: dict[str, float] = {}
    for kernel in KERNELS:
        moved = run[f"{kernel}_least_bytes"] / roof.bandwidth
        limit = max(moved, run[f"{kernel}_flops"] / roof.flops)
        limits |= {
            f"{kernel}_limit_s": limit,
            f"{kernel}_memory_limit_s": moved,
            f"{kernel}_share": limit / run[f"{kernel}_s"],
        }
    return run | limits


def _least_bytes(matrix: Influence, n_beams: int) -> dict[str, int]:
    """What each kernel cannot do without moving: its inputs once and its outputs once."""
    vectors = 4 * (matrix.n_bixels + matrix.n_voxels)
    # Of each voxel and beam: density and depth to trace it; depth, place and dose to compute dose.
    traced, seen = 8 * n_beams * matrix.n_voxels, 20 * n_beams * matrix.n_voxels
    return {
        "influence": matrix.n_bytes + traced,
        "apply": matrix.n_bytes + vectors,
        "adjoint": matrix.n_bytes + vectors,
        "views": traced,
        "forward": seen,
        "backward": seen,
    }


def flops(case: Setup, machine: Machine) -> float:
    """Multiplications and additions in the matrix products of all beams' blocks."""
    with FlopCounterMode(display=False) as counter:
        for _ in blocks(case.beams[0], case.bixels[0], case.density, case.points, machine):
            pass
    return float(counter.get_total_flops() * len(case.beams))


def _held(case: Setup, machine: Machine) -> dict[str, dict[str, float]]:
    """Where the time of each kernel goes, on one beam."""
    matrix = influence(case.beams, case.bixels, case.density, case.points, machine)
    weights, slope = torch.ones(matrix.n_bixels), torch.ones(matrix.n_voxels)

    # The first product also cuts the matrix into its blocks.
    apply(matrix, weights)

    def fill() -> None:
        for _ in blocks(case.beams[0], case.bixels[0], case.density, case.points, machine):
            pass

    beam = case.beams[0]
    view = field.views([beam], case.density, case.points, machine)[0]
    lattice = lattice_over((-case.field / 2, case.field / 2), (-case.field / 2, case.field / 2), 5.0)
    # The first dose also makes the spectra of the kernels.
    field.dose([view], torch.ones(1, *lattice.shape), lattice)
    # One view's part, as views are worked on by other threads, which are not seen.
    there, back = field._from_fluence, field._to_fluence  # noqa: SLF001
    source = source_position(beam, machine.sad)
    return {
        "views_goes_to": goes_to(fan_depth, lambda: fan_depth(case.density, source, case.points)),
        "forward_goes_to": goes_to(there, lambda: there(view, torch.ones(lattice.shape), lattice)),
        "backward_goes_to": goes_to(back, lambda: back(view, slope, lattice)),
        "influence_goes_to": goes_to(blocks, fill),
        "apply_goes_to": goes_to(apply, lambda: apply(matrix, weights)),
        "adjoint_goes_to": goes_to(adjoint, lambda: adjoint(matrix, slope)),
    }


def goes_to(function: Callable[..., object], work: Callable[[], object]) -> dict[str, float]:
    """Shares of a function's time by what it calls, on one core: what holds it."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    seen = cProfile.Profile()
    try:
        seen.runcall(work)
    finally:
        torch.set_num_threads(cores)
    whole = next(entry for entry in seen.getstats() if entry.code is function.__code__)
    shares = {"itself": whole.inlinetime / whole.totaltime}
    for entry in whole.calls or ():
        shares[_called(entry.code)] = entry.totaltime / whole.totaltime
    return {name: share for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share >= 0.02}


def _called(code: CodeType | str) -> str:
    """A name such as ``torch.mm`` of ``<built-in method torch.mm>``."""
    if not isinstance(code, str):
        return code.co_name
    bare = code.strip("<>").removeprefix("built-in method ").removeprefix("method ")
    return bare.split(" of ")[0].strip("'")


def exponent(runs: Sequence[dict[str, float]], by: str, what: str) -> float:
    """Power with which one number grows with another: the slope of the logarithms."""
    x, y = (np.log([run[name] for run in runs]) for name in (by, what))
    return float(np.polyfit(x, y, 1)[0])


def _draw(grown: dict[str, list[dict[str, float]]], roof: Roof) -> None:
    """Time above, memory below; dashed: the least that the machine allows."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3, sharey="row")
    for column, (axis, runs) in enumerate(grown.items()):
        x = [run[f"n_{axis}"] for run in runs]
        for kernel, colour in zip(KERNELS, ("C0", "C1", "C2", "C3", "C4", "C5"), strict=True):
            axes[0, column].loglog(x, [run[f"{kernel}_s"] for run in runs], "o-", color=colour, label=kernel)
            axes[0, column].loglog(x, [run[f"{kernel}_limit_s"] for run in runs], "--", color=colour, lw=1)
        for name, style in (("matrix_bytes", "o-"), ("peak_bytes", "s:")):
            label = {"matrix_bytes": "matrix", "peak_bytes": "most held while it is made"}[name]
            axes[1, column].loglog(x, [run[name] / 2**20 for run in runs], style, label=label)
        axes[1, column].set_xlabel(axis)
        for row in axes[:, column]:
            row.xaxis.set_minor_formatter(NullFormatter())
            row.set_xticks(x, [f"{n:,.0f}" for n in x])
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("MiB")
    for row in axes:
        row[2].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(
        f"Dashed: what moving bytes at {roof.bandwidth / 1e9:.0f} GB/s or multiplying at "
        f"{roof.flops / 1e9:.0f} Gflop/s allows ({roof.n_threads} cores)"
    )
    _PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(_PICTURE, dpi=80)


if __name__ == "__main__":
    main()
