"""What holds of any search: its budget, its bounds, its end, and its replay."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import Input, Output, ProgramEnded
from lrpilot_controller.core.findings import Reach, SearchEnd
from lrpilot_controller.core.model import DecisionStatus
from lrpilot_controller.core.plain import to_plain
from lrpilot_controller.core.settings import CoreSettings, Limits
from lrpilot_controller.core.telemetry import Samples
from support.searcher import ATTEMPT, Searcher

# -- limits


@given(st.floats(0, 0.5), st.booleans(), st.sampled_from([200, 500, 1000, None]))
@settings(max_examples=20)
def test_programs_never_cost_more_than_their_share(
    share: float, replay: bool, total: int | None
) -> None:
    limits = CoreSettings(limits=Limits(max_probed_fraction=share))
    run = Searcher(settings=limits, can_replay=replay, total_steps=total)
    result = run.search()
    assert result is not None
    assert result.steps <= share * (total or 2000)
    assert run.engine.view is not None
    assert run.engine.view.probe_steps == result.steps


def test_a_second_search_has_only_what_the_first_one_left() -> None:
    limits = CoreSettings(limits=Limits(max_probed_fraction=0.25))
    run = Searcher(settings=limits)
    run.search()
    run.go_on(10)
    run.ask()
    second = run.search()
    assert second is not None
    assert run.engine.view is not None
    assert run.engine.view.probe_steps <= 250
    assert run.todo == []
    assert not run.engine.will_search


@pytest.mark.parametrize("replay", [True, False])
@given(st.floats(-6, 2), st.floats(0, 4), st.floats(0, 1))
@settings(max_examples=20)
def test_no_lr_is_above_the_bound(replay: bool, low: float, width: float, at: float) -> None:
    low, high = 10**low, 10 ** (low + width)
    base = replace(ATTEMPT.groups[0], base_lr=low * (high / low) ** at)
    run = Searcher(groups=(base,), min_lr=low, max_lr=high, can_replay=replay)
    result = run.search()
    assert result is not None
    assert result.end in (SearchEnd.FOUND, SearchEnd.DECLINED)  # never refused
    for decision in run.decisions:
        parts = (decision.program.segments if decision.program else ()) + (
            decision.plan.segments if decision.plan else ()
        )
        for segment in parts:
            assert max(segment.start_value, segment.end_value) <= high * (1 + 1e-9)


# -- a replay


def as_json(outputs: Sequence[Output]) -> str:
    return json.dumps([[type(output).__name__, to_plain(output)] for output in outputs])


def eventful() -> list[Input]:
    """Two searches with everything that can happen in them."""
    run = Searcher(total_steps=2000)
    run.interrupted = lambda count: 2 if count in (4, 5, 11) else None
    run.search()
    run.go_on(60)
    run.ask()
    for _ in range(7):
        run.follow(run.todo.pop(0))
    run.todo.clear()
    run.fall_back()
    run.go_on(30)
    run.goodbye()
    return run.inputs


EVENTS = eventful()


def fed(events: Sequence[Input]) -> list[Output]:
    engine = Engine()
    return [output for event in events for output in engine.feed(event)]


def test_the_same_inputs_give_the_same_bytes() -> None:
    said = as_json(fed(EVENTS))
    assert "fell_back" in said
    assert as_json(fed(EVENTS)).encode() == said.encode()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=10))
@settings(max_examples=15)
def test_however_samples_were_batched(sizes: list[int]) -> None:
    size = itertools.cycle(sizes)
    batched: list[Input] = []
    for event in EVENTS:
        last = batched[-1] if batched else None
        both = isinstance(event, Samples) and isinstance(last, Samples)
        if both and len(last.step) < next(size):
            batched[-1] = replace(
                last,
                validation=last.validation + event.validation,
                step=last.step + event.step,
                branch=last.branch + event.branch,
                program=last.program + event.program,
                loss=last.loss + event.loss,
                lrs=last.lrs + event.lrs,
            )
            continue
        batched.append(event)
    assert len(batched) <= len(EVENTS)
    assert as_json(fed(batched)) == as_json(fed(EVENTS))


LOSS = st.floats() | st.sampled_from([math.nan, math.inf, 1e308, -1e308, 1.0, 2.0])
REASONS = ["length", "length", "loss_cap", "non_finite", "interrupted", "made up"]


@given(st.data(), st.booleans(), st.sampled_from([None, 0.3]))
@settings(max_examples=60)
def test_whatever_programs_report_it_ends(
    data: st.DataObject, replay: bool, prior: float | None
) -> None:
    progress = (Reach(0.3, 40, 0.0, 1.0, 1.0),)
    run = Searcher(can_replay=replay, prior=prior, progress=progress)
    losses = itertools.cycle(data.draw(st.lists(LOSS, min_size=1, max_size=20)))
    reasons = itertools.cycle(data.draw(st.lists(st.sampled_from(REASONS), min_size=1)))
    for _ in range(400):
        if not run.todo:
            break
        decision = run.todo.pop(0)
        run.answer(decision, DecisionStatus.APPLIED)
        if decision.program is None:
            continue
        length = data.draw(st.sampled_from([decision.program.length, 1, 0]))
        heard = tuple(itertools.islice(losses, length))
        why = next(reasons)
        run.step += length
        ended = ProgramEnded("t1", run._report(), decision.id, 0, heard, why, run.branch)
        run.feed(replace(ended, first_step=run.step - length))
    assert run.result is not None
    assert not run.engine.will_search
    assert ATTEMPT.min_lr <= run.result.lr <= ATTEMPT.max_lr
    to_plain(run.result)
