"""The bytes of one connection, with TLS or without, read and written without ever waiting."""

import contextlib
import os
import socket
import ssl

from lrpilot.client.address import Address
from lrpilot_proto.access import Access, Unreachable

CONNECT_S = 2.0
CHUNK = 1 << 16
CHUNKS = 16  # read at a time, however much there is


class Endpoint:
    """Our end of a connection to the daemon.

    Args:
        address: where the daemon listens.
        access: for a daemon on TCP; None: a unix socket, where the file is the lock.

    Attributes:
        backlog: bytes that could not be written yet.

    Raises:
        Unreachable: no daemon can be talked to there.
    """

    def __init__(self, address: Address, access: Access | None = None) -> None:
        self.backlog = bytearray()
        self._first = b""
        self._socket: socket.socket
        if access is not None:
            self._socket, self._first = access.connect(address.host, address.port, CONNECT_S)
        else:
            self._socket = _dial(address)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """The file descriptor, for a selector."""
        return self._socket.fileno()

    @property
    def unread(self) -> bool:
        """Whether there is something to read that no selector tells of."""
        line = self._socket
        return bool(self._first) or (isinstance(line, ssl.SSLSocket) and line.pending() > 0)

    def read(self) -> bytes:
        """What has come; empty where nothing has.

        Raises:
            OSError: the daemon hung up, and nothing is left to read.
        """
        data, self._first = bytearray(self._first), b""
        for _ in range(CHUNKS):
            try:
                more = self._socket.recv(CHUNK)
                if not more:
                    raise ConnectionResetError("the daemon hung up")
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError:
                if data:
                    break  # first what came before the end; it is found again
                raise
            data += more
        return bytes(data)

    def write(self, data: bytes) -> None:
        """Send as much as the line takes, the rest later. A broken line shows when it is read."""
        self.backlog += data
        while self.backlog:
            try:
                sent = self._socket.send(self.backlog[:CHUNK])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:
                self.backlog.clear()
                return
            del self.backlog[:sent]

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            # Not close alone: a child that was forked by other means than Python's holds it open.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child: hold nothing open that the parent closes, and say nothing."""
        if self._socket.fileno() >= 0:
            # Detached: else its end would close the number again, which is another's then.
            os.close(self._socket.detach())


def _dial(address: Address) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.settimeout(CONNECT_S)
        line.connect(str(address.path))
    except OSError as error:
        line.close()
        raise Unreachable(f"nobody answers at {address}: {error}") from error
    return line
