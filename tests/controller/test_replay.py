"""A replay of a run's journal: what came out then comes out again, byte by byte."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.config import Config, RunSection
from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    Configured,
    Decided,
    Event,
    Input,
    OutcomeMeasured,
    Output,
    Refused,
    SessionLost,
    SessionOpened,
    SignalSeen,
)
from lrpilot_controller.core.model import DecisionStatus, Mode, Outcome, Verdict
from lrpilot_controller.core.settings import CoreSettings, GuardSettings, Limits
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.errors import JournalError
from lrpilot_controller.journal import MemoryJournal, Record, RunKey, SqlJournal
from lrpilot_controller.story.replay import Check, check, compare, start_of
from support.journaled import Journaled
from support.resumed import states
from support.searcher import Searcher
from support.streams import ATTEMPT, Quadratic, Trainer, descent, events_of, explosion

KEY = RunKey("demo", "exp-1")


def records(events: Sequence[Event]) -> list[Record]:
    return [Record(n, float(n), event) for n, event in enumerate(events, 1)]


def checked(events: Sequence[Event]) -> Check:
    return check(KEY, records(events))


def outputs(events: Sequence[Event]) -> list[int]:
    """Where they are."""
    return [place for place, event in enumerate(events) if isinstance(event, Output)]


def rescued() -> Quadratic:
    """A run that blew up at once, was rolled back, and then went well."""
    run = Quadratic(edge=0.05)
    run.run(250)
    run.goodbye()
    return run


def searched() -> Searcher:
    run = Searcher()
    run.search()
    run.go_on(40)
    run.goodbye()
    return run


RESCUED, SEARCHED = events_of(rescued()), events_of(searched())
assert {type(RESCUED[place]) for place in outputs(RESCUED)} >= {SignalSeen, Decided}


# -- the same


@pytest.mark.parametrize("events", [RESCUED, SEARCHED], ids=["rescued", "searched"])
def test_what_came_out_comes_out_again(events: list[Event]) -> None:
    found = checked(events)
    assert found.difference is None
    assert found.missing == ()
    assert found.records == len(events)
    assert sum(found.outputs.values()) == len(outputs(events)) > 4
    assert found.to_json()["identical"] is True


def test_an_empty_journal_is_the_same() -> None:
    assert checked([]) == Check(KEY, 0, {}, None, ())


@given(st.integers(0, 40))
def test_an_output_may_have_been_recorded_late(delay: int) -> None:
    """As by a daemon that was started after another one had died between input and output."""
    place = next(i for i in outputs(RESCUED) if isinstance(RESCUED[i], Decided))
    later = next(i for i in outputs(RESCUED) if i > place)
    late = [*RESCUED]
    late.insert(min(place + delay, later - 1), late.pop(place))
    assert checked(late).difference is None


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_outputs_that_no_daemon_lived_to_record_are_told_and_are_no_difference(lost: int) -> None:
    gone = outputs(RESCUED)[-lost:]
    dead = [event for place, event in enumerate(RESCUED) if place not in gone]
    found = checked(dead)
    assert found.difference is None
    assert [made.output for made in found.missing] == [RESCUED[place] for place in gone]
    assert all(isinstance(dead[made.record - 1], Input) for made in found.missing)
    assert len(found.to_json()["not_recorded"]) == lost


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_daemon_that_dies_before_it_decides_leaves_a_journal_that_replays(
    tmp_path: Path, before: int
) -> None:
    """Whatever input it was after which it died, the next daemon records what follows."""
    alone = rescued()
    deciding = [
        n
        for n, event in enumerate(RESCUED)
        if isinstance(event, Input) and isinstance(RESCUED[min(n + 1, len(RESCUED) - 1)], Output)
    ]
    number = alone.inputs.index(RESCUED[deciding[before]]) + 1
    daemon = Journaled(tmp_path / "s", deaths={number})
    run = Quadratic(edge=0.05, engine=daemon)
    run.run(250)
    run.goodbye()
    daemon.close()
    assert run.outputs == alone.outputs

    journal = SqlJournal.open(tmp_path / "s" / "journal.db", readonly=True)
    kept = [record.event for record in journal.records(daemon.key)]
    journal.close()
    reopened = [i for i, event in enumerate(kept) if isinstance(event, SessionOpened)]
    assert len(reopened) == 2
    late = [i for i, event in enumerate(kept) if isinstance(event, SessionLost)]
    assert isinstance(kept[late[0] + 1], Output), "recorded by the next daemon"
    assert check(daemon.key, records(kept)).difference is None


def rebatched(samples: Samples, sizes: list[int]) -> list[Samples]:
    """The same samples in batches of these sizes, again and again."""
    parts, begin, turn = [], 0, 0
    while begin < len(samples.step):
        end = begin + sizes[turn % len(sizes)]
        parts.append(
            replace(
                samples,
                first_seq=samples.first_seq + begin,
                validation=samples.validation[begin:end],
                step=samples.step[begin:end],
                branch=samples.branch[begin:end],
                program=samples.program[begin:end],
                loss=samples.loss[begin:end],
            )
        )
        begin, turn = end, turn + 1
    return parts


@settings(max_examples=50)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_samples_that_came_in_other_batches_give_the_recorded_outputs(sizes: list[int]) -> None:
    run = Trainer(replace(ATTEMPT, can_snapshot=False))
    run.train([*descent(80), math.nan, *descent(40)])
    run.train(explosion(60))
    run.apply(run.decisions[-1])
    run.train(descent(120))
    parts: list[Event] = []
    for event in events_of(run):
        parts += rebatched(event, sizes) if isinstance(event, Samples) else [event]
    # All outputs go to the end: a decision may now come before other samples of its old batch.
    parts.sort(key=lambda event: isinstance(event, Output))
    found = checked(parts)
    assert found.difference is None
    assert found.missing == ()
    assert sum(found.outputs.values()) > 4


# -- not the same


@pytest.mark.parametrize("which", [0, 2, -1])
def test_the_first_difference_is_named_down_to_the_last_bit(which: int) -> None:
    # The last one that has a float to change.
    places = [i for i in outputs(RESCUED) if isinstance(RESCUED[i], SignalSeen | Decided)]
    place = places[min(which, len(places) - 1)]
    old = RESCUED[place]
    if isinstance(old, SignalSeen):
        bent = math.nextafter(old.signal.severity, 2)
        new: Event = SignalSeen(replace(old.signal, severity=bent))
    else:
        assert isinstance(old, Decided)
        bent = math.nextafter(old.decision.factor, 2)
        new = Decided(replace(old.decision, factor=bent))
    found = checked([*RESCUED[:place], new, *RESCUED[place + 1 :]])
    difference = found.difference
    assert difference is not None
    assert difference.place == outputs(RESCUED).index(place)
    assert (difference.recorded.record, difference.recorded.output) == (place + 1, new)
    assert difference.replayed is not None
    assert difference.replayed.output == old
    told = found.to_json()["difference"]
    assert told["recorded"] != told["replayed"]
    assert json.dumps(told, allow_nan=False)


def test_an_output_that_is_missing_in_the_middle_is_a_difference() -> None:
    first, second, *_ = outputs(RESCUED)
    found = checked([*RESCUED[:first], *RESCUED[first + 1 :]])
    assert found.difference is not None
    assert found.difference.recorded.output == RESCUED[second]
    assert found.difference.replayed is not None
    assert found.difference.replayed.output == RESCUED[first]
    assert found.missing == ()


def test_an_output_that_nothing_brings_about_is_a_difference() -> None:
    outcome = OutcomeMeasured(Outcome(9, Verdict.IMPROVED, 0.5, 50))
    found = checked([*RESCUED, outcome])
    assert found.difference is not None
    assert found.difference.place == len(outputs(RESCUED))
    assert found.difference.recorded.output == outcome
    assert found.difference.replayed is None
    assert found.to_json()["difference"]["replayed"] is None


# -- other settings


def test_the_settings_of_the_run_change_nothing() -> None:
    for events in (RESCUED, SEARCHED):
        rows = compare(KEY, records(events), Config())
        assert all(row.same for row in rows)
        assert [row.recorded for row in rows] == [
            event for event in events if isinstance(event, SignalSeen | Decided | Refused)
        ]


def test_other_settings_are_compared_step_by_step() -> None:
    rows = compare(KEY, records(RESCUED), Config(CoreSettings(GuardSettings(factor=0.2))))
    assert [row.step for row in rows] == sorted(row.step for row in rows)
    changed = [row for row in rows if not row.same]
    assert changed
    first = changed[0]
    assert isinstance(first.recorded, Decided)
    assert isinstance(first.other, Decided)
    assert first.recorded.decision.factor == pytest.approx(1 / 3)
    assert first.other.decision.factor == pytest.approx(0.2)
    assert first.step == first.recorded.decision.step == first.other.decision.step
    signals = [row for row in rows if isinstance(row.recorded, SignalSeen)]
    assert signals
    assert all(row.same for row in signals), "the losses are those of the recorded run"


def test_the_settings_that_a_run_was_recorded_with_are_in_its_journal() -> None:
    careful = Configured(CoreSettings(GuardSettings(factor=0.2)))
    engine = Engine()
    inputs = [careful, *rescued().inputs]
    events = [e for event in inputs for e in (event, *engine.feed(event))]
    assert checked(events).difference is None
    without = checked(events[1:])
    assert without.difference is not None
    assert isinstance(without.difference.recorded.output, Decided)
    rows = compare(KEY, records(events), Config())
    changed = next(row for row in rows if not row.same)
    assert isinstance(changed.recorded, Decided)
    assert isinstance(changed.other, Decided)
    assert changed.recorded.decision.factor == pytest.approx(0.2)
    assert changed.other.decision.factor == pytest.approx(1 / 3)


def test_sections_count_for_the_runs_that_they_mean() -> None:
    observed = RunSection("demo/*", limit=Mode.OBSERVE)
    statuses = {
        name: {
            row.other.decision.status
            for row in compare(
                RunKey(name, "exp-1"), records(RESCUED), Config(sections=(observed,))
            )
            if isinstance(row.other, Decided)
        }
        for name in ("demo", "elsewhere")
    }
    assert statuses == {"demo": {DecisionStatus.SHADOW}, "elsewhere": {DecisionStatus.SENT}}


def test_what_only_one_side_decided_has_a_row_of_its_own() -> None:
    run = Trainer(replace(ATTEMPT, can_snapshot=False))
    for k in range(6):
        run.train([1.0, math.nan, 1.0, 1.0])
        if len(run.decisions) > k:
            run.apply(run.decisions[-1])
    events = records(events_of(run))
    quick = Config(CoreSettings(limits=Limits(cooldown_steps=1)))
    rows = compare(KEY, events, quick)
    only_other = [row for row in rows if row.recorded is None]
    only_recorded = [row for row in rows if row.other is None]
    assert any(isinstance(row.other, Decided) for row in only_other)
    assert any(isinstance(row.recorded, Refused) for row in only_recorded)
    assert not any(row.same for row in only_other + only_recorded)
    told = [row.to_json() for row in rows]
    assert json.dumps(told, allow_nan=False)


# -- where old telemetry is thinned


def thinned_after(count: int) -> tuple[MemoryJournal, list[tuple[int, str]]]:
    """The rescued run, of which the first telemetry is thinned, and the states it could keep."""
    journal = MemoryJournal()
    journal.append([(KEY, record.at, record.event) for record in records(RESCUED)])
    there = list(states(records(RESCUED)))
    old = [r for r in journal.records(KEY) if isinstance(r.event, Samples)][:count]
    first, last = old[0].event, old[-1].event
    assert isinstance(first, Samples)
    assert isinstance(last, Samples)
    left = Thinned(first, (1,), last.next_seq, count, 256)
    journal.thin(KEY, old[0].n, old[-1].n, left)
    return journal, [(n, state) for n, state in there if n >= old[-1].n]


def test_it_begins_with_the_oldest_state_after_what_is_thinned() -> None:
    journal, after = thinned_after(12)
    (n, state), (newer, other) = after[5], after[50]
    journal.save_checkpoint(KEY, n, state)
    journal.save_checkpoint(KEY, newer, other)
    start = start_of(journal, KEY)
    found = check(KEY, journal.records(KEY, after=start.after), start)
    assert found.difference is None
    assert found.missing == ()
    assert found.to_json()["after_record"] == n
    assert found.to_json()["thinned"] == 12
    assert found.records == len(RESCUED) - n
    start = start_of(journal, KEY)
    rows = compare(KEY, journal.records(KEY, after=start.after), Config(), start)
    assert rows
    assert all(row.same for row in rows)


@pytest.mark.parametrize("state", ["none", "older", "of another format"])
def test_without_one_it_is_told_that_it_cannot_be_done(state: str) -> None:
    journal, after = thinned_after(60)
    n, text = after[3]
    if state == "older":
        journal.save_checkpoint(KEY, 2, text)
    elif state != "none":
        journal.save_checkpoint(KEY, n, text.replace('"format": "', '"format": "0'))
    with pytest.raises(JournalError, match="cannot be replayed: its telemetry is thinned up to"):
        start_of(journal, KEY)


def test_whole_telemetry_is_replayed_from_the_first_record() -> None:
    journal = MemoryJournal()
    journal.append([(KEY, record.at, record.event) for record in records(RESCUED)])
    n, state = list(states(records(RESCUED)))[-1]
    journal.save_checkpoint(KEY, n, state)
    assert start_of(journal, KEY).after == 0
