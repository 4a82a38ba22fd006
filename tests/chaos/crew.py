"""The trainers of a storm, as processes, and the books that they keep."""

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.daemon import until
from support.nursery import Child, Nursery

ENOUGH_S = 150.0


@dataclass
class Book:
    """What a trainer knows of one attempt.

    Attributes:
        acknowledged: the newest item that it was told is recorded, as far as it wrote that down.
        end: what it said at its end; None where it was killed before that.
    """

    run: str
    attempt: str
    acknowledged: int = 0
    end: dict[str, Any] | None = None


@dataclass
class Trainer:
    """One name, and the process that works under it now."""

    name: str
    address: str
    folder: Path
    seed: int
    nursery: Nursery
    lives: int = 0
    process: Child = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Go to work."""
        self.lives += 1
        seed = str(self.seed + 1000 * self.lives)
        self.process = self.nursery.start(
            self.folder / f"{self.name}.log", self.address, self.name, str(self.folder), seed
        )

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return (self.folder / f"{self.name}.log").read_text()

    @property
    def home(self) -> bool:
        """Whether it came to its end by itself."""
        return '"home"' in (self.folder / f"{self.name}.books").read_text()

    def books(self) -> list[Book]:
        """Of its attempts, in their order."""
        found: dict[str, Book] = {}
        path = self.folder / f"{self.name}.books"
        # A killed process leaves half a line.
        for line in path.read_text().split("\n")[:-1] if path.exists() else []:
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if said["kind"] == "home":
                continue
            if said["kind"] == "begin":
                found[said["attempt"]] = Book(said["run"], said["attempt"])
                continue
            book = found[said["attempt"]]
            book.acknowledged = max(book.acknowledged, said["seq"])
            if said["kind"] == "end":
                book.end = said
        return list(found.values())


def bring_home(folder: Path, trainers: Sequence[Trainer]) -> None:
    """Let each bring its run to its end."""
    (folder / "enough").touch()
    for trainer in trainers:
        trainer.process.send_signal(signal.SIGCONT)
    until(
        lambda: all(trainer.process.poll() is not None for trainer in trainers),
        timeout_s=ENOUGH_S,
        what="the trainers",
    )
