"""The daemon process: journal, engines and gRPC server, from start to a clean end."""

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from lrpilot_controller.config import Config
from lrpilot_controller.errors import ConfigError, Stopping
from lrpilot_controller.server.access.gate import Gate
from lrpilot_controller.server.address import Address, socket_of, sole_owner
from lrpilot_controller.server.listening import bind, make_server
from lrpilot_controller.server.memory import collect_now_and_then, settle_in
from lrpilot_controller.server.parts import Parts, assemble
from lrpilot_controller.server.sessions import SessionServicer
from lrpilot_controller.server.upkeep import keep_up, mark_lost
from lrpilot_controller.storage import Storage

if TYPE_CHECKING:  # it brings cryptography, which a unix socket does without
    from lrpilot_controller.server.access.entrance import Entrance

log = logging.getLogger(__name__)

STOP_GRACE_S = 1.0
SETTLE_S = 3.0  # for hundreds of sessions to be recorded as lost, and their states kept


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
    storage: Storage
    config: Config
    linger_s: float | None = None
    entrance: "Entrance | None" = None
    metrics: tuple[str, int] | None = None


async def serve(options: DaemonOptions) -> int:
    """Run the daemon until SIGTERM, SIGINT, its linger is over, or another one has its journal.

    Returns:
        The exit status of its process: 1 where another daemon has its journal, else 0.

    Raises:
        ConfigError: the storage directory, the tokens or the certificate cannot be used.
        DaemonExists: another daemon holds the journal or the address.
        JournalError: the journal cannot be used.
    """
    settle_in()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with ExitStack() as owned:
        folder = _prepare(options.storage)
        owned.enter_context(sole_owner(folder / "daemon.lock", f"{folder}"))
        for address in options.addresses:
            owned.enter_context(socket_of(address))
        parts = assemble(options.storage, options.config, owned)
        async with AsyncExitStack() as running:
            return await _serve(options, parts, running, stopping)


async def _serve(
    options: DaemonOptions, parts: Parts, running: AsyncExitStack, stopping: asyncio.Event
) -> int:
    entrance = options.entrance
    gate = Gate(entrance.tokens if entrance else None)
    server = make_server(parts, options.config.server, gate)
    if options.metrics is not None:
        from lrpilot_controller.server.metrics import exposed

        running.enter_context(exposed(parts, *options.metrics))
    await mark_lost(parts.journal, parts.writer)
    for address in options.addresses:
        bind(server, address, entrance)
    await server.start()
    running.push_async_callback(_stop, server, parts)
    parts.recorder.start(parts.journal)
    log.info(
        "listening on %s, storage %s, generation %d, pid %d",
        ", ".join(map(str, options.addresses)),
        options.storage,
        parts.journal.generation,
        os.getpid(),
    )
    for beside in (
        parts.pace.keep(),
        keep_up(parts.retention, parts.runs),
        gate.watch(),
        collect_now_and_then(),
        *([entrance.certificates.watch()] if entrance else []),
    ):
        running.callback(asyncio.create_task(beside).cancel)
    lingering = asyncio.create_task(_linger(parts.sessions, options.linger_s))
    running.callback(lingering.cancel)
    stop = asyncio.create_task(stopping.wait())
    superseded = asyncio.wrap_future(parts.writer.superseded)
    ends: list[asyncio.Future[Any]] = [lingering, stop, superseded]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if superseded.done():
        log.error("stopping: %s", superseded.result())
        return 1
    log.info("stopping: %s", "asked to" if stop.done() else "no session left")
    return 0


async def _stop(server: grpc.aio.Server, parts: Parts) -> None:
    """Take no new session, and let those that are open be recorded as lost."""
    stopping = asyncio.create_task(server.stop(STOP_GRACE_S))
    await asyncio.sleep(0)  # now it has begun
    parts.sessions.end()
    parts.watching.end(Stopping("the daemon is stopping"))
    await stopping
    await parts.runs.shielded.settle(SETTLE_S)


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


def _prepare(storage: Storage) -> Path:
    try:
        folder = storage.make_folder()
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a directory")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} is not writable")
    except OSError as error:
        raise ConfigError(f"--storage {storage}: {error}") from error
    return folder
