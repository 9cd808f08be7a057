"""Signal equations: how bright a tissue is in a sequence.

Times in ms, angles in degrees; tensors of any one shape in, the same shape out. Magnitude is
what a scanner stores, so inverted signal comes out positive.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Field = Float[Tensor, "*n"]

RELAXIVITY = (
    4.1  # 1/(mmol/l · s), gadopentetate in plasma at 1.5 T: Rohrer et al., Invest. Radiol. 40, 715 (2005)
)


def with_agent(t1: Field, concentration: Field) -> Field:
    """T1 (ms) of a tissue that took up ``concentration`` mmol/l of contrast agent.

    Rates add: 1/T1' = 1/T1 + r1 C.
    """
    return 1 / (1 / t1 + RELAXIVITY * concentration / 1000)


@dataclass(frozen=True)
class SpinEcho:
    """Spin echo with a repetition and an echo time (ms)."""

    tr: float
    te: float


@dataclass(frozen=True)
class InversionRecovery:
    """Spin echo after an inversion pulse ``ti`` ms before excitation."""

    tr: float
    te: float
    ti: float


@dataclass(frozen=True)
class Mprage:
    """Train of spoiled small-angle echoes after an inversion.

    Parameters
    ----------
    tr
        From inversion to inversion (ms).
    ti
        From inversion to the middle echo (ms).
    spacing
        From echo to echo (ms).
    n_echoes
        Echoes in the train.
    flip
        Angle of each excitation (degrees).
    te
        Echo time (ms).
    """

    tr: float = 2300.0
    ti: float = 900.0
    spacing: float = 7.1
    n_echoes: int = 160
    flip: float = 9.0
    te: float = 3.0


@dataclass(frozen=True)
class SpoiledGradientEcho:
    """Train of spoiled excitations by ``flip`` degrees with a repetition and an echo time (ms)."""

    tr: float
    te: float
    flip: float


# Reversible part of the decay of gradient echoes (1/s) at 1.5 and 3 T: 1/T2* of white and grey matter,
# Peters et al., Magn. Reson. Imaging 25, 748 (2007), less 1/T2 of Stanisz et al. (2005); from memory,
# unverified.
_R2_PRIME = {1.5: 1.3, 3.0: 4.7}

# Clinical brain protocols. FLAIR's inversion time nulls CSF at this repetition time.
T1 = Mprage()
T2 = SpinEcho(tr=5000.0, te=100.0)
FLAIR = InversionRecovery(tr=9000.0, te=110.0, ti=2500.0)


def spin_echo(pd: Field, t1: Field, t2: Field, sequence: SpinEcho) -> Field:
    """PD (1 − e^(−TR/T1)) e^(−TE/T2), for TE much shorter than TR."""
    return pd * (1 - torch.exp(-sequence.tr / t1)) * torch.exp(-sequence.te / t2)


def t2_star(t2: Field, field: float) -> Field:
    """T2* (ms) of a tissue at 1.5 or 3 T: the rate 1/T2 and what an uneven field within a voxel adds."""
    return 1 / (1 / t2 + _R2_PRIME[field] / 1000)


def spoiled_gradient_echo(pd: Field, t1: Field, t2_star: Field, sequence: SpoiledGradientEcho) -> Field:
    """PD sin α (1 − E) / (1 − E cos α) e^(−TE/T2*), E = e^(−TR/T1): steady state without transverse memory.

    Ernst & Anderson, Rev. Sci. Instrum. 37, 93 (1966); Haase et al., J. Magn. Reson. 67, 258 (1986).
    """
    alpha = math.radians(sequence.flip)
    e = torch.exp(-sequence.tr / t1)
    return pd * math.sin(alpha) * (1 - e) / (1 - e * math.cos(alpha)) * torch.exp(-sequence.te / t2_star)


def ernst_angle(t1: float, tr: float) -> float:
    """Flip angle (degrees) at which a spoiled gradient echo is brightest: arccos e^(−TR/T1)."""
    return math.degrees(math.acos(math.exp(-tr / t1)))


def inversion_recovery(pd: Field, t1: Field, t2: Field, sequence: InversionRecovery) -> Field:
    """PD |1 − 2 e^(−TI/T1) + e^(−TR/T1)| e^(−TE/T2), for TE much shorter than TR."""
    mz = 1 - 2 * torch.exp(-sequence.ti / t1) + torch.exp(-sequence.tr / t1)
    return pd * mz.abs() * torch.exp(-sequence.te / t2)


def null_time(t1: float, tr: float) -> float:
    """Inversion time (ms) at which a tissue gives no signal: T1 ln(2 / (1 + e^(−TR/T1)))."""
    return t1 * math.log(2 / (1 + math.exp(-tr / t1)))


def mprage(pd: Field, t1: Field, t2: Field, sequence: Mprage) -> Field:
    """Signal of the middle echo of an MPRAGE train in its steady state.

    Each delay and each echo maps the longitudinal magnetisation linearly, Mz → a Mz + b; the
    steady state is the fixed point of one whole repetition (Deichmann et al., NeuroImage 12,
    112 (2000)). T2* decay is taken as T2, which the short echo time forgives.
    """
    alpha = math.radians(sequence.flip)
    half = sequence.n_echoes // 2
    before = sequence.ti - half * sequence.spacing
    after = sequence.tr - before - sequence.n_echoes * sequence.spacing
    if before < 0 or after < 0:
        raise ValueError(
            f"expected a train of echoes that fits TI and TR, got {sequence}; "
            "take fewer echoes or a longer TR"
        )
    inversion = (-torch.ones_like(t1), torch.zeros_like(t1))
    to_middle = _then(_then(inversion, _recover(before, t1)), _train(half, alpha, sequence.spacing, t1))
    rest = _train(sequence.n_echoes - half, alpha, sequence.spacing, t1)
    whole = _then(_then(to_middle, rest), _recover(after, t1))
    start = whole[1] / (1 - whole[0])
    mz = to_middle[0] * start + to_middle[1]
    return pd * mz.abs() * math.sin(alpha) * torch.exp(-sequence.te / t2)


Linear = tuple[Field, Field]


def _recover(delay: float, t1: Field) -> Linear:
    e = torch.exp(-delay / t1)
    return e, 1 - e


def _train(n: int, alpha: float, spacing: float, t1: Field) -> Linear:
    # n times: tip by alpha, then recover; a geometric series.
    e = torch.exp(-spacing / t1)
    step = e * math.cos(alpha)
    a = step**n
    return a, (1 - e) * (1 - a) / (1 - step)


def _then(first: Linear, second: Linear) -> Linear:
    return first[0] * second[0], first[1] * second[0] + second[1]
