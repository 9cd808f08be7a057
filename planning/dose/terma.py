"""Energy that a beam's photons release on their way, before electrons and scattered photons carry it on."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.functional import conv1d, grid_sample

from imaging.grid import positions
from imaging.volume import Volume
from planning.beams import Beam, project, source_position
from planning.machine import Machine

from .aperture import FluenceMap
from .fan import fan_depth
from .pencil_beam import off_axis
from .spectrum import Spectrum, kerma_and_scerma

# Depths between which the released energy is linear (mm water).
_DEPTH_STEP = 1.0


@dataclass(frozen=True, eq=False)
class Source:
    """The photons of a beam and where they come from.

    Parameters
    ----------
    spectrum
        Their energies.
    head_share
        Share of the open fluence that comes scattered from the linac's head, not from the target.
    head_sigma
        Width of that second source, as a Gaussian seen on the isocentre plane (mm).
    """

    spectrum: Spectrum
    head_share: float = 0.0
    head_sigma: float = 25.0


def released(
    beam: Beam, fluence: FluenceMap, density: Volume, machine: Machine, photons: Source
) -> Float[Tensor, "2 i j k"]:
    """Energy released per mass in every voxel with density: collision kerma, and what photons carry on.

    Ahnesjö, Andreo, Brahme, Acta Oncol. 26, 49 (1987): narrow-beam attenuation of each line of the
    spectrum along the ray from the source, so the beam hardens; inverse square; the open fluence and
    softening off the axis of the machine. Units: MeV/mm per unit of fluence.

    Parameters
    ----------
    beam
        Where the beam comes from.
    fluence
        What passes the collimators, on the isocentre plane.
    density
        Relative electron density.
    machine
        Its source size blurs the fluence.
    photons
        The spectrum, and the share of scatter from the linac's head.

    Raises
    ------
    ValueError
        If no voxel with density lies in the beam.
    """
    grid, device = density.grid, density.data.device
    tissue = density.data[0] > 0
    points = positions(grid, torch.nonzero(tissue).cpu().numpy().astype(np.float64))
    source = source_position(beam, machine.sad)
    plane = project(beam, points, machine.sad)
    horns, softening = off_axis(machine.beam, np.hypot(*plane.T))
    distance = np.linalg.norm(points - source, axis=1)
    # As weights of pencil beams mean it: each sees the isocentre plane from its own ray.
    steep = (1 + (plane**2).sum(axis=1) / machine.sad**2) ** 1.5
    factor = torch.from_numpy(horns * steep * (machine.sad / distance) ** 2).float().to(device)
    depth = fan_depth(density, source, points) * torch.from_numpy(softening).float().to(device)
    # Voxels see the mean over their width (variance h²/12); lines of cones beside voxels will blur by
    # h²/3 on the way there and back, so that much less is asked of the source.
    focus = machine.beam.penumbra_fwhm / math.sqrt(8 * math.log(2))
    sigma = np.sqrt(np.maximum(focus**2 - float(grid.spacing.mean()) ** 2 / 4, (fluence.pixel / 2) ** 2))
    seen = _seen(fluence, plane, sigma)
    if not bool((seen > 0).any()):
        raise ValueError(
            f"expected tissue in the beam at gantry {beam.gantry:g}, couch {beam.couch:g}, got none; "
            "check the isocentre and the body contour"
        )
    seen *= 1 - photons.head_share
    if photons.head_share:
        seen += photons.head_share * _seen(fluence, plane, np.full(2, photons.head_sigma))
    out = torch.zeros((2, *grid.shape), device=device)
    out[:, tissue] = _by_depth(photons.spectrum, depth) * factor * seen.to(device)
    return out


def _by_depth(spectrum: Spectrum, depth: Float[Tensor, " n"]) -> Float[Tensor, "2 n"]:
    """Collision kerma and scerma of one photon per mm² at depths (mm water)."""
    knots = np.arange(math.ceil(float(depth.max()) / _DEPTH_STEP) + 2) * _DEPTH_STEP
    table = torch.from_numpy(kerma_and_scerma(spectrum, knots)).float().to(depth.device)
    low = (depth / _DEPTH_STEP).long()
    return torch.lerp(table[:, low], table[:, low + 1], depth / _DEPTH_STEP - low)


def _seen(
    fluence: FluenceMap, plane: Float64[np.ndarray, "n 2"], sigma: Float64[np.ndarray, "2"]
) -> Float[Tensor, " n"]:
    """Fluence through a Gaussian source (mm on the isocentre plane, x and y) at points of that plane."""
    reach = math.ceil(4 * sigma.max() / fluence.pixel)
    steps = torch.arange(-reach, reach + 1) * fluence.pixel
    # conv1d works on rows: first along y, then along x.
    values = fluence.values.float().cpu()
    for width in sigma[::-1]:
        bell = torch.exp(-(steps**2) / (2 * width**2))
        values = conv1d(values[:, None], (bell / bell.sum())[None, None].float(), padding=2 * reach)[:, 0].T
    index = (plane - fluence.origin) / fluence.pixel + reach
    # -1..1 over pixel centres, the second axis first.
    scaled = torch.from_numpy(2 * index / (np.array(values.shape) - 1) - 1).float().flip(1)
    return grid_sample(values[None, None], scaled[None, None], align_corners=True)[0, 0, 0]
