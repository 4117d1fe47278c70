"""Plain data (JSON, TOML) into frozen dataclasses, strictly: an unknown key or a wrong type is an error.

The model contract and the training recipes are read this way; what a file says is exactly what a class declares.
"""

from __future__ import annotations

import dataclasses
import sys
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from probface.errors import InvalidValue

T = TypeVar("T")


def from_plain(kind: type[T], value: Any, where: str) -> T:
    """Make the frozen dataclass ``kind`` from plain data.

    Args:
        kind: a dataclass whose fields are bool, int, float, str, Literal, tuples or dicts of these, optional values,
            or dataclasses of the same sort.
        value: what a JSON or TOML parser gave.
        where: what to call the value in messages ("recipe", "model contract").

    Raises:
        InvalidValue: an unknown or missing key, or a value of the wrong type; the message names its place.
    """
    if not isinstance(value, dict):
        raise InvalidValue(f"{where}: expected a table of named values, found {value!r}")
    hints = get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise InvalidValue(f"{where}: unknown key {unknown[0]!r}; the known ones are {', '.join(hints)}")
    missing = [field.name for field in dataclasses.fields(kind) if _required(field) and field.name not in value]  # type: ignore[arg-type]
    if missing:
        raise InvalidValue(f"{where}: key {missing[0]!r} is missing; add it")
    return kind(**{key: _convert(hints[key], item, f"{where}.{key}") for key, item in value.items()})


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value, where)
    if origin in (Union, UnionType):
        some = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _convert(some, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return _convert_tuple(arguments, value, where)
    if origin is dict and isinstance(value, dict):
        return {str(key): _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is Literal:
        if value in arguments:
            return value
        raise InvalidValue(f"{where}: {value!r} must be one of {', '.join(map(repr, arguments))}")
    if isinstance(value, bool) is not (hint is bool):
        raise InvalidValue(f"{where}: {value!r} must be of type {getattr(hint, '__name__', hint)}")
    if hint is float and isinstance(value, int | float) and abs(value) <= sys.float_info.max:
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint):
        return value
    raise InvalidValue(f"{where}: {value!r} must be of type {getattr(hint, '__name__', hint)}")


def _convert_tuple(arguments: tuple[Any, ...], value: list[Any] | tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if arguments[-1] is Ellipsis:
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(arguments) != len(value):
        raise InvalidValue(f"{where}: {value!r} must have {len(arguments)} entries")
    return tuple(
        _convert(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(arguments, value, strict=True))
    )
