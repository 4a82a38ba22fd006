"""A run's story that is kept up with its journal, without reading anything twice."""

from collections import deque
from collections.abc import Sequence

from lrpilot_controller.journal.base import Journal, Record, RunKey
from lrpilot_controller.story.fold import Fold
from lrpilot_controller.story.model import Story

# What waits for the next look. More than that is read from the journal again, so that a run that
# nobody looks at for a while costs no memory.
_HELD = 1024


class Follower:
    """Folds what is new in a run's journal into its story.

    Args:
        journal: Where the run is recorded.
        run: Which one.
        points: The most points of the curve, at least 4.
    """

    def __init__(self, journal: Journal, run: RunKey, *, points: int = 500) -> None:
        self._journal = journal
        self._run = run
        self._fold = Fold(run, points)
        self._heard: deque[Record] = deque(maxlen=_HELD)
        self._n = 0

    def heard(self, records: Sequence[Record]) -> None:
        """These were journaled. May be called by another thread than the rest; takes no time."""
        self._heard.extend(records)

    def read(self) -> bool:
        """Takes what the journal holds beyond what is known; whether there was anything.

        Raises:
            JournalError: it cannot be read now.
        """
        before = self._n
        for record in self._journal.records(self._run, after=self._n):
            self._take(record)
        return self._n > before

    def catch_up(self) -> None:
        """Takes what was heard, and from the journal what was not.

        Raises:
            JournalError: it cannot be read now.
        """
        while self._heard:
            record = self._heard.popleft()
            if record.n > self._n + 1:
                self.read()
            if record.n > self._n:
                self._take(record)

    def story(self) -> Story:
        """The story of what was taken so far."""
        return self._fold.story()

    def _take(self, record: Record) -> None:
        self._fold.feed(record.event)
        self._n = record.n
