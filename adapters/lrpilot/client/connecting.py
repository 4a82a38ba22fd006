"""From an address to a connection on which a daemon answers."""

import threading
import time
from collections.abc import Callable

from lrpilot.client.bell import Bell
from lrpilot.client.call import Ended, Ready
from lrpilot.client.discovery import Finder, Finding
from lrpilot.client.session import Link
from lrpilot_proto.access import Unreachable

CONNECT_LIMIT_S = 3.0


class Connector:
    """Finds the daemon and holds the connection to it, one at a time. The agent thread's.

    Args:
        finder: looks for it.
        bell: watches the connection.

    Attributes:
        settled: set once it is known whether a daemon answers; anybody may wait for it.
        ready: whether one does.
        link: the connection; None where there is none.
        why: why there is none, in words.
        never: whether there will never be one.
    """

    def __init__(self, finder: Finder, bell: Bell) -> None:
        self._finder = finder
        self._bell = bell
        self.settled = threading.Event()
        self.ready = False
        self.link: Link | None = None
        self.why = ""
        self.never = False

    @property
    def token_renewed(self) -> bool:
        """Whether there is another token now than the one that the daemon was shown."""
        return self._finder.token_renewed

    def connect(self, over: Callable[[], bool]) -> Link | None:
        """Connect, unless it is `over` before; None where nobody answers, and `why` says more."""
        finding = self._finder.find(over)
        self.why, self.never = self._finder.why, finding is Finding.NEVER
        if self.never:
            return None
        try:
            if finding is Finding.ABSENT:
                raise Unreachable(self.why)
            self.link = link = Link(self._finder.address, self._finder.access)
            self._bell.watch(link)
        except Unreachable as error:
            self.why, self.ready = str(error), False
            self.settled.set()
            return None
        deadline = time.monotonic() + CONNECT_LIMIT_S
        while (left := deadline - time.monotonic()) > 0 and not over():
            self._bell.pause(left)
            for event in link.take():
                if isinstance(event, Ready):
                    self.ready = True
                    self.settled.set()
                    return link
                if isinstance(event, Ended):
                    self.why = event.words
                    return None
        self.why = f"{self._finder.address} accepts connections but does not answer"
        return None

    def drop(self) -> None:
        """Hang up, where there is a connection."""
        link, self.link = self.link, None
        if link is not None:
            self._bell.watch(None)
            link.close()
