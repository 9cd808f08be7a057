"""Seconds and memory of one full case: ``python -m benchmarks.cohort_case`` prints them as a line of JSON."""

import json

from .cohort_parts import one_case

if __name__ == "__main__":
    print(json.dumps(one_case()))
