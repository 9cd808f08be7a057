"""A glioblastoma grown in a brain: necrotic core, enhancing rim, oedema in the white matter."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.ndimage import binary_closing, distance_transform_edt
from torch import Tensor
from torch.nn.functional import interpolate

from imaging.shapes import Mask
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from .artefacts import texture
from .growth import FASTEST, SPEED, conductances, spread, time_step
from .statistics import GLIOMA_PLACES

_STEP = 2.0  # growth is computed at this voxel size (mm) or the map's own, if coarser
_WINDOW = 62.0  # half edge of the cube that a tumour may fill (mm)


@dataclass(frozen=True)
class Growth:
    """How a tumour looks.

    Parameters
    ----------
    volume_cc
        Volume of necrosis and enhancing rim (cc).
    rim
        Mean thickness of the enhancing rim (mm).
    oedema
        Cell density, relative to the core's, down to which white matter is oedematous.
    """

    volume_cc: float = 24.0
    rim: float = 4.0
    oedema: float = 0.02


def random_growth(generator: torch.Generator) -> Growth:
    """A tumour of 12 to 45 cc."""
    u = torch.rand(3, generator=generator).tolist()
    return Growth(12.0 * 3.75 ** u[0], 3.0 + 2.0 * u[1], 0.008 + 0.03 * u[2])


def grow(labels: Volume, growth: Growth, generator: torch.Generator) -> Volume:
    """Labels with a glioblastoma in one lobe of one side.

    Cells spread and divide as `synth.growth` has it. Growth ends at the volume asked for.

    Parameters
    ----------
    labels
        Tissues of a head, as `synth.anatomy.anatomy` makes them.
    growth
        Size and looks.
    generator
        Draws place and irregularity.

    Returns
    -------
    Volume
        The labels with `NECROSIS`, `ENHANCING` and `OEDEMA`, all within the brain.

    Raises
    ------
    ValueError
        If there is no white matter, or the tumour finds no room to reach its volume.
    """
    tissue = labels.expect(Quantity.LABEL).data[0]
    seed = _seed(tissue, labels, generator)
    box = _window(seed, tissue.shape, labels)
    part = tissue[box]
    spacing = float(labels.grid.spacing.max())
    density = _spread(
        part, spacing, tuple(s - b.start for s, b in zip(seed, box, strict=True)), growth, generator
    )
    out = tissue.clone()
    out[box] = _parts(part, density, spacing, growth, generator)
    return Volume(out[None], labels.grid, Quantity.LABEL, labels.frame)


def _seed(tissue: Tensor, labels: Volume, generator: torch.Generator) -> tuple[int, ...]:
    """Voxel of white matter nearest to a place drawn in a lobe."""
    white = torch.nonzero(tissue == Tissue.WHITE)
    if len(white) == 0:
        raise ValueError("expected a brain with white matter to grow a tumour in, got none")
    lobes = [place for place in GLIOMA_PLACES if place.name != "deep"]
    shares = torch.tensor([lobe.share for lobe in lobes])
    lobe = lobes[int(torch.multinomial(shares, 1, generator=generator))]
    side = 1.0 if float(torch.rand(1, generator=generator)) < 0.5 else -1.0
    jitter = torch.randn(3, generator=generator).clamp(-1.5, 1.5)
    place = torch.tensor(lobe.center) + jitter * torch.tensor(lobe.spread)
    place[0] *= side
    affine = torch.from_numpy(labels.grid.affine.copy()).float()
    world = white.float() @ affine[:3, :3].T + affine[:3, 3]
    return tuple(white[((world - place) ** 2).sum(dim=1).argmin()].tolist())


def _window(seed: tuple[int, ...], shape: tuple[int, ...], labels: Volume) -> tuple[slice, ...]:
    reach = [round(_WINDOW / s) for s in labels.grid.spacing]
    return tuple(slice(max(s - r, 0), min(s + r + 1, n)) for s, r, n in zip(seed, reach, shape, strict=True))


def _spread(
    part: Tensor, spacing: float, seed: tuple[int, ...], growth: Growth, generator: torch.Generator
) -> Float[Tensor, "i j k"]:
    """Cell density on the window, grown until its dense part has the volume asked for."""
    step = max(_STEP, spacing)
    n_i, n_j, n_k = (max(round(n * spacing / step), 2) for n in part.shape)
    size = (n_i, n_j, n_k)
    speed = torch.zeros(max(Tissue) + 1)
    for tissue, value in SPEED.items():
        speed[tissue] = value
    diffusion = interpolate(speed[part.long()][None, None], size=size, mode="area")[0, 0]
    # Growth is uneven: some directions run ahead.
    diffusion = (diffusion * torch.exp(0.6 * texture(size, 14.0, step, generator))).clamp(max=FASTEST)
    u = torch.zeros(size)
    start = tuple(min(int((s + 0.5) * spacing / step), n - 1) for s, n in zip(seed, size, strict=True))
    u[start] = 1.0
    wanted = growth.volume_cc * 1000 / step**3
    steps = (step, step, step)
    u, reached = spread(u, conductances(diffusion, steps), time_step(steps), wanted)
    if reached < wanted:
        raise ValueError(
            f"expected room for a tumour of {growth.volume_cc:.0f} cc, "
            f"got {reached * step**3 / 1000:.0f} cc; ask for a smaller one"
        )
    return interpolate(u[None, None], size=part.shape, mode="trilinear", align_corners=False)[0, 0]


def _parts(
    part: Tensor, density: Tensor, spacing: float, growth: Growth, generator: torch.Generator
) -> Tensor:
    """Labels of the window with the tumour's parts."""
    brain = (part == Tissue.GREY) | (part == Tissue.WHITE)
    core = _filled((density > 0.5) & brain, round(3.0 / spacing)) & (brain | (part == Tissue.CSF))
    depth = torch.from_numpy(distance_transform_edt(core.numpy(), sampling=spacing)).float()
    i, j, k = part.shape
    uneven = texture((i, j, k), 9.0, spacing, generator)
    rim = growth.rim * (1 + 0.35 * uneven).clamp(0.4, 1.8)
    out = part.clone()
    seep = density * torch.exp(texture((i, j, k), 16.0, spacing, generator))
    oedema = (seep > growth.oedema) & (part == Tissue.WHITE)
    out[oedema] = Tissue.OEDEMA
    out[core] = Tissue.ENHANCING
    # The rim is closed, however coarse the voxels.
    out[core & (depth > rim.clamp(min=1.01 * spacing))] = Tissue.NECROSIS
    return out


def _filled(mask: Mask, iterations: int) -> Mask:
    """A mask with the sulci that a tumour has swallowed."""
    if iterations < 1:
        return mask
    return torch.from_numpy(binary_closing(mask.numpy(), iterations=iterations)) | mask
