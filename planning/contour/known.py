"""What the contours of a case tell of each voxel, for a network that tells classes apart.

A contour says which classes lie inside it, and which lie nowhere else; a structure that a case lacks says
nothing. Names are those of AAPM TG-263 (Mayo et al., Int. J. Radiat. Oncol. Biol. Phys. 100, 1057 (2018)),
or others that a table of synonyms leads to them; both sides of an organ are one class.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int32
from torch import Tensor

from imaging.shapes import Mask

from .classes import HeadClass, OrganClass

Allowed = Int32[Tensor, "i j k"]
_SIDES = ("_L", "_R")


@dataclass(frozen=True)
class Meaning:
    """What a contour says.

    Parameters
    ----------
    may
        Classes that lie inside it.
    only
        Classes that lie nowhere else, once it is there on both sides.
    """

    may: frozenset[int]
    only: frozenset[int]

    @classmethod
    def of(cls, *classes: int) -> "Meaning":
        """These classes inside, and none of them outside."""
        return cls(frozenset(map(int, classes)), frozenset(map(int, classes)))


_H, _O = HeadClass, OrganClass
_TUMOUR = (_H.CORE, _H.ENHANCING, _H.OEDEMA, _H.CAVITY)
_IN_BRAIN = (_H.BRAIN, *_TUMOUR)

# Contours of brains hold ventricles and often the stem; fluid is outside them too.
HEAD_KNOWN: Mapping[str, Meaning] = {
    "External": Meaning.of(*(c for c in _H if c is not _H.OUTSIDE)),
    "Brain": Meaning(frozenset((*_IN_BRAIN, _H.FLUID, _H.BRAINSTEM)), frozenset(_IN_BRAIN)),
    "Brainstem": Meaning.of(_H.BRAINSTEM),
    "Eye": Meaning.of(_H.EYE),
    "Lens": Meaning(frozenset((_H.EYE,)), frozenset()),
    "Skull": Meaning(frozenset((_H.BONE,)), frozenset()),  # vertebrae and jaws are bone too
    "GTV": Meaning(frozenset((_H.CORE, _H.ENHANCING, _H.CAVITY)), frozenset((_H.ENHANCING,))),
    "NCR": Meaning.of(_H.CORE),
    "ET": Meaning.of(_H.ENHANCING),
    "Edema": Meaning.of(_H.OEDEMA),
    "Cavity_Resect": Meaning.of(_H.CAVITY),
}
# An eye may be drawn with its lens or without: the lens says nothing of what lies outside the eye.
ORGANS_KNOWN: Mapping[str, Meaning] = {
    "Brainstem": Meaning.of(_O.BRAINSTEM),
    "OpticChiasm": Meaning.of(_O.CHIASM),
    "OpticNrv": Meaning.of(_O.OPTIC_NERVE),
    "Eye": Meaning(frozenset((_O.EYE, _O.LENS)), frozenset((_O.EYE,))),
    "Lens": Meaning.of(_O.LENS),
    "Cochlea": Meaning.of(_O.COCHLEA),
    "Hippocampus": Meaning.of(_O.HIPPOCAMPUS),
    "Pituitary": Meaning.of(_O.PITUITARY),
    "Glnd_Lacrimal": Meaning.of(_O.LACRIMAL),
}
_SYNONYMS = {"External": ("Body",), "Edema": ("Oedema", "ED"), "Cavity_Resect": ("Cavity", "RC")}


def own_known(names: Iterable[str]) -> dict[str, Meaning]:
    """Structures of one's own as classes from 1, in the order of their names; both sides are one."""
    bases = dict.fromkeys(base_of(name) for name in names)
    return {base: Meaning.of(n) for n, base in enumerate(bases, start=1)}


def base_of(name: str) -> str:
    """A name without its side."""
    return name[:-2] if name.endswith(_SIDES) else name


def matched(
    names: Collection[str], known: Collection[str], synonyms: Mapping[str, Collection[str]]
) -> dict[str, str]:
    """The known name of each of a case's structures that has one.

    Capitals, blanks and punctuation make no difference; ``Eye_L`` and ``Eye_R`` are known where ``Eye`` is.

    Parameters
    ----------
    names
        As a case has them.
    known
        Names without sides.
    synonyms
        Other words for names, with their sides where they have one.

    Raises
    ------
    ValueError
        If a synonym leads to a name that is not known, or to two.
    """
    every = [f"{name}{side}" for name in known for side in ("", *_SIDES)]
    if unknown := [name for name in synonyms if name not in every]:
        raise ValueError(f"expected synonyms of {', '.join(known)} or their sides, got {unknown[0]!r}")
    words = {_plain(name): name for name in every}
    told = [(name, word) for name, others in _SYNONYMS.items() if name in known for word in others]
    words |= {_plain(word): name for name, word in told if _plain(word) not in words}
    own = [(name, word) for name, others in synonyms.items() for word in others]
    for name, word in own:
        if any(_plain(word) == _plain(other) and name != elsewhere for elsewhere, other in own):
            raise ValueError(f"expected every synonym under one name, got {word!r} under two")
        words[_plain(word)] = name
    return {name: words[_plain(name)] for name in names if _plain(name) in words}


def allowed(masks: Mapping[str, Mask], known: Mapping[str, Meaning], n_classes: int) -> Allowed:
    """The classes that each voxel may be of, as bits: 1 for class 0, 2 for class 1, and so on.

    Where contours contradict each other, every class is allowed: nothing is known.

    Parameters
    ----------
    masks
        By known name, with or without a side; an empty one says that there is no such thing.
    known
        What names without sides mean.
    n_classes
        Of the network.

    Raises
    ------
    ValueError
        If none of them is known.
    """
    every = (1 << n_classes) - 1
    out: Tensor | None = None
    for name, meaning in known.items():
        here = {side: masks[f"{name}{side}"] for side in ("", *_SIDES) if f"{name}{side}" in masks}
        if not here:
            continue
        inside = torch.stack(list(here.values())).any(dim=0)
        whole = "" in here or len(here) == len(_SIDES)
        out = torch.full(inside.shape, every, dtype=torch.int32) if out is None else out
        only = bits(meaning.only) if whole else 0
        out = torch.where(inside, out & bits(meaning.may), out & (every & ~only))
    if out is None:
        raise ValueError(f"expected structures of {', '.join(known)}, got none of them; name synonyms")
    return torch.where(out == 0, every, out).to(torch.int32)


def bits(classes: Iterable[int]) -> int:
    """A set of classes as a whole number."""
    return sum(1 << int(c) for c in set(classes))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
