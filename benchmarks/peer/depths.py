"""Radiological depths of TG119 as pyRadPlan 0.5.0 traces them, one cube for each beam, as an npz file.

Runs with the interpreter of ``benchmarks/peer/.venv``::

    benchmarks/peer/.venv/bin/python benchmarks/peer/depths.py DATA OUT.npz
"""

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pyRadPlan import PhotonPlan, generate_stf  # type: ignore[import-not-found]
from pyRadPlan.dose.engines import get_engine  # type: ignore[import-not-found]
from tg119 import phantom, plan_of  # type: ignore[import-not-found]


def main() -> None:
    """Every beam's depths (mm water), in (z, y, x); NaN where no ray was taken for the voxel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of tg119.npz")
    parser.add_argument("out", type=Path, help="file to write")
    asked = parser.parse_args()
    ct, cst = phantom(asked.data / "tg119.npz")
    plan: PhotonPlan = plan_of(5, 3.0)
    stf = generate_stf(ct, cst, plan)
    engine = get_engine(plan)
    # The engine keeps no public way to its depths without the matrix.
    engine._calc_dose_direct = False  # noqa: SLF001
    engine._init_dose_calc(ct, cst, stf)  # noqa: SLF001
    cubes = [engine._raytracer.trace_cubes(beam.model_dump())[0] for beam in stf.beams]  # noqa: SLF001
    np.savez(asked.out, depths=np.stack([sitk.GetArrayFromImage(cube).astype(np.float32) for cube in cubes]))


if __name__ == "__main__":
    main()
