"""The token file: what it holds, who may read it, and what changes it."""

import json
import stat
import threading
from pathlib import Path

import pytest

from lrpilot_controller.errors import ConfigError
from lrpilot_controller.server.access import tokens
from lrpilot_controller.server.access.tokens import Tokens, create, read, revoke, rotate
from lrpilot_controller.server.identity import Role


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.jsonl"


def test_a_secret_is_kept_nowhere(file: Path) -> None:
    secret = create(file, "job", "trainer", ["p", "q"], None)
    assert len(secret) > 43, "256 bits of chance"
    assert secret != create(file, "job-2", "trainer", ["p"], None)
    assert secret not in file.read_text()
    assert secret.removeprefix("lrp_") not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    entry = Tokens(file).find(secret)
    assert entry is not None
    assert entry.identity.name == "job"
    assert entry.identity.role is Role.TRAINER
    assert entry.identity.projects == {"p", "q"}


def test_only_the_whole_secret_is_known(file: Path) -> None:
    secret = create(file, "job", "trainer", ["p"], None)
    known = Tokens(file)
    [entry] = read(file)
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), entry.sha256, "lrp_"):
        assert known.find(wrong) is None


def test_every_entry_is_compared(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a look-up takes tells neither whether a token is known nor where it stands."""
    secrets = [create(file, f"t{k}", "viewer", [], None) for k in range(5)]
    known = Tokens(file)
    compared: list[str] = []
    compare = tokens.hmac.compare_digest

    def counted(a: str, b: str) -> bool:
        compared.append(a)
        return compare(a, b)

    monkeypatch.setattr(tokens.hmac, "compare_digest", counted)
    for one in (secrets[0], secrets[-1], "unknown"):
        compared.clear()
        known.find(one)
        assert len(compared) == len(set(compared)) == 5


def test_a_file_that_others_can_read_is_refused(file: Path) -> None:
    create(file, "job", "viewer", [], None)
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=f"mode 0640: chmod 600 {file}"):
        Tokens(file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"role": "king"}, "line 2: role: Input should be 'trainer', 'viewer' or 'operator'"),
        ({"name": "a b"}, "line 2: name: "),
        ({"name": "local"}, "line 2: name: .* are names of roles"),
        ({"sha256": "abc"}, "line 2: sha256: "),
        ({"scope": 1}, "line 2: scope: "),
        ({"role": "trainer"}, "line 2: .*a trainer's token names its projects"),
    ],
)
def test_a_line_that_cannot_be_is_named_but_not_shown(
    file: Path, change: dict[str, object], words: str
) -> None:
    create(file, "vera", "viewer", [], None)
    line = json.loads(file.read_text())
    file.write_text(file.read_text() + json.dumps(line | change) + "\n")
    with pytest.raises(ConfigError, match=words) as caught:
        read(file)
    assert line["sha256"] not in str(caught.value)


def test_names_are_unique_and_plain(file: Path) -> None:
    create(file, "job", "viewer", [], None)
    with pytest.raises(ConfigError, match="lrpilot token rotate job"):
        create(file, "job", "viewer", [], None)
    with pytest.raises(ConfigError, match="a trainer's token names its projects"):
        create(file, "other", "trainer", [], None)
    for name in ("", "a b", "x" * 65, "-x", "operator"):
        with pytest.raises(ConfigError, match="token"):
            create(file, name, "viewer", [], None)
    assert [entry.name for entry in read(file)] == ["job"]


def test_a_token_ends(file: Path) -> None:
    create(file, "job", "viewer", [], 2.0)
    [entry] = read(file)
    assert entry.expires == pytest.approx(entry.created + 2 * 86400)
    assert not entry.expired(entry.created)
    assert entry.expired(entry.created + 2 * 86400)


def test_a_rotated_token_keeps_all_but_its_secret(file: Path) -> None:
    old = create(file, "job", "trainer", ["p"], 2.0)
    new = rotate(file, "job", overlap_s=60)
    known = Tokens(file)
    before, after = known.find(old), known.find(new)
    assert before is not None
    assert after is not None
    assert before.identity == after.identity
    assert before.expires == pytest.approx(after.created + 60)
    assert after.expires == pytest.approx(after.created + 2 * 86400)
    newest = rotate(file, "job", overlap_s=0)
    assert known.find(old) is known.find(new) is None
    assert known.find(newest) is not None


def test_a_revoked_token_is_gone_whatever_its_secrets(file: Path) -> None:
    kept = create(file, "kept", "viewer", [], None)
    secrets = [create(file, "job", "viewer", [], None), rotate(file, "job", 60)]
    known = Tokens(file)
    revoke(file, "job")
    assert [known.find(secret) for secret in secrets] == [None, None]
    assert known.find(kept) is not None
    for missing in ("job", "nobody"):
        with pytest.raises(ConfigError, match=rf"no token '{missing}' .* there are: kept"):
            revoke(file, missing)


def test_changes_at_once_lose_nothing(file: Path) -> None:
    names = [f"t{k}" for k in range(16)]
    threads = [
        threading.Thread(target=create, args=(file, name, "viewer", [], None)) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.name for entry in read(file)) == sorted(names)


def test_an_emptied_file_revokes_all(file: Path) -> None:
    secret = create(file, "job", "viewer", [], None)
    known = Tokens(file)
    file.write_text("")
    assert known.find(secret) is None
    assert known.empty
