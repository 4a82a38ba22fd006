"""The line to the daemon that several ranks share: rank 0 speaks, and all hear the same."""

from lrpilot.client.base import Status, Transport
from lrpilot.lockstep import Lockstep
from lrpilot.ranks import Word


class Relay:
    """A `Transport` as each rank has one; all waits are rank 0's, and all ranks make them.

    Args:
        agent: the line itself on rank 0, nobody's on the others.
        lockstep: what the ranks agree on.
    """

    def __init__(self, agent: Transport, lockstep: Lockstep) -> None:
        self._agent = agent
        self._lockstep = lockstep
        self.inbox = lockstep.inbox
        self.signals = agent.signals
        self.push = agent.push
        self.urgent = agent.urgent
        self.open = agent.open
        self.report = agent.report
        self.close = agent.close
        self.leave = agent.leave

    def start(self) -> None:
        """It was started with the first rank's line."""

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a daemon answers rank 0."""
        return self._lockstep.agree(lambda: Word(heard=self._agent.wait_ready(timeout_s))).heard

    def wait(self, timeout_s: float) -> bool:
        """Wait until rank 0 has heard something, and hand it to all ranks."""
        return self._lockstep.agree(lambda: Word(heard=self._agent.wait(timeout_s))).heard

    @property
    def status(self) -> Status:
        """How rank 0's line stands; on other ranks it says nothing."""
        return self._agent.status
