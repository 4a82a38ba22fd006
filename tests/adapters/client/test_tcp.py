"""A client of a daemon on TCP: what it needs, what it tells, and what it never tells."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from lrpilot.client import Agent
from lrpilot.client.discovery import Finder
from lrpilot.torch.options import Options
from lrpilot_controller.server.access.certificates import Authority, Pair
from lrpilot_controller.server.access.tokens import revoke, rotate
from lrpilot_proto.access import Access
from support.access import SecureDaemon, free_port

SECRET = "lrp_a-secret-that-nobody-may-see"
ADDRESS = "127.0.0.1:1"


# -- what is needed is asked for before training starts


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LRPILOT"):
            monkeypatch.delenv(name)


def test_a_port_without_a_token_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"127.0.0.1:1: .* needs a token.*LRPILOT_TOKEN"):
        Agent(ADDRESS)


@pytest.mark.parametrize("token", ["", "two words", "ümläut", "a\nb", "x" * 513])
def test_what_is_no_token_is_not_repeated(token: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        Agent(ADDRESS, token=token)
    assert not token or token not in str(caught.value)


def test_a_token_must_be_a_text() -> None:
    with pytest.raises(ValueError, match="not int"):
        Options(token=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"LRPILOT_CA": "/no/such.pem"}, ["LRPILOT_CA=/no/such.pem", "No such file"]),
        ({"LRPILOT_CERT": "/a.pem"}, ["LRPILOT_CERT and LRPILOT_KEY go together"]),
        ({"LRPILOT_CERT": "/a.pem", "LRPILOT_KEY": "/k.pem"}, ["LRPILOT_CERT=/a.pem"]),
    ],
)
def test_files_that_cannot_be_used(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ValueError, match="LRPILOT") as caught:
        Access(SECRET, environ)
    assert all(word in str(caught.value) for word in words)


def test_a_token_from_a_file(folder: Path) -> None:
    file = folder / "token"
    file.write_text(f"{SECRET}\n")
    access = Access(environ={"LRPILOT_TOKEN_FILE": str(file)})
    assert access.metadata() == (("authorization", f"Bearer {SECRET}"),)
    assert not access.renewed
    file.write_text("another\n")
    assert access.renewed
    with pytest.raises(ValueError, match="No such file"):
        Access(environ={"LRPILOT_TOKEN_FILE": str(folder / "none")})


def test_no_text_of_ours_holds_the_token() -> None:
    options = Options(token=SECRET, address=ADDRESS)
    agent = Agent(ADDRESS, token=SECRET)
    things: list[Any] = [options, agent, agent.status, Finder(ADDRESS, SECRET), Access(SECRET)]
    assert not any(SECRET in text for thing in things for text in (repr(thing), str(thing)))


def test_a_unix_socket_needs_no_token(folder: Path) -> None:
    assert Finder(f"unix:{folder}/d.sock", SECRET).access is None


# -- why no daemon can be talked to, told apart


@contextmanager
def serving(pair: Pair, client_ca: Path | None = None) -> Iterator[int]:
    """A gRPC server with TLS; its port."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.cert.read_bytes())],
        client_ca.read_bytes() if client_ca else None,
        client_ca is not None,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def trusting(ca: Path, pair: Pair | None = None) -> Access:
    """A client that trusts `ca`, and shows `pair`."""
    shown = {"LRPILOT_CERT": str(pair.cert), "LRPILOT_KEY": str(pair.key)} if pair else {}
    return Access(SECRET, {"LRPILOT_CA": str(ca), **shown})


@pytest.fixture
def authority() -> Authority:
    return Authority(1)


def test_a_certificate_that_has_expired(folder: Path, authority: Authority) -> None:
    ca = authority.write(folder)
    authority.days = -1
    with serving(authority.server(folder, [])) as port:
        assert "certificate has expired" in trusting(ca).trouble("127.0.0.1", port)


def test_a_certificate_of_a_stranger(folder: Path, authority: Authority) -> None:
    with serving(authority.server(folder, [])) as port:
        trouble = trusting(Authority(1).write(folder)).trouble("127.0.0.1", port)
        assert "is not accepted: unable to get local issuer certificate" in trouble
        assert f"LRPILOT_CA={folder / 'ca.pem'}" in trouble
        assert "LRPILOT_CA names what to trust" in Access(SECRET).trouble("127.0.0.1", port)


def test_a_certificate_of_another_host(folder: Path, authority: Authority) -> None:
    ca = authority.write(folder)
    with serving(authority.server(folder, ["gpu.example.org"])) as port:
        assert trusting(ca).trouble("localhost", port) == ""
        assert "127.0.0.2" in trusting(ca).trouble("127.0.0.2", port)


