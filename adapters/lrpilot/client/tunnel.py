"""A line with TLS, carried between the daemon and gRPC by a thread of ours.

gRPC starts its threads anew in every forked child, and with TLS of its own they crash there: of the
runs with forked DataLoader workers half lost one (grpcio 1.85.1). So gRPC speaks in plain text to a
unix socket of this process, in a directory that only its owner can enter, and TLS is Python's.
"""

import contextlib
import os
import selectors
import shutil
import socket
import ssl
import tempfile
import threading
from pathlib import Path
from urllib.parse import quote

from lrpilot_proto.access import Access

CONNECT_S = 2.0
ACCEPT_S = 5.0
FAREWELL_S = 1.0
CHUNK = 1 << 16
MAX_WAITING = 1 << 20  # bytes, one way; a side that does not read is then no longer read for

Read, Write = selectors.EVENT_READ, selectors.EVENT_WRITE


class Tunnel:
    """One connection to a daemon on TCP; it ends when either side does.

    Raises:
        Unreachable: no daemon can be talked to there.
        OSError: this process can open no more files or threads.
    """

    def __init__(self, access: Access, host: str, port: int) -> None:
        self._line, first = access.connect(host, port, CONNECT_S)
        self._folder = Path(tempfile.mkdtemp(prefix="lrpilot-"))  # mode 0700
        self._listener = socket.socket(socket.AF_UNIX)
        self._gate: socket.socket | None = None  # the connection that gRPC makes
        try:
            path = self._folder / "tls"
            self._listener.bind(str(path))
            self._listener.listen(1)
            self._listener.settimeout(ACCEPT_S)
            self.target = f"unix:{quote(str(path))}"
            threading.Thread(
                target=self._run, args=(first,), name="lrpilot-tls", daemon=True
            ).start()
        except BaseException:
            self._end()
            raise

    def abandon(self) -> None:
        """In a forked child: hold nothing open that the parent closes, and touch nothing else."""
        for one in (self._line, self._listener, self._gate):
            if one is not None and one.fileno() >= 0:
                with contextlib.suppress(OSError):
                    # Detached: else its end would close the number again, which is another's then.
                    os.close(one.detach())

    def _run(self, first: bytes) -> None:
        try:
            self._gate, _ = self._listener.accept()
            self._forget_path()
            self._carry(self._gate, first)
        except OSError:
            pass  # either side is gone; the other learns of it now
        finally:
            self._end()

    def _carry(self, gate: socket.socket, first: bytes) -> None:
        line, up, down = self._line, bytearray(), bytearray(first)
        for one in (line, gate):
            one.setblocking(False)
        open_ends = True
        with selectors.DefaultSelector() as selector:
            while open_ends:
                _watch(selector, gate, reads_into=up, writes=down)
                _watch(selector, line, reads_into=down, writes=up)
                # What TLS has decrypted already, no selector tells of.
                pending = line.pending() > 0 and len(down) < MAX_WAITING
                ready = {key.fileobj for key, _ in selector.select(0 if pending else None)}
                if gate in ready and len(up) < MAX_WAITING:
                    open_ends = _take(gate, up)
                if (line in ready or pending) and len(down) < MAX_WAITING:
                    open_ends = _take(line, down) and open_ends
                _give(gate, down)
                _give(line, up)
        for sink, rest in ((gate, down), (line, up)):
            with contextlib.suppress(OSError):
                sink.settimeout(FAREWELL_S)  # what was said before the end is still passed on
                sink.sendall(rest)

    def _forget_path(self) -> None:
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self) -> None:
        self._forget_path()
        for one in (self._line, self._gate):
            if one is not None:
                with contextlib.suppress(OSError):
                    # Not close alone: a child forked meanwhile holds it open.
                    one.shutdown(socket.SHUT_RDWR)
                one.close()


def _watch(
    selector: selectors.BaseSelector, one: socket.socket, reads_into: bytearray, writes: bytearray
) -> None:
    """Wake up for what can be done with `one`, and for nothing else."""
    wanted = (Read if len(reads_into) < MAX_WAITING else 0) | (Write if writes else 0)
    known = selector.get_map().get(one)
    if known is None:
        if wanted:
            selector.register(one, wanted)
    elif not wanted:
        selector.unregister(one)
    elif known.events != wanted:
        selector.modify(one, wanted)


def _take(source: socket.socket, into: bytearray) -> bool:
    """Read what is there, or a part of it; False at its end."""
    try:
        data = source.recv(CHUNK)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return True
    into += data
    return bool(data)


def _give(sink: socket.socket, data: bytearray) -> None:
    """Write as much as it takes."""
    while data:
        try:
            sent = sink.send(data[:CHUNK])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        del data[:sent]
