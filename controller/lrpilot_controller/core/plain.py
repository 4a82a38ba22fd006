"""Dataclasses to plain JSON values and back, by their type hints.

The JSON is strict: non-finite floats are the strings NaN, Infinity and -Infinity. Reading is
lenient where a newer minor version may have written: unknown fields are ignored, missing ones take
their default. What is not made of fields says its own state (`state_dict`, `from_state`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class UnknownWord(ValueError):
    """A word that this version's enum does not have: a newer version wrote it."""


def to_plain(value: Any) -> Any:
    """A value as what strict JSON can hold.

    Args:
        value: Any nesting of dataclasses, states, enums, tuples, lists, sets of str, mappings with
            str or int keys, NumPy scalars, and what JSON has itself.

    Raises:
        TypeError: The value holds something else.
    """
    # Exact types first: they are nearly all values, and an int subclass may be a bool or an enum.
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, StrEnum):
        return value.value
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, set):
        return sorted(value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return to_plain(value.item())
    raise TypeError(f"a {kind.__qualname__} cannot be written as JSON: {value!r}")


def from_plain(cls: type[T], value: Any) -> T:
    """The dataclass that `to_plain` made this value of.

    Raises:
        UnknownWord: An enum's word is unknown.
        ValueError: The value does not fit the class.
    """
    hint: Any = cls
    result: T = reader(hint)(value)
    return result


def _key(key: Any) -> str:
    if type(key) is int or isinstance(key, str):
        return str(key)
    raise TypeError(f"a mapping key must be a str or int to be written as JSON, not {key!r}")


@cache
def reader(hint: Any) -> Callable[[Any], Any]:
    """What turns a JSON value into a value of this type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (inner,) = (arg for arg in args if arg is not NoneType)
        return _optional(reader(inner))
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return _sequence(reader(args[0]))
    if origin is tuple:
        return _fixed([reader(arg) for arg in args])
    if origin is set:
        return lambda value: set(_list(value))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(args[0], reader(args[1]))
    if hasattr(hint, "from_state"):
        read: Callable[[Any], Any] = hint.from_state
        return read
    if is_dataclass(hint) and isinstance(hint, type):
        return _record(hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _word(hint)
    if hint is float:
        return _float
    if hint in (bool, int, str):
        return _exactly(hint)
    if hint is Any:
        return _raw
    raise TypeError(f"there is no way to read a field of type {hint!r} from JSON")


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _sequence(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: tuple(map(read, _list(value)))


def _fixed(reads: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def convert(value: Any) -> tuple[Any, ...]:
        return tuple(read(item) for read, item in zip(reads, _list(value), strict=True))

    return convert


def _mapping(key: type, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Of str or int keys, which JSON both holds as text."""

    def convert(value: Any) -> dict[Any, Any]:
        return {key(name): read(item) for name, item in _object(value).items()}

    return convert


def _raw(value: Any) -> Any:
    """What `to_plain` made of a state that is plain already, as a detector's is."""
    if isinstance(value, dict):
        return {key: _raw(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_raw(item) for item in value]
    return _WORDS.get(value, value) if isinstance(value, str) else value


def _record(cls: type) -> Callable[[Any], Any]:
    hints = get_type_hints(cls)
    readers = {f.name: reader(hints[f.name]) for f in fields(cls)}
    required = {
        f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING
    }

    def convert(value: Any) -> Any:
        known = {
            name: readers[name](item) for name, item in _object(value).items() if name in readers
        }
        if missing := required - known.keys():
            raise ValueError(f"{cls.__name__} lacks {', '.join(sorted(missing))}")
        return cls(**known)

    return convert


def _word(enum: type[StrEnum]) -> Callable[[Any], Any]:
    def convert(value: Any) -> StrEnum:
        try:
            return enum(value)
        except ValueError as error:
            raise UnknownWord(f"{enum.__name__} has no {value!r} in this version") from error

    return convert


def _exactly(cls: type) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if type(value) is not cls:
            raise ValueError(f"expected {cls.__name__}, found {value!r}")
        return value

    return convert


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a number, found {value!r}")
    return float(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, found {value!r}")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, found {value!r}")
    return value
