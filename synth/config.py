"""Frozen configs filled from the nested tables of a TOML file, and written back."""

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def plain(value: Any) -> Any:
    """A config as JSON values, recursively; whole numbers of millimetres and such as floats stay floats."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value.value if isinstance(value, Enum) else value


def toml(values: Mapping[str, Any]) -> str:
    """Nested JSON values as TOML."""
    return "\n".join(_tables(values, ())).lstrip() + "\n"


def filled(default: T, table: Mapping[str, Any], where: tuple[str, ...]) -> T:
    """A frozen config with the values that a table gives.

    Parameters
    ----------
    default
        The config whose other values stay.
    table
        Values by field; nested configs are tables of their own, and may name part of their fields.
    where
        Names of the tables that lead here, for errors.

    Raises
    ------
    ValueError
        Naming the table, the key, and what was expected.
    """
    hints = get_type_hints(type(default))
    names = [f.name for f in dataclasses.fields(default)]  # type: ignore[arg-type]
    for key in table:
        if key not in names:
            what = "keys" if where else "tables"
            raise ValueError(f"expected {what} {', '.join(names)} in {_table(where)}, got {key!r}")
    values = {
        key: _value(hints[key], value, getattr(default, key), (*where, key)) for key, value in table.items()
    }
    try:
        return dataclasses.replace(default, **values)  # type: ignore[type-var]
    except ValueError as error:
        raise ValueError(f"{_table(where)}: {error}") from None


def _value(kind: Any, value: Any, default: Any, where: tuple[str, ...]) -> Any:
    """A value of TOML as a field's type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _config(kind, value, default, where)
    if origin in (Union, UnionType):
        return _value(next(a for a in arguments if a is not type(None)), value, default, where)
    if origin is tuple:
        return _tuple(arguments, value, default, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(arguments, value, default, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        known = [str(member.value) for member in kind]
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{_key(where)}: expected one of {', '.join(known)}, got {value!r}")
        return kind(value)
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: tuple[str, ...]) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float:
        if is_number and math.isfinite(value):
            return float(value)
        raise ValueError(f"{_key(where)}: expected a finite number, got {value!r}")
    words = {int: "a whole number", bool: "true or false", str: "text"}
    right = is_number and isinstance(value, int) if kind is int else isinstance(value, kind)
    if not right:
        raise ValueError(f"{_key(where)}: expected {words.get(kind, kind)}, got {value!r}")
    return value


def _config(kind: type, value: Any, default: Any, where: tuple[str, ...]) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{_key(where)}: expected a table, got {value!r}")  # noqa: TRY004
    if isinstance(default, kind):
        return filled(default, value, where)
    hints = get_type_hints(kind)
    needed = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
    missing = [name for name in needed if name not in value]
    unknown = [name for name in value if name not in hints]
    if missing or unknown:
        raise ValueError(f"{_key(where)}: expected keys {', '.join(hints)}, got {', '.join(value) or 'none'}")
    made = {name: _value(hints[name], one, None, (*where, name)) for name, one in value.items()}
    try:
        return kind(**made)
    except ValueError as error:
        raise ValueError(f"{_table(where)}: {error}") from None


def _tuple(kinds: tuple[Any, ...], value: Any, default: Any, where: tuple[str, ...]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{_key(where)}: expected a list, got {value!r}")  # noqa: TRY004
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_value(kinds[0], one, None, where) for one in value)
    if len(value) != len(kinds):
        raise ValueError(f"{_key(where)}: expected a list of {len(kinds)}, got {len(value)}")
    before = default if isinstance(default, tuple) else (None,) * len(kinds)
    return tuple(_value(k, one, old, where) for k, one, old in zip(kinds, value, before, strict=True))


def _mapping(kinds: tuple[Any, ...], value: Any, default: Any, where: tuple[str, ...]) -> Mapping[Any, Any]:
    """A mapping as given; configs in it go on from the default's."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{_key(where)}: expected a table, got {value!r}")  # noqa: TRY004
    old = default if isinstance(default, Mapping) else {}
    nested = dataclasses.is_dataclass(kinds[1])
    out: dict[Any, Any] = dict(old) if nested else {}
    for name, one in value.items():
        key = _value(kinds[0], name, None, where)
        out[key] = _value(kinds[1], one, old.get(key), (*where, name))
    return out


def _table(where: tuple[str, ...]) -> str:
    return f"[{'.'.join(where)}] of the recipe" if where else "the recipe"


def _key(where: tuple[str, ...]) -> str:
    return f"{where[-1]} in {_table(where[:-1])}"


def _tables(values: Mapping[str, Any], where: tuple[str, ...]) -> list[str]:
    """TOML of nested tables: keys first, then tables under their full names."""
    lines = [f"\n[{'.'.join(where)}]"] if where else []
    tables = {key: one for key, one in values.items() if isinstance(one, Mapping)}
    # What is None has no word in TOML, and is the default of every key that may be None.
    keys = {key: one for key, one in values.items() if key not in tables and one is not None}
    lines += [f"{key} = {json.dumps(one)}" for key, one in keys.items()]
    for key, one in tables.items():
        lines += _tables(one, (*where, key))
    return lines
