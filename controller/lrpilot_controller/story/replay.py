"""A run's journal replayed: whether its outputs come out again, and what other settings change."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from lrpilot_controller.config import Config
from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    Configured,
    Decided,
    Event,
    Output,
    Refused,
    SessionOpened,
    SignalSeen,
)
from lrpilot_controller.core.plain import to_plain
from lrpilot_controller.core.replay import Difference, Made, Replay
from lrpilot_controller.core.telemetry import Thinned
from lrpilot_controller.errors import JournalError
from lrpilot_controller.journal.base import Journal, Record, RunKey
from lrpilot_controller.journal.codec import identical, kind_names
from lrpilot_controller.plugins import make_detectors
from lrpilot_controller.server.loading import engine_in
from lrpilot_controller.story.model import Thinning
from lrpilot_controller.story.thinned import ThinnedFold

ROW_KINDS = (SignalSeen, Decided, Refused)
"""What a comparison is about, in the order of one step."""


@dataclass(frozen=True, slots=True)
class Check:
    """Whether a journal's outputs are what its inputs give.

    Attributes:
        records: how many were replayed.
        after: the record from whose kept state it went on, where older telemetry is thinned; 0:
            from the first record.
        thinned: what is; None where nothing is.
        outputs: how many of them are outputs, by their kind.
        difference: the first one; None where every recorded output came out again, byte by byte.
        missing: outputs that the journal does not hold yet: the daemon died before it wrote them,
            and the next one writes them when the run's trainer comes back.
    """

    run: RunKey
    records: int
    outputs: Mapping[str, int]
    difference: Difference | None
    missing: tuple[Made, ...]
    after: int = 0
    thinned: Thinning | None = None

    def to_json(self) -> dict[str, Any]:
        """What `replay --json` prints."""
        found = self.difference
        began = {"after_record": self.after} | self.thinned.to_json() if self.thinned else {}
        return {
            "run": str(self.run),
            "records": self.records,
            "outputs": dict(self.outputs),
            "identical": found is None,
            "difference": found
            and {
                "identical_before": found.place,
                "recorded": made_json(found.recorded),
                "replayed": found.replayed and made_json(found.replayed),
            },
            "not_recorded": [made_json(made) for made in self.missing],
            **began,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """What one step brought in the record, and with other settings; None where nothing."""

    step: int
    recorded: Output | None
    other: Output | None
    same: bool

    def to_json(self) -> dict[str, Any]:
        """As `replay --config FILE --json` lists it."""
        return {
            "step": self.step,
            "same": self.same,
            "recorded": self.recorded and output_json(self.recorded),
            "other": self.other and output_json(self.other),
        }


@dataclass(frozen=True, slots=True)
class Start:
    """From where a run can be replayed: an engine, and the record after which it goes on.

    `thinned` is the telemetry before that which is no longer there.
    """

    engine: Engine
    after: int = 0
    thinned: Thinning | None = None


def start_of(journal: Journal, run: RunKey) -> Start:
    """The first record, or the oldest kept state after which all of the telemetry is there.

    Raises:
        JournalError: some is thinned, and there is no such state that this version can use.
    """
    fold, last = ThinnedFold(), 0
    for record in journal.records(run, kinds=[Thinned]):
        if isinstance(record.event, Thinned):
            fold.take(record.event)
            last = record.n
    if fold.told is None:
        return Start(Engine(make_detectors=make_detectors))
    found, before = None, None
    while (state := journal.checkpoint(run, before=before)) and state.n >= last:
        found, before = state, state.n - 1
    why = "no state after that is kept"
    if found is not None:
        try:
            return Start(engine_in(found.state), found.n, fold.told)
        except (ValueError, KeyError, TypeError) as error:
            why = f"the state after record {found.n} cannot be used ({error})"
    raise JournalError(
        f"run {run} cannot be replayed: its telemetry is thinned up to record {last}, and {why}; "
        "what was recorded is still in `lrpilot show`"
    )


def check(run: RunKey, records: Iterable[Record], start: Start | None = None) -> Check:
    """Replay a run's records, those after `start`; its daemon's settings are among them."""
    start = start or Start(Engine(make_detectors=make_detectors))
    replay = Replay(start.engine.feed)
    for record in records:
        replay.take(record.n, record.event)
    difference = replay.difference(identical)
    missing = () if difference else tuple(replay.missing())
    kinds = Counter(kind_of(made.output) for made in replay.recorded)
    return Check(run, replay.records, kinds, difference, missing, start.after, start.thinned)


def compare(
    run: RunKey, records: Iterable[Record], config: Config, start: Start | None = None
) -> list[Row]:
    """A run's signals, decisions and refusals, beside those of a replay with other settings.

    The inputs stay those of the recorded run, losses and the trainer's answers, also after the
    first difference. What the training code asked for stays too, within the other limits.
    """
    start = start or Start(Engine(make_detectors=make_detectors))
    start.engine.feed(Configured(config.settings_of(run)))
    replay = Replay(start.engine.feed)
    for record in records:
        replay.take(record.n, _under(config, run, record.event))
    recorded, other = _by_step(replay.recorded), _by_step(replay.replayed)
    rows = []
    for place in sorted(recorded.keys() | other.keys()):
        for left, right in zip_longest(recorded.get(place, ()), other.get(place, ())):
            same = left is not None and right is not None and identical(left, right)
            rows.append(Row(place[0], left, right, same))
    return rows


def kind_of(output: Output) -> str:
    """The name that the journal gives to this kind of output."""
    (kind,) = kind_names([type(output)])
    return kind


def output_json(output: Output) -> dict[str, Any]:
    """An output with the name of its kind."""
    return {"kind": kind_of(output), **to_plain(output)}


def made_json(made: Made) -> dict[str, Any]:
    """An output with the number of its record."""
    return {"record": made.record, **output_json(made.output)}


def differing(a: Any, b: Any) -> list[tuple[str, str, str]]:
    """Where two values differ: the dotted name of each number or word in them, and both as JSON.

    What only one of them has is `-` in the other.
    """
    left, right = dict(_leaves(to_plain(a))), dict(_leaves(to_plain(b)))
    return [
        (name, left.get(name, "-"), right.get(name, "-"))
        for name in {**left, **right}
        if left.get(name) != right.get(name)
    ]


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(value)


def _under(config: Config, run: RunKey, event: Event) -> Event:
    """An event as it would have been recorded with these settings."""
    match event:
        case Configured():
            return Configured(config.settings_of(run))
        case SessionOpened(attempt):
            return SessionOpened(replace(attempt, mode=config.mode_of(run, attempt.mode)))
    return event


def _by_step(made: Iterable[Made]) -> dict[tuple[int, int], list[Output]]:
    """Outputs by their step, and within it by their kind."""
    found: dict[tuple[int, int], list[Output]] = {}
    for one in made:
        output = one.output
        if isinstance(output, ROW_KINDS):
            step = output.decision.step if isinstance(output, Decided) else output.signal.step
            found.setdefault((step, ROW_KINDS.index(type(output))), []).append(output)
    return found
