"""The shapes that arrays have everywhere, written once.

Voxels of a volume come as ``(c, i, j, k)``, batches as ``(b, c, i, j, k)``;
positions are LPS millimetres. The tests check these at run time.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer, Shaped
from torch import Tensor

Voxels = Shaped[Tensor, "c i j k"]
Floats = Float[Tensor, "c i j k"]
Labels = Integer[Tensor, "c i j k"]
Mask = Bool[Tensor, "i j k"]
Affine = Float64[np.ndarray, "4 4"]
Point = Float64[np.ndarray, "3"]
Points = Float64[np.ndarray, "n 3"]
