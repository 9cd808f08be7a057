"""The dose of bixels as a linear program can bear it: sparse, of fewer bixels, far scatter lumped."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from scipy.sparse import coo_array, csr_array

from planning.dose.bixels import Bixels
from planning.dose.influence import Influence

Groups = Int64[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class Split:
    """A matrix of dose that is nearly ``near @ w + far @ u`` where ``u`` are the sums of groups of weights.

    Parameters
    ----------
    near
        Entries that count, shape ``(n, m)``.
    far
        What the rest of a group gives on average to its sum, shape ``(n, g)``.
    groups
        The group of each bixel, shape ``(m,)``.
    """

    near: csr_array
    far: csr_array
    groups: Groups


def sparse(matrix: Influence, factor: float = 1.0) -> csr_array:
    """An influence as rows of points, times a factor such as the number of fractions."""
    given = [block.cpu().numpy().ravel() for block in matrix.desk.blocks]
    n_rows, n_columns = matrix.shapes.T.tolist()
    points, bixels = matrix.voxels.cpu().split(n_rows), matrix.bixels.cpu().split(n_columns)
    rows = [torch.repeat_interleave(p, len(b)).numpy() for p, b in zip(points, bixels, strict=True)]
    columns = [b.repeat(len(p)).numpy() for p, b in zip(points, bixels, strict=True)]
    values = factor * np.concatenate(given).astype(np.float64)
    places = np.concatenate(rows), np.concatenate(columns)
    out = coo_array((values, places), shape=(matrix.n_voxels, matrix.n_bixels)).tocsr()
    out.eliminate_zeros()
    return out


def squares(bixels: Sequence[Bixels], side: float) -> Groups:
    """The group of each bixel of all beams: squares of the isocentre plane, beam by beam.

    Parameters
    ----------
    bixels
        Of each beam.
    side
        Of a square (mm at the isocentre).

    Raises
    ------
    ValueError
        If a square is smaller than a bixel.
    """
    if any(side < max(own.width) for own in bixels):
        raise ValueError(f"expected squares no smaller than bixels, got {side:g} mm; take larger ones")
    # Half a thousandth of a bixel keeps edges that meet from falling to either side.
    places = [np.floor(own.positions / side + 5e-4).astype(np.int64) for own in bixels]
    beams = [np.full((len(place), 1), n) for n, place in enumerate(places)]
    every = np.concatenate([np.concatenate([b, p], axis=1) for b, p in zip(beams, places, strict=True)])
    return np.unique(every, axis=0, return_inverse=True)[1].reshape(-1)


def merged(matrix: csr_array, groups: Groups) -> csr_array:
    """The dose of groups of bixels with one weight each, shape ``(n, g)``."""
    return (matrix @ _members(groups)).tocsr()


def split(matrix: csr_array, groups: Groups, least: float = 0.01) -> Split:
    """A matrix without its many small entries, which are lumped together: exact for even weights of a group.

    Parameters
    ----------
    matrix
        Dose of each bixel, shape ``(n, m)``.
    groups
        The group of each bixel.
    least
        Share of a bixel's greatest dose below which entries are lumped.

    Raises
    ------
    ValueError
        If there is not a group for each bixel.
    """
    if len(groups) != matrix.shape[1]:
        raise ValueError(f"expected a group for each of {matrix.shape[1]} bixels, got {len(groups)}")
    greatest = matrix.max(axis=0).toarray().reshape(-1)
    made = matrix.tocoo()
    kept = made.data > least * greatest[made.coords[1]]
    near, rest = (
        coo_array((made.data[own], (made.coords[0][own], made.coords[1][own])), shape=matrix.shape).tocsr()
        for own in (kept, ~kept)
    )
    sizes = np.bincount(groups).astype(np.float64)
    far = merged(rest, groups).tocoo()
    shared = coo_array((far.data / sizes[far.coords[1]], far.coords), shape=far.shape)
    return Split(near, shared.tocsr(), groups)


def _members(groups: Groups) -> csr_array:
    """1 where a bixel is of a group, shape ``(m, g)``."""
    m = len(groups)
    ones = coo_array((np.ones(m), (np.arange(m), groups)), shape=(m, int(groups.max(initial=-1)) + 1))
    return ones.tocsr()
