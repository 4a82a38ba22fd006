"""Serves the batches of a search again, so that its programs are compared on the same data."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from lrpilot.copies import CannotKeep, Maker, first_dimension, keep

log = logging.getLogger("lrpilot")

# The longest program of a search's ladder has so many; all batches of these steps are kept.
MOST_STEPS = 80
# Host memory; a search goes on with fresh batches beyond it.
MOST_BYTES = 512 * 2**20

T = TypeVar("T")

# A batch's step, counted from a program's first, and its number among that step's batches.
Place = tuple[int, int]


class Replay:
    """Keeps the first batches since a search began.

    A step that is made of several batches gets the same ones each time, even where an epoch's end
    cut a step before it short.

    Args:
        warn: told once, with a text for the user, when a batch cannot be kept.

    Attributes:
        works: whether batches come through here, and can be kept.
        active: whether there may be something to do for the next batch.
        serving: whether the last step's batch, or the next one's, came through here.
        batch_size: the first dimension of the first batch's first tensor; None if unknown.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._recording = False
        self._again = False
        self._seen = False
        self._broken = self._full = False
        self._step = self._micro = 0  # the next batch's place
        self._bytes = 0
        self._makers: dict[Place, Maker] = {}
        self.active = True
        self.works = False
        self.serving = False
        self.batch_size: int | None = None

    def record(self) -> None:
        """A search is wanted: keep batches from the next one on."""
        if not self._broken and not self._full:
            self._recording = self.active = True

    def restart(self) -> None:
        """Count from here: what was served before the search began was no part of it."""
        if self.active:
            self._forget()
            self._micro = 0

    def begin(self, *, again: bool, goes_on: bool) -> None:
        """A program begins.

        Args:
            again: it trains on the batches since the search began.
            goes_on: from the batch after the last one served, as where it begins at the state that
                another program ended in; else from the first.
        """
        self.record()
        self.active = True
        self._again = again
        if not goes_on:
            self._step = self._micro = 0

    def stepped(self) -> None:
        """A step was made; were its batches served here?"""
        self.serving, self._micro = self._micro > 0, 0
        self._step += 1

    def stop(self) -> None:
        """The search is over: free what was kept."""
        self._recording = self._again = self.active = False
        self._forget()

    def serve(self, batch: T) -> T:
        """What is trained on in the place of the loader's `batch`: itself, or a kept one."""
        self.serving = True
        place = (self._step, self._micro)
        self._micro += 1
        if not self.active:
            return batch
        try:
            if not self._seen:
                self._look_at(batch)
            if self._again and place in self._makers:
                copy: T = self._makers[place]()
                return copy
            if self._recording and place[0] < MOST_STEPS and place not in self._makers:
                self._keep(place, batch)
        except CannotKeep as error:
            self._break(f"{error} cannot be copied")
        except Exception as error:  # no memory, or a type with ideas of its own
            log.debug("LRPilot: a batch could not be copied", exc_info=True)
            self._break(f"a batch could not be copied ({error!r})")
        return batch

    def _forget(self) -> None:
        self._step, self._bytes, self._makers, self._full = 0, 0, {}, False

    def _look_at(self, batch: Any) -> None:
        """Whether batches can be kept at all, from the first one."""
        self._seen = True
        self.batch_size = first_dimension(batch)
        if not self._recording:
            self.active = False
            try:
                self.works = keep(batch, MOST_BYTES) is not None
            except Exception:  # it is told when a search wants it
                log.debug("LRPilot: batches cannot be kept", exc_info=True)

    def _keep(self, place: Place, batch: Any) -> None:
        kept = keep(batch, MOST_BYTES - self._bytes)
        if kept is None:
            self._recording = False
            self._full = True
            return
        make, size = kept
        self._bytes += size
        self._makers[place] = make
        self.works = True

    def _break(self, why: str) -> None:
        self.stop()
        self._broken, self.works = True, False
        self._warn(f"{why}: the search trains on fresh batches, and is less sure")


def again(loader: Iterable[T]) -> Iterator[T]:
    """The loader's batches, from its beginning as often as it has one."""
    empty = True
    while True:
        ended = True
        for batch in loader:
            yield batch
            empty = ended = False
        if empty:
            raise ValueError("search: the loader has no batch")
        if ended:
            return
