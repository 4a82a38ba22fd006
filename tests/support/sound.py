"""What must hold of a run, whatever its peer sent."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from lrpilot_controller.core.detectors import Detectors
from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import Input, SearchEnded, SessionOpened
from lrpilot_controller.core.replay import Replay
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal.base import Journal, RunKey
from lrpilot_controller.journal.codec import decode, encode, identical
from lrpilot_controller.server.live import LiveRun
from lrpilot_controller.server.tell_wire import story_to
from lrpilot_controller.story import story_of

NAMED = frozenset(
    {
        "OK",
        "INVALID_ARGUMENT",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "RESOURCE_EXHAUSTED",
        "ABORTED",
    }
)
"""How a session may end: as it should, or with a refusal that says why."""


def check_run(journal: Journal, key: RunKey, acked: Mapping[str, int]) -> None:
    """Replay a run from its journal, and look at everything.

    Args:
        journal: that holds it.
        key: the run.
        acked: the highest acknowledged item by attempt.
    """
    records = list(journal.records(key))
    watching: list[Detectors] = []

    def make(total: int | None, epoch: int | None) -> Detectors:
        watching.append(Detectors(total, epoch))
        return watching[-1]

    run = LiveRun(key, Engine(make_detectors=make))
    replay = Replay(run.take)
    taken: Counter[tuple[str, int]] = Counter()
    for record in records:
        stored = decode(encode(record.event))
        assert stored is not None
        assert identical(stored, record.event), "what is read is what was written"
        replay.take(record.n, record.event)
        if not isinstance(record.event, Input):
            run.made(record.event)
            # A candidate that diverged has no finite score.
            if not isinstance(record.event, SearchEnded):
                assert odd_numbers(record.event) == [], record.event
        if isinstance(record.event, Samples):
            event = record.event
            taken.update((event.attempt, seq) for seq in range(event.first_seq, event.next_seq))
    assert replay.difference(identical) is None, "a replay decides what was decided"
    assert replay.missing() == [], "what was decided was recorded"
    assert max(taken.values(), default=1) == 1, "an item is journaled once"
    check_acknowledged(records, acked)
    view = run.engine.view
    assert view is not None
    assert odd_numbers(view) == []
    assert odd_numbers(watching[-1].state_dict()) == []
    story_to(story_of(journal, str(key)))


def check_acknowledged(records: Sequence[Any], acked: Mapping[str, int]) -> None:
    """What was acknowledged is in the journal, or was declared lost by a later item."""
    newest: dict[str, int] = {}
    for record in records:
        if isinstance(record.event, SessionOpened):
            newest.setdefault(record.event.attempt.id, 0)
        elif isinstance(record.event, Samples):
            attempt = record.event.attempt
            newest[attempt] = max(newest.get(attempt, 0), record.event.next_seq - 1)
    for attempt, seq in acked.items():
        assert seq <= newest.get(attempt, 0), f"{attempt}: {seq} was acknowledged"


def odd_numbers(value: Any, where: str = "") -> list[str]:
    """The places within a value whose number is not finite."""
    if isinstance(value, float):
        return [] if math.isfinite(value) else [f"{where} = {value}"]
    parts: Iterable[tuple[Any, Any]] = ()
    if is_dataclass(value) and not isinstance(value, type):
        parts = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    return [found for name, part in parts for found in odd_numbers(part, f"{where}.{name}")]
