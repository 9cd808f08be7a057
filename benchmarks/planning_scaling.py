"""How the dose kernels grow, and how far from this machine's limits they are.

``python -m benchmarks.planning_scaling``. A cube of water, square fields; bixels, voxels and beams
grow one at a time. A kernel cannot be faster than what it must move over the measured bandwidth, nor
than what it must multiply over the measured rate of a matrix product; the share of that limit which
each kernel reaches, and the operations that its time goes to, are reported.
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
from planning.beams import Beam
from planning.dose.bixel_dose import blocks, each_beam
from planning.dose.bixels import Bixels
from planning.dose.influence import adjoint, apply, influence
from planning.machine import Machine, load_machine

from .record import report
from .roofline import Roof, best, measured, peak_growth

_PICTURE = Path(__file__).parent / "results" / "planning_scaling.png"
KERNELS = ("influence", "apply", "adjoint", "forward")
_SIDE = 200.0
# What stays while another number grows: beams, side of the field (mm), voxel (mm).
_BEAMS, _FIELD, _VOXEL = 3, 70.0, 4.0


@dataclass(frozen=True, eq=False)
class Setup:
    """A cube of water, beams around it and a square field of bixels for each."""

    density: Volume
    points: Points
    beams: Sequence[Beam]
    bixels: Sequence[Bixels]


def main() -> None:
    """Grows each number in turn, and reports."""
    machine = load_machine("generic-6mv")
    n_threads = torch.get_num_threads()
    roofs = [measured(n) for n in sorted({1, n_threads})]
    roof = roofs[-1]
    _measure(setup(2, 30.0, 8.0), machine, roof)
    grown = {
        "bixels": [
            _measure(setup(_BEAMS, f, _VOXEL), machine, roof) for f in (30.0, 50.0, 70.0, 90.0, 120.0)
        ],
        "voxels": [_measure(setup(_BEAMS, _FIELD, v), machine, roof) for v in (8.0, 6.0, 4.0, 3.0)],
        "beams": [_measure(setup(n, _FIELD, _VOXEL), machine, roof) for n in (1, 2, 4, 8)],
    }
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
    report("planning_scaling", figures)  # type: ignore[arg-type] # a mapping of mappings
    print(f"picture: {_PICTURE}")


def setup(n_beams: int, field: float, voxel: float) -> Setup:
    """Beams evenly around a cube of water, with a square field of 5 mm bixels each."""
    grid = axial(np.full(3, -_SIDE / 2), np.full(3, _SIDE / 2), (voxel, voxel, voxel))
    edge = np.arange(-field / 2 + 2.5, field / 2, 5.0)
    bixels = Bixels(np.stack([a.ravel() for a in np.meshgrid(edge, edge, indexing="ij")], axis=1))
    return Setup(
        Volume(torch.ones((1, *grid.shape)), grid, Quantity.DENSITY),
        _centers(grid),
        [Beam(360.0 * n / n_beams, 0.0, 0.0, np.zeros(3)) for n in range(n_beams)],
        [bixels] * n_beams,
    )


def _centers(grid: Grid) -> Points:
    return positions(grid, np.argwhere(np.ones(grid.shape)).astype(np.float64))


def _measure(case: Setup, machine: Machine, roof: Roof) -> dict[str, float]:
    """Seconds, memory and share of the limit of every kernel."""
    arguments = (case.beams, case.bixels, case.density, case.points, machine)
    held = []
    growth = peak_growth(lambda: held.append(influence(*arguments)))
    matrix = held.pop()
    weights, slope = torch.ones(matrix.n_bixels), torch.ones(matrix.n_voxels)
    seconds = {
        "apply": best(lambda: apply(matrix, weights)),
        "adjoint": best(lambda: adjoint(matrix, slope)),
        "influence": best(lambda: influence(*arguments), 2),
        "forward": best(lambda: forward(case, machine), 2),
    }
    n_flops = flops(case, machine)
    vectors = 4 * (matrix.n_bixels + matrix.n_voxels)
    least_bytes = {
        # The matrix is read once, or written once; without it density is read and dose written.
        "apply": matrix.n_bytes + vectors,
        "adjoint": matrix.n_bytes + vectors,
        "influence": matrix.n_bytes + 4 * case.density.data.numel(),
        "forward": vectors + 4 * case.density.data.numel(),
    }
    found: dict[str, float] = {
        "n_bixels": matrix.n_bixels,
        "n_voxels": matrix.n_voxels,
        "n_beams": len(case.beams),
        "n_entries": matrix.n_entries,
        "matrix_bytes": matrix.n_bytes,
        "peak_bytes": growth,
    }
    for kernel in KERNELS:
        # Two flops for each entry of a product with the matrix; as many as counted to make it.
        work = 2 * len(matrix.values) if kernel in {"apply", "adjoint"} else n_flops
        moved, counted = least_bytes[kernel] / roof.bandwidth, work / roof.flops
        found |= {
            f"{kernel}_s": seconds[kernel],
            f"{kernel}_limit_s": max(moved, counted),
            f"{kernel}_memory_limit_s": moved,
            f"{kernel}_share": max(moved, counted) / seconds[kernel],
        }
    return found


def forward(case: Setup, machine: Machine) -> torch.Tensor:
    """Dose of weights of 1, block by block: no matrix is held."""

    def one(n: int) -> torch.Tensor:
        dose = torch.zeros(len(case.points))
        for block in blocks(case.beams[n], case.bixels[n], case.density, case.points, machine):
            dose[block.voxels] += block.dose.sum(dim=1)
        return dose

    return torch.stack(each_beam(one, len(case.beams), torch.device("cpu"), "dose", None)).sum(dim=0)


def flops(case: Setup, machine: Machine) -> float:
    """Multiplications and additions in the matrix products of all beams' blocks."""
    with FlopCounterMode(display=False) as counter:
        for _ in blocks(case.beams[0], case.bixels[0], case.density, case.points, machine):
            pass
    return float(counter.get_total_flops() * len(case.beams))


