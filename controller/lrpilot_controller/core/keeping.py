"""What a run can go back to, and what going back has cost: the view's side of the snapshots."""

from lrpilot_controller.core.events import Output, SnapshotProven, SnapshotTaken
from lrpilot_controller.core.model import Decision, Receipt
from lrpilot_controller.core.snapshots import DetectorState, Snapshot, Snapshots
from lrpilot_controller.core.state import Stateful
from lrpilot_controller.core.view import RunView


class Keeping(Stateful):
    """Keeps the view's account of snapshots and rollbacks.

    Args:
        view: the run as it stands.
    """

    _snapshots: Snapshots

    def __init__(self, view: RunView) -> None:
        self._view = view
        self._snapshots = Snapshots(proof_steps=view.time_scale // 2)

    def kept(self, event: SnapshotTaken, detectors: DetectorState, *, proven: bool) -> None:
        """The trainer holds a snapshot, taken when the detectors were in this state."""
        self._snapshots.taken(Snapshot(event.snapshot, event.step, detectors), proven)
        if proven:
            self._newest(event.snapshot)

    @property
    def waits(self) -> bool:
        """Whether a snapshot waits for its proof, so that `update` has something to do."""
        return self._snapshots.pending

    def update(self, step: int, worthy: bool, out: list[Output]) -> None:
        """The loss of a step was seen, in a state that is worth going back to or not."""
        self._tell(self._snapshots.update(step, worthy), out)

    def trust_before(self, step: int, out: list[Output]) -> None:
        """What went wrong began at `step`: the state before it needs no further proof."""
        self._tell(self._snapshots.prove_before(step), out)

    def recall(self, snapshot: int) -> None:
        """This one was proven, as the records say."""
        self._tell(self._snapshots.prove(snapshot), [])

    def lost(self) -> None:
        """The trainer cannot go back to the snapshot that it was told to."""
        self._view.snapshot = None

    def branch_left(self) -> None:
        """What waits for its proof is of a branch that was left."""
        self._snapshots.rolled_back()

    def restored(self, decision: Decision, receipt: Receipt) -> DetectorState | None:
        """The trainer went back; the detectors' state then, where it is known."""
        view, proven = self._view, self._snapshots.proven
        assert decision.restore_snapshot is not None
        view.rollbacks += 1
        if decision.signal is not None:
            view.lasted = decision.signal.since - view.began
        view.began = receipt.applied_step
        count = view.rollbacks_to
        count[decision.restore_snapshot] = count.get(decision.restore_snapshot, 0) + 1
        self._snapshots.rolled_back()
        if proven is None or proven.id != decision.restore_snapshot:
            return None
        # Steps are never counted back: of those since the snapshot, an earlier rollback has undone
        # some already.
        since = max(proven.step, view.undone_until)
        view.rolled_back_steps += max(0, receipt.applied_step - since)
        view.undone_until = max(view.undone_until, receipt.applied_step)
        return proven.detectors

    def _tell(self, proven: int | None, out: list[Output]) -> None:
        if proven is not None:
            self._newest(proven)
            out.append(SnapshotProven(self._view.attempt.id, proven))

    def _newest(self, snapshot: int) -> None:
        """A snapshot is proven: from now on, this is where a rollback leads."""
        assert self._snapshots.proven is not None
        view = self._view
        view.snapshot, view.began, view.lasted = snapshot, self._snapshots.proven.step, None
