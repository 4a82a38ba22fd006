"""The certificates of a daemon: what is refused, and what is said of the rest in time."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509

from lrpilot_controller.errors import ConfigError
from lrpilot_controller.server.access.certificates import Authority
from lrpilot_controller.server.access.tls import Certificates, TlsFiles


@pytest.fixture
def authority() -> Authority:
    return Authority(30)


def files(folder: Path, authority: Authority, hosts: Sequence[str] = ()) -> TlsFiles:
    pair = authority.server(folder, hosts)
    return TlsFiles(pair.cert, pair.key)


def test_private_keys_are_private(tmp_path: Path, authority: Authority) -> None:
    for pair in (authority.server(tmp_path, ["h"]), authority.client(tmp_path, "me")):
        assert pair.key.stat().st_mode & 0o777 == 0o600
    assert not any("key" in path.name for path in tmp_path.glob("ca*")), "it can sign no more"


def test_a_certificate_is_for_the_names_that_were_asked_for(
    tmp_path: Path, authority: Authority
) -> None:
    pair = authority.server(tmp_path, ["gpu.example.org", "10.1.2.3", "::5"])
    cert = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gpu.example.org", "localhost"]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["10.1.2.3", "::5", "127.0.0.1", "::1"]


def test_what_cannot_be_used_names_the_flags(tmp_path: Path, authority: Authority) -> None:
    good = files(tmp_path, authority)
    (tmp_path / "else").mkdir()
    other = files(tmp_path / "else", authority)
    (tmp_path / "text.pem").write_text("no certificate")
    for bad, words in (
        (TlsFiles(tmp_path / "none.pem", good.key), "No such file"),
        (TlsFiles(good.cert, other.key), "(?i)key.*mismatch"),
        (TlsFiles(tmp_path / "text.pem", good.key), "PEM"),
        (TlsFiles(good.cert, good.key, tmp_path / "text.pem"), "--tls-client-ca"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            Certificates(bad)
        assert f"--tls-cert {bad.cert} --tls-key {bad.key}" in str(caught.value)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path, authority: Authority) -> None:
    good = files(tmp_path, authority)
    good.key.chmod(0o644)
    with pytest.raises(ConfigError, match=f"mode 0644.: chmod 600 {good.key}"):
        Certificates(good)


def test_one_that_has_expired_is_not_started_with(tmp_path: Path, authority: Authority) -> None:
    authority.days = -1
    with pytest.raises(ConfigError, match=r"expired on .* UTC: get a new one"):
        Certificates(files(tmp_path, authority))


@pytest.mark.parametrize(("days", "said"), [(3, "expires on"), (30, None)])
def test_one_that_expires_soon_is_said(
    tmp_path: Path,
    authority: Authority,
    days: int,
    said: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    authority.days = days
    certificates = Certificates(files(tmp_path, authority))

    async def look() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(certificates.watch(), 0.01)

    with caplog.at_level(logging.WARNING):
        asyncio.run(look())
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == (said is not None)
    assert all(said in text and "needs no restart" in text for text in texts if said)
