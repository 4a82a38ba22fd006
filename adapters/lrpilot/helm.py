"""The hand on the training state: snapshots, restores, and the branch that they begin."""

import logging
from functools import partial

from lrpilot.line import Line, Stamp
from lrpilot.lockstep import Elsewhere, Together, alone
from lrpilot.rates import Rates
from lrpilot.snapshots import SnapshotKeeper
from lrpilot.trainer import SLOTS, NoRoom, TrainerPort
from lrpilot_proto.v1 import session_pb2

log = logging.getLogger("lrpilot")


class NotHeld(ValueError):
    """A snapshot that is not, or no longer, in memory."""


class Helm:
    """What decisions and programs have in common: they move the weights, and say so.

    Args:
        trainer: holds the slots.
        line: hears of every snapshot.
        rates: knows the step.
        stamp: its branch moves on at each restore.
        snapshots: which slot holds what; None where nothing can be restored.
        together: does something that may fail, on all ranks or on none.
    """

    def __init__(
        self,
        trainer: TrainerPort,
        line: Line,
        rates: Rates,
        stamp: Stamp,
        snapshots: SnapshotKeeper | None,
        together: Together = alone,
    ) -> None:
        self.trainer = trainer
        self.line = line
        self.rates = rates
        self.stamp = stamp
        self.snapshots = snapshots
        self._together = together
        self._live: tuple[int, int] | None = None  # the snapshot that the state was, at which step

    @property
    def can_restore(self) -> bool:
        """Whether there are snapshots to go back to."""
        return self.snapshots is not None and self.snapshots.usable

    def check(self, *snapshots: int | None, saving: bool) -> None:
        """See that all of them will be there, before anything is touched.

        Args:
            snapshots: ids; None is nobody's.
            saving: whether the state is kept first, in the place of what is not proven.

        Raises:
            NotHeld: one is not, or there is no snapshot at all.
        """
        wanted = [one for one in snapshots if one is not None]
        if not wanted and not saving:
            return
        if self.snapshots is None or not self.snapshots.usable:
            raise NotHeld("this trainer has no snapshots")
        held = self.snapshots.held(after_keep=saving)
        for one in wanted:
            if one not in held:
                raise NotHeld(f"snapshot {one} is not held any more")

    def slot_of(self, snapshot: int) -> int:
        """Where a snapshot lies.

        Raises:
            NotHeld: it is gone.
        """
        slot = self.snapshots.slot_of(snapshot) if self.snapshots else None
        if slot is None:
            raise NotHeld(f"snapshot {snapshot} is not held any more")
        return slot

    def save(self, slot: int) -> None:
        """Copy the training state into a slot, at a point that all ranks come to."""
        self._together(partial(self.trainer.snapshot, slot))

    def load(self, slot: int, *, rng: bool) -> None:
        """Put a slot's state back, at a point that all ranks come to."""
        self._together(partial(self.trainer.restore, slot, rng=rng))

    def restore(self, snapshot: int, *, rng: bool, gradients: bool = False) -> None:
        """Put a snapshot's state back: a branch of its own begins.

        Args:
            snapshot: its id.
            rng: whether the random generators are put back as well.
            gradients: whether there are gradients to keep, for a step that is about to be made;
                a state that is the snapshot's still is left alone then.

        Raises:
            NotHeld: it is gone.
        """
        slot = self.slot_of(snapshot)
        if not (gradients and self._live == (snapshot, self.rates.step)):
            self.load(slot, rng=rng)
        self.leave_branch()

    def put_back(self, slot: int | None) -> None:
        """Put a slot's state back, or none; what fails is told, and a branch begins all the same.

        For where training must go on whatever happens.
        """
        try:
            if slot is not None:
                self.load(slot, rng=True)
        except Exception as error:
            log.exception("LRPilot: a state could not be restored; training goes on from this one")
            text = f"a state could not be restored: {error!r}"
            self.line.notice("restore_failed", self.rates.step, text)
        self.leave_branch()

    def leave_branch(self) -> None:
        """What comes next is another trajectory than what came before."""
        self.stamp.branch += 1
        self._live = None
        self.line.restored()

    def take(self) -> None:
        """Take the snapshot that is due; a failure ends all snapshots and is told."""
        if self.snapshots is None:
            return
        try:
            taken = self.snapshots.take(self.rates.step)
        except NoRoom as error:
            log.warning("LRPilot: no snapshots: %s. This run goes on without rollbacks", error)
            self._give_up(self.snapshots, f"no snapshots: {error}")
            return
        except Exception as error:  # out of memory, most likely: guard on without snapshots
            if not isinstance(error, Elsewhere):
                log.exception("LRPilot: a snapshot failed; this run goes on without snapshots")
            self._give_up(self.snapshots, f"a snapshot failed: {error!r}")
            return
        if taken is not None:
            self._tell(*taken)

    def _give_up(self, snapshots: SnapshotKeeper, why: str) -> None:
        """Guard on without snapshots, and without what they took."""
        snapshots.give_up()
        for slot in range(SLOTS):
            self.trainer.discard(slot)
        self.line.notice("snapshot_failed", self.rates.step, why)

    def keep(self) -> None:
        """Keep the state as it is, on the daemon's word.

        Raises:
            NotHeld: there are no snapshots.
        """
        if self.snapshots is None:
            raise NotHeld("this trainer has no snapshots")
        self._tell(self.snapshots.keep(self.rates.step), proven=False)

    def tell_again(self) -> None:
        """Tell of the proven snapshot to a daemon that has forgotten all, as of this branch.

        What waits for its proof is let go of: nobody else could prove it.
        """
        if self.snapshots is None or not self.snapshots.usable:
            return
        self.snapshots.rolled_back(self.rates.step)
        if (proven := self.snapshots.proven) is not None:
            self._report(*proven, proven=True)

    def _tell(self, snapshot: int, proven: bool) -> None:
        self._live = (snapshot, self.rates.step)
        self._report(snapshot, self.rates.step, proven=proven)

    def _report(self, snapshot: int, step: int, *, proven: bool) -> None:
        taken = session_pb2.SnapshotTaken(
            id=snapshot, step=step, branch=self.stamp.branch, proven=proven
        )
        self.line.report(session_pb2.Report(snapshot=taken))
