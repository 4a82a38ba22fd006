"""The trainer's snapshots as the engine knows them: which is proven, and what was known then."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrpilot_controller.core.state import Stateful

DetectorState = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state in the trainer's memory, with the detectors' state at that moment."""

    id: int
    step: int
    detectors: DetectorState


class Snapshots(Stateful):
    """At most two, as in the trainer: the newest proven one, and one that waits for its proof.

    A snapshot is proven once `proof_steps` samples after it were healthy without a break: one
    that was taken a step before a blow-up is poisoned already. Where the blow-up has a known cause
    it is enough that the snapshot is older.
    """

    proven: Snapshot | None
    _pending: Snapshot | None
    _healthy: int

    def __init__(self, proof_steps: int) -> None:
        self._proof_steps = proof_steps
        self._pending = None
        self._healthy = 0
        self.proven = None

    def taken(self, snapshot: Snapshot, proven: bool) -> None:
        """The trainer reports a new snapshot."""
        if proven:
            self.proven, self._pending = snapshot, None  # it was kept in the other one's place
        else:
            self._pending = snapshot
        self._healthy = 0

    @property
    def pending(self) -> bool:
        """Whether one waits for its proof."""
        return self._pending is not None

    def update(self, step: int, healthy: bool) -> int | None:
        """The loss of one more `step` was seen; the id of the snapshot that it proves, if it does.

        A loss of a step before it, which proves nothing, may come after it: from a device that is
        behind, or on a line that keeps no order.
        """
        if self._pending is None or step < self._pending.step:
            return None
        self._healthy = self._healthy + 1 if healthy else 0
        return self._prove() if self._healthy >= self._proof_steps else None

    def prove_before(self, step: int) -> int | None:
        """What went wrong began at `step`; the id of the snapshot that waited and is older."""
        older = self._pending is not None and self._pending.step <= step
        return self._prove() if older else None

    def prove(self, snapshot: int) -> int | None:
        """It was proven, as is known from elsewhere; its id, if it waited."""
        waits = self._pending is not None and self._pending.id == snapshot
        return self._prove() if waits else None

    def _prove(self) -> int:
        assert self._pending is not None
        self.proven, self._pending = self._pending, None
        return self.proven.id

    def rolled_back(self) -> None:
        """The branch was left: what waited for its proof will never get it."""
        self._pending = None
        self._healthy = 0