@pytest.mark.parametrize("days", [None, -1])
def test_a_daemon_that_asks_for_a_certificate(
    folder: Path, authority: Authority, days: int | None
) -> None:
    ca = authority.write(folder)
    server, good = authority.server(folder, []), authority.client(folder, "good")
    shown = None
    if days is not None:
        authority.days = days
        shown = authority.client(folder, "bad")
    with serving(server, client_ca=ca) as port:
        assert trusting(ca, good).trouble("127.0.0.1", port) == ""
        trouble = trusting(ca, shown).trouble("127.0.0.1", port)
    assert "does not accept our certificate" in trouble
    assert "LRPILOT_CERT" in trouble


def test_what_does_not_speak_tls(folder: Path, authority: Authority) -> None:
    ca = authority.write(folder)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert "no TLS connection" in trusting(ca).trouble("127.0.0.1", port)
    finally:
        server.stop(None).wait()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        trouble = trusting(ca).trouble("127.0.0.1", silent.getsockname()[1], 0.2)
        assert "does not answer a TLS handshake" in trouble
    assert "nobody listens" in trusting(ca).trouble("127.0.0.1", free_port())


# -- a whole line


@pytest.fixture
def secure(folder: Path) -> Iterator[SecureDaemon]:
    """A daemon on TCP that was not started yet."""
    daemon = SecureDaemon(folder)
    yield daemon
    daemon.kill()


@pytest.fixture
def line(
    secure: SecureDaemon,
    make_agent: Callable[..., Agent],
    hello: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Agent]:
    """An agent that trusts the daemon and opens a session of project `p`."""

    def make(**environ: str) -> Agent:
        for name, value in (secure.trust() | environ).items():
            monkeypatch.setenv(name, value)
        agent = make_agent("auto")
        greeting = hello(max_lr=0.1, world_size=1)
        greeting.run.project, greeting.run.name = "p", "run"
        greeting.groups.add(name="group 0", base_lr=0.1)
        agent.open(greeting)
        return agent

    return make


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_session_over_tls(
    secure: SecureDaemon, line: Any, until: Any, item: Any, caplog: pytest.LogCaptureFixture
) -> None:
    secret = secure.token("job", "trainer", "p")
    secure.start()
    agent = line(LRPILOT_TOKEN=secret)
    until(lambda: agent.status.connected)
    for seq in (1, 2, 3):
        agent.push(item(seq))
    until(lambda: agent.status.acked_seq == 3)
    assert told(caplog) == []


@pytest.mark.parametrize("token", ["wrong", "another project's", "revoked meanwhile"])
def test_a_refusal_is_for_good_and_said_once(
    secure: SecureDaemon, line: Any, until: Any, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    good, other = secure.token("job", "trainer", "p"), secure.token("else", "trainer", "q")
    secure.start()
    secret = {"wrong": SECRET, "another project's": other}.get(token, good)
    agent = line(LRPILOT_TOKEN=secret)
    if token == "revoked meanwhile":
        until(lambda: agent.status.connected)
        revoke(secure.tokens, "job")
    until(lambda: agent.status.refused)
    until(lambda: not agent_threads())
    [text] = told(caplog)
    assert "Training goes on without it" in text
    assert "token" in text
    assert secret not in text + secure.log
    assert "refused" in secure.log


def agent_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("lrpilot")]


def test_a_token_renewed_in_its_file_goes_on(
    secure: SecureDaemon, line: Any, until: Any, folder: Path
) -> None:
    file = folder / "token"
    file.write_text(secure.token("job", "trainer", "p"))
    secure.start()
    agent = line(LRPILOT_TOKEN_FILE=str(file))
    until(lambda: agent.status.connected)
    file.write_text(rotate(secure.tokens, "job", 0.0))
    until(lambda: agent.status.reconnects == 1 and agent.status.connected)
    assert not agent.status.refused


def test_a_certificate_that_is_put_right_while_training_goes_on(
    secure: SecureDaemon,
    line: Any,
    until: Any,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a trainer sees of a bad certificate is said once, and it connects when that is over."""
    secret = secure.token("job", "trainer", "p")
    secure.start()
    secure.ca = Authority(1).write(folder_in(folder))
    agent = line(LRPILOT_TOKEN=secret)
    until(lambda: told(caplog))
    assert "is not accepted" in told(caplog)[0]
    assert "training goes on, still trying" in told(caplog)[0]
    secure.pair = (authority := Authority(1)).server(folder, [])
    authority.write(folder_in(folder))
    until(lambda: agent.status.connected)
    until(lambda: len(told(caplog)) == 2)  # that it was lost, and that it is back


def folder_in(folder: Path) -> Path:
    made = folder / "trusted"
    made.mkdir(exist_ok=True)
    return made
