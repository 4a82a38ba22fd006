"""One attempt of a run in this process: its parts, its beginning, its state, its end."""

import logging
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from lrpilot import checkpoint
from lrpilot.client.base import Transport
from lrpilot.control import Control
from lrpilot.decisions import Judge
from lrpilot.helm import Helm
from lrpilot.line import Line, Stamp
from lrpilot.losses import LossReader
from lrpilot.opening import await_program, why_no_search
from lrpilot.patience import Patience
from lrpilot.plan import BoundsOf, plan_from_state
from lrpilot.rates import Rates
from lrpilot.run import RunInfo
from lrpilot.snapshots import SnapshotKeeper
from lrpilot.trainer import TrainerPort
from lrpilot_proto.v1 import model_pb2, session_pb2

log = logging.getLogger("lrpilot")


class Attempt:
    """What a pilot is made of, and what happens around its steps.

    Args:
        trainer: the adapter of the training framework.
        transport: the line to the daemon; None makes the pilot inert.
        run: what the daemon is told of this run.
        losses: reads loss values, without waiting for a device.
        bounds_of: the bounds of the first param group's LR.
        connect_timeout: seconds that the daemon may be waited for where no step runs: before
            step 0, and in front of a search of its own.
        waited: how many of them were spent before this.
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
    ) -> None:
        self._trainer = trainer
        self._transport = transport  # asked for its status, also after the end
        self._line = Line(transport) if transport is not None else None
        self._run = run
        self._losses = losses
        self._bounds_of = bounds_of
        self._connect_timeout, self._waited = connect_timeout, waited
        self._rates = Rates(trainer, bounds_of(trainer.base_lrs[0]), self._foreign_lr)
        self._stamp = Stamp()
        self._started = self._opened = self._begun = self._closed = False
        self._release: Callable[[], None] = lambda: None
        self._judge = Judge()
        self._patience = Patience()
        self._snapshots: SnapshotKeeper | None = None
        self._control: Control | None = None
        if self._line is not None:
            if run.acts and trainer.can_snapshot:
                self._snapshots = SnapshotKeeper(trainer.snapshot, run.total_steps)
            helm = Helm(trainer, self._line, self._rates, self._stamp, self._snapshots)
            self._control = Control(helm, self._judge, losses, self._patience, run)
            if run.search:
                self._want_search()

    # -- its beginning and its end

    def start(self, *, late: bool = False) -> None:
        """Take the snapshot of the state that the run starts with, and begin a search if wanted.

        Adapters call it before the first optimizer step, once its batch was fetched. Waits for
        a search's first program, at most what is left of `connect_timeout`.

        Args:
            late: an update was made before; the snapshot waits for its proof then, as later ones,
                and there is no search.
        """
        line, control = self._line, self._control
        if line is None or control is None or self._started:
            return
        self._started = True
        if late:
            self._missed_start(control)
        try:
            control.helm.take()
            if self._run.search and not control.can_search:  # the snapshot failed
                self._run = replace(self._run, search=False)
            if self._run.search and self._run.mode == "auto":
                self._open(line)
                left = max(0.0, self._connect_timeout - self._waited)
                why = await_program(control, left, welcomed=False)
                if why:
                    self._no_search(control, why)
                    self._reopen(line)
                elif not control.runner.searching:
                    control.replay.stop()  # a plan came at once: nothing will be served again
        except Exception as error:
            self._give_up(error)

    def _missed_start(self, control: Control) -> None:
        if self._snapshots is not None:
            self._snapshots.start_lost = True
        if self._run.search:
            self._no_search(control, "an update was made before it could begin")
            self._run = replace(self._run, searched=False)
            self._set_bounds(searched=False)

    def on_close(self, release: Callable[[], None]) -> None:
        """Call `release` at the end."""
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
            self._trainer.group_names,
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
        names = checkpoint.check(state, self._trainer.group_names)
        if self._opened:
            raise RuntimeError("load_state_dict comes before the first pilot.step of an attempt")
        if self._run.search and self._control is not None:
            self._no_search(self._control, "a state was loaded")
        self._run = self._run.resuming(state)
        rates.step, self._stamp.branch = state["step"], state["branch"]
        self._judge.last_id = state["last_decision"]
        if len(names) < len(self._trainer.group_names):
            self._trainer.restrict(names)
        self._trainer.set_native_lrs(state["native_lrs"])
        # The optimizer may have been loaded before attach: its LRs are those applied, not base.
        rates.base_lrs = tuple(state["base_lrs"])
        self._set_bounds(searched=self._run.searched)
        if self._line is not None and self._run.acts:  # else nothing is ever written
            rates.follow(plan_from_state(state["plan"], rates.bounds, rates.base_lrs))

    # -- the line to the daemon

    def _begin(self, line: Line) -> None:
        """The first step was made: the session opens, unless a search opened it before."""
        self._begun = True
        if not self._started:  # no hook ran, as where a captured graph is replayed
            self.start(late=True)
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
        line.on_report = lambda: self._keep_hello(line)

    def _keep_hello(self, line: Line) -> None:
        """Let the next session begin from where training stands: its daemon may know nothing."""
        assert self._control is not None
        own, hello = self._control.runner.own_plan, self._hello
        plan = own.message if own is not None else model_pb2.Plan()
        moved = hello.branch != self._stamp.branch or hello.plan != plan
        # Before a sample arrived, another hello would open this session anew.
        if moved and line.transport.status.acked_seq:
            hello.branch = self._stamp.branch
            hello.ClearField("plan")
            if own is not None:
                hello.plan.CopyFrom(plan)
            line.transport.open(hello)

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

    def _ask_search(self) -> bool:
        """Ask for a search, before step 0 or in mid-run; returns whether one may come now."""
        line, control, asked = self._line, self._control, self._run.search and not self._started
        if line is None or control is None:
            return False
        if asked or control.runner.searching:
            return True
        if not self._opened and self._run.resumes is None:
            self._want_search()
            return self._run.search
        if why := why_no_search(self._run, control):
            self._no_search(control, why)
            return False
        request = session_pb2.Request(kind="search", step=self._rates.step)
        line.report(session_pb2.Report(request=request))
        return self._run.mode == "auto"  # else not before a person approves it

    def _await_search(self) -> None:
        """Wait for a search that was asked for in mid-run, where no step runs meanwhile."""
        control = self._control
        if control is None or self._line is None or control.runner.searching:
            return
        try:
            why = await_program(control, self._connect_timeout, welcomed=True)
            if why:
                self._no_search(control, why)
        except Exception as error:
            self._give_up(error)

    def _set_bounds(self, *, searched: bool) -> None:
        base = self._rates.base_lrs[0]
        self._rates.bounds = self._bounds_of(base, True) if searched else self._bounds_of(base)

    def _no_search(self, control: Control, why: str) -> None:
        if self._line is not None:  # the run's story says it as well
            text = f"no search: {why}; this run is only guarded"
            self._line.notice("no_search", self._rates.step, text)
        control.replay.stop()
        self._run = replace(self._run, search=False)

    def _reopen(self, line: Line) -> None:
        """The first program did not come; one that came late would cost steps."""
        self._run = replace(self._run, searched=False)
        self._set_bounds(searched=False)
        bounds = self._rates.bounds
        self._hello.search, self._hello.min_lr, self._hello.max_lr = False, bounds.low, bounds.high
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
