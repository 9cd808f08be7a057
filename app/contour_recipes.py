"""The networks that ``spindose train contours`` trains, and what they learn from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from planning.contour.classes import CONTRASTS, Classes
from planning.contour.nets import HEAD_NET, ORGAN_NET, ContourNet
from synth.randomisation import Randomisation

_OWN_WEIGHT = 3.0  # of a structure of the user's in the cross-entropy
_MOST_OWN = 30  # structures of a network: sets of them are bits of 32

_EVERYWHERE = Randomisation(
    shape=(64, 64, 64),
    rotation=12.0,
    shift=60.0,
    randomised=0.1,
    cut=30.0,
    contrasts=CONTRASTS,
    missing=0.4,
)


@dataclass(frozen=True)
class Recipe:
    """What one of the networks is and learns from.

    Parameters
    ----------
    net
        Network and training.
    samples
        How they differ: moved, turned, stretched and bent, of any contrast, noise, bias and slice thickness.
    does
        What the card says of it.
    """

    net: ContourNet
    samples: Randomisation
    does: str


RECIPES = {
    "head": Recipe(
        HEAD_NET,
        replace(
            _EVERYWHERE, spacing=HEAD_NET.spacing, lesions=0.45, grafted=0.6, stripped=0.05, missing=0.25
        ),
        "Brain, brainstem, eyes, skull and body, and a tumour's parts with a resection's cavity",
    ),
    "organs": Recipe(
        ORGAN_NET,
        replace(_EVERYWHERE, spacing=ORGAN_NET.spacing, organs=0.8, shift=20.0),
        "Small organs at risk: brainstem, chiasm, optic nerves, eyes, lenses, cochleae, hippocampi, "
        "pituitary and lacrimal glands; sides are told by place",
    ),
}


def own_recipe(names: Sequence[str]) -> Recipe:
    """A network of one's own structures, as large as that of small organs.

    Raises
    ------
    ValueError
        If there are none, or more than thirty.
    """
    if not 0 < len(names) <= _MOST_OWN:
        raise ValueError(f"expected 1 to {_MOST_OWN} structures in --names for a network of one's own")
    classes = Classes(
        ("none", *names), {}, weight=(1.0, *(_OWN_WEIGHT,) * len(names)), least=ORGAN_NET.classes.least
    )
    organs = RECIPES["organs"]
    net = replace(organs.net, classes=classes, net=replace(organs.net.net, outputs=len(classes.names)))
    return Recipe(net, organs.samples, f"Structures of a user's own: {', '.join(names)}; without sides")
