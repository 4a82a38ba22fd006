"""Who may do what over TCP: each cell of the table of peers and calls."""

import importlib
import pkgutil
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

import lrpilot_proto.v1
from lrpilot_controller.server.access.certificates import Authority, Pair
from lrpilot_controller.server.access.tokens import revoke
from lrpilot_proto.v1 import operator_pb2, operator_pb2_grpc
from support.access import RawSession, SecureDaemon, bearer
from support.daemon import cli, until

Call = Any  # a method's descriptor

# What each peer is answered, call by call. "ok": not refused, whatever the run's state then says.
LOOK = {
    "anonymous": "UNAUTHENTICATED",
    "wrong token": "UNAUTHENTICATED",
    "expired token": "UNAUTHENTICATED",
    "trainer": "PERMISSION_DENIED",
    "viewer": "ok",
    "operator": "ok",
    "other project's trainer": "PERMISSION_DENIED",
    "other project's viewer": "NOT_FOUND",
    "other project's operator": "NOT_FOUND",
    "no certificate": "UNAVAILABLE",
    "expired certificate": "UNAVAILABLE",
    "stranger's certificate": "UNAVAILABLE",
}
ASK = LOOK | {"viewer": "PERMISSION_DENIED", "other project's viewer": "PERMISSION_DENIED"}
# Of no run in particular: they see what is theirs, which a test below looks at.
LOOK_AROUND = LOOK | {"other project's viewer": "ok", "other project's operator": "ok"}
TRAIN = LOOK | {
    "trainer": "ok",
    "viewer": "PERMISSION_DENIED",
    "operator": "PERMISSION_DENIED",
    "other project's viewer": "PERMISSION_DENIED",
    "other project's operator": "PERMISSION_DENIED",
}
TABLE = {
    "Session": TRAIN,
    "ListRuns": LOOK_AROUND,
    "WatchRuns": LOOK_AROUND,
    "Status": LOOK_AROUND,
    "ShowRun": LOOK,
    "WatchRun": LOOK,
    "Freeze": ASK,
    "Release": ASK,
    "SetLr": ASK,
    "Approve": ASK,
    "Judge": ASK,
    "Search": ASK,
    "Stop": ASK,
}
REFUSALS = {
    *("UNAUTHENTICATED", "PERMISSION_DENIED", "UNAVAILABLE", "NOT_FOUND", "UNKNOWN"),
    *("UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "INTERNAL"),
}


def calls() -> dict[str, Call]:
    """Every method of every service of the contract."""
    found = {}
    for module in pkgutil.iter_modules(lrpilot_proto.v1.__path__):
        loaded = importlib.import_module(f"lrpilot_proto.v1.{module.name}")
        services = getattr(getattr(loaded, "DESCRIPTOR", None), "services_by_name", {})
        for service in services.values():
            found |= {method.name: method for method in service.methods}
    return found


CALLS = calls()


@dataclass
class Peer:
    """What somebody shows."""

    token: str | None
    pair: Pair | None


@dataclass
class World:
    """A daemon that asks for certificates too, with a run of project `mine`, and its peers."""

    daemon: SecureDaemon
    peers: dict[str, Peer]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="lrp"))
    daemon = SecureDaemon(folder, mtls=True)
    good = daemon.authority.client(folder, "client")
    daemon.authority.days = -1
    expired = daemon.authority.client(folder, "expired")
    stranger = SecureDaemon(folder_of(folder, "else")).authority.client(folder, "stranger")
    trainer = daemon.token("job", "trainer", "mine")
    operator = daemon.token("olga", "operator", "mine")
    old = daemon.token("old", "operator", "mine", days=1e-9)
    tokens = {
        "anonymous": None,
        "wrong token": "lrp_" + "x" * 43,
        "expired token": old,
        "trainer": trainer,
        "viewer": daemon.token("vera", "viewer", "mine"),
        "operator": operator,
        "other project's trainer": daemon.token("job2", "trainer", "other"),
        "other project's viewer": daemon.token("viktor", "viewer", "other"),
        "other project's operator": daemon.token("oleg", "operator", "other"),
    }
    peers = {name: Peer(token, good) for name, token in tokens.items()}
    peers["no certificate"] = Peer(operator, None)
    peers["expired certificate"] = Peer(operator, expired)
    peers["stranger's certificate"] = Peer(operator, stranger)
    daemon.start()
    try:
        with daemon.channel(good) as channel:
            session = RawSession(channel, trainer, "mine", "run-1")
            assert session.first() == "welcome"
            session.hang_up()
        yield World(daemon, peers)
    finally:
        daemon.kill()
        shutil.rmtree(folder, ignore_errors=True)


