"""A plan under scenarios as plain values."""

from .robust import Robustness


def as_json(found: Robustness) -> dict[str, object]:
    """The same as plain values."""
    return {
        "scenarios": [
            {
                "name": s.name,
                "shift_mm": list(s.shift),
                "density_sigmas": s.density_sigmas,
                "distortion": s.distortion,
                "probability": round(s.probability, 6),
            }
            for s in found.scenarios
        ],
        "goals": [
            {
                "structure": band.goal.structure,
                "goal": band.goal.text,
                "limit": round(band.limit, 3),
                "unit": band.unit,
                "nominal": _rounded(band.nominal),
                "mean": _rounded(band.mean),
                "worst": _rounded(band.worst),
                "worst_scenario": band.where,
                "met_in_all": band.met,
                "reason": band.reason,
                "values": [_rounded(result[n].value) for result in found.results],
            }
            for n, band in enumerate(found.bands)
        ],
        "v95_percent": {
            c.structure: {
                "nominal": _rounded(c.nominal),
                "mean": _rounded(c.mean),
                "worst": _rounded(c.worst),
                "worst_scenario": c.where,
            }
            for c in found.coverage
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
