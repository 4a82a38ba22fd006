"""What LRPilot did in one process, in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from lrpilot.client.base import Transport
from lrpilot.decisions import AppliedDecision
from lrpilot.run import RunInfo
from lrpilot.snapshots import SnapshotKeeper


@dataclass(frozen=True)
class Summary:
    """Numbers of one attempt; `str()` of it is a line for a person.

    `dropped` counts losses that never reached the daemon; `snapshot_seconds` is the time that
    the training thread spent copying, `wait_seconds` the time that it waited for the daemon's
    word; `refused` is the daemon's reason, if it turned us away.
    """

    run: str
    steps: int
    decisions: int
    rollbacks: int
    dropped: int
    snapshots: int
    snapshot_seconds: float
    connected: bool
    refused: str | None
    programs: int = 0
    wait_seconds: float = 0.0

    @classmethod
    def of(
        cls,
        run: RunInfo,
        steps: int,
        history: Sequence[AppliedDecision],
        transport: Transport | None,
        snapshots: SnapshotKeeper | None,
        wait_seconds: float = 0.0,
    ) -> Self:
        """The summary of a pilot as it stands now."""
        applied = [d for d in history if d.status == "applied"]
        status = transport.status if transport else None
        return cls(
            run=f"{run.project}/{run.name}",
            steps=steps,
            decisions=len(applied),
            rollbacks=sum(d.action == "rollback" for d in applied),
            dropped=status.dropped if status else 0,
            snapshots=snapshots.taken if snapshots else 0,
            snapshot_seconds=snapshots.seconds if snapshots else 0.0,
            connected=bool(status and status.connected),
            refused=status.refused if status else None,
            programs=sum(d.action == "program" for d in applied),
            wait_seconds=wait_seconds,
        )

    def __str__(self) -> str:
        searched = ""
        if self.programs:
            searched = f", {self.programs} programs with {self.wait_seconds:.2f} s of waiting"
        return (
            f"{self.run}: {self.steps} steps, {self.decisions} decisions "
            f"({self.rollbacks} rollbacks), {self.snapshots} snapshots in "
            f"{self.snapshot_seconds:.2f} s, {self.dropped} losses dropped{searched}"
        )
