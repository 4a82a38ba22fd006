"""What a client needs to reach a daemon over TCP: a token, and whom to trust.

A connection goes by the files as they are then, so that a token or a certificate can be changed
while a training process runs. No text that this module makes holds a token.
"""

import contextlib
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

TOKEN, TOKEN_FILE = "LRPILOT_TOKEN", "LRPILOT_TOKEN_FILE"
CA, CERT, KEY = "LRPILOT_CA", "LRPILOT_CERT", "LRPILOT_KEY"
MAX_TOKEN = 512  # characters
HEADER = "authorization"
SCHEME = "Bearer "

Version = tuple[int, int, int, int] | None


class Unreachable(OSError):
    """No daemon can be talked to; the text says why."""


class Access:
    """How one client shows who it is, and knows whom it talks to.

    The token is `token`, else `$LRPILOT_TOKEN`, else what the file `$LRPILOT_TOKEN_FILE` holds.
    `$LRPILOT_CA` is a PEM file of the certificates to trust; unset: those that the system trusts.
    `$LRPILOT_CERT` and `$LRPILOT_KEY`, PEM files, are for a daemon that asks for a certificate.

    Raises:
        ValueError: there is no token, or something of this cannot be used.
    """

    def __init__(self, token: str | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self._given, self._origin = token, "token"
        if token is None:
            self._given, self._origin = environ.get(TOKEN) or None, f"${TOKEN}"
        self._token_file = _file(environ, TOKEN_FILE)
        self._ca, self._cert, self._key = (_file(environ, name) for name in (CA, CERT, KEY))
        self._used = ""
        self._made: tuple[list[Version], ssl.SSLContext] | None = None
        if self._given is None and self._token_file is None:
            raise ValueError(
                f"a daemon on TCP needs a token: pass token=..., or set {TOKEN} or {TOKEN_FILE}; "
                "`lrpilot token create` on the daemon's host makes one"
            )
        if (self._cert is None) != (self._key is None):
            raise ValueError(f"{CERT} and {KEY} go together: set both, or neither")
        try:
            self._token()
            self._context()
        except OSError as error:  # ssl's errors are of this kind
            raise ValueError(str(error)) from error

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call carries, to show the token."""
        self._used = self._token()
        return ((HEADER, SCHEME + self._used),)

    @property
    def renewed(self) -> bool:
        """Whether there is another token now than the one that was shown last."""
        try:
            return self._token() != self._used
        except (OSError, ValueError):
            return False

    def channel(self, target: str, options: Sequence[tuple[str, int]]) -> "grpc.Channel":
        """A channel with TLS.

        Raises:
            OSError: a file cannot be read now.
        """
        import grpc

        roots = self._ca or _system_roots()
        credentials = grpc.ssl_channel_credentials(
            roots.read_bytes() if roots else None,
            self._key.read_bytes() if self._key else None,
            self._cert.read_bytes() if self._cert else None,
        )
        return grpc.secure_channel(target, credentials, options=options)

    def connect(self, host: str, port: int, timeout_s: float) -> tuple[ssl.SSLSocket, bytes]:
        """A connection with TLS, and what the daemon said first on it.

        Raises:
            Unreachable: there is none, with the reason for a person.
        """
        place = f"{host}:{port}"
        try:
            with contextlib.ExitStack() as held:
                line = held.enter_context(self._dial(host, port, timeout_s))
                # A daemon speaks first, but not before it has seen our certificate.
                if first := line.recv(1 << 16):
                    held.pop_all()
                    return line, first
        except ssl.SSLCertVerificationError as error:
            why = f"the certificate of {place} is not accepted: {error.verify_message}{self._hint}"
            raise Unreachable(why) from error
        except TimeoutError as error:
            why = f"{place} does not answer a TLS handshake within {timeout_s:g} s"
            raise Unreachable(why) from error
        except ConnectionRefusedError as error:
            raise Unreachable(f"nobody listens at {place}") from error
        except OSError as error:
            raise Unreachable(f"no TLS connection to {place}: {error}") from error
        shown = f"{self._cert}, from {CERT}," if self._cert else f"none ({CERT}, {KEY})"
        raise Unreachable(
            f"{place} ended the TLS handshake: it does not accept our certificate, {shown} "
            "which it must trust and which must not have expired"
        )

    def _dial(self, host: str, port: int, timeout_s: float) -> ssl.SSLSocket:
        """A line whose handshake is done, to the first of the host's addresses that takes one.

        Wrapped before it is connected: Python (3.11) leaves a socket open that its peer resets
        between the two.
        """
        context, why = self._context(), OSError(f"{host} has no address")
        for family, kind, protocol, _, place in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            raw = socket.socket(family, kind, protocol)
            line = context.wrap_socket(raw, server_hostname=host)
            try:
                line.settimeout(timeout_s)
                line.connect(place)
                return line
            except BaseException as error:
                line.close()
                if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
                    raise
                why = error
        raise why

    def trouble(self, host: str, port: int, timeout_s: float = 2.0) -> str:
        """Why no daemon can be talked to there, for a person; empty where one can.

        gRPC says UNAVAILABLE for all of it; a handshake of our own tells what it is.
        """
        try:
            line, _ = self.connect(host, port, timeout_s)
        except Unreachable as error:
            return str(error)
        line.close()
        return ""

    def _token(self) -> str:
        if self._given is not None:
            return checked(self._given, self._origin)
        assert self._token_file is not None
        return checked(self._token_file.read_text().strip(), f"the file in {TOKEN_FILE}")

    def _context(self) -> ssl.SSLContext:
        """Judges as gRPC's own TLS does; made anew where a file is not what it was.

        To read what the system trusts takes twenty milliseconds, too much for each reconnect.

        Raises:
            OSError: a file cannot be used; its name and variable are in the text.
        """
        system = ssl.get_default_verify_paths()
        trusted = (system.cafile, system.capath) if self._ca is None else (self._ca,)
        versions = [_version(file) for file in (*trusted, self._cert, self._key)]
        if self._made is None or self._made[0] != versions:
            self._made = versions, self._read_files()
        return self._made[1]

    def _read_files(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._ca)
        except OSError as error:
            raise OSError(f"{CA}={self._ca}: {error}") from error
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.set_alpn_protocols(["h2"])
        if self._cert is not None:
            try:
                context.load_cert_chain(self._cert, self._key)
            except OSError as error:
                raise OSError(f"{CERT}={self._cert}, {KEY}={self._key}: {error}") from error
        return context

    @property
    def _hint(self) -> str:
        return f" (trusted is {CA}={self._ca})" if self._ca else f" ({CA} names what to trust)"


def _version(file: str | Path | None) -> Version:
    """What is another once a file, or what its name leads to, was changed; None: no file."""
    try:
        now = os.stat(file) if file is not None else None
    except OSError:  # whoever reads it says why
        return None
    return now and (now.st_dev, now.st_ino, now.st_mtime_ns, now.st_size)


def _file(environ: Mapping[str, str], name: str) -> Path | None:
    text = environ.get(name)
    return Path(text).expanduser().absolute() if text else None


def checked(token: object, origin: str) -> str:
    """A token as it came, unless it cannot be one; `origin` says where it is from.

    Raises:
        ValueError: it cannot be one. It is not in the text.
    """
    if not isinstance(token, str):
        raise ValueError(f"{origin}: a text is needed, not {type(token).__name__}")
    if not 0 < len(token) <= MAX_TOKEN or not all("!" <= letter <= "~" for letter in token):
        raise ValueError(
            f"{origin}: a token has 1 to {MAX_TOKEN} printable ASCII characters and no space"
        )
    return token


def _system_roots() -> Path | None:
    """The system's own file of trusted certificates; None: gRPC brings one."""
    file = ssl.get_default_verify_paths().cafile
    return Path(file) if file else None
