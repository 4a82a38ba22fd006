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
from lrpilot_controller.journal.base import Record, RunKey
from lrpilot_controller.journal.codec import identical, kind_names
from lrpilot_controller.plugins import make_detectors

ROW_KINDS = (SignalSeen, Decided, Refused)
"""What a comparison is about, in the order of one step."""


@dataclass(frozen=True, slots=True)
class Check:
    """Whether a journal's outputs are what its inputs give.

    Attributes:
        records: how many were read.
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

    def to_json(self) -> dict[str, Any]:
        """What `replay --json` prints."""
        found = self.difference
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


def check(run: RunKey, records: Iterable[Record]) -> Check:
    """Replay a run's records; the settings that its daemon had are among them."""
    replay = Replay(Engine(make_detectors=make_detectors).feed)
    for record in records:
        replay.take(record.n, record.event)
    difference = replay.difference(identical)
    missing = () if difference else tuple(replay.missing())
    kinds = Counter(kind_of(made.output) for made in replay.recorded)
    return Check(run, replay.records, kinds, difference, missing)


def compare(run: RunKey, records: Iterable[Record], config: Config) -> list[Row]:
    """A run's signals, decisions and refusals, beside those of a replay with other settings.

    The inputs stay those of the recorded run, losses and the trainer's answers, also after the
    first difference. What the training code asked for stays too, within the other limits.
    """
    replay = Replay(Engine(config.settings_of(run), make_detectors=make_detectors).feed)
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
