"""How bright each code of a head is in one image: a table with a row a tissue and a column a level."""

import torch

from imaging.tissue import Tissue

from . import contrast
from .cells import N_CLUSTERS, N_LEVELS, Table, by_tissue, deviations
from .looks import random_look
from .protocol import Body, Sequence, signal

# Standard deviation of T1 and T2 within a tissue, relative (assumed); half as much for proton density.
_WITHIN = dict.fromkeys(Tissue, 0.03) | {
    Tissue.SCALP: 0.12,
    Tissue.MARROW: 0.12,
    Tissue.FAT: 0.06,
    Tissue.FLUID: 0.06,
    Tissue.CSF: 0.005,
    Tissue.EYE: 0.005,
    Tissue.CAVITY: 0.02,
    Tissue.NECROSIS: 0.1,
    Tissue.ENHANCING: 0.1,
    Tissue.OEDEMA: 0.07,
    Tissue.INFILTRATION: 0.08,
}
# Trains of refocusing pulses undo the coupling of fat's protons, so that fat decays more slowly than after a
# single echo: Henkelman et al., J. Magn. Reson. Imaging 2, 533 (1992); how much more slowly is assumed.
_FATTY = [Tissue.FAT, Tissue.MARROW]
_TURBO_FAT = 2.0
_TURBO_ECHO = 50.0  # ms; scanners make no longer echoes without a train


def physical_table(sequence: Sequence, body: Body, *, agent: bool = False) -> Table:
    """Signal of each tissue at each level of its texture; white matter lies at 1.

    Where a tissue holds more water it has longer T1 and T2 and more protons, so its texture differs
    from contrast to contrast as it does in a patient.

    Parameters
    ----------
    sequence
        What the scanner does.
    body
        Relaxation of the subject.
    agent
        Whether contrast agent was given.
    """
    within = torch.zeros(len(body.t1))
    within[list(_WITHIN)] = torch.tensor(list(_WITHIN.values()))
    more = 1 + within[:, None] * deviations()
    t1 = by_tissue(body.t1).reshape(more.shape)
    if agent:
        t1 = contrast.with_agent(t1, body.uptake[:, None].expand(more.shape))
    t2 = body.t2[:, None] * more
    if isinstance(sequence, contrast.SpinEcho | contrast.InversionRecovery) and sequence.te > _TURBO_ECHO:
        t2[_FATTY] *= _TURBO_FAT
    pd = body.pd[:, None] * (1 + more) / 2
    flat = [values.reshape(-1) for values in (pd, t1 * more, t2)]
    brightness = signal(sequence, flat[0], flat[1], flat[2], body.field).reshape(more.shape)
    white = brightness[Tissue.WHITE].numpy().mean()
    return brightness / max(float(white), 1e-6)


def random_table(generator: torch.Generator) -> Table:
    """Any brightness for any tissue and each of its clusters, with some texture, mostly within 0 to 1."""
    look = random_look(generator)
    texture = torch.tensor([-1.22, 0.0, 1.22])  # three levels of unit variance
    values = look.mean[:, :, None] + look.spread[:, :, None] * texture
    table = torch.zeros(len(look.mean), N_LEVELS)
    table[:, : 3 * N_CLUSTERS] = values.reshape(len(look.mean), -1).clamp(min=0)
    return table
