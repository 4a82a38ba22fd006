"""A story that is kept up with its journal is the story of the whole journal."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.journal import MemoryJournal, Record, RunKey
from lrpilot_controller.story import Follower, tell
from support.streams import Quadratic, events_of

RUN = RunKey("demo", "exp-1")


def rescued() -> list[Record]:
    run = Quadratic(edge=0.05)
    run.run(200)
    return [Record(n, float(n), event) for n, event in enumerate(events_of(run), 1)]


RECORDS = rescued()


class Watched:
    """A journal, somebody who hears what is written to it, and a follower."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.follower = Follower(self.journal, RUN)
        self.written = 0

    def write(self, count: int, *, heard: bool = True) -> None:
        new = RECORDS[self.written : self.written + count]
        self.written += len(new)
        self.journal.append([(RUN, record.at, record.event) for record in new])
        if heard:
            self.follower.heard(new)

    def is_right(self) -> bool:
        return self.follower.story() == tell(RUN, self.journal.records(RUN))


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(["write", "unheard", "look", "read"]), st.integers(1, 9)))
)
def test_whatever_is_heard_or_missed_no_record_is_told_twice_or_never(
    moves: list[tuple[str, int]],
) -> None:
    watched = Watched()
    for move, count in moves:
        match move:
            case "write":
                watched.write(count)
            case "unheard":
                watched.write(count, heard=False)
            case "look":
                watched.follower.catch_up()
            case "read":
                watched.follower.read()
    watched.write(1)  # by then it knows what it missed
    watched.follower.catch_up()
    assert watched.is_right()


def test_what_waited_too_long_is_read_from_the_journal() -> None:
    watched = Watched()
    watched.follower.read()
    for _ in range(20):  # the same records again and again: more than are kept
        watched.follower.heard(RECORDS)
    watched.write(len(RECORDS))
    watched.follower.catch_up()
    assert watched.is_right()


def test_reading_says_whether_there_was_anything_new() -> None:
    watched = Watched()
    assert not watched.follower.read()
    watched.write(3, heard=False)
    assert watched.follower.read()
    assert not watched.follower.read()
