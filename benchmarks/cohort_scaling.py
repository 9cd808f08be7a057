"""Cases a minute over workers: ``python -m benchmarks.cohort_scaling`` prints them as a line of JSON."""

import json

from .cohort_parts import scaling

if __name__ == "__main__":
    print(json.dumps(scaling()))
