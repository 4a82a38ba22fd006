"""`lrpilot token` and `lrpilot certificate`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lrpilot_controller.cli as command
from lrpilot_controller.errors import ConfigError
from lrpilot_controller.server.access.tokens import Tokens


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "store"


def lrpilot(*args: str | Path) -> Result:
    return CliRunner().invoke(command.cli, list(map(str, args)))


def secret_of(result: Result) -> str:
    """The secret is all of the standard output."""
    assert result.exit_code == 0, (result.output, result.exception)
    [secret] = result.stdout.splitlines()
    assert secret.startswith("lrp_")
    return secret


def test_from_made_to_revoked_without_a_daemon(storage: Path) -> None:
    where = ("--storage", storage)
    made = lrpilot(
        *("token", "create", "job", "--role", "trainer", "--project", "a", "--project", "b"),
        *("--days", "30", *where),
    )
    secret = secret_of(made)
    assert "shown this once" in made.stderr
    assert storage.stat().st_mode & 0o777 == 0o700
    secret_of(lrpilot("token", "create", "vera", "--role", "viewer", *where))
    known = Tokens(storage / "tokens.jsonl")
    assert known.find(secret)

    listed = lrpilot("token", "list", *where)
    assert "job" in listed.output
    assert "a, b" in listed.output
    assert "never" in listed.output
    told = json.loads(lrpilot("token", "list", "--json", *where).stdout)
    assert [(one["name"], one["role"], one["projects"]) for one in told] == [
        ("job", "trainer", ["a", "b"]),
        ("vera", "viewer", None),
    ]
    assert "sha256" not in told[0]

    renewed = secret_of(lrpilot("token", "rotate", "job", *where))
    assert known.find(secret) is None
    assert known.find(renewed)
    assert lrpilot("token", "revoke", "job", *where).exit_code == 0
    assert known.find(renewed) is None


def test_a_file_of_ones_own(storage: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    made = lrpilot("token", "create", "vera", "--role", "viewer", "--tokens", file)
    assert Tokens(file).find(secret_of(made))
    assert not storage.exists()


def test_a_trainer_needs_a_project(storage: Path) -> None:
    refused = lrpilot("token", "create", "job", "--role", "trainer", "--storage", storage)
    assert isinstance(refused.exception, ConfigError)
    assert "names its projects" in str(refused.exception)


def test_a_certificate_says_what_to_do_with_it(storage: Path) -> None:
    made = lrpilot("certificate", "gpu.example.org", "--storage", storage)
    assert made.exit_code == 0, made.exception
    folder = storage / "tls"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in folder.iterdir()) == [
        *("ca.pem", "server-key.pem", "server.pem")
    ]
    for line in (
        f"--tls-cert {folder / 'server.pem'} --tls-key {folder / 'server-key.pem'}",
        "export LRPILOT_ADDRESS=gpu.example.org:50051",
        f"export LRPILOT_CA={folder / 'ca.pem'}",
    ):
        assert line in made.output
    assert "--tls-client-ca" not in made.output


@pytest.mark.parametrize("name", ["../x", "ca", "server"])
def test_a_client_of_a_strange_name(storage: Path, name: str) -> None:
    refused = lrpilot("certificate", "--client", name, "--storage", storage)
    assert isinstance(refused.exception, ConfigError)
