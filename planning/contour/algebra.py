"""Structures made of others: ``PRV = Brainstem + 3``, ``Ring = PTV + 20 - PTV``, ``(A | B) & Brain``.

``|`` is the union of two structures, ``&`` what both share, ``-`` the first without the second; ``+ 3`` after
a structure grows it by 3 mm and ``- 3`` shrinks it. All bind alike, from left to right; parentheses group.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from imaging.grid import Grid
from imaging.shapes import Mask

from .margins import expand

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)(?:\s*mm)?(?![\w.])|(?P<name>[A-Za-z_][\w~^.]*)|(?P<sign>[-+|&()]))"
)
_DEFINED = re.compile(r"\s*([A-Za-z_][\w~^.]*)\s*=\s*(\S.*)")
_GREATEST = 100.0  # mm
_LONGEST = 500  # characters


@dataclass
class _Reader:
    tokens: list[tuple[str, str]]
    masks: Mapping[str, Mask]
    grid: Grid
    at: int = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "its end")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def whole(self) -> Mask:
        out = self.one()
        while self.peek()[0] == "sign" and self.peek()[1] in "+-|&":
            _, sign = self.take()
            if self.peek()[0] == "number" and sign in "+-":
                margin = float(self.take()[1])
                if margin > _GREATEST:
                    raise ValueError(f"expected a margin of at most {_GREATEST:g} mm, got {margin:g}")
                out = expand(out, self.grid, margin if sign == "+" else -margin)
            elif sign == "+":
                raise ValueError(f"expected a margin in mm after +, got {self.peek()[1]}; | joins structures")
            else:
                other = self.one()
                out = out | other if sign == "|" else out & other if sign == "&" else out & ~other
        return out

    def one(self) -> Mask:
        kind, word = self.take()
        if word == "(":
            out = self.whole()
            if self.take()[1] != ")":
                raise ValueError("expected a parenthesis to close, got none")
            return out
        if kind != "name":
            raise ValueError(f"expected a structure, got {word}")
        if word not in self.masks:
            raise ValueError(f"expected one of the structures {', '.join(self.masks)}, got {word}")
        return self.masks[word]


def combined(text: str, masks: Mapping[str, Mask], grid: Grid) -> Mask:
    """What an expression of structures stands for.

    Parameters
    ----------
    text
        Such as ``(PTV + 5 - PTV) & Brain``.
    masks
        The structures that it may name.
    grid
        Where they lie.

    Raises
    ------
    ValueError
        If it is no such expression, or names another structure.
    """
    reader = _Reader(_tokens(text), masks, grid)
    out = reader.whole()
    if reader.peek()[0] != "end":
        raise ValueError(f"expected an expression of structures to end, got {reader.peek()[1]} after it")
    return out


def names_in(text: str) -> tuple[str, ...]:
    """Structures that an expression names, in its order.

    Raises
    ------
    ValueError
        If it holds anything but structures, margins and signs.
    """
    return tuple(word for kind, word in _tokens(text) if kind == "name")


def derived(text: str, masks: Mapping[str, Mask], grid: Grid) -> tuple[str, Mask]:
    """The name and the mask of a definition such as ``PRV_Brainstem = Brainstem + 3``.

    Raises
    ------
    ValueError
        If it is none, its name is taken, or as :func:`combined`.
    """
    found = _DEFINED.fullmatch(text)
    if not found or len(text) > _LONGEST:
        raise ValueError(f"expected a definition such as 'PRV = Brainstem + 3', got {text[:60]!r}")
    name, expression = found.groups()
    if name in masks:
        raise ValueError(f"expected a new name for a derived structure, got {name}, which is there already")
    return name, combined(expression, masks, grid)


def _tokens(text: str) -> list[tuple[str, str]]:
    out, at, text = [], 0, text.rstrip()
    if len(text) > _LONGEST:
        raise ValueError(f"expected an expression of at most {_LONGEST} characters, got {len(text)}")
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found or found.lastgroup is None:
            raise ValueError(f"expected structures, margins and signs, got {text[at : at + 10].strip()!r}")
        out.append((found.lastgroup, found.group(found.lastgroup)))
        at = found.end()
    return out
