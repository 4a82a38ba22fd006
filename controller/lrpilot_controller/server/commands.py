"""What a person asks of a run: refused before anything is recorded, or told what follows."""

from collections.abc import Sequence

from lrpilot_controller.core.events import Commanded, Decided, Output, Refused, SearchEnded
from lrpilot_controller.core.model import Decision
from lrpilot_controller.errors import NotNow
from lrpilot_controller.journal.base import RunKey
from lrpilot_controller.server.live import LiveRun

_DONE = {
    "search": "searches for its learning rate",
    "freeze": "is frozen: nothing is decided for it until `lrpilot release`",
    "release": "is released",
    "stop": "is asked to end",
    "set_lr": "is to train at that learning rate",
    "approve": "has your approval",
}


def check(run: LiveRun, command: Commanded) -> None:
    """Say no to what cannot be done now, before anything is recorded.

    Raises:
        NotNow: the run has no live session, or is in no state for it.
    """
    if run.link is None or run.attempt is None or run.ended:
        raise no_session(run.key)
    if (reason := run.engine.why_not(command)) is not None:
        raise NotNow(f"run {run.key}, {command.kind.replace('_', '-')}: not now: {reason}")


def no_session(key: RunKey) -> NotNow:
    """The error of a run whose trainer is not there."""
    return NotNow(
        f"run {key} has no live session: its trainer has ended, or is not connected; "
        f"`lrpilot show {key}` tells which"
    )


def told(run: LiveRun, command: Commanded, outputs: Sequence[Output]) -> str:
    """What follows from a command, in a sentence.

    Raises:
        NotNow: a search that was asked for did not begin.
    """
    if command.kind == "search" and not run.engine.will_search:
        raise NotNow(f"run {run.key} does not search: {_refusal_in(outputs)}")
    sent = [output.decision for output in outputs if isinstance(output, Decided)]
    return f"run {run.key} {_DONE[command.kind]}{_sent(sent)}"


def _sent(decisions: Sequence[Decision]) -> str:
    return "".join(f"; decision {decision.id} was sent" for decision in decisions)


def _refusal_in(outputs: Sequence[Output]) -> str:
    """Why the engine does not search, in its own words where it has any."""
    for output in outputs:
        match output:
            case Refused(_, reason):
                return reason
            case SearchEnded(_, result):
                return result.reason
    return "its mode or its state does not allow it now"