def folder_of(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def answer(channel: grpc.Channel, call: Call, token: str | None) -> tuple[str, str]:
    """The status code and the words of one call about run `mine/run-1`."""
    if call.name == "Session":
        session = RawSession(channel, token, "mine", "run-2")
        if (first := session.first()) == "welcome":
            session.hang_up()
            return "OK", ""
        return first, session.call.details()
    request = message_factory.GetMessageClass(call.input_type)()
    for one in (request, getattr(request, "command", None)):
        if one is not None and "run" in one.DESCRIPTOR.fields_by_name:
            one.run = "mine/run-1"
    path = f"/{call.containing_service.full_name}/{call.name}"
    make = channel.unary_stream if call.server_streaming else channel.unary_unary
    ask = make(path, type(request).SerializeToString, lambda raw: raw)
    try:
        found = ask(request, timeout=20, metadata=bearer(token))
        if call.server_streaming:
            next(iter(found))
            found.cancel()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def test_the_table_has_every_call_of_the_contract() -> None:
    assert set(TABLE) == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("who", LOOK)
def test_who_may_call_what(world: World, name: str, who: str) -> None:
    peer, expected = world.peers[who], TABLE[name][who]
    with world.daemon.channel(peer.pair) as channel:
        code, words = answer(channel, CALLS[name], peer.token)
    if expected == "ok":
        assert code not in REFUSALS, words
    else:
        assert code == expected, words
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        assert "token" in words
    secrets = [one.token for one in world.peers.values() if one.token]
    assert not any(secret in words + world.daemon.log for secret in secrets)


# -- what they see, and how they sign


def ask(daemon: SecureDaemon, token: str, pair: Pair | None, method: str, request: Any) -> Any:
    with daemon.channel(pair) as channel:
        stub = operator_pb2_grpc.OperatorServiceStub(channel)  # type: ignore[no-untyped-call]
        return getattr(stub, method)(request, timeout=20, metadata=bearer(token))


@pytest.mark.parametrize(
    ("who", "seen"),
    [("viewer", ["run-1"]), ("operator", ["run-1"]), ("other project's viewer", [])],
)
def test_the_runs_of_other_projects_do_not_exist(world: World, who: str, seen: list[str]) -> None:
    peer = world.peers[who]
    assert peer.token is not None
    for project in ("", "mine"):
        request = operator_pb2.ListRunsRequest(project=project)
        told = ask(world.daemon, peer.token, peer.pair, "ListRuns", request)
        assert [one.run.name for one in told.runs if one.run.name == "run-1"] == seen


def test_a_refusal_hints_at_no_run_of_another_project(world: World) -> None:
    peer = world.peers["other project's viewer"]
    with world.daemon.channel(peer.pair) as channel:
        code, known = answer(channel, CALLS["ShowRun"], peer.token)
    assert code == "NOT_FOUND"
    assert "did you mean" not in known
    assert known == "no run 'mine/run-1' in this journal; `lrpilot runs` lists all"


@pytest.fixture
def secure(folder: Path) -> Iterator[SecureDaemon]:
    """A daemon on TCP that was not started yet."""
    daemon = SecureDaemon(folder)
    yield daemon
    daemon.kill()


def test_nobody_can_sign_with_another_name(secure: SecureDaemon) -> None:
    trainer = secure.token("job", "trainer", "p")
    operator = secure.token("olga", "operator")
    secure.start()
    with secure.channel() as channel:
        session = RawSession(channel, trainer, "p", "run")
        assert session.first() == "welcome"
        for claimed in ("", "boss"):
            command = operator_pb2.OperatorCommand(run="p/run", who=claimed, why="lunch")
            ask(secure, operator, None, "Release" if claimed else "Freeze", command)
        told = ask(secure, operator, None, "ShowRun", operator_pb2.ShowRunRequest(run="p/run"))
    assert [one.who for one in told.commands] == ["olga", "olga (says boss)"]


# -- rotation, while the daemon runs and a session is open


def test_a_new_token_works_at_once(secure: SecureDaemon) -> None:
    secure.token("first", "trainer", "p")
    secure.start()
    fresh = secure.token("second", "trainer", "p")
    with secure.channel() as channel:
        session = RawSession(channel, fresh, "p", "run")
        assert session.first() == "welcome"


def test_a_revoked_token_ends_its_session_and_no_other(secure: SecureDaemon) -> None:
    good, bad = secure.token("good", "trainer", "p"), secure.token("bad", "trainer", "p")
    secure.start()
    with secure.channel() as channel:
        stays, ends = RawSession(channel, good, "p", "a"), RawSession(channel, bad, "p", "b")
        assert stays.first() == ends.first() == "welcome"
        assert lrpilot_token(secure, "revoke", "bad").returncode == 0
        code, words = ends.end()
        assert code == "UNAUTHENTICATED"
        assert "revoked" in words
        assert RawSession(channel, bad, "p", "b").first() == "UNAUTHENTICATED"
        assert stays.call.is_active()
        assert RawSession(channel, good, "p", "c").first() == "welcome"
    assert bad not in secure.log


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("WatchRun", operator_pb2.WatchRunRequest(run="p/run")),
        ("WatchRuns", operator_pb2.ListRunsRequest()),
    ],
)
def test_who_watched_with_a_revoked_token_sees_no_more(
    secure: SecureDaemon, method: str, request_: Any
) -> None:
    trainer, viewer = secure.token("job", "trainer", "p"), secure.token("vera", "viewer", "p")
    secure.start()
    with secure.channel() as channel:
        session = RawSession(channel, trainer, "p", "run")
        assert session.first() == "welcome"
        stub = operator_pb2_grpc.OperatorServiceStub(channel)  # type: ignore[no-untyped-call]
        watched = getattr(stub, method)(request_, timeout=60, metadata=bearer(viewer))
        next(watched)
        revoke(secure.tokens, "vera")
        with pytest.raises(grpc.RpcError) as caught:
            for _ in watched:
                pass
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert session.call.is_active()


