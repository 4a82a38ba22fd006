"""What earlier runs of the same job found, asked for when a session opens."""

import asyncio
from concurrent.futures import Future
from typing import Protocol

from lrpilot_controller.core.events import PriorAnswered
from lrpilot_controller.core.model import Attempt
from lrpilot_controller.journal.base import RunKey

# The session is not welcomed before this is over.
DEADLINE_S = 0.2


class Priors(Protocol):
    """Remembers what searches found. Called by the event loop."""

    def ask(self, run: RunKey, attempt: Attempt) -> "Future[PriorAnswered]":
        """The LR that an earlier run of the same job found, or why there is none.

        Returns at once; the future may fail, and may be cancelled.
        """
        ...


async def answer_of(priors: Priors, run: RunKey, attempt: Attempt) -> PriorAnswered:
    """The answer within `DEADLINE_S`; none where it is late or fails, with the reason."""
    try:
        answer = asyncio.wrap_future(priors.ask(run, attempt))
        return await asyncio.wait_for(answer, DEADLINE_S)
    except TimeoutError:
        reason = f"it did not come within {DEADLINE_S:g} s"
    except Exception as error:
        # Whatever is wrong with the memory of earlier runs, this one starts.
        reason = str(error) or type(error).__name__
    return PriorAnswered(attempt.id, None, f"no answer: {reason}")
