"""An engine's state: taken at any event and read back, nothing that follows is another."""

import contextlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.core.detectors import Detectors
from lrpilot_controller.core.engine import Engine, OtherFormat
from lrpilot_controller.core.events import Commanded, Configured, Input, Output, SessionLost
from lrpilot_controller.core.model import DecisionStatus, Mode
from lrpilot_controller.core.settings import CoreSettings, GuardSettings, Reaction, Reactions
from lrpilot_controller.core.state import Stateful
from lrpilot_controller.journal.codec import identical
from support.recorded import Simulation, simulations
from support.searcher import Searcher
from support.simulated import Bowl
from support.streams import ATTEMPT, Quadratic, Trainer, descent, explosion

TRIED = CoreSettings(reactions=Reactions(plateau=Reaction.PROBE, too_low=Reaction.PROBE))


def reborn(engine: Engine) -> Engine:
    """Another engine in this one's state, which went through text; the same where there is none."""
    state = engine.state()
    if state is None:
        return engine
    text = json.dumps(state)
    other = Engine()
    other.restore(json.loads(text))
    assert json.dumps(other.state()) == text
    return other


class Mortal(Engine):
    """An engine that keeps what it was fed, and what it said."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Input] = []
        self.outputs: list[Output] = []

    def feed(self, event: Input) -> list[Output]:
        self.inputs.append(event)
        found = super().feed(event)
        self.outputs += found
        return found


def assert_transparent(lived: Mortal) -> None:
    """Fed the same, with a new engine for each event, the same comes out to the byte."""
    engine, outputs, states = Engine(), list[Output](), 0
    for event in lived.inputs:
        states += engine.state() is not None
        engine = reborn(engine)
        outputs += engine.feed(event)
    assert len(outputs) == len(lived.outputs)
    assert all(map(identical, outputs, lived.outputs))
    assert engine.state() == lived.state()
    assert states > 1


def ones() -> list[Simulation]:
    """One of each kind of recorded run."""
    return list({one.kind: one for one in simulations()}.values())


@pytest.mark.parametrize("one", ones(), ids=lambda one: one.kind)
def test_a_recorded_run_goes_on_from_a_state_as_it_would_have(one: Simulation) -> None:
    engine = Mortal()
    one.play(engine, **one.options)
    assert_transparent(engine)


# -- whatever happens to a run

STEPS = st.integers(1, 60)


@st.composite
def lives(draw: st.DrawFn) -> Mortal:
    """A run to which anything happens: blow-ups, restarts, searches, people."""
    engine = Mortal()
    if draw(st.booleans()):
        engine.feed(Configured(draw(st.sampled_from([TRIED, CoreSettings()]))))
    mode = draw(st.sampled_from([Mode.AUTO, Mode.ADVISE, Mode.OBSERVE]))
    total = draw(st.sampled_from([None, 400, 3000]))
    run = Searcher(
        Bowl(noise=0.3), engine=engine, search=draw(st.booleans()), mode=mode, total_steps=total
    )
    for deed in draw(st.lists(st.sampled_from(DEEDS), min_size=4, max_size=16)):
        deed(run, draw(STEPS))
    return engine


def learn(run: Searcher, count: int) -> None:
    run.train(descent(4 * count, seed=count))


def blow_up(run: Searcher, count: int) -> None:
    run.train(explosion(count))


def come_to_grief(run: Searcher, count: int) -> None:
    """Long healthy, then not, and what follows is done."""
    search_on(run, 60)
    run.train(descent(120, seed=count))
    run.take()
    run.train(descent(120, seed=count)[60:])
    run.train(explosion(20))
    search_on(run, count % 3)


def see_nan(run: Searcher, count: int) -> None:
    run.train([math.nan] * (count % 4))


def swing(run: Searcher, count: int) -> None:
    run.train([1 + 0.5 * (-1) ** k for k in range(4 * count)])


def hold(run: Searcher, count: int) -> None:
    run.take()


def validate(run: Searcher, count: int) -> None:
    run.train([count / 60], validation=(True,))


def obey(run: Searcher, count: int) -> None:
    """One decision is followed, as far as this trainer can."""
    if run.todo:
        decision = run.todo.pop(0)
        back = decision.restore_snapshot
        back = decision.program.restore_snapshot if decision.program and back is None else back
        known = back is None or back in run.held
        if known and decision.branch == run.branch and decision.status is DecisionStatus.SENT:
            run.follow(replace(decision, expires_at_step=None))
        else:
            run.answer(decision, DecisionStatus.REJECTED)


def search_on(run: Searcher, count: int) -> None:
    for _ in range(count):
        obey(run, count)


def ignore(run: Searcher, count: int) -> None:
    if run.todo:
        run.answer(run.todo.pop(0), DecisionStatus.EXPIRED)


def lose(run: Searcher, count: int) -> None:
    run.feed(SessionLost(run.attempt.id))


def come_back(run: Searcher, count: int) -> None:
    run.open(replace(run.attempt, mode=Mode.AUTO if count % 2 else run.attempt.mode))


def resume(run: Searcher, count: int) -> None:
    old, start = run.attempt, max(run.step - count, 0)
    run.todo.clear()
    run.open(replace(old, id=old.id + "+", resumes=old.id, start_step=start, branch=run.branch))
    run.take(proven_now=True)


def ask(run: Searcher, count: int) -> None:
    kind = ["freeze", "release", "set_lr", "search", "stop"][count % 5]
    run.feed(Commanded(kind, "ann", "", lr=0.03 if kind == "set_lr" else None))


def approve(run: Searcher, count: int) -> None:
    waiting = run.engine.view and run.engine.view.proposed
    run.feed(Commanded("approve", "ann", "", decision_id=waiting.id if waiting else count))


def configure(run: Searcher, count: int) -> None:
    run.feed(Configured(CoreSettings(guard=GuardSettings(factor=0.5), probation_steps=count)))


Deed = Callable[[Searcher, int], None]
DEEDS: Sequence[Deed] = [
    *(
        learn,
        come_to_grief,
        come_to_grief,
        blow_up,
        see_nan,
        swing,
        hold,
        validate,
        obey,
        obey,
        search_on,
        ignore,
    ),
    *(lose, come_back, resume, ask, approve, configure),
]


@settings(max_examples=40)
@given(lives())
def test_a_state_is_transparent_at_any_event(engine: Mortal) -> None:
    assert_transparent(engine)


# -- what a state is

SHARED = {
    "Desk": {"_guardrails"},
    "Keeping": {"_view"},
    "Questions": {"_view", "_settings"},
    "Searches": {"_view", "_watch", "_desk", "_settings", "_search"},
    "Snapshots": {"_proof_steps"},
    "Watch": {"_view", "_policy", "_desk", "_settings", "_make_detectors"},
    "LiveAttempt": {"commands", "recall", "_desk", "_settings"},
}
"""What no state holds: it belongs to another part, is set from outside, or is made anew."""


def parts(thing: object, found: dict[str, Stateful]) -> dict[str, Stateful]:
    """Everything in an engine that says a state of its own, by the name of its class."""
    if isinstance(thing, Engine | Stateful) and type(thing).__name__ not in found:
        if isinstance(thing, Stateful):
            found[type(thing).__name__] = thing
        for inner in getattr(thing, "__dict__", {}).values():
            parts(inner, found)
    return found


def test_whatever_a_part_keeps_is_in_its_state() -> None:
    """A field that somebody adds, and forgets to name, would be another after a restart."""
    run = Trainer()
    run.snapshot(1, proven=True)
    run.train(descent(200))
    run.train([1 + 0.5 * (-1) ** k for k in range(400)])
    run.apply(run.decisions[0])
    found = parts(run.engine, {})
    assert found.keys() == SHARED.keys() | {"RunView", "Probation", "SwingCut"}
    for name, part in found.items():
        kept = set(getattr(part, "__dict__", {})) - SHARED.get(name, set())
        assert kept in (set(part.state_dict()), set())


def test_there_is_none_while_a_search_is_under_way() -> None:
    run = Searcher(Bowl(noise=0.3))
    assert run.engine.state() is None
    run.search()
    run.go_on(20)
    assert reborn(run.engine).view == run.engine.view


def test_what_waits_for_a_receipt_or_a_person_is_part_of_it() -> None:
    for mode in (Mode.AUTO, Mode.ADVISE):
        run = Trainer(replace(ATTEMPT, mode=mode))
        run.snapshot(1, proven=True)
        run.train([*descent(200), *explosion(20)])
        run.engine = reborn(run.engine)
        assert run.engine.view is not None
        assert (run.engine.view.in_flight or run.engine.view.proposed) == run.decisions[0]
        assert run.engine.feed(Commanded("freeze", "ann", "")) is not None


def test_it_stays_small_however_long_the_run_is() -> None:
    run = Quadratic(edge=0.03)
    run.run(300)
    early = len(json.dumps(run.engine.state()))
    run.run(8000)
    assert len(json.dumps(run.engine.state())) < 1.5 * early < 60_000


def a_state() -> dict[str, Any]:
    run = Quadratic(edge=0.03)
    run.run(300)
    state = run.engine.state()
    assert state is not None
    return state


def test_a_state_of_other_detectors_or_another_version_is_refused() -> None:
    class Extra:
        name = "extra"

        def update(self, *args: object) -> tuple[()]:
            return ()

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: object) -> None:
            pass

    more = Engine(make_detectors=lambda a, b: Detectors(a, b, extra=[Extra()]))
    with pytest.raises(OtherFormat, match=r"'2 divergence', this version's is '1 div.* extra "):
        more.restore({**a_state(), "format": "2 divergence"})
    with pytest.raises(OtherFormat):
        more.restore(a_state())


LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())


@settings(max_examples=80)
@given(st.data())
def test_a_damaged_state_is_refused_or_nothing_happens(data: st.DataObject) -> None:
    """Whatever is in it: no other error than the one that says so."""
    state: Any = a_state()
    part = state
    while isinstance(part, dict) and part:
        key = data.draw(st.sampled_from(sorted(part)))
        if key == "format":
            return
        if data.draw(st.booleans()) or not isinstance(part[key], dict):
            break
        part = part[key]
    if isinstance(part, dict) and part:
        if data.draw(st.booleans()):
            del part[key]
        else:
            part[key] = data.draw(LEAVES)
    with contextlib.suppress(ValueError):
        Engine().restore(state)
