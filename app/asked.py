"""What was asked for a plan, as plain values beside it: another day's plan can be asked for alike."""

from collections.abc import Mapping
from typing import Any

from planning.contour.barriers import Barriers
from planning.plan import parse_prescription

from .request import Request, parse_technique

# What is a number, a word or a switch; of files the walk keeps copies or hashes.
_PLAIN = (
    "ctv_margin",
    "ptv_margin",
    "n_beams",
    "machine",
    "dose_spacing",
    "setup_error",
    "expected_value",
    "n_arcs",
    "networks",
    "robust_ct",
    "ct_model",
    "prediction",
    "style",
    "mark",
)


def as_json(request: Request) -> dict[str, Any]:
    """A request as plain values, for ``plan.json``; neither seed nor any path is among them."""
    rx = request.prescription
    return {
        "prescription": f"{rx.dose_gy:g}/{rx.n_fractions}",
        "technique": str(request.technique),
        "arcs": list(request.arcs),
        "barriers": request.barriers.each(),
        "density_uncertainty": request.density_uncertainty is not None,
        **{name: getattr(request, name) for name in _PLAIN},
    }


def request_of(told: Mapping[str, Any]) -> Request:
    """The request that :func:`as_json` told of, without files.

    Raises
    ------
    ValueError
        If it is no such request, or one with a file of uncertain density, which lies on a scan of its own.
    """
    try:
        if told["density_uncertainty"]:
            raise ValueError(
                "expected a first plan without --density-uncertainty, whose file lies on the first scan, got "
                "one with it; plan the second scan by itself"
            )
        return Request(
            parse_prescription(told["prescription"]),
            technique=parse_technique(told["technique"]),
            arcs=tuple(told["arcs"]),
            barriers=Barriers(**told["barriers"]),
            **{name: told[name] for name in _PLAIN},
        )
    except (KeyError, TypeError):
        raise ValueError(
            "expected a planned folder that tells what was asked for, got one that does not; plan again"
        ) from None
