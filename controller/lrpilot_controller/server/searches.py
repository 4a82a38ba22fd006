"""A search that a person asks for: whether it can begin, and why not."""

from collections.abc import Sequence

from lrpilot_controller.core.events import Output, Refused, SearchEnded
from lrpilot_controller.errors import NotNow
from lrpilot_controller.server.live import LiveRun


def check_search(run: LiveRun) -> None:
    """Say no where a search cannot begin, before anything is recorded.

    Raises:
        NotNow: the run has no live session, its trainer cannot carry programs out, it is searching
            already, or a decision is on its way.
    """
    if run.link is None or run.attempt is None or run.ended:
        raise NotNow(f"run {run.key} has no live session: its trainer is not connected")
    if (reason := run.engine.why_not_search()) is not None:
        raise NotNow(f"run {run.key} does not search: {reason}")


def refusal_in(outputs: Sequence[Output]) -> str:
    """Why the engine does not search, in its own words where it has any."""
    for output in outputs:
        match output:
            case Refused(_, reason):
                return reason
            case SearchEnded(_, result):
                return result.reason
    return "its mode or its state does not allow it now"
