"""A run's records fed to an engine again: what it makes of them, beside what was recorded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lrpilot_controller.core.events import Event, Input, Output
from lrpilot_controller.core.telemetry import Thinned

Feed = Callable[[Input], Sequence[Output]]
Same = Callable[[Output, Output], bool]


@dataclass(frozen=True, slots=True)
class Made:
    """An output, and the number of the record that holds it, or of the input it follows from."""

    record: int
    output: Output


@dataclass(frozen=True, slots=True)
class Difference:
    """Where replay and record part: `place` outputs before it are the same.

    `replayed` is None where the replay has no more outputs.
    """

    place: int
    recorded: Made
    replayed: Made | None


class Replay:
    """Takes a run's records in their order.

    A daemon that was restarted may have recorded an output later than the inputs that followed it,
    and one that died may not have recorded its last ones: only the sequences of outputs count.

    Args:
        feed: what makes outputs of an input, such as an engine's `feed`.

    Attributes:
        records: how many it has taken.
        recorded: the outputs among the records.
        replayed: the outputs that followed from the inputs among them.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.records = 0
        self.recorded: list[Made] = []
        self.replayed: list[Made] = []

    def take(self, record: int, event: Event) -> None:
        """The next record."""
        self.records += 1
        if isinstance(event, Input):
            self.replayed += [Made(record, output) for output in self._feed(event)]
        elif not isinstance(event, Thinned):
            self.recorded.append(Made(record, event))

    def difference(self, same: Same) -> Difference | None:
        """The first difference; None where everything recorded was made again."""
        for place, recorded in enumerate(self.recorded):
            replayed = self.replayed[place] if place < len(self.replayed) else None
            if replayed is None or not same(recorded.output, replayed.output):
                return Difference(place, recorded, replayed)
        return None

    def missing(self) -> list[Made]:
        """What the replay made beyond the record, where they do not differ before that."""
        return self.replayed[len(self.recorded) :]