def _held(case: Setup, machine: Machine) -> dict[str, dict[str, float]]:
    """Where the time of making a matrix, and of its products, goes."""
    matrix = influence(case.beams, case.bixels, case.density, case.points, machine)
    weights, slope = torch.ones(matrix.n_bixels), torch.ones(matrix.n_voxels)

    # The first product also cuts the matrix into its blocks.
    apply(matrix, weights)

    def fill() -> None:
        for _ in blocks(case.beams[0], case.bixels[0], case.density, case.points, machine):
            pass

    return {
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
        for kernel, colour in zip(KERNELS, ("C0", "C1", "C2", "C3"), strict=True):
            axes[0, column].loglog(x, [run[f"{kernel}_s"] for run in runs], "o-", color=colour, label=kernel)
            axes[0, column].loglog(x, [run[f"{kernel}_limit_s"] for run in runs], "--", color=colour, lw=1)
        for name, style in (("matrix_bytes", "o-"), ("peak_bytes", "s:")):
            label = {"matrix_bytes": "matrix", "peak_bytes": "most held while it is made"}[name]
            axes[1, column].loglog(x, [run[name] / 2**20 for run in runs], style, label=label)
        axes[1, column].set_xlabel(axis)
        for row in axes[:, column]:
            row.xaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("MiB")
    axes[0, 0].legend()
    axes[1, 0].legend()
    figure.suptitle(
        f"Dashed: what moving bytes at {roof.bandwidth / 1e9:.0f} GB/s or multiplying at "
        f"{roof.flops / 1e9:.0f} Gflop/s allows ({roof.n_threads} cores)"
    )
    _PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(_PICTURE, dpi=80)


if __name__ == "__main__":
    main()
