"""A run in a line is the head of its story, and reads little of its telemetry."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from lrpilot_controller.core.events import Event, SessionLost, SessionOpened
from lrpilot_controller.core.model import Attempt, ParamGroup
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal import Journal, MemoryJournal, RunKey, SqlJournal
from lrpilot_controller.journal.thinning import coarser
from lrpilot_controller.story import Summary, story_of, summaries

RUN = RunKey("demo", "a")
OLD = Path(__file__).parent / "journal" / "old" / "before_signals.db"


def opened(name: str, start: int = 0) -> SessionOpened:
    return SessionOpened(Attempt(name, (ParamGroup("all", 0.1),), 0.0, 1.0, start_step=start))


def samples(first: int, count: int = 10, attempt: str = "t1", validation: bool = False) -> Samples:
    steps = tuple(range(first - 1, first - 1 + count))
    none = (0,) * count
    losses = tuple(1 / (step + 1) for step in steps)
    return Samples(attempt, first, (validation,) * count, steps, none, none, losses, ((0.02,),))


def told(journal: Journal) -> list[Summary]:
    found = summaries(journal)
    assert found == [Summary.of(story_of(journal, str(run))) for run in journal.runs()]
    return found


@pytest.mark.parametrize(
    ("happened", "step", "loss"),
    [
        ([opened("t1")], 0, None),
        ([opened("t1"), *(samples(k) for k in range(1, 100, 10))], 100, 1 / 100),
        ([opened("t1"), samples(1), SessionLost("t1")], 10, 1 / 10),
        ([opened("t1"), samples(1), SessionLost("t1"), samples(11)], 20, 1 / 20),
        ([opened("t1"), samples(1), opened("t2", 5)], 5, 1 / 10),
        ([opened("t1"), samples(1), opened("t2", 5), samples(1, attempt="t2")], 10, 1 / 10),
        ([opened("t1"), *(samples(k) for k in range(1, 100, 10)), samples(101, 1)], 101, 1 / 101),
        (
            [opened("t1"), samples(1), *(samples(k, 1, validation=True) for k in range(11, 30))],
            10,
            1 / 10,
        ),
        ([opened("t1"), coarser([samples(1, 900)])], 900, 1 / 900),
    ],
    ids=["opened", "long", "lost", "back", "resumed", "goes on", "one", "validations", "thinned"],
)
def test_it_is_the_head_of_the_story(
    happened: Sequence[Event], step: int, loss: float | None
) -> None:
    journal = MemoryJournal()
    journal.append([(RUN, 0.0, event) for event in happened])
    [summary] = told(journal)
    assert (summary.step, summary.loss) == (step, loss)


def test_real_runs(tmp_path: Path) -> None:
    journal = SqlJournal.open(shutil.copy(OLD, tmp_path / "journal.db"), readonly=True)
    assert [one.applied > 0 for one in told(journal)] == [True, True, True]
    assert summaries(journal, "other") == []
    journal.close()


def test_little_telemetry_is_read(tmp_path: Path) -> None:
    journal = SqlJournal.open(tmp_path / "journal.db")
    journal.append(
        [(RUN, 0.0, opened("t1")), *((RUN, 0.0, samples(k)) for k in range(1, 5000, 10))]
    )
    [(_, records)] = journal.across((SessionOpened,), (Samples, Thinned), 4)
    assert [record.n for record in records] == [1, 498, 499, 500, 501]
    journal.close()
