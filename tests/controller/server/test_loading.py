"""A run is loaded from its newest state and what came after it, as if all of it were replayed."""

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lrpilot_controller.core.events import Commanded, Decided, Resolved, SearchEnded, SessionLost
from lrpilot_controller.core.model import Action, Decision, DecisionStatus, Mode
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal import MemoryJournal, Record, SqlJournal
from lrpilot_controller.journal.base import Checkpoint
from lrpilot_controller.server import ledger
from lrpilot_controller.server.loading import load, text_of
from support.recorded import Simulation, replayed, simulate, simulations
from support.resumed import KEY, load_from, states
from support.streams import ATTEMPT, Quadratic, Trainer, descent, events_of, explosion


def records() -> list[Record]:
    """A run that blows up, comes back, and blows up again."""
    run = Quadratic(edge=0.02)
    run.run(150)
    run.feed(SessionLost("t1"))
    scale = run.lr / ATTEMPT.groups[0].base_lr
    run.open(
        replace(ATTEMPT, id="t2", resumes="t1", start_step=100, branch=run.branch, scale=scale)
    )
    run.snapshot(1, proven=True)
    run.run(60)
    return [Record(n, float(n), event) for n, event in enumerate(events_of(run), 1)]


RECORDS = records()
STATES = list(states(RECORDS))


def journal_of(found: Sequence[Record] = RECORDS) -> MemoryJournal:
    journal = MemoryJournal()
    journal.append([(KEY, record.at, record.event) for record in found])
    return journal


@pytest.mark.parametrize("place", range(0, len(STATES), 7))
def test_from_any_state_the_same_run_is_loaded(place: int) -> None:
    n, state = STATES[place]
    whole, missing = load(journal_of(), KEY)
    assert missing == []
    assert text_of(load_from(RECORDS, n, state)) == text_of(whole)


def test_what_the_journal_does_not_hold_yet_is_made_from_a_state_as_well() -> None:
    last = max(n for n, r in enumerate(RECORDS) if isinstance(r.event, Decided))
    n, state = [found for found in STATES if found[0] < last - 1][-1]
    journal = journal_of(RECORDS[:last])
    journal.save_checkpoint(KEY, n, state)
    assert RECORDS[last].event in load(journal, KEY)[1]
    assert load(journal, KEY)[1] == load(journal_of(RECORDS[:last]), KEY)[1]


class Watched(MemoryJournal):
    """A journal that knows from where it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_after: list[int] = []

    def records(self, run, *, after=0, kinds=None):  # type: ignore[no-untyped-def]
        self.read_after.append(after)
        return super().records(run, after=after, kinds=kinds)


def test_what_is_before_the_state_is_not_read() -> None:
    journal = Watched()
    journal.append([(KEY, record.at, record.event) for record in RECORDS])
    n, state = STATES[-20]
    journal.save_checkpoint(KEY, n, state)
    load(journal, KEY)
    assert journal.read_after == [n]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[:-100], "is damaged"),
        (lambda text: "[]", "is damaged"),
        (lambda text: text.replace('"next_seq"', '"next"'), "is damaged"),
        (lambda text: text.replace('"format": "', '"format": "0'), "is not used"),
    ],
)
def test_a_state_that_is_of_no_use_is_told_of_and_the_older_one_used(
    damage, told: str, caplog: pytest.LogCaptureFixture
) -> None:  # type: ignore[no-untyped-def]
    caplog.set_level(logging.INFO)
    journal = Watched()
    journal.append([(KEY, record.at, record.event) for record in RECORDS])
    (older, good), (newer, bad) = STATES[10], STATES[40]
    journal.save_checkpoint(KEY, older, good)
    journal.save_checkpoint(KEY, newer, damage(bad))
    run, _ = load(journal, KEY)
    assert journal.read_after == [older]
    assert f"demo/run: the state after record {newer} {told}" in caplog.text
    assert text_of(run) == text_of(load(journal_of(), KEY)[0])


def test_damage_of_the_file_costs_a_replay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = SqlJournal.open(tmp_path / "journal.db")
    journal.append([(KEY, record.at, record.event) for record in RECORDS])
    n, state = STATES[-1]
    journal.save_checkpoint(KEY, n, state)
    with sqlite3.connect(tmp_path / "journal.db") as file:
        file.execute("UPDATE checkpoints SET state = x'5a0102'")
    file.close()
    assert text_of(load(journal, KEY)[0]) == text_of(load(journal_of(), KEY)[0])
    assert "the run's records are replayed" in caplog.text
    journal.close()


def test_where_a_replay_from_a_state_differs_the_journal_stands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    n, state = STATES[10]
    other = Decision(70, Action.CUT, "as another version decides", 0, 0, factor=0.5)
    journal = journal_of(RECORDS[:n])
    journal.save_checkpoint(KEY, n, state)
    journal.append([(KEY, 0.0, Decided(other)), *((KEY, r.at, r.event) for r in RECORDS[n:])])
    run, missing = load(journal, KEY)
    assert missing == []
    assert f"first at record {n + 1}" in caplog.text
    assert run.engine.state()["desk"]["_last"] == 70  # type: ignore[index]


# -- a daemon that keeps states


def ones() -> list[Simulation]:
    """Some kinds of recorded runs, each of which brings about other states."""
    kinds = ("no snapshots", "resumed", "search commanded", "search interrupted")
    return [{one.kind: one for one in simulations()}[kind] for kind in kinds]


@pytest.mark.parametrize("one", ones(), ids=lambda one: one.kind)
def test_states_at_every_turn_change_nothing(
    one: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Daemons that die and go on from a state: what they record is what a replay of all gives."""
    monkeypatch.setattr(ledger, "DUE", 1)
    recorded = simulate(replace(one, deaths=range(5, 1000, 23)), tmp_path)
    assert replayed(recorded).difference is None
    journal = SqlJournal.open(tmp_path / "journal.db", readonly=True)
    kept = journal.checkpoint(recorded.key)
    journal.close()
    assert isinstance(kept, Checkpoint)


