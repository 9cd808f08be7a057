"""A synthetic CT of one to four MRI of a head, with how far it may be off."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imaging.brightness import scaled
from imaging.grid import Grid
from imaging.resample import averaged, on_voxels
from imaging.volume import Quantity, Volume, expect_finite
from models.windows import through_windows

from .regression import RegressionNet, answer

_AIR = -300.0  # HU: below it lies no tissue


@dataclass(frozen=True, eq=False)
class SyntheticCt:
    """A CT made of MRI, and standard deviations (HU) of what it may be off by, on one grid.

    Parameters
    ----------
    ct
        Hounsfield units.
    aleatoric
        What such an MRI leaves open, by the networks' own scales.
    epistemic
        How far networks that were trained apart disagree; 0 with one alone.
    """

    ct: Volume
    aleatoric: Volume
    epistemic: Volume

    @property
    def uncertainty(self) -> Volume:
        """Both together."""
        both = torch.hypot(self.aleatoric.data, self.epistemic.data)
        return Volume(both, self.ct.grid, Quantity.HU_DEVIATION, self.ct.frame)

    def on(self, grid: Grid) -> "SyntheticCt":
        """The same on another grid; larger voxels get the mean of what lies in them, as in a CT of slices."""
        step = float(self.ct.grid.spacing.min())
        ct, aleatoric, epistemic = (
            averaged(v, grid, step) for v in (self.ct, self.aleatoric, self.epistemic)
        )
        return SyntheticCt(ct, aleatoric, epistemic)


def convert(mr: Volume, nets: Sequence[nn.Module], config: RegressionNet | None = None) -> SyntheticCt:
    """A synthetic CT on the grid of the MRI: what :func:`predicted` gives, there."""
    return predicted(mr, nets, config).on(mr.grid)


def predicted(mr: Volume, nets: Sequence[nn.Module], config: RegressionNet | None = None) -> SyntheticCt:
    """A synthetic CT on upright voxels of the networks' size that cover the MRI.

    Every other network sees the mirrored head, whose answer is mirrored back.

    Parameters
    ----------
    mr
        MR signal, any orientation, shape ``(c, i, j, k)``: as many contrasts as there are, in any order;
        best without bias fields (:func:`imaging.intensity.correct_bias`).
    nets
        Networks of one configuration, trained from different first weights.
    config
        What they were trained with.

    Raises
    ------
    ValueError
        If the volume is not finite MR signal, has more channels than the networks take, or there is no
        network.
    """
    expect_finite(mr.expect(Quantity.MR))
    config = config or RegressionNet()
    n = config.net.inputs
    if not 1 <= len(mr.data) <= n or not nets:
        raise ValueError(
            f"expected 1 to {n} contrasts and a network or more, got {len(mr.data)} and {len(nets)}"
        )
    image, grid = on_voxels(mr, config.spacing)
    image = torch.cat([image, image.new_zeros(n - len(image), *image.shape[1:])])

    def answered(window: Tensor) -> Tensor:
        values, variances = [], []
        for k, net in enumerate(nets):
            value, scale = answer(net, window.flip(2) if k % 2 else window)
            values.append(value.flip(1) if k % 2 else value)
            # A Laplace distribution's variance is twice its scale's square.
            variances.append(2 * (scale.flip(1) if k % 2 else scale) ** 2)
        each = torch.stack(values, dim=1)
        apart = each.var(dim=1, correction=0)
        return torch.stack([each.mean(dim=1), torch.stack(variances).mean(dim=0), apart], dim=1)

    hu, noise, apart = through_windows(image, nets[0], answered, config.window, scaled)

    def deviation(variance: Tensor) -> Volume:
        return Volume(variance.clamp(min=0).sqrt()[None], grid, Quantity.HU_DEVIATION, mr.frame)

    return SyntheticCt(Volume(hu[None], grid, Quantity.HU, mr.frame), deviation(noise), deviation(apart))


def unsureness(found: SyntheticCt) -> float:
    """Mean standard deviation (HU) where a synthetic CT shows tissue; 0 where it shows none."""
    tissue = found.ct.data > _AIR
    return float(found.uncertainty.data[tissue].mean()) if bool(tissue.any()) else 0.0
