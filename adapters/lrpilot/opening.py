"""Whether a run can be searched, and the wait for a search's first program.

That is before step 0, or in front of a search of its own: no step runs meanwhile.
"""

import time

from lrpilot.client.base import Message
from lrpilot.control import Control
from lrpilot.run import RunInfo


def await_program(control: Control, seconds: float, *, welcomed: bool) -> str:
    """Wait until the first program of a search is open, or its plan is there without one.

    No step is made meanwhile.

    Args:
        control: applies it.
        seconds: the longest that this may take.
        welcomed: whether the session was open before, and its welcome said nothing of this search.

    Returns:
        Why there is neither, for a person; else empty.
    """
    line, runner = control.helm.line, control.runner
    began, answers, later = time.monotonic(), control.answers, list[Message]()
    ready, took = control.patience.wait(line.transport.wait_ready, seconds, charged=False)
    runner.batch_is_out, runner.waited = True, took
    try:
        if not ready:
            return "no daemon answers"
        while True:
            later += control.hear()
            if runner.open:
                return ""
            if control.answers > answers:  # an LR that an earlier run found needs no program
                return "" if control.helm.rates.plan is not None else "the daemon declined it"
            if not welcomed and control.welcome is not None and not control.welcome.searches:
                return "the daemon does not search this run"
            left = seconds - (time.monotonic() - began)
            heard, took = control.patience.wait(line.transport.wait, left, charged=False)
            runner.waited += took
            if not heard:
                status = line.transport.status
                return "no program came" if status.connected else "the line to the daemon is lost"
    finally:
        runner.batch_is_out, runner.waited = False, 0.0
        line.inbox.extendleft(reversed(later))


def why_no_search(run: RunInfo, control: Control) -> str:
    """Why a run cannot be searched, for a person; empty where it can."""
    if not run.acts:
        return f"mode={run.mode!r} writes nothing"
    if control.helm.rates.base_lrs[0] <= 0:
        return "the first param group's LR is 0, and all others are searched by their ratio to it"
    if not control.can_set_aside:
        return "several ranks need pilot.batches from the first step on"
    if not control.can_search:
        return "without snapshots of the model there is no state to come back to"
    return ""
