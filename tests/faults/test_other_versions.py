"""A trainer and a daemon that are not of one version: what one does not know, it does without."""

import shutil
import sqlite3
from collections.abc import Iterator
from concurrent import futures
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from lrpilot_controller.core.events import SessionOpened
from lrpilot_proto.v1 import session_pb2
from support.daemon import Daemon, until
from support.faults.books import check_run
from support.training import attach, job, rollbacks, train, train_until

OLD = Path(__file__).parents[1] / "controller" / "journal" / "old" / "before_signals.db"
METHOD = "/lrpilot.v1.SessionService/Session"
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]
# Field 2000 of any message, as only a newer version writes it: a string.
UNKNOWN = b"\x82\x7d\x05newer"


class Newer(grpc.GenericRpcHandler):
    """Passes on what both say, as a peer would say it that knows more words.

    Every message has a field more, and between them come messages of a kind that nobody knows.
    """

    def __init__(self, target: str) -> None:
        self._target = target

    def service(self, _details: Any) -> Any:
        """Every method is one: bytes both ways."""
        return grpc.stream_stream_rpc_method_handler(self._session)

    def _session(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        with grpc.insecure_channel(self._target, options=OPTIONS) as channel:
            call = channel.stream_stream(METHOD)(message + UNKNOWN for message in requests)
            context.add_callback(call.cancel)
            for message in call:
                yield message + UNKNOWN
                # It says nothing but which daemon speaks, and what nobody understands.
                heard = session_pb2.ControllerMessage.FromString(message)
                words = session_pb2.ControllerMessage(generation=heard.generation)
                yield words.SerializeToString() + UNKNOWN


@contextmanager
def newer(daemon: Daemon) -> Iterator[str]:
    """The address of a daemon and a trainer that know more than this version."""
    address = f"unix:{daemon.folder / 'newer.sock'}"
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([Newer(daemon.address)])
    server.add_insecure_port(address)
    server.start()
    try:
        yield address
    finally:
        server.stop(0).wait()


def test_a_peer_that_says_more(daemon: Daemon) -> None:
    daemon.start()
    one = job()
    with newer(daemon) as address, attach(one, address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(60), pause_s=0.001)
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1)
        train(one, pilot, range(50), pause_s=0.001)
    check_run(daemon, "run", pilot, one.loss())


@pytest.mark.parametrize("version", ["0.0.1", "99.0.0", "no version at all"])
def test_a_trainer_of_another_version(
    daemon: Daemon, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.start()
    monkeypatch.setattr("lrpilot.__version__", version)
    one = job()
    with attach(one, daemon.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1)
    check_run(daemon, "run", pilot, one.loss())
    [opened] = [record.event for record in daemon.records("run", SessionOpened)]
    assert opened.attempt.client_version == version


def test_a_daemon_that_is_updated_while_a_run_is_on(daemon: Daemon) -> None:
    """The journal is one that an older version wrote; its runs stay, and new ones are added."""
    daemon.storage.mkdir(mode=0o700)
    shutil.copy(OLD, daemon.storage / "journal.db")
    with closing(sqlite3.connect(OLD)) as file:
        rows = file.execute("SELECT project, name FROM runs ORDER BY id")
        old = ["/".join(row) for row in rows]
    assert old
    one = job()
    with attach(one, daemon.address, "run") as pilot:
        train(one, pilot, range(100))
        daemon.start()
        train_until(one, pilot, lambda: pilot.summary().connected)
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1)
        train(one, pilot, range(50), pause_s=0.001)
        until(lambda: pilot.summary().connected)
    check_run(daemon, "run", pilot, one.loss())
    with daemon.journal() as journal:
        assert [str(run) for run in journal.runs()] == [*old, "default/run"]
