"""The port of a policy."""

from typing import Protocol

from lrpilot_controller.core.model import Experiment, Proposal, Signal
from lrpilot_controller.core.view import RunView


class Policy(Protocol):
    """Turns a signal into a proposal. Pure: the same view and signal give the same proposal."""

    def decide(self, view: RunView, signal: Signal) -> Proposal | Experiment | None:
        """What to do about `signal`, or None for nothing."""
        ...
