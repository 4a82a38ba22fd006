"""The daemon process: journal, engines and gRPC server, from start to a clean end."""

import asyncio
import gc
import logging
import os
import signal
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from lrpilot_controller.config import Config
from lrpilot_controller.errors import ConfigError, DaemonExists, Stopping
from lrpilot_controller.journal.retention import Retention
from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_controller.journal.writer import JournalWriter
from lrpilot_controller.server.access.gate import Gate
from lrpilot_controller.server.address import Address, socket_of, sole_owner
from lrpilot_controller.server.chronicle import Chronicle
from lrpilot_controller.server.files import most_connections
from lrpilot_controller.server.intake import MIB, Intake, Room
from lrpilot_controller.server.limits import Door
from lrpilot_controller.server.operator import OperatorServicer
from lrpilot_controller.server.pace import FlushPace
from lrpilot_controller.server.runs import Runs
from lrpilot_controller.server.session import SessionServicer
from lrpilot_controller.server.turnstile import Turnstile
from lrpilot_controller.server.upkeep import keep_up
from lrpilot_controller.server.vitals import Vitals
from lrpilot_controller.server.watching import Watching
from lrpilot_controller.tuning.priors import JobPriors
from lrpilot_controller.tuning.recorder import TrialRecorder
from lrpilot_proto.rendezvous import private_dir
from lrpilot_proto.v1 import operator_pb2_grpc, session_pb2_grpc

if TYPE_CHECKING:  # it brings cryptography, which a unix socket does without
    from lrpilot_controller.server.access.entrance import Entrance

log = logging.getLogger(__name__)

JOURNAL = "journal.db"
# From the measurements on wire limits: what is over them gets RESOURCE_EXHAUSTED from gRPC.
OPTIONS: list[tuple[str, int]] = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.max_send_message_length", 1 << 20),
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_metadata_size", 8192),
    ("grpc.absolute_max_metadata_size", 16384),
    ("grpc.keepalive_time_ms", 30000),
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.http2.ping_timeout_ms", 10000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 3),
    # A connection that says nothing, or carries no call, is let go.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 60_000),
]
# Beside the sessions: operators, and those who are just being refused.
MORE_CALLS = 512
STOP_GRACE_S = 1.0
SETTLE_S = 3.0  # for hundreds of sessions to be recorded as lost, and their states kept
GC_THRESHOLD = 20_000, 20, 50


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """How `lrpilot serve` was called.

    Attributes:
        addresses: where it listens; the owner's unix socket is always one of them.
        linger_s: end that long after the last session; None: never.
        entrance: for an address on TCP; None: there is none.
        metrics: host and port of the metrics; None: there are none.
    """

    addresses: tuple[Address, ...]
    storage: Path
    config: Config
    linger_s: float | None = None
    entrance: "Entrance | None" = None
    metrics: tuple[str, int] | None = None


async def serve(options: DaemonOptions) -> None:
    """Run the daemon until SIGTERM, SIGINT, or its linger is over.

    Raises:
        ConfigError: the storage directory, the tokens or the certificate cannot be used.
        DaemonExists: another daemon holds the journal or the address.
        JournalError: the journal cannot be used.
    """
    _collect_seldom()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with ExitStack() as owned:
        _prepare(options.storage)
        owned.enter_context(sole_owner(options.storage / "daemon.lock", f"{options.storage}"))
        for address in options.addresses:
            owned.enter_context(socket_of(address))
        journal = SqlJournal.open(options.storage / JOURNAL)
        owned.callback(journal.close)
        writer = JournalWriter(journal)
        owned.callback(writer.close)
        recorder = TrialRecorder(options.storage)
        owned.callback(recorder.close)
        priors = JobPriors(options.storage)
        owned.callback(priors.close)
        async with AsyncExitStack() as running:
            await _serve(options, journal, writer, recorder, priors, running, stopping)


