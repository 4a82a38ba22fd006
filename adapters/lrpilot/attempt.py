"""One attempt of a run in this process: its beginning, its state, its end."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from lrpilot import checkpoint, unclosed
from lrpilot.control import Control
from lrpilot.line import Line
from lrpilot.lockstep import Lockstep
from lrpilot.opening import await_program, why_no_search
from lrpilot.parts import Parts
from lrpilot.plan import plan_from_state
from lrpilot_proto.v1 import model_pb2, session_pb2

log = logging.getLogger("lrpilot")


class Attempt(Parts):
    """What happens around a pilot's steps; for its arguments see `Parts`."""

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
            if self._lockstep is not None and not self._join(self._lockstep, control, late=late):
                return
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

    def _join(self, lockstep: Lockstep, control: Control, *, late: bool) -> bool:
        """Meet the other ranks before the first step; returns whether all act together."""
        facts = self._run.facts(self._trainer, self._rates, self._stamp.branch)
        facts |= {"late": late, "batches": control.replay.serving, "mean": self._losses.averages}
        control.can_set_aside = lockstep.join(facts, self._rates.step)
        if lockstep.why:
            self._apart(lockstep)
            return False
        if self._run.search and (why := why_no_search(self._run, control)):
            self._no_search(control, why)
            self._run = replace(self._run, searched=False)
            self._set_bounds(searched=False)
        return True

    def on_close(self, release: Callable[[], None]) -> None:
        """Call `release` at the end."""
        self._release = release

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    def close(self, reason: str = "finished") -> None:
        """Deliver what is left and say goodbye; may wait for two seconds. Safe to call again."""
        if self._closed:
            return
        self._closed = True
        line, self._line = self._line, None
        self._release()
        if self._lockstep is not None:
            horizon = self._run.total_steps
            done = horizon is not None and self._rates.step >= horizon  # nobody waits any more
            self._lockstep.leave("" if done else "a rank has closed its pilot")
            self._losses.part()
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
        unclosed.forget(self)
        if self._transport is not None:
            self._transport.close()

    def __del__(self) -> None:
        """Nobody closed it, and nobody can any more.

        This is in whatever thread collects, and that may hold any lock: none is taken, nothing is
        waited for.
        """
        transport, closed = self.__dict__.get("_transport"), self.__dict__.get("_closed", True)
        if transport is None or closed:
            return
        with contextlib.suppress(Exception):  # such as of an interpreter that is ending
            if self._line is not None and self._opened and self._lockstep is None:
                self._line.goodbye("dropped", self._rates.step)
            transport.leave()

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
                self._trainer.settle()
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
        unclosed.remember(self)
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

    def _reopen(self, line: Line) -> None:
        """The first program did not come; one that came late would cost steps."""
        self._run = replace(self._run, searched=False)
        self._set_bounds(searched=False)
        bounds = self._rates.bounds
        self._hello.search, self._hello.min_lr, self._hello.max_lr = False, bounds.low, bounds.high
        line.transport.open(self._hello)
