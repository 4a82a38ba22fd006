"""`make matrix`: the oldest and the newest of what LRPilot is used with, and a few tests on each.

A row is an environment of its own, made from the registry that pip is set up for, and removed
afterwards: the floors of `pyproject.toml`, then the newest there is, on each Python >= 3.11 of this
machine. `--quick`, for continuous integration, lays the oldest and the newest of gRPC, protobuf
and Lightning over the environment at hand instead, and leaves torch and Python as they are there.
Prints a table; the exit status is 1 where a row failed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("torch", "pytorch-lightning", "grpcio", "protobuf", "h2")
# What is laid over the environment at hand: small, and without further dependencies there.
SMALL = ("pytorch-lightning", "grpcio", "protobuf", "h2")
PYTHONS = tuple(f"3.{minor}" for minor in range(11, 16))
FREE_GIB = 15  # torch's builds with CUDA take up to ten
LIMIT_S = 1500
QUICK = (
    # loops under `attach` with a real daemon: samples, snapshots, decisions, receipts, a goodbye
    "tests/e2e/test_guard.py::test_a_healthy_run_is_left_alone_to_the_last_bit",
    "tests/e2e/test_commands.py::test_a_person_sets_the_lr_freezes_releases_and_stops_a_run",
    "tests/adapters/client/test_fork.py::test_an_import_brings_in_neither_grpc_nor_torch",
    "tests/adapters/client/test_tcp.py::test_a_session_over_tls",
    "tests/adapters/test_lightning.py",
)
FULL = (
    *QUICK,
    "tests/adapters/test_lightning_search.py::test_it_is_the_raw_loops_search_to_the_last_bit",
    "tests/adapters/torch/test_trainer_contract.py",
    "tests/adapters/torch/test_losses.py",
    "tests/adapters/torch/test_slots.py",
    "tests/adapters/torch/test_attach.py",
)
# One optimizer for all of the contract.
CHOSEN = "not TestTorchTrainer or adamw"


@dataclass
class Row:
    """An environment, and what became of it."""

    name: str
    python: str | None  # the interpreter; None: not on this machine
    pins: Sequence[str]
    result: str = ""
    versions: dict[str, str] = field(default_factory=dict)


class Failed(Exception):
    """A row is red; the text is the end of what its command printed."""


def main() -> int:
    """Run all rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute, over this environment")
    parser.add_argument("--only", help="rows whose name holds this text")
    options = parser.parse_args()
    rows = quick_rows() if options.quick else list(full_rows())
    rows = [row for row in rows if options.only is None or options.only in row.name]
    for row in rows:
        if row.python is None:
            row.result = "not on this machine"
            continue
        print(f"{row.name}: {', '.join(row.pins)}", flush=True)
        begin = time.monotonic()
        try:
            overlaid(row) if options.quick else built(row)
            row.result = f"green, {time.monotonic() - begin:.0f} s"
        except Failed as error:
            row.result = "RED"
            print(error, flush=True)
    show(rows)
    return 1 if any(row.result == "RED" for row in rows) else 0


def full_rows() -> Iterator[Row]:
    """The oldest on the oldest Python, the newest on each."""
    if shutil.disk_usage(tempfile.gettempdir()).free < FREE_GIB << 30:
        sys.exit(f"{FREE_GIB} GiB of disk are needed in {tempfile.gettempdir()}")
    oldest = [f"{name}=={floor}" for name, floor in floors().items()]
    yield Row("oldest", interpreter(PYTHONS[0]), oldest)
    for version in PYTHONS:
        yield Row(f"newest, Python {version}", interpreter(version), PACKAGES)


def quick_rows() -> list[Row]:
    """The oldest and the newest of what is small."""
    oldest = [f"{name}=={floor}" for name, floor in floors().items() if name in SMALL]
    # As `pyproject.toml` bounds it: without its dependencies pip does not see what it may take.
    newest = [name if name != "protobuf" else "protobuf<8" for name in SMALL]
    return [
        Row("oldest over this environment", sys.executable, oldest),
        Row("newest over this environment", sys.executable, newest),
    ]


def floors() -> dict[str, str]:
    """The lowest versions that `pyproject.toml` allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    found = {}
    listed = [extras[name] for name in ("controller", "torch", "lightning")]
    for requirement in [*project["dependencies"], *(one for extra in listed for one in extra)]:
        if match := re.match(r"([\w-]+)>=([\d.]+)", requirement):
            found[match[1]] = match[2]
    return {name: found[name] for name in PACKAGES}


def interpreter(version: str) -> str | None:
    """Where a Python is, if it is there."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    return shutil.which(f"python{version}")


def built(row: Row) -> None:
    """Make the row's environment, and run the tests there."""
    with folder() as place:
        assert row.python is not None
        run([row.python, "-m", "venv", str(place)])
        python = str(place / "bin" / "python")
        tests = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        group = [one for one in tests["dependency-groups"]["test"] if isinstance(one, str)]
        install = ["-m", "pip", "install", "--quiet", "--no-cache-dir"]
        run([python, *install, "--editable", f"{ROOT}[all]", *group, *row.pins])
        judge(row, python, FULL, {})


def overlaid(row: Row) -> None:
    """Put the row's packages before those of this environment, and run the tests so."""
    with folder() as place:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        run([*install, "--target", str(place), *row.pins])
        judge(row, sys.executable, QUICK, {"PYTHONPATH": str(place)})


def judge(row: Row, python: str, tests: Sequence[str], environ: dict[str, str]) -> None:
    """Note the versions and run the tests."""
    ask = f"from importlib.metadata import version; print(*map(version, {PACKAGES!r}))"
    versions = run([python, "-c", ask], environ).split()
    row.versions = dict(zip(PACKAGES, versions, strict=True))
    # Other versions warn of other things, which are not ours to mend.
    settings = ["-o", "filterwarnings=default", "-p", "no:cacheprovider", "-k", CHOSEN]
    run([python, "-m", "pytest", "-q", "-x", *settings, *tests], environ)


def run(command: Sequence[str], environ: dict[str, str] | None = None) -> str:
    """What a command printed."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | (environ or {}),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)}: not done after {LIMIT_S} s") from None
    if done.returncode:
        words = (done.stdout + done.stderr).strip().splitlines()[-40:]
        raise Failed("\n".join([f"{' '.join(command)} failed:", *words]))
    return done.stdout


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="lrpilot-matrix-") as name:
        yield Path(name)


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    width = max(len(row.name) for row in rows)
    print(" ".join([" " * width, *(name.rjust(17) for name in PACKAGES), " result"]))
    for row in rows:
        cells = (row.versions.get(name, "-").rjust(17) for name in PACKAGES)
        print(" ".join([row.name.ljust(width), *cells, f" {row.result}"]))


if __name__ == "__main__":
    sys.exit(main())
