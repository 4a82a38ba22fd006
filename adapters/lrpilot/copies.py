"""Copies of batches of any structure: kept on the host, made anew each time they are served."""

import copy
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

# Makes a fresh copy of what was kept, on the device that it came from.
Maker = Callable[[], Any]

_SIMPLE = (int, float, complex, bool, str, bytes, type(None))


class CannotKeep(TypeError):
    """Something in a batch cannot be copied; the text names its place and type."""


class _Full(Exception):
    """More bytes than there is room for."""


def keep(batch: Any, room: int) -> tuple[Maker, int] | None:
    """Keep a copy of a batch on the host.

    Tensors, arrays, numbers, text, None, and lists, tuples, named tuples, dicts and dataclasses of
    them are copied part by part; anything else by `copy.deepcopy`.

    Args:
        batch: what a loader gave.
        room: bytes that it may take.

    Returns:
        What makes copies of it, and its bytes; None where there is not enough room.

    Raises:
        CannotKeep: it holds something that cannot be copied, such as a generator or a file.
    """
    keeper = _Keeper(room)
    try:
        maker = keeper.keep(batch, "batch")
    except _Full:
        return None
    return maker, room - keeper.room


class _Keeper:
    """One batch's walk, with the bytes that are left."""

    def __init__(self, room: int) -> None:
        self.room = room

    def keep(self, value: Any, place: str) -> Maker:
        if isinstance(value, _SIMPLE):
            return lambda: value
        if is_tensor(value):
            return self._tensor(value)
        if _is_array(value):
            self._take(value.nbytes)
            kept = copy.deepcopy(value)  # an array of objects is copied with them
            return lambda: copy.deepcopy(kept)
        kind = type(value)
        if kind is dict:
            return self._dict(value, place)
        if kind in (list, tuple) or (isinstance(value, tuple) and hasattr(value, "_make")):
            return self._sequence(value, place)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._dataclass(value, place)
        return self._other(value, place)

    def _take(self, size: int) -> None:
        if size > self.room:
            raise _Full
        self.room -= size

    def _tensor(self, value: Any) -> Maker:
        self._take(_bytes(value))
        device, learns = value.device, value.requires_grad
        host = value.detach().to("cpu", copy=True)
        return lambda: host.to(device, copy=True).requires_grad_(learns)

    def _dict(self, value: dict[Any, Any], place: str) -> Maker:
        makers = {key: self.keep(item, f"{place}[{key!r}]") for key, item in value.items()}
        return lambda: {key: make() for key, make in makers.items()}

    def _sequence(self, value: Any, place: str) -> Maker:
        makers = [self.keep(item, f"{place}[{i}]") for i, item in enumerate(value)]
        build = getattr(type(value), "_make", type(value))
        return lambda: build([make() for make in makers])

    def _dataclass(self, value: Any, place: str) -> Maker:
        makers = {
            field.name: self.keep(getattr(value, field.name), f"{place}.{field.name}")
            for field in dataclasses.fields(value)
            if hasattr(value, field.name)
        }
        shell = copy.copy(value)

        def make() -> Any:
            made = copy.copy(shell)
            for name, part in makers.items():
                object.__setattr__(made, name, part())  # a frozen one as well
            return made

        for name in makers:  # the user's own parts are not held
            object.__setattr__(shell, name, None)
        return make

    def _other(self, value: Any, place: str) -> Maker:
        for part in parts_of(value):
            if is_tensor(part):
                self._take(_bytes(part))
        try:
            kept = copy.deepcopy(value)
        except Exception as error:
            raise CannotKeep(f"{place}: {type(value).__name__}") from error
        return lambda: copy.deepcopy(kept)


def parts_of(value: Any, depth: int = 4) -> Iterator[Any]:
    """An object and what lies inside it, as far as it is easily seen."""
    yield value
    inner: Iterable[Any] = ()
    if depth == 0 or is_tensor(value) or _is_array(value) or isinstance(value, _SIMPLE):
        return
    if isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, (list, tuple)):
        inner = value
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        inner = vars(value).values()
    for item in inner:
        yield from parts_of(item, depth - 1)


def first_dimension(batch: Any) -> int | None:
    """The first dimension of the first tensor or array in a batch; None if there is none."""
    for part in parts_of(batch):
        if (is_tensor(part) or _is_array(part)) and len(part.shape) > 0:
            return int(part.shape[0])
    return None


def is_tensor(value: Any) -> bool:
    """Whether this is a tensor; without importing torch, since else there is none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _bytes(tensor: Any) -> int:
    return int(tensor.numel()) * int(tensor.element_size())
