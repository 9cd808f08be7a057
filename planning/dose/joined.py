"""The influence of bixels that are made of smaller ones, without computing it anew."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64

from .influence import Influence


def joined(matrix: Influence, parts: Int64[np.ndarray, " bixels"], n_each: int) -> Influence:
    """Dose of bixels side by side as of one: dose is linear, so that columns are sums.

    A bixel has what those of its parts give that reach a voxel.

    Parameters
    ----------
    matrix
        Of the small bixels, each beam with the same number of them.
    parts
        For each small bixel of a beam, which large one it is part of.
    n_each
        Large bixels of each beam.

    Raises
    ------
    ValueError
        If beams have other numbers of bixels than ``parts``, or one is part of none.
    """
    starts = np.array(matrix.beam_starts)
    if (np.diff(starts) != len(parts)).any() or len(parts) == 0:
        raise ValueError(
            f"expected {len(parts)} bixels in each beam, got {np.diff(starts).tolist()}; take one window"
        )
    if not 0 <= int(parts.min()) <= int(parts.max()) < n_each:
        raise ValueError(f"expected parts of bixels 0 to {n_each - 1}, got others; join what they cover")
    device = matrix.values.device
    of_beams = torch.from_numpy(np.concatenate([parts + n * n_each for n in range(len(starts) - 1)]))
    columns = of_beams.to(device)[matrix.bixels.long()]
    n_rows, n_columns = matrix.shapes.T.tolist()
    values, bixels = [], []
    blocks = matrix.values.split([r * c for r, c in zip(n_rows, n_columns, strict=True)])
    for block, own, rows in zip(blocks, columns.split(n_columns), n_rows, strict=True):
        large, place = own.unique(return_inverse=True)
        sums = torch.zeros(rows, len(large), device=device)
        values.append(sums.index_add_(1, place, block.view(rows, -1)).flatten())
        bixels.append(large)
    shapes = np.stack([matrix.shapes[:, 0], [len(own) for own in bixels]], axis=1).astype(np.int64)
    nothing = torch.empty(0, device=device)
    return replace(
        matrix,
        values=torch.cat([nothing, *values]),
        bixels=torch.cat([nothing.long(), *bixels]).to(torch.int32),
        shapes=shapes.reshape(-1, 2),
        beam_starts=tuple((np.arange(len(starts)) * n_each).tolist()),
    )
