"""`lrpilot serve --listen HOST:PORT` starts with TLS and a token, or says what to add."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lrpilot_controller.cli as command
from lrpilot_controller.errors import ConfigError
from lrpilot_controller.server.access.certificates import Authority, Pair
from lrpilot_controller.server.access.tokens import create


def serve(storage: Path, *args: str | Path, listen: str = "0.0.0.0:50051") -> str:
    """What it refuses to start with."""
    options = ["serve", "--listen", listen, "--storage", storage, *args]
    result: Result = CliRunner().invoke(command.cli, list(map(str, options)))
    assert isinstance(result.exception, ConfigError), (result.output, result.exception)
    return str(result.exception)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Authority(1).server(tmp_path, [])


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:1", "[::]:1", "127.0.0.1:1", "localhost:1", "gpu.example.org:1"]
)
def test_a_bare_port_is_refused_on_loopback_too(storage: Path, listen: str) -> None:
    refused = serve(storage, listen=listen)
    assert refused.startswith(f"--listen {listen}: TCP needs TLS and a token: ")
    assert "add --tls-cert FILE --tls-key FILE" in refused
    host = listen.rpartition(":")[0].strip("[]")
    assert f"`lrpilot certificate --storage {storage} {host}`" in refused
    assert "lrpilot token create NAME --role trainer --project PROJECT" in refused
    assert f"--tokens {storage / 'tokens.jsonl'}" in refused
    assert not storage.exists()


def test_only_what_is_missing_is_asked_for(storage: Path, pair: Pair) -> None:
    storage.mkdir()
    no_token = serve(storage, "--tls-cert", pair.cert, "--tls-key", pair.key)
    assert "lrpilot token create" in no_token
    assert "--tls-cert" not in no_token
    create(storage / "tokens.jsonl", "job", "trainer", ["p"], None)
    no_key = serve(storage, "--tls-cert", pair.cert)
    assert "add --tls-key FILE (" in no_key
    assert "--tls-cert" not in no_key
    assert "token create" not in no_key


def test_a_socket_takes_none_of_it(storage: Path, pair: Pair) -> None:
    refused = serve(storage, "--tls-cert", pair.cert, listen=f"unix:{storage}.sock")
    assert "are for --listen HOST:PORT" in refused
