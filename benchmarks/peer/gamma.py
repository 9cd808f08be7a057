"""Gamma by pymedphys for the pairs in a folder: ``python gamma.py FOLDER``; one JSON line last.

Runs in any interpreter with pymedphys, and knows nothing of ours. Its own interpolation needs numba and is
faster; without numba its other one, scipy's, is used.
"""

import importlib.util
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pymedphys


def main() -> None:
    """Every pair, timed."""
    folder = Path(sys.argv[1])
    algorithm = "pymedphys" if importlib.util.find_spec("numba") else "scipy"
    found: dict[str, dict[str, float]] = {}
    for case in json.loads((folder / "cases.json").read_text()):
        pair = np.load(folder / case["pair"])
        axes = tuple(case["spacing"] * np.arange(n) for n in pair["ref"].shape)
        asked = {
            "dose_percent_threshold": case["dose_percent"],
            "distance_mm_threshold": case["distance_mm"],
            "lower_percent_dose_cutoff": case["cutoff_percent"],
            "local_gamma": case["local"],
            "interp_fraction": 10,
            "interp_algo": algorithm,
            # Where only passing matters, pymedphys is spared the search for the gamma of the rest.
            "max_gamma": 1.1 if case["only_passing"] else 2.0,
            "skip_once_passed": case["only_passing"],
        }
        if not found:
            # numba compiles on the first call, which is not what is timed.
            pymedphys.gamma(axes, pair["ref"], axes, pair["ev"], **{**asked, "random_subset": 10})
        started = time.perf_counter()
        gamma = pymedphys.gamma(axes, pair["ref"], axes, pair["ev"], **asked)
        seconds = time.perf_counter() - started
        above = pair["ref"] >= case["cutoff_percent"] / 100 * pair["ref"].max()
        found[case["name"]] = {
            "seconds": seconds,
            "pass_percent": 100 * float(np.mean(gamma[above] <= 1)),
            "points": int(above.sum()),
        }
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps({"algorithm": algorithm, "memory_mib": memory, "cases": found}))


if __name__ == "__main__":
    main()
