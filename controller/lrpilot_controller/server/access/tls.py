"""The certificates that a daemon shows and asks for, read anew when their files change."""

import asyncio
import logging
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509

from lrpilot_controller.errors import ConfigError

log = logging.getLogger(__name__)

CHECK_S = 3600.0
SOON_DAYS = 7


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. `client_ca`: who signs the clients' certificates; None: they need none."""

    cert: Path
    key: Path
    client_ca: Path | None = None


class Certificates:
    """What the files hold now. A change that cannot be used leaves the last good one in force.

    Args:
        files: where they are.

    Raises:
        ConfigError: they cannot be used at the start, or the certificate has expired.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._stamp()
        self._good = self._read()
        if self._until <= datetime.now(UTC):
            raise ConfigError(
                f"--tls-cert {files.cert} expired on {self._until:%Y-%m-%d %H:%M} UTC: get a new "
                "one (`lrpilot certificate` makes one for a first try)"
            )

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`; gRPC asks for the newest at each handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._good,
            self._newest,  # type: ignore[arg-type]  # None: as before
            require_client_authentication=self._files.client_ca is not None,
        )

    async def watch(self) -> None:
        """Say it in the log when clients will soon, or do now, refuse the certificate."""
        while True:
            left = self._until - datetime.now(UTC)
            if left.days < SOON_DAYS:
                log.warning(
                    "the certificate %s %s on %s UTC, and then clients refuse it: put a new one "
                    "in its place, which needs no restart",
                    self._files.cert,
                    "expired" if left.total_seconds() <= 0 else "expires",
                    f"{self._until:%Y-%m-%d %H:%M}",
                )
            await asyncio.sleep(CHECK_S)

    def _newest(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by a thread of gRPC, before a handshake; None: as before."""
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        self._seen = stamp
        try:
            self._good = self._read()
        except ConfigError as error:
            log.error("%s; the certificate that was there before is still shown", error)
            return None
        log.info("certificate %s was read again, valid until %s", self._files.cert, self._until)
        return self._good

    def _read(self) -> grpc.ServerCertificateConfiguration:
        files = self._files
        try:
            _check_private(files.key)
            # Python's own TLS says what is wrong; gRPC's would fail at each handshake.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.cert, files.key)
            until = x509.load_pem_x509_certificate(files.cert.read_bytes()).not_valid_after_utc
            roots = files.client_ca.read_bytes() if files.client_ca else None
            if roots is not None:
                x509.load_pem_x509_certificates(roots)
            pair = (files.key.read_bytes(), files.cert.read_bytes())
        except (OSError, ValueError) as error:  # ssl's errors are of the first kind
            flags = f"--tls-cert {files.cert} --tls-key {files.key}"
            if files.client_ca:
                flags += f" --tls-client-ca {files.client_ca}"
            raise ConfigError(f"{flags}: {error}") from error
        self._until = until
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)

    def _stamp(self) -> list[tuple[int, ...]]:
        stamps: list[tuple[int, ...]] = []
        for path in (self._files.cert, self._files.key, self._files.client_ca):
            try:
                status = os.stat(path) if path else None
            except OSError:
                status = None
            if status:
                stamps.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return stamps


def _check_private(key: Path) -> None:
    """Raises PermissionError where anybody on this host can read it."""
    mode = key.stat().st_mode & 0o777
    if mode & 0o007:
        raise PermissionError(f"others can read {key} (mode {mode:04o}): chmod 600 {key}")
