"""What a daemon streams to a watcher; where none answers, the same from the journal."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from lrpilot_controller.cli.daemon import Way
from lrpilot_controller.cli.options import journal_in
from lrpilot_controller.errors import JournalError, LRPilotError, NoDaemon, NotFound
from lrpilot_controller.journal.base import Journal, RunKey
from lrpilot_controller.server import tell_wire
from lrpilot_controller.storage import Storage
from lrpilot_controller.story import Follower, find_run
from lrpilot_proto.v1 import operator_pb2, operator_pb2_grpc

M = TypeVar("M")
Stub = operator_pb2_grpc.OperatorServiceStub
Look = Callable[[], M | None]
"""What is new in the journal; None: nothing."""

LOOK_S = 1.0  # between two looks at the journal, or for a daemon
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@dataclass(frozen=True, slots=True)
class Note:
    """Where what follows comes from, if not from a daemon; empty: from one."""

    text: str


class Following(Generic[M]):
    """Messages as they come, from a daemon or the journal, until it is closed.

    A daemon that goes away is waited for. Its journal is read meanwhile, where it is known which
    that is.

    Args:
        storage: As the command's option.
        method: Of the Operator service, that streams.
        request: What it is asked.
        begin: Opens the journal's view; what it returns is called once in a while.
    """

    def __init__(
        self,
        storage: Storage | None,
        method: str,
        request: Any,
        begin: Callable[[Journal], Look[M]],
    ) -> None:
        self._storage = storage
        self._method = method
        self._request = request
        self._begin = begin
        self._way = Way(storage)
        # A daemon that was named by its address has its journal who knows where.
        own = (storage or Storage.default()).socket
        self._has_journal = self._way.address.path == own
        self._closed = threading.Event()
        self._call: Any = None
        self._seen = False

    def close(self) -> None:
        """Nothing more comes. May be called by another thread."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    def __iter__(self) -> Iterator[M | Note]:
        """Messages, and notes when the place changes that they come from.

        Raises:
            NoDaemon: none answers, and there is no journal to read either.
            NotFound: there is no such run.
            LRPilotError: the daemon refuses.
        """
        with self._way.channel() as channel:
            stub = Stub(channel)  # type: ignore[no-untyped-call]
            while not self._closed.is_set():
                if self._answers(channel):
                    yield from self._from_daemon(stub)
                if not self._closed.is_set():
                    yield from self._meanwhile(channel)

    def _answers(self, channel: grpc.Channel) -> bool:
        """Whether the daemon is there within a second."""
        ready = grpc.channel_ready_future(channel)
        try:
            ready.result(timeout=LOOK_S)
        except grpc.FutureTimeoutError:
            ready.cancel()
            return False
        return True

    def _from_daemon(self, stub: Stub) -> Iterator[M | Note]:
        try:
            method = getattr(stub, self._method)
            self._call = method(self._request, metadata=self._way.shown)
            first = True
            for message in self._call:
                if first:
                    yield Note("")
                first, self._seen = False, True
                yield message
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise LRPilotError(
                    f"the daemon at {self._way.address} is of an older version, which cannot be "
                    "watched: restart it, or use `lrpilot show`"
                ) from None
            if error.code() not in _GONE:
                raise self._way.explained(error) from None

    def _meanwhile(self, channel: grpc.Channel) -> Iterator[M | Note]:
        """What the journal holds, until a daemon answers."""
        why = self._way.trouble()
        where = f"at {self._way.address}" + f" ({why})" * bool(why)
        if not self._has_journal:
            if not self._seen:
                raise NoDaemon(
                    f"no daemon answers {where}: start it, or name another by --storage or "
                    "LRPILOT_ADDRESS"
                )
            yield Note(f"waiting: no daemon answers {where}")
            self._closed.wait(LOOK_S)
            return
        try:
            with journal_in(self._storage) as journal:
                look = self._begin(journal)
                yield Note(f"from the journal: no daemon answers {where}")
                while not self._closed.is_set():
                    if (news := look()) is not None:
                        self._seen = True
                        yield news
                    self._closed.wait(LOOK_S / 4)
                    if self._answers(channel):
                        return
        except (NotFound, JournalError) as error:
            if not self._seen:
                raise
            yield Note(f"no daemon answers {where}; {error}")
            self._closed.wait(LOOK_S)


def one_run(storage: Storage | None, run: str) -> Following[operator_pb2.RunStory]:
    """The story of a run, each time that it changed."""

    def begin(journal: Journal) -> Look[operator_pb2.RunStory]:
        follower = Follower(journal, find_run(journal, run))
        return lambda: tell_wire.story_to(follower.story()) if follower.read() else None

    request = operator_pb2.WatchRunRequest(run=run)
    return Following(storage, "WatchRun", request, begin)


def all_runs(storage: Storage | None, project: str) -> Following[operator_pb2.ListRunsResponse]:
    """All runs' summaries, then those of the runs that changed."""

    def begin(journal: Journal) -> Look[operator_pb2.ListRunsResponse]:
        followers: dict[RunKey, Follower] = {}

        def look() -> operator_pb2.ListRunsResponse | None:
            first = not followers
            for key in journal.runs():
                if key not in followers and project in ("", key.project):
                    followers[key] = Follower(journal, key, points=40)
            changed = [one.story() for one in followers.values() if one.read()]
            if not changed and not first:
                return None
            return operator_pb2.ListRunsResponse(runs=map(tell_wire.glance_to, changed))

        return look

    request = operator_pb2.ListRunsRequest(project=project)
    return Following(storage, "WatchRuns", request, begin)
