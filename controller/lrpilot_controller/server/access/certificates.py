"""Certificates for a first try: an authority that signs a few and is then forgotten."""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ALWAYS = ("localhost", "127.0.0.1", "::1")  # what an ssh tunnel ends at
# A clock that is a little behind must not refuse what was made just now.
SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and of its private key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates. Its own key is never written: what it signs is all there will be.

    Attributes:
        days: how long what it signs from now on is valid; at first its own.
    """

    def __init__(self, days: float) -> None:
        self.days = days
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("LRPilot certificate authority of one day's making")
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._cert = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def write(self, folder: Path) -> Path:
        """Write its certificate, which those who are to trust it need: `ca.pem`."""
        path = folder / "ca.pem"
        _write(path, self._cert.public_bytes(serialization.Encoding.PEM), 0o644)
        return path

    def server(self, folder: Path, hosts: Sequence[str]) -> Pair:
        """A daemon's certificate for `hosts`, names or addresses, and for this host's loopback."""
        named = dict.fromkeys([*hosts, *ALWAYS])
        purpose = ExtendedKeyUsageOID.SERVER_AUTH
        return self._issue(folder, "server", named, hosts[0] if hosts else ALWAYS[0], purpose)

    def client(self, folder: Path, name: str) -> Pair:
        """A client's certificate, for a daemon that asks for one."""
        return self._issue(folder, name, [name], name, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(
        self,
        folder: Path,
        file: str,
        names: "Sequence[str] | dict[str, None]",
        common: str,
        purpose: x509.ObjectIdentifier,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier
        cert = (
            self._builder(_name(common), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(authority(self._identifier), critical=False)
            .add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(folder / f"{file}.pem", folder / f"{file}-key.pem")
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        _write(pair.key, private, 0o600)
        _write(pair.cert, cert.public_bytes(serialization.Encoding.PEM), 0o644)
        return pair

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        now = datetime.now(UTC)
        until = now + timedelta(days=self.days)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, until) - SKEW)
            .not_valid_after(until)
            .add_extension(identifier, critical=False)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return x509.DNSName(name)


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Put a whole file in place at once, so that a daemon never reads half of one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
    part.replace(path)
