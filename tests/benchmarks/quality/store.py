"""What was measured, kept as data: one file of JSON lines per method, appended run by run."""

import contextlib
import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from .outcome import Row

FOLDER = Path(__file__).parent / "results"
BENCHMARK = ("tests/benchmarks/quality/*.py",)  # what every figure depends on
PRODUCT = ("adapters", "controller", "protos")  # what LRPilot's do too


@dataclass(frozen=True, order=True)
class Cell:
    """One run of a method. `base` is a multiple of the best LR, None where none is needed."""

    task: str
    seed: int
    base: float | None
    steps: int


def cell_of(row: Row) -> Cell:
    """The cell that a kept row fills."""
    return Cell(row["task"], row["seed"], row["base"], row["steps"])


def load(method: str, folder: Path | None = None) -> dict[Cell, Row]:
    """Returns what is kept of a method; where a cell was measured again, the last row counts."""
    path = (folder or FOLDER) / f"{method}.jsonl"
    if not path.exists():
        return {}
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        # A line that was cut short by a crash is measured again.
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            rows[cell_of(row)] = row
    return rows


def append(method: str, rows: Iterable[Row], folder: Path | None = None) -> None:
    """Adds rows to what is kept of a method."""
    path = (folder or FOLDER) / f"{method}.jsonl"
    path.parent.mkdir(exist_ok=True)
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    before = path.read_bytes() if path.exists() else b""
    if before and not before.endswith(b"\n"):
        text = "\n" + text
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def forget(method: str, cells: Iterable[Cell], folder: Path | None = None) -> None:
    """Drops cells of a method, so that they are measured again."""
    kept = load(method, folder)
    for cell in cells:
        kept.pop(cell, None)
    path = (folder or FOLDER) / f"{method}.jsonl"
    fresh = path.with_suffix(".part")
    fresh.parent.mkdir(exist_ok=True)
    fresh.write_text(
        "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept.values()), encoding="utf-8"
    )
    fresh.replace(path)


def versions(packages: Sequence[str]) -> str:
    """Their versions in one line."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in dict.fromkeys(packages))


@cache
def commit(sources: tuple[str, ...]) -> str:
    """The commit that is checked out, with a `+` where `sources` differ from it; or `unknown`."""
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", *sources) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    root = Path(__file__).parents[3]
    command = ["git", "--no-optional-locks", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()
