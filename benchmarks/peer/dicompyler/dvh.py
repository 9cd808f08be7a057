"""Dose–volume histograms by dicompyler-core, for :mod:`benchmarks.dicompyler`.

Runs in an environment of its own, since dicompyler-core needs pydicom below 3 (``requirements.txt``).
Lines of JSON in, one request each with the paths of an RTSTRUCT and an RTDOSE and the number of the ROI;
lines of JSON out, metrics in Gy, % and cm³.
"""

import json
import sys

from dicompylercore import dicomparser, dvhcalc  # type: ignore[import-not-found]

PERCENTS = (99, 95, 50, 5, 1)
DOSES = (8, 12, 16, 20, 24)


def metrics(structures: str, dose: str, number: int) -> dict[str, float]:
    """The metrics of one histogram, interpolated to 1/8 of the dose's pixels and to slices of 0.25 mm."""
    parser = dicomparser.DicomParser(structures)
    step = parser.CalculatePlaneThickness(parser.GetStructureCoordinates(number))
    spacing = float(dicomparser.DicomParser(dose).ds.PixelSpacing[0])
    found = dvhcalc.get_dvh(
        structures,
        dose,
        number,
        interpolation_resolution=(spacing / 8, spacing / 8),
        interpolation_segments_between_planes=max(0, round(step / 0.25) - 1),
        use_structure_extents=True,
    )
    share = found.relative_volume
    return {
        "volume": float(found.volume),
        "Dmin": float(found.min),
        "Dmax": float(found.max),
        "Dmean": float(found.mean),
        **{f"D{x}%": float(found.dose_constraint(x).value) for x in PERCENTS},
        "D0.03cc": float(found.dose_constraint(0.03, "cc").value),
        **{f"V{x}Gy": float(share.volume_constraint(x, "Gy").value) for x in DOSES},
    }


for line in sys.stdin:
    print(json.dumps(metrics(*json.loads(line))), flush=True)
