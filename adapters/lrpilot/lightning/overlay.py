"""Lays a kept batch over the one that Lightning is about to train on.

A callback cannot hand Lightning another batch, only change what is in this one. The tensors get
other data, never other values in the same memory: that may be the data set itself, as where a
loader yields the same tensors in each epoch. For the same reason all of it is undone afterwards.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from lrpilot.copies import is_tensor, parts_of

log = logging.getLogger("lrpilot")

Put = Callable[[Any], None]
# What a value becomes, what it was, and how it is put into its place.
Change = tuple[Any, Any, Put]


class Overlay:
    """What lies over a batch, until it is lifted."""

    def __init__(self) -> None:
        self._under: list[tuple[Any, Put]] = []

    def lay(self, batch: Any, kept: Any) -> bool:
        """Make `batch` hold what `kept` holds.

        Tensors wherever they are, other values where their container can be changed.

        Returns:
            Whether it could be; else, as where shapes differ, nothing was touched.
        """
        self.lift()
        try:
            for new, old, put in list(_changes(batch, kept, None)):
                put(new)
                self._under.append((old, put))
        except Exception as error:  # other shapes, or a type with ideas of its own
            log.debug("LRPilot: a batch is trained on as it is: %r", error)
            self.lift()
            return False
        return True

    def lift(self) -> None:
        """Put back what was there before."""
        under, self._under = self._under, []
        for old, put in reversed(under):
            put(old)


class _Differs(Exception):
    """The two batches are not alike."""


def _changes(old: Any, new: Any, put: Put | None) -> Iterator[Change]:
    """What turns one batch into the other; `put` is missing where the container is fixed."""
    if is_tensor(old) and is_tensor(new):
        if (old.shape, old.dtype, old.device) != (new.shape, new.dtype, new.device):
            raise _Differs(f"{tuple(old.shape)} {old.dtype}, not {tuple(new.shape)} {new.dtype}")
        yield new.detach(), old.detach(), partial(setattr, old, "data")
    elif not (_has_tensors(old) or _has_tensors(new)):
        if put is not None:
            yield new, old, put
    else:
        mine, others = _inner(old), _inner(new)
        if type(old) is not type(new) or mine.keys() != others.keys():
            raise _Differs(f"{type(old).__name__} with {list(mine)}, not {list(others)}")
        for name, (item, place) in mine.items():
            yield from _changes(item, others[name][0], place)


def _has_tensors(value: Any) -> bool:
    return any(is_tensor(part) for part in parts_of(value))


def _inner(value: Any) -> dict[Any, tuple[Any, Put | None]]:
    """What lies in a container, by name, and how each is replaced there."""
    if isinstance(value, Mapping):
        fixed = not isinstance(value, MutableMapping)
        return {k: (v, None if fixed else partial(_set, value, k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        fixed = isinstance(value, tuple)
        return {i: (v, None if fixed else partial(_set, value, i)) for i, v in enumerate(value)}
    frozen = getattr(getattr(value, "__dataclass_params__", None), "frozen", False)
    names = (
        [f.name for f in fields(value)] if is_dataclass(value) else getattr(value, "__dict__", ())
    )
    return {
        name: (getattr(value, name), None if frozen else partial(setattr, value, name))
        for name in names
    }


def _set(container: Any, key: Any, value: Any) -> None:
    container[key] = value
