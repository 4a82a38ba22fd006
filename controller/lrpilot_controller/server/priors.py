"""What earlier runs of the same job found, asked for when a session opens."""

import asyncio
from concurrent.futures import Future
from typing import Protocol

from lrpilot_controller.core.events import PriorAnswered
from lrpilot_controller.core.model import Attempt
from lrpilot_controller.journal.base import RunKey


class Priors(Protocol):
    """Remembers what searches found. Called by the event loop."""

    @property
    def deadline_s(self) -> float:
        """How long an answer that is asked for now is worth waiting for, in seconds.

        The session is not welcomed before that, so it is a moment, or little more while a daemon
        that has just started still loads what it remembers.
        """
        ...

    def ask(self, run: RunKey, attempt: Attempt) -> "Future[PriorAnswered]":
        """The LR that an earlier run of the same job found, or why there is none.

        Returns at once; the future may fail, and may be cancelled.
        """
        ...


async def answer_of(priors: Priors, run: RunKey, attempt: Attempt) -> PriorAnswered:
    """The answer within its deadline; none where it is late or fails, with the reason."""
    deadline = priors.deadline_s
    try:
        answer = asyncio.wrap_future(priors.ask(run, attempt))
        return await asyncio.wait_for(answer, deadline)
    except TimeoutError:
        reason = f"it did not come within {deadline:g} s"
    except Exception as error:
        # Whatever is wrong with the memory of earlier runs, this one starts.
        reason = str(error) or type(error).__name__
    return PriorAnswered(attempt.id, None, f"no answer: {reason}")