# -- telemetry that is thinned, and no state of it


def thinned(found: Sequence[Record], kept: int) -> MemoryJournal:
    """Their journal, of which all but the newest telemetry of each attempt is thinned."""
    journal = journal_of(found)
    columns = ("validation", "step", "branch", "program", "loss")
    for attempt in {r.event.attempt for r in found if isinstance(r.event, Samples)}:
        old = [
            (r.n, r.event)
            for r in found
            if isinstance(r.event, Samples) and r.event.attempt == attempt
        ][:-kept]
        if not old:
            continue
        (first, begin), (last, end) = old[0], old[-1]
        ends = {name: getattr(begin, name)[:1] + getattr(end, name)[-1:] for name in columns}
        rows = replace(begin, lrs=(begin.lrs[0], end.lrs[-1]), **ends)
        train = sum(len(samples.step) for _, samples in old)
        seq = (begin.first_seq, end.next_seq - 1)
        journal.thin(KEY, first, last, Thinned(rows, seq, end.next_seq, train, 256))
    return journal


def recorded_by(one: Simulation, folder: Path) -> list[Record]:
    recorded = simulate(one, folder)
    journal = SqlJournal.open(folder / "journal.db", readonly=True)
    found = list(journal.records(recorded.key))
    journal.close()
    return found


@pytest.mark.parametrize("one", ones(), ids=lambda one: one.kind)
@pytest.mark.parametrize("kept", [1, 30])
def test_without_a_state_a_thinned_run_goes_on_from_its_records(
    one: Simulation, kept: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = recorded_by(one, tmp_path)
    whole, _ = load(journal_of(found), KEY)
    run, more = load(thinned(found, kept), KEY)
    assert caplog.text.count("demo/run: its telemetry is thinned") == 1
    assert run.state_dict() == whole.state_dict()
    assert run.recorded == whole.recorded
    view, known = run.engine.view, whole.engine.view
    assert view is not None
    assert known is not None
    assert (view.plan, view.branch, view.frozen) == (known.plan, known.branch, known.frozen)
    assert (view.step, view.lr, view.rollbacks) == (known.step, known.lr, known.rollbacks)
    assert [type(output) for output in more] == [SearchEnded] * (whole.engine.state() is None)
    numbers = [r.event.decision.id for r in found if isinstance(r.event, Decided)]
    assert text_of(run) is not None
    assert run.engine.state()["desk"]["_last"] == max(numbers)  # type: ignore[index]


def test_a_thinned_run_that_waits_for_a_person_waits_no_longer() -> None:
    run = Trainer(replace(ATTEMPT, mode=Mode.ADVISE))
    run.snapshot(1, proven=True)
    for losses in (descent(200), explosion(20), explosion(2)):
        run.train(losses)
    found = [Record(n, float(n), event) for n, event in enumerate(events_of(run), 1)]
    loaded, more = load(thinned(found, 1), KEY)
    (decision,) = run.decisions
    assert more == [Resolved(decision.id, DecisionStatus.EXPIRED)]
    again = loaded.take(Commanded("set_lr", "ann", "", lr=0.01))
    assert [o.decision.id for o in again if isinstance(o, Decided)] == [decision.id + 1]


def test_a_state_above_what_is_thinned_makes_it_whole() -> None:
    journal = thinned(RECORDS, 30)
    n, state = STATES[-20]
    journal.save_checkpoint(KEY, n, state)
    assert text_of(load(journal, KEY)[0]) == text_of(load(journal_of(), KEY)[0])
