"""What an attempt is made of, and how it lets go of what fails."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from lrpilot.client.base import Transport
from lrpilot.control import Control
from lrpilot.decisions import Judge
from lrpilot.diary import Diary, Target
from lrpilot.helm import Helm
from lrpilot.line import Line, Stamp
from lrpilot.lockstep import Lockstep, alone
from lrpilot.losses import LossReader
from lrpilot.opening import why_no_search
from lrpilot.patience import Patience
from lrpilot.plan import BoundsOf
from lrpilot.ranks import Ranks
from lrpilot.rates import Rates
from lrpilot.relay import Relay
from lrpilot.run import RunInfo
from lrpilot.snapshots import SnapshotKeeper
from lrpilot.trainer import TrainerPort

log = logging.getLogger("lrpilot")


class Parts:
    """The parts of one attempt, put together.

    Args:
        trainer: the adapter of the training framework.
        transport: the line to the daemon; None makes the pilot inert.
        run: what the daemon is told of this run.
        losses: reads loss values, without waiting for a device.
        bounds_of: the bounds of the first param group's LR.
        connect_timeout: seconds that the daemon may be waited for where no step runs: before
            step 0, and in front of a search of its own.
        waited: how many of them were spent before this.
        ranks: those that train together, where they are several; only the first one's transport
            leads to the daemon.
        target: where what is done is logged; None for nowhere.
    """

    def __init__(
        self,
        trainer: TrainerPort,
        transport: Transport | None,
        run: RunInfo,
        losses: LossReader,
        bounds_of: BoundsOf,
        connect_timeout: float = 10.0,
        waited: float = 0.0,
        ranks: Ranks | None = None,
        target: Target | None = None,
    ) -> None:
        self._trainer = trainer
        self._patience = Patience()
        self._lockstep: Lockstep | None = None
        self._transport = transport  # asked for its status, also after the end
        if ranks is not None and transport is not None:
            self._lockstep = Lockstep(ranks, transport, self._patience.count)
            transport = Relay(transport, self._lockstep)
        quiet = self._lockstep is not None and not self._lockstep.leads
        self._line = (
            Line(transport, quiet=quiet, in_order=losses.averages)
            if transport is not None
            else None
        )
        self._run = run
        self._losses = losses
        self._bounds_of = bounds_of
        self._connect_timeout, self._waited = connect_timeout, waited
        self._rates = Rates(trainer, bounds_of(trainer.base_lrs[0]), self._foreign_lr)
        self._stamp = Stamp()
        self._started = self._opened = self._begun = self._closed = False
        self._release: Callable[[], None] = lambda: None
        self._judge = Judge()
        self._diary: Diary | None = None
        if target is not None and self._line is not None:
            self._diary = Diary(target, trainer.group_names, self._line.transport.signals)
            self._judge.on_answer = self._diary.answered
        self._snapshots: SnapshotKeeper | None = None
        self._control: Control | None = None
        if self._line is not None:
            together = self._lockstep.together if self._lockstep is not None else alone
            if run.acts and trainer.can_snapshot:
                self._snapshots = SnapshotKeeper(
                    lambda slot: together(partial(trainer.snapshot, slot)), run.total_steps
                )
            helm = Helm(trainer, self._line, self._rates, self._stamp, self._snapshots, together)
            self._control = Control(helm, self._judge, losses, self._patience, run, self._lockstep)
            if run.search:
                self._want_search()

    # -- a search that is wanted

    def _want_search(self) -> None:
        """Ask for a search when the session opens, where one can be carried out."""
        control = self._control
        if control is None:
            return
        if why := why_no_search(self._run, control):
            self._no_search(control, why)
            return
        self._run = replace(self._run, search=True, searched=True)
        self._set_bounds(searched=True)
        if self._run.mode == "auto":
            control.replay.record()

    def _no_search(self, control: Control, why: str) -> None:
        if self._line is not None:  # the run's story says it as well
            text = f"no search: {why}; this run is only guarded"
            self._line.notice("no_search", self._rates.step, text)
        control.replay.stop()
        self._run = replace(self._run, search=False)

    def _set_bounds(self, *, searched: bool) -> None:
        base = self._rates.base_lrs[0]
        self._rates.bounds = self._bounds_of(base, True) if searched else self._bounds_of(base)

    # -- what fails

    def _apart(self, lockstep: Lockstep) -> None:
        """The ranks no longer act together: each goes on with the plan in force, uncontrolled."""
        line, control, self._lockstep = self._line, self._control, None
        assert line is not None
        assert control is not None
        self._losses.part()
        control.retire()
        line.transport, line.inbox = lockstep.agent, lockstep.agent.inbox
        line.inbox.extendleft(reversed(lockstep.inbox))
        if not self._opened:
            self._run = replace(self._run, mode="observe", search=False, searched=False)
            self._set_bounds(searched=False)
        text = f"the ranks do not act together: {lockstep.why}; this run is only observed"
        line.notice("ranks_apart", self._rates.step, text)

    def _foreign_lr(self, text: str) -> None:
        if self._line is not None:
            self._line.notice("foreign_lr", self._rates.step, text)

    def _give_up(self, error: Exception) -> None:
        """A fault of ours: the loop never hears of it, and goes on at the LRs in force.

        One of several ranks says so first, and goes on until all leave the control at one step.
        """
        if self._lockstep is not None and self._lockstep.veto(f"a fault on one rank: {error!r}"):
            log.error("LRPilot: a fault of its own on this rank", exc_info=error)
            return
        log.error("LRPilot: a fault of its own; training goes on without it", exc_info=error)
        line, self._line = self._line, None
        if line is None or self._control is None:
            return
        try:
            self._control.give_up()
        except Exception:
            log.exception("LRPilot: a program's state could not be left")
        line.notice("fault", self._rates.step, f"a fault in the training process: {error!r}")
        line.goodbye("error", self._rates.step)
