"""What happens to runs, in the daemon's log: one line each, with its ids.

Nothing that a peer may say as often as it likes is a line: no telemetry, no report.
"""

import logging
from collections.abc import Sequence
from typing import Any

from lrpilot_controller.core.events import (
    Commanded,
    Decided,
    Event,
    OutcomeMeasured,
    Refused,
    SaidGoodbye,
    SessionLost,
    SessionOpened,
    SignalSeen,
)
from lrpilot_controller.core.model import Verdict
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal.base import Journal, Record, RunKey

log = logging.getLogger(__name__)


class Chronicle:
    """Writes down what was journaled and a person may want to find in the log."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._attempts: dict[RunKey, str] = {}

    def record(self, run: RunKey, records: Sequence[Record]) -> None:
        """Log what is worth a line."""
        for record in records:
            event = record.event
            if not isinstance(event, Samples) and (told := _line(event)) is not None:
                self._tell(run, event, *told)

    def _tell(self, run: RunKey, event: Event, text: str, fields: dict[str, Any]) -> None:
        if isinstance(event, SessionOpened):
            self._attempts[run] = event.attempt.id
        generation = self._journal.generation
        ids = {"run": str(run), "attempt": self._attempts.get(run), "generation": generation}
        log.info("%s", text, extra=ids | fields)
        if isinstance(event, SessionLost | SaidGoodbye):
            self._attempts.pop(run, None)


def _line(event: Event) -> tuple[str, dict[str, Any]] | None:
    """The words of a line, and its own fields; None where it is not worth one."""
    match event:
        case SessionOpened(attempt):
            return f"session opened, mode {attempt.mode}", {}
        case SessionLost():
            return "session lost", {}
        case SaidGoodbye():
            return f"session closed at step {event.step}: {event.reason}", {}
        case SignalSeen(signal):
            text = f"signal at step {signal.step}: {signal.kind}, severity {signal.severity:.2f}"
            return text, {"signal": signal.kind.value}
        case Decided(decision):
            text = f"decided at step {decision.step}: {decision.action}, {decision.status}"
            return f"{text}: {decision.reason}", {"decision": decision.id}
        case Refused(signal, reason):
            text = f"refused at step {signal.step}: {reason}"
            return text, {"signal": signal.kind.value}
        case OutcomeMeasured(outcome):
            gain = "" if outcome.verdict is Verdict.UNFINISHED else f", gain {outcome.gain:+.2f}"
            return f"outcome: {outcome.verdict}{gain}", {"decision": outcome.decision_id}
        case Commanded():
            return f"asked for: {event.kind}", {"who": event.who or "somebody"}
    return None
