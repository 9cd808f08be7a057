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

# Share of glioblastomas by lobe: Larjavaara et al., Neuro-Oncology 9, 319 (2007); the rest of
# their 1 % or deep sites is left out. Centre (distance from the midline, y, z in LPS mm from the
# anterior commissure) and spread (mm).
_LOBES = (
    (0.40, (26.0, -38.0, 22.0), (5.0, 12.0, 10.0)),
    (0.29, (46.0, 12.0, -14.0), (3.0, 10.0, 4.0)),
    (0.14, (30.0, 48.0, 34.0), (6.0, 9.0, 8.0)),
    (0.03, (24.0, 78.0, 6.0), (4.0, 5.0, 6.0)),
)
_STEP = 2.0  # growth is computed at this voxel size (mm) or the map's own, if coarser
_WINDOW = 62.0  # half edge of the cube that a tumour may fill (mm)
_SPEED = {Tissue.WHITE: 7.0, Tissue.GREY: 1.6, Tissue.CSF: 0.2}  # D/ρ (mm²)
_FASTEST = 20.0  # D/ρ at the most (mm²), which bounds the time step


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

    Cells spread and divide after Swanson, Alvord & Murray, Cell Prolif. 33, 317 (2000):
    ∂u/∂t = ∇·(D∇u) + ρ u (1 − u), with D several times greater in white matter than in grey;
    time is counted in 1/ρ. Growth ends at the volume asked for.

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
    shares = torch.tensor([share for share, _, _ in _LOBES])
    lobe = _LOBES[int(torch.multinomial(shares, 1, generator=generator))]
    side = 1.0 if float(torch.rand(1, generator=generator)) < 0.5 else -1.0
    jitter = torch.randn(3, generator=generator).clamp(-1.5, 1.5)
    place = torch.tensor(lobe[1]) + jitter * torch.tensor(lobe[2])
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
    for tissue, value in _SPEED.items():
        speed[tissue] = value
    diffusion = interpolate(speed[part.long()][None, None], size=size, mode="area")[0, 0]
    # Growth is uneven: some directions run ahead.
    diffusion = (diffusion * torch.exp(0.6 * texture(size, 14.0, step, generator))).clamp(max=_FASTEST)
    faces = [_between(diffusion, axis) / step**2 for axis in range(3)]
    u = torch.zeros(size)
    start = tuple(min(int((s + 0.5) * spacing / step), n - 1) for s, n in zip(seed, size, strict=True))
    u[start] = 1.0
    wanted = growth.volume_cc * 1000 / step**3
    dt = min(0.9 * step**2 / (6 * _FASTEST), 0.1)
    for _ in range(round(40 / dt)):
        if float((u > 0.5).sum()) >= wanted:
            return interpolate(u[None, None], size=part.shape, mode="trilinear", align_corners=False)[0, 0]
        u = u + dt * (_divergence(u, faces) + u * (1 - u))
    raise ValueError(
        f"expected room for a tumour of {growth.volume_cc:.0f} cc, "
        f"got {float((u > 0.5).sum()) * step**3 / 1000:.0f} cc; ask for a smaller one"
    )


def _between(diffusion: Tensor, axis: int) -> Tensor:
    # Harmonic mean of neighbours, so that nothing leaks through a barrier.
    n = diffusion.shape[axis] - 1
    a, b = diffusion.narrow(axis, 0, n), diffusion.narrow(axis, 1, n)
    return 2 * a * b / (a + b).clamp(min=1e-6)


def _divergence(u: Tensor, faces: list[Tensor]) -> Tensor:
    out = torch.zeros_like(u)
    for axis, face in enumerate(faces):
        n = u.shape[axis] - 1
        flux = face * (u.narrow(axis, 1, n) - u.narrow(axis, 0, n))
        out.narrow(axis, 0, n).add_(flux)
        out.narrow(axis, 1, n).sub_(flux)
    return out


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