def test_a_token_with_other_rights_is_judged_again(secure: SecureDaemon) -> None:
    secret = secure.token("job", "trainer", "p")
    secure.start()
    with secure.channel() as channel:
        session = RawSession(channel, secret, "p", "run")
        assert session.first() == "welcome"
        secure.tokens.write_text(secure.tokens.read_text().replace('"p"', '"q"'))
        code, words = session.end()
        assert code == "UNAVAILABLE", "worth another try, which tells"
        assert "rights" in words
        assert RawSession(channel, secret, "p", "run").first() == "PERMISSION_DENIED"
        assert RawSession(channel, secret, "q", "run").first() == "welcome"


def test_both_secrets_are_good_while_they_overlap(secure: SecureDaemon) -> None:
    old = secure.token("job", "trainer", "p")
    secure.start()
    with secure.channel() as channel:
        session = RawSession(channel, old, "p", "a")
        assert session.first() == "welcome"
        new = lrpilot_token(secure, "rotate", "job", "--overlap", "1").stdout.strip()
        for secret, run in ((old, "b"), (new, "c")):
            assert RawSession(channel, secret, "p", run).first() == "welcome"
        new = lrpilot_token(secure, "rotate", "job").stdout.strip()
        assert session.end()[0] == "UNAUTHENTICATED"
        assert RawSession(channel, new, "p", "d").first() == "welcome"


@pytest.mark.parametrize("slip", ["garbage", "mode", "gone"])
def test_a_slip_of_the_pen_ends_no_session(secure: SecureDaemon, slip: str) -> None:
    secret = secure.token("job", "trainer", "p")
    secure.start()
    with secure.channel() as channel:
        session = RawSession(channel, secret, "p", "a")
        assert session.first() == "welcome"
        match slip:
            case "garbage":
                secure.tokens.write_text('{"name": ')
            case "mode":
                secure.tokens.chmod(0o644)
            case "gone":
                secure.tokens.unlink()
        until(lambda: "stay valid" in secure.log)
        assert RawSession(channel, secret, "p", "b").first() == "welcome"
        assert session.call.is_active()


def lrpilot_token(daemon: SecureDaemon, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return cli("token", *arguments, "--storage", daemon.storage)


# -- certificates


def test_a_new_certificate_is_shown_without_a_restart(secure: SecureDaemon) -> None:
    secret = secure.token("olga", "operator")
    secure.start()
    request = operator_pb2.ListRunsRequest()
    ask(secure, secret, None, "ListRuns", request)
    old = secure.ca.read_bytes()
    secure.authority = Authority(1)
    secure.pair = secure.authority.server(secure.folder, [])
    with pytest.raises(grpc.RpcError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(secure, secret, None, "ListRuns", request)
    secure.ca = secure.authority.write(secure.folder)
    ask(secure, secret, None, "ListRuns", request)
    assert "was read again" in secure.log
    secure.pair.cert.write_bytes(old)  # a slip: no certificate of this key
    ask(secure, secret, None, "ListRuns", request)
    assert "the certificate that was there before is still shown" in secure.log


def test_without_tls_nothing_is_said(secure: SecureDaemon) -> None:
    secret = secure.token("olga", "operator")
    secure.start()
    with grpc.insecure_channel(secure.address) as channel:
        stub = operator_pb2_grpc.OperatorServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListRuns(operator_pb2.ListRunsRequest(), timeout=20, metadata=bearer(secret))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_owner_needs_no_token(secure: SecureDaemon) -> None:
    """The daemon's own socket is there beside the port."""
    secure.token("job", "trainer", "p")
    secure.start()
    assert secure.socket.stat().st_mode & 0o777 == 0o600
    with grpc.insecure_channel(f"unix:{secure.socket}") as channel:
        assert RawSession(channel, None, "any", "run").first() == "welcome"
