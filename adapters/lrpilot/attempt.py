"""One attempt of a run in this process: its parts, its beginning, its state, its end."""

import logging
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

from lrpilot import checkpoint
from lrpilot.client.base import Transport
from lrpilot.control import Control
from lrpilot.decisions import Judge
from lrpilot.helm import Helm
from lrpilot.line import Line, Stamp
from lrpilot.losses import LossReader
from lrpilot.opening import await_program
from lrpilot.patience import Patience
from lrpilot.plan import Bounds, plan_from_state
from lrpilot.rates import Rates
from lrpilot.run import RunInfo
from lrpilot.snapshots import SnapshotKeeper
from lrpilot.trainer import TrainerPort

log = logging.getLogger("lrpilot")


class BoundsOf(Protocol):
    """The bounds of the first param group's LR."""

    def __call__(self, base_lr: float, /, searched: bool = False) -> Bounds:
        """The bounds, given that LR at the start, and whether a search may leave it far behind."""
        ...


class Attempt:
    """What a pilot is made of, and what happens around its steps.

    Args:
        trainer: the adapter of the training framework.
        transport: the line to the daemon; None makes the pilot inert.
        run: what the daemon is told of this run.
        losses: reads loss values, without waiting for a device.
        bounds_of: the bounds of the first param group's LR.
        connect_timeout: seconds that a search may be waited for before step 0.
    """

    def __init__(
        self,
        trainer: TrainerPort,
        transport: Transport | None,
        run: RunInfo,
        losses: LossReader,
        bounds_of: BoundsOf,
        connect_timeout: float = 10.0,
    ) -> None:
        self._trainer = trainer
        self._transport = transport  # asked for its status, also after the end
        self._line = Line(transport) if transport is not None else None
        self._run = run
        self._losses = losses
        self._bounds_of = bounds_of
        self._connect_timeout = connect_timeout
        self._rates = Rates(trainer, bounds_of(trainer.base_lrs[0]), self._foreign_lr)
        self._stamp = Stamp()
        self._started = self._opened = self._begun = self._closed = False
        self._release: Callable[[], None] = lambda: None
        self._judge = Judge()
        self._patience = Patience()
        self._snapshots: SnapshotKeeper | None = None
        self._control: Control | None = None
        if self._line is not None:
            controls = run.mode == "auto"
            if controls and trainer.can_snapshot:
                self._snapshots = SnapshotKeeper(trainer.snapshot, run.total_steps)
            helm = Helm(trainer, self._line, self._rates, self._stamp, self._snapshots)
            self._control = Control(helm, self._judge, losses, self._patience, controls=controls)
            if run.search:
                self._want_search()

    # -- its beginning and its end

    def start(self) -> None:
        """Take the snapshot of the state that the run starts with, and begin a search if wanted.

        Adapters call it before the first optimizer step, once its batch was fetched. It waits for
        the search's first program, at most what is left of `connect_timeout`.
        """
        line, control = self._line, self._control
        if line is None or control is None or self._started:
            return
        self._started = True
        try:
            control.helm.take()
            if self._run.search and not control.can_search:  # the snapshot failed
                self._run = replace(self._run, search=False)
            if self._run.search:
                self._open(line)
                why = await_program(control, self._connect_timeout, welcomed=False)
                if why:
                    self._only_guard(line, why)
        except Exception as error:
            self._give_up(error)

    def on_open(self, release: Callable[[], None]) -> None:
        """Call `release` at the first step, or at the end where none was made."""
        self._release = release

    def close(self, reason: str = "finished") -> None:
        """Deliver what is left and say goodbye; may wait for two seconds. Safe to call again."""
        if self._closed:
            return
        self._closed = True
        line, self._line = self._line, None
        self._release()
        if line is not None and self._control is not None:
            try:
                self._control.runner.deliver(self._losses.drain())
                self._control.give_up()  # the run's own state, where a program has the live one
            except Exception:  # a device that failed; what the loop raised must stay what is seen
                log.warning("LRPilot: the last losses could not be fetched", exc_info=True)
            if self._opened:
                stopped = self._control.stop and reason == "finished"
                reason = "stopped" if stopped else reason
                line.goodbye(reason, self._rates.step)
        self._trainer.detach()
        if self._transport is not None:
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close("finished" if error is None else "error")

    # -- checkpoints

    def settle(self) -> None:
        """Make the weights the run's own, before they are looked at or saved.

        In the middle of a program its state is set aside until `batches` serves the next batch;
        without `batches` the program ends here. Elsewhere nothing happens.
        """
        if self._control is not None:
            try:
                self._control.runner.settle()
            except Exception as error:
                self._give_up(error)

    def state_dict(self) -> dict[str, Any]:
        """Plain data to save beside the model's and the optimizer's state. No snapshots.

        Settles first: save the model after this, or after `settle`.
        """
        self.settle()
        if self._line is not None:
            self._rates.read()  # somebody may have moved the LRs since the last step
        return checkpoint.save(
            self._run,
            self._rates,
            self._stamp,
            self._control.runner.own_plan if self._control else self._rates.plan,
            self._trainer.get_native_lrs(),
            seq=self._line.seq if self._line is not None else 0,
            last_decision=self._judge.last_id,
            generation=self._transport.status.generation if self._transport else 0,
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the attempt that saved `state`; before the first step of this one.

        An attempt that goes on searches only when `search` is called.

        Raises:
            ValueError: the state is of a newer LRPilot, or does not fit this optimizer.
            RuntimeError: this attempt has made steps already.
        """
        rates = self._rates
        checkpoint.check(state, len(rates.base_lrs))
        if self._opened:
            raise RuntimeError("load_state_dict comes before the first pilot.step of an attempt")
        if self._run.search and self._control is not None:
            log.warning("LRPilot: no search: a state was loaded; this run is only guarded")
            self._control.replay.stop()
        self._run = self._run.resuming(state)
        rates.step, self._stamp.branch = state["step"], state["branch"]
        self._judge.last_id = state["last_decision"]
        self._trainer.set_native_lrs(state["native_lrs"])
        # The optimizer may have been loaded before attach: its LRs are those applied, not base.
        rates.base_lrs = tuple(state["base_lrs"])
        self._set_bounds(searched=self._run.searched)
        if self._line is not None and self._run.mode == "auto":  # else nothing is ever written
            rates.follow(plan_from_state(state["plan"], rates.bounds, rates.base_lrs))

    # -- the line to the daemon

    def _begin(self, line: Line) -> None:
        """The first step was made: the session opens, unless a search opened it before."""
        self._begun = True
        self._release()
        if not self._opened:
            self._open(line)

    def _open(self, line: Line) -> None:
        self._opened = True
        assert self._control is not None
        replay = self._control.replay
        if replay.batch_size is not None:
            self._run = replace(self._run, job=f"{self._run.job}/batch {replay.batch_size}")
        hello = self._run.hello(
            self._trainer, self._rates, programs=self._control.can_search, replay=replay.works
        )
        hello.branch = self._stamp.branch
        hello.last_decision_id = self._judge.last_id
        if self._rates.plan is not None:
            hello.plan.CopyFrom(self._rates.plan.message)
        self._hello = hello
        line.transport.open(hello)

    def _want_search(self) -> None:
        """Ask for a search when the session opens, where one can be carried out."""
        why = self._cannot_search()
        self._run = replace(self._run, search=not why)
        if why:
            log.warning("LRPilot: no search: %s; this run is only guarded", why)
        elif self._control is not None:
            self._set_bounds(searched=True)
            self._control.replay.record()

    def _cannot_search(self) -> str:
        if self._run.world_size > 1:
            return f"{self._run.world_size} ranks"
        if self._run.mode != "auto":
            return f"mode={self._run.mode!r} writes nothing"
        if self._control is None or not self._control.can_search:
            return "without model=... there is no state to come back to"
        return ""

    def _set_bounds(self, *, searched: bool) -> None:
        base = self._rates.base_lrs[0]
        self._rates.bounds = self._bounds_of(base, True) if searched else self._bounds_of(base)

    def _only_guard(self, line: Line, why: str) -> None:
        """The first program did not come: what comes late would cost steps."""
        assert self._control is not None
        log.warning("LRPilot: no search: %s; this run is only guarded", why)
        self._control.replay.stop()
        self._run = replace(self._run, search=False)
        if self._hello.search:
            self._hello.search = False
            line.transport.open(self._hello)

    def _foreign_lr(self, text: str) -> None:
        if self._line is not None:
            self._line.notice("foreign_lr", self._rates.step, text)

    def _give_up(self, error: Exception) -> None:
        """A fault of ours: the loop never hears of it, and goes on at the LRs in force."""
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