async def _serve(
    options: DaemonOptions,
    journal: SqlJournal,
    writer: JournalWriter,
    recorder: TrialRecorder,
    priors: JobPriors,
    running: AsyncExitStack,
    stopping: asyncio.Event,
) -> None:
    limits = options.config.server
    door = Door(limits)
    intake = Intake(journal, limits, Room(options.storage / JOURNAL, limits))
    runs = Runs(journal, writer, options.config, priors, intake)
    runs.listeners.append(recorder.record)
    runs.listeners.append(Chronicle(journal).record)
    most_bytes = limits.max_journal_mib * MIB
    retention = Retention(journal, writer, options.config.keep, most_bytes)
    runs.listeners.append(retention.heard)
    runs.forgetters.append(retention.forgotten)
    pace = FlushPace()
    pacing = asyncio.create_task(pace.keep())
    running.callback(pacing.cancel)
    sessions = SessionServicer(runs, door, pace)
    calls = limits.max_sessions + MORE_CALLS
    entrance = options.entrance
    gate = Gate(entrance.tokens if entrance else None)
    server = grpc.aio.server(
        options=[*OPTIONS, ("grpc.max_allowed_incoming_connections", most_connections(calls))],
        maximum_concurrent_rpcs=calls,
        interceptors=[gate, Turnstile(door)],
    )
    session_pb2_grpc.add_SessionServiceServicer_to_server(sessions, server)  # type: ignore[no-untyped-call]
    watching = Watching(journal)
    runs.listeners.append(watching.record)
    runs.forgetters.append(watching.forgotten)
    operator = OperatorServicer(journal, runs, watching, Vitals(journal, sessions).status)
    operator_pb2_grpc.add_OperatorServiceServicer_to_server(operator, server)  # type: ignore[no-untyped-call]
    if options.metrics is not None:
        from lrpilot_controller.server.metrics import Parts, exposed

        parts = Parts(journal, writer, runs, sessions, recorder, pace, watching)
        running.enter_context(exposed(parts, *options.metrics))
    await runs.mark_lost()
    for address in options.addresses:
        _bind(server, address, entrance)
    await server.start()
    running.push_async_callback(_stop, server, sessions, watching, runs)
    recorder.start(journal)
    log.info(
        "listening on %s, storage %s, generation %d, pid %d",
        ", ".join(map(str, options.addresses)),
        options.storage,
        journal.generation,
        os.getpid(),
    )
    for watch in (gate.watch, *([entrance.certificates.watch] if entrance else [])):
        running.callback(asyncio.create_task(watch()).cancel)
    running.callback(asyncio.create_task(keep_up(retention, runs)).cancel)
    lingering = asyncio.create_task(_linger(sessions, options.linger_s))
    running.callback(lingering.cancel)
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait([lingering, stop], return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping: %s", "asked to" if stop.done() else "no session left")


def _collect_seldom() -> None:
    """Let Python look for cycles less often: samples make none, and a look at what hundreds of runs
    hold costs a tenth of the time and delays everybody."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


async def _stop(
    server: grpc.aio.Server, sessions: SessionServicer, watching: Watching, runs: Runs
) -> None:
    """Take no new session, and let those that are open be recorded as lost."""
    stopping = asyncio.create_task(server.stop(STOP_GRACE_S))
    await asyncio.sleep(0)  # now it has begun
    sessions.end()
    watching.end(Stopping("the daemon is stopping"))
    await stopping
    await runs.settle(SETTLE_S)


async def _linger(sessions: SessionServicer, linger_s: float | None) -> None:
    """Return once there was no session for `linger_s`; never where that is None."""
    while True:
        await sessions.idle.wait()
        if linger_s is None:
            await asyncio.Event().wait()
        else:
            opened = sessions.opened
            await asyncio.sleep(linger_s)
            if not sessions.active and sessions.opened == opened:
                return


def _prepare(storage: Path) -> None:
    try:
        if not storage.exists():
            private_dir(storage)
        if not storage.is_dir():
            raise NotADirectoryError(f"{storage} is not a directory")
        if not os.access(storage, os.W_OK | os.X_OK):
            raise PermissionError(f"{storage} is not writable")
    except OSError as error:
        raise ConfigError(f"--storage {storage}: {error}") from error


def _bind(server: grpc.aio.Server, address: Address, entrance: "Entrance | None") -> None:
    before = os.umask(0o177)  # the socket file is made by gRPC, mode 0600 only by umask
    try:
        if address.path is not None:
            bound = server.add_insecure_port(str(address))
        else:
            assert entrance is not None, "TCP without TLS and tokens"
            bound = server.add_secure_port(str(address), entrance.certificates.credentials())
    except RuntimeError as error:
        raise DaemonExists(f"cannot listen on {address}: {error}") from error
    finally:
        os.umask(before)
    if not bound:
        raise DaemonExists(f"cannot listen on {address}: is another program there?")
