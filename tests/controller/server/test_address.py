"""Where a daemon may listen, and that it is alone there."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lrpilot_controller.errors import ConfigError, DaemonExists
from lrpilot_controller.server.address import Address, socket_of, sole_owner
from lrpilot_proto.rendezvous import MAX_SOCKET_PATH


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path that is short enough for a socket, whatever pytest's own is."""
    with TemporaryDirectory(prefix="lrp") as name:
        yield Path(name)


# -- which addresses there are


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/lrpilot.sock", Address(path=Path("/run/lrpilot.sock"))),
        ("127.0.0.1:0", Address(host="127.0.0.1", port=0)),
        ("127.1.2.3:65535", Address(host="127.1.2.3", port=65535)),
        ("localhost:50051", Address(host="localhost", port=50051)),
        ("[::1]:50051", Address(host="::1", port=50051)),
        ("0.0.0.0:50051", Address(host="0.0.0.0", port=50051)),
        ("gpu.example.org:50051", Address(host="gpu.example.org", port=50051)),
    ],
)
def test_an_address_reads_as_it_is_written(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


def test_a_relative_socket_is_where_the_daemon_was_started() -> None:
    assert Address.parse("unix:a.sock").path == Path.cwd() / "a.sock"


@pytest.mark.parametrize(
    "text", ["", ":1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="'unix:PATH' or 'HOST:PORT' is needed"):
        Address.parse(text)


def test_a_path_too_long_for_a_socket_names_the_limit() -> None:
    longest = "/" + "x" * (MAX_SOCKET_PATH - 1)
    assert str(Address.parse(f"unix:{longest}")) == f"unix:{longest}"
    with pytest.raises(ConfigError, match=f"at most {MAX_SOCKET_PATH}") as caught:
        Address.parse(f"unix:{longest}y")
    assert f"{MAX_SOCKET_PATH + 1} bytes" in str(caught.value)


def test_the_length_of_a_path_is_in_bytes() -> None:
    with pytest.raises(ConfigError, match="bytes"):
        Address.parse("unix:/" + "ä" * 60)


# -- one daemon


def test_one_owner_at_a_time(folder: Path) -> None:
    lock = folder / "daemon.lock"
    with sole_owner(lock, "the storage"):
        with (
            pytest.raises(DaemonExists, match=rf"the storage is held .*pid {os.getpid()}\)"),
            sole_owner(lock, "the storage"),
        ):
            pytest.fail("two owners")
        assert lock.stat().st_mode & 0o777 == 0o600
    with sole_owner(lock, "the storage"):
        pass


def test_the_kernel_lets_go_for_a_killed_owner(folder: Path) -> None:
    lock = folder / "daemon.lock"
    script = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from lrpilot_controller.server.address import sole_owner\n"
        "with sole_owner(Path(sys.argv[1]), 'it'):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(DaemonExists, match=f"pid {owner.pid}"), sole_owner(lock, "it"):
            pytest.fail("two owners")
        owner.kill()
        owner.wait(10)
        with sole_owner(lock, "it"):
            pass


def test_a_lock_survives_an_error(folder: Path) -> None:
    lock = folder / "daemon.lock"
    with pytest.raises(RuntimeError), sole_owner(lock, "it"):
        raise RuntimeError
    with sole_owner(lock, "it"):
        pass


# -- a socket of its own


def test_a_socket_lives_in_a_private_folder(folder: Path) -> None:
    address = Address(path=folder / "run" / "daemon.sock")
    with socket_of(address):
        assert (folder / "run").stat().st_mode & 0o777 == 0o700


def test_a_stale_socket_is_removed_and_ours_as_well(folder: Path) -> None:
    path = folder / "daemon.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.exists()
    with socket_of(Address(path=path)):
        assert not path.exists()
        with socket.socket(socket.AF_UNIX) as ours:
            ours.bind(str(path))
    assert not path.exists()


def test_a_living_socket_is_left_alone(folder: Path) -> None:
    # A second gRPC server on the same path would steal it without a word.
    path = folder / "daemon.sock"
    with socket_of(Address(path=path)):
        path.touch()
        with (
            pytest.raises(DaemonExists, match=r"daemon\.sock"),
            socket_of(Address(path=path)),
        ):
            pytest.fail("two daemons")
        assert path.exists()


def test_a_folder_that_others_can_write_to_is_refused(folder: Path) -> None:
    # Whoever can write there can put a socket of their own in the place of ours.
    shared = folder / "shared"
    shared.mkdir()
    folder.chmod(0o755)
    shared.chmod(0o777)
    with (
        pytest.raises(ConfigError, match=r"others can write to .*shared .*0700"),
        socket_of(Address(path=shared / "daemon.sock")),
    ):
        pytest.fail("a socket where others can reach it")


def test_a_folder_inside_a_private_one_is_private(folder: Path) -> None:
    inner = folder / "run"
    inner.mkdir(mode=0o777)
    with socket_of(Address(path=inner / "daemon.sock")):
        pass


def test_a_folder_that_cannot_be_made(folder: Path) -> None:
    (folder / "file").touch()
    with (
        pytest.raises(ConfigError, match="--listen"),
        socket_of(Address(path=folder / "file" / "run" / "daemon.sock")),
    ):
        pytest.fail("a socket inside of a file")


def test_a_port_needs_no_lock() -> None:
    address = Address(host="127.0.0.1", port=50051)
    with socket_of(address), socket_of(address):
        pass
