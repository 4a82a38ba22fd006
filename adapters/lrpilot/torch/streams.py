"""Work beside the training's own stream, where a device has streams; elsewhere in line with it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor


def capturing() -> bool:
    """Whether what this thread gives the device is recorded into a CUDA graph, and not done."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.cuda.is_current_stream_capturing())


class Event(Protocol):
    """A point in a device's stream."""

    def query(self) -> bool:
        """Whether the device got there; never waits."""
        ...

    def synchronize(self) -> None:
        """Wait until it does."""
        ...

    def elapsed_time(self, end: Any) -> float:
        """Milliseconds of the device from here to a later point that it got to."""
        ...


class Passed:
    """A point that was waited for: a device without streams is never behind."""

    def query(self) -> bool:
        """It is."""
        return True

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def elapsed_time(self, end: Any) -> float:
        """Unknown, and part of the call that made it."""
        return 0.0


class SideStream:
    """A second stream of one device. Only CUDA has them; work for any other is done at once."""

    _stream: Any = None

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def behind_training(self) -> Iterator[None]:
        """What is begun inside runs here, once the training stream has done what it was given."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            yield

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """See that the memory of these, which are used here, goes to nobody else before."""
        if self._stream is not None:
            for tensor in tensors:
                tensor.record_stream(self._stream)

    def mark(self, *, timing: bool = False, training: bool = False) -> Event:
        """The end of what was begun here so far, or of what the training stream was given."""
        if self._stream is None:
            return Passed()
        event = torch.cuda.Event(enable_timing=timing)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device) if training else self._stream)
        return event

    def hold_training(self, event: Any) -> None:
        """Let the training stream wait for an event of this one; the host does not."""
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_event(event)


class StepGate:
    """Lets the next optimizer step wait, on the device, for copies of what it will change.

    A step that is replayed from a CUDA graph, or compiled, does not pass here: once one was
    captured, or as long as none was seen, the training stream waits at once.

    Args:
        optimizers: those that change what is copied.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._passed = self._hidden = False
        self._awaited: list[tuple[SideStream, Event]] = []
        self._handles = [one.register_step_pre_hook(self._before_step) for one in optimizers]

    def hold(self, side: SideStream, event: Event) -> None:
        """Let the next step wait for `event` of `side`, or all that follows where it must."""
        if self._passed and not self._hidden:
            self._awaited.append((side, event))
        else:
            side.hold_training(event)

    def release(self) -> None:
        """Let the training stream wait for all that was held, now."""
        for side, event in self._awaited:
            side.hold_training(event)
        self._awaited.clear()

    def close(self) -> None:
        """Leave the optimizers alone."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _before_step(self, *_: Any) -> None:
        if torch.compiler.is_compiling() or capturing():
            self._hidden = True
            return
        self._passed = True
        self.release()
