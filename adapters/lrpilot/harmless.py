"""A fault of ours ends our part in a framework's run, never the run."""

import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from lrpilot.losses import BadLoss

log = logging.getLogger("lrpilot")

P = ParamSpec("P")


class Part(ABC):
    """LRPilot's part in one run of a framework.

    Attributes:
        over: whether it ended; nothing happens from then on.
    """

    def __init__(self) -> None:
        self.over = False
        self._bad_told = False

    @abstractmethod
    def close(self, reason: str) -> None:
        """Say goodbye, and leave the framework as it was. Safe to call again."""

    def fail(self, error: Exception) -> None:
        """A fault of ours: training goes on without us, in the run's own state."""
        log.error("LRPilot: a fault of its own; training goes on without it", exc_info=error)
        try:
            self.close("error")
        except Exception:
            log.exception("LRPilot: it could not let go of the run as a whole")

    def tell(self, report: Callable[[Any], None], value: Any) -> bool:
        """Report a loss; whatever a user's code returns is no reason to end a run.

        Returns:
            Whether it was a loss.
        """
        try:
            report(value)
        except BadLoss as error:
            if not self._bad_told:
                self._bad_told = True
                log.warning("LRPilot: %s; training goes on without it", error)
            return False
        return True


OnePart = TypeVar("OnePart", bound=Part)


def harmless(
    method: Callable[Concatenate[OnePart, P], None],
) -> Callable[Concatenate[OnePart, P], None]:
    """A method of a part: nothing it does raises into the run."""

    @functools.wraps(method)
    def run(part: OnePart, /, *args: P.args, **keywords: P.kwargs) -> None:
        if part.over:
            return
        try:
            method(part, *args, **keywords)
        except Exception as error:
            part.fail(error)

    return run
