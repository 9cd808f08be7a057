"""The smooth surfaces of a mean adult head, read from a few hundred measured coefficients.

``head_shape.json`` says where they come from. Angles are seen from the head's centre:
``theta`` from straight up, ``phi`` from straight ahead (anterior) towards the patient's left.
"""

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import sph_harm_y
from torch import Tensor
from torch.nn.functional import grid_sample

Table = Float[Tensor, "rows columns"]
Field = Float[Tensor, "..."]

N_THETA, N_PHI = 180, 360


@dataclass(frozen=True, eq=False)
class Shape:
    """Radial tables of a head, in mm.

    Parameters
    ----------
    center
        Where the radii start (LPS, mm, from the anterior commissure).
    inner, thickness, scalp
        Inner surface of the skull, thickness of the skull along the ray, and the skin, by
        ``(theta, phi)``, shape ``(N_THETA, N_PHI)``.
    face
        Distance of the skin from the vertical axis through the centre, by ``(z, phi)``.
    face_z
        Lowest and highest z of ``face`` (LPS, mm).
    """

    center: tuple[float, float, float]
    inner: Table
    thickness: Table
    scalp: Table
    face: Table
    face_z: tuple[float, float]


@cache
def mean_shape() -> Shape:
    """The mean head's surfaces."""
    card = json.loads(Path(__file__).with_name("head_shape.json").read_text(encoding="utf-8"))
    x, y, z = card["center"]
    low, high = card["face"]["z"]
    inner, thickness, scalp = (
        _harmonics(card[name]["degree"], card[name]["coefficients"])
        for name in ("inner", "thickness", "scalp")
    )
    face = _cosines(card["face"]["orders"], card["face"]["coefficients"])
    return Shape((x, y, z), inner, thickness, scalp, face, (low, high))


def angles() -> tuple[Field, Field]:
    """``theta`` and ``phi`` of the tables' entries, each of shape ``(N_THETA, N_PHI)``."""
    theta = (torch.arange(N_THETA, dtype=torch.float64) + 0.5) * math.pi / N_THETA
    phi = (torch.arange(N_PHI, dtype=torch.float64) + 0.5) * 2 * math.pi / N_PHI
    grids = torch.meshgrid(theta, phi, indexing="ij")
    return grids[0], grids[1]


def look_up(table: Table, row: Field, phi: Field) -> Field:
    """A table's value at ``row`` in 0..1 (top to bottom) and ``phi``, bilinear, periodic in ``phi``."""
    n = table.shape[1]
    wrapped = torch.cat([table[:, -1:], table, table[:, :1]], dim=1)
    column = torch.remainder(phi / (2 * math.pi), 1) * n + 1
    where = torch.stack([column * (2 / (n + 2)) - 1, row * 2 - 1], dim=-1)
    flat = where.reshape(1, 1, -1, 2)
    values = grid_sample(
        wrapped[None, None], flat, mode="bilinear", padding_mode="border", align_corners=False
    )
    return values.reshape(phi.shape)


def _harmonics(degree: int, coefficients: list[float]) -> Table:
    theta, phi = (a.numpy() for a in angles())
    total = np.zeros(theta.shape)
    orders = [(n, m) for n in range(degree + 1) for m in range(n + 1)]
    for (n, m), c in zip(orders, coefficients, strict=True):
        # Even in phi, so the real part is a profile in theta times a cosine.
        profile = c * (math.sqrt(2) if m else 1) * sph_harm_y(n, m, theta[:, 0], 0.0).real
        total += profile[:, None] * np.cos(m * phi[0])
    return torch.from_numpy(total).float()


def _cosines(orders: list[int], coefficients: list[float]) -> Table:
    u = (np.arange(N_THETA) + 0.5) / N_THETA
    phi = (np.arange(N_PHI) + 0.5) * 2 * np.pi / N_PHI
    around = np.cos(np.arange(orders[0] + 1)[:, None] * phi)
    along = np.cos(np.arange(orders[1] + 1)[:, None] * np.pi * u)
    c = np.array(coefficients).reshape(orders[0] + 1, orders[1] + 1)
    return torch.from_numpy(along.T @ c.T @ around).float()
