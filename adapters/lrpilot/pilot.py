"""The pilot: one run's control inside the training process, at step boundaries only.

`step` reads the loss, hands it to the transport and applies what the daemon decided. It does no
I/O, takes no contended lock and never raises for a fault of the controller: whatever goes wrong
there, training goes on with the plan in force.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from lrpilot.client.base import Transport
from lrpilot.decisions import AppliedDecision, Judge
from lrpilot.line import Line
from lrpilot.losses import BadLoss, LossReader
from lrpilot.plan import Bounds, plan_from_state, plan_to_state
from lrpilot.rates import Rates
from lrpilot.run import RunInfo
from lrpilot.snapshots import SnapshotKeeper
from lrpilot.summary import Summary
from lrpilot.trainer import TrainerPort
from lrpilot_proto.v1 import model_pb2, session_pb2

log = logging.getLogger("lrpilot")

STATE_VERSION = 1
T = TypeVar("T")


class Pilot:
    """Streams a run's losses and applies decisions; made by `lrpilot.attach`.

    Step k is the k-th optimizer step that the run executed, from 0. Not thread-safe: every method
    belongs to the training thread.

    Args:
        trainer: the adapter of the training framework.
        transport: the line to the daemon; None makes the pilot inert.
        run: what the daemon is told of this run.
        losses: reads loss values, without waiting for a device.
        bounds_of: the bounds of the first param group's LR, given its base LR.
    """

    def __init__(
        self,
        trainer: TrainerPort,
        transport: Transport | None,
        run: RunInfo,
        losses: LossReader,
        bounds_of: Callable[[float], Bounds],
    ) -> None:
        self._trainer = trainer
        self._transport = transport  # asked for its status, also after the end
        self._line = Line(transport) if transport is not None else None
        self._run = run
        self._losses = losses
        self._bounds_of = bounds_of
        bounds = bounds_of(trainer.base_lrs[0])
        self._rates = Rates(trainer, bounds, self._foreign_lr)
        self._branch = 0
        self._opened = False
        self._closed = False
        self._stop = False
        self._judge = Judge()
        self._release: Callable[[], None] = lambda: None
        controls = transport is not None and run.mode == "auto"
        self._snapshots: SnapshotKeeper | None = None
        if controls and trainer.can_snapshot:
            self._snapshots = SnapshotKeeper(trainer.snapshot, run.total_steps)

    # -- what a training loop calls

    def step(self, loss: Any) -> None:
        """Report one optimizer step's loss and apply what is due; once per optimizer step.

        Args:
            loss: a float or a tensor of one element; a device tensor is not waited for.

        Raises:
            BadLoss: the loss is neither; a TypeError.
        """
        line, rates = self._line, self._rates
        k = rates.step
        if line is None:
            rates.step = k + 1
            return
        try:
            row = (line.next_seq(), k, self._branch, rates.read())
            value = self._losses.read(loss, row)
            if value is None:
                line.train_rows(self._losses.ready())
            else:
                line.train(row, value)
            rates.step = after = k + 1
            if not self._opened:
                self._open(line)
            if line.inbox:
                self._listen(line)
            if rates.plan is not None:
                rates.advance()
            if self._snapshots is not None and after >= self._snapshots.next_step:
                self._take_snapshot(line)
        except BadLoss:
            raise
        except Exception as error:
            rates.step = k + 1
            self._give_up(error)

    def validate(self, value: Any) -> None:
        """Report a validation loss of the weights as they are now.

        Raises:
            BadLoss: the value is neither a float nor a tensor of one element; a TypeError.
        """
        number = self._losses.number(value)
        line, rates = self._line, self._rates
        if line is None:
            return
        try:
            line.train_rows(self._losses.drain())  # items go in the order of their numbers
            line.validation((line.next_seq(), rates.step, self._branch, rates.row), number)
            if not self._opened:
                self._open(line)
        except Exception as error:
            self._give_up(error)

    def settle(self) -> None:
        """End an open program, so that the weights are the run's own. (No programs yet.)"""

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """The loader's batches; a search will replay some of them. (No search yet.)"""
        yield from loader

    def search(self, step_fn: Any, loader: Any) -> None:
        """Search the LR before the loop.

        Raises:
            NotImplementedError: this version guards only.
        """
        raise NotImplementedError("this version of LRPilot guards; it cannot search an LR yet")

    def finish(self, steps: int) -> None:
        """Decay to the end over `steps`, where no horizon was known.

        Raises:
            NotImplementedError: this version guards only.
        """
        raise NotImplementedError("this version of LRPilot guards; it cannot plan a decay yet")

    @property
    def lrs(self) -> list[float]:
        """The LR of each param group, as the optimizer has it now."""
        return self._trainer.get_lrs()

    @property
    def step_count(self) -> int:
        """Optimizer steps that the run executed, rolled-back ones included."""
        return self._rates.step

    @property
    def should_stop(self) -> bool:
        """Whether a decision or a person asked the loop to end."""
        return self._stop

    @property
    def decisions(self) -> list[AppliedDecision]:
        """The decisions that reached this process, in order, and what became of them."""
        return list(self._judge.history)

    def summary(self) -> Summary:
        """What LRPilot did in this process, and what it cost."""
        return Summary.of(
            self._run,
            self._rates.step,
            self._judge.history,
            self._transport,
            self._snapshots,
        )

    def start(self) -> None:
        """Take the snapshot of the state that the run starts with; adapters call it once,
        before the first optimizer step."""
        if self._line is None or self._snapshots is None or self._snapshots.taken:
            return
        self._take_snapshot(self._line)

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
        self._trainer.detach()
        if line is not None:
            try:
                line.train_rows(self._losses.drain())
            except Exception:  # a device that failed; what the loop raised must stay what is seen
                log.warning("LRPilot: the last losses could not be fetched", exc_info=True)
            if self._opened:
                reason = "stopped" if self._stop and reason == "finished" else reason
                line.goodbye(reason, self._rates.step)
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

    def state_dict(self) -> dict[str, Any]:
        """Plain data to save beside the model's and the optimizer's state. No snapshots."""
        if self._line is not None:
            self._rates.read()  # somebody may have moved the LRs since the last step
        return {
            "version": STATE_VERSION,
            "project": self._run.project,
            "run": self._run.name,
            "attempt": self._run.attempt,
            "step": self._rates.step,
            "branch": self._branch,
            "seq": self._line.seq if self._line is not None else 0,
            "last_decision": self._judge.last_id,
            "generation": self._transport.status.generation if self._transport else 0,
            "plan": plan_to_state(self._rates.plan),
            "native_lrs": self._trainer.get_native_lrs(),
            "base_lrs": list(self._rates.base_lrs),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the attempt that saved `state`; before the first step of this one.

        Raises:
            ValueError: the state is of a newer LRPilot, or does not fit this optimizer.
            RuntimeError: this attempt has made steps already.
        """
        if state.get("version") != STATE_VERSION:
            raise ValueError(
                f"the pilot's state has version {state.get('version')!r}, this LRPilot reads "
                f"{STATE_VERSION}: install the LRPilot that saved it"
            )
        rates = self._rates
        if len(state["native_lrs"]) > len(rates.base_lrs):
            raise ValueError(
                f"the pilot's state has {len(state['native_lrs'])} param groups, the optimizer "
                f"{len(rates.base_lrs)}"
            )
        if self._opened:
            raise RuntimeError("load_state_dict comes before the first pilot.step of an attempt")
        self._run = self._run.resuming(state)
        rates.step, self._branch = state["step"], state["branch"]
        self._judge.last_id = state["last_decision"]
        self._trainer.set_native_lrs(state["native_lrs"])
        # The optimizer may have been loaded before attach: its LRs are those applied, not base.
        rates.base_lrs = tuple(state["base_lrs"])
        rates.bounds = self._bounds_of(rates.base_lrs[0])
        if self._line is not None and self._run.mode == "auto":  # else nothing is ever written
            rates.follow(plan_from_state(state["plan"], rates.bounds, rates.base_lrs))

    # -- the line to the daemon

    def _open(self, line: Line) -> None:
        self._opened = True
        self._release()
        hello = self._run.hello(self._trainer, self._rates)
        hello.start_step = self._run.start_step
        hello.branch = self._branch
        hello.last_decision_id = self._judge.last_id
        if self._rates.plan is not None:
            hello.plan.CopyFrom(self._rates.plan.message)
        line.transport.open(hello)

    def _foreign_lr(self, text: str) -> None:
        if self._line is not None:
            self._line.notice("foreign_lr", self._rates.step, text)

    def _give_up(self, error: Exception) -> None:
        """A fault of ours: the loop never hears of it, and goes on at the LRs in force."""
        log.error("LRPilot: a fault of its own; training goes on without it", exc_info=error)
        line, self._line, self._snapshots = self._line, None, None
        if line is not None:
            line.notice("fault", self._rates.step, f"a fault in the training process: {error!r}")
            line.goodbye("error", self._rates.step)

    def _listen(self, line: Line) -> None:
        """Read the inbox at this step boundary; a fault in it must not reach the loop."""
        inbox = line.inbox
        for _ in range(len(inbox)):
            message = inbox.popleft()
            try:
                if isinstance(message, model_pb2.Decision):
                    if self._rates.step < message.not_before_step:
                        inbox.append(message)  # looked at again at the next boundary
                    else:
                        self._decide(message, line)
                elif isinstance(message, session_pb2.SnapshotProven) and self._snapshots:
                    self._snapshots.prove(message.id, self._rates.step)
            except Exception as error:
                log.exception("LRPilot: a message of the daemon could not be followed")
                text = f"a message of the daemon could not be followed: {error!r}"
                line.notice("fault", self._rates.step, text)

    # -- decisions

    def _decide(self, decision: model_pb2.Decision, line: Line) -> None:
        before, branch = self._trainer.get_lrs(), self._branch
        try:
            refusal = self._judge.refusal(
                decision, self._rates.step, self._branch, controls=self._run.mode == "auto"
            )
            status, detail = refusal or self._apply(decision, line)
        except Exception as error:  # a restore that failed half-way is told, never raised
            log.exception("LRPilot: decision %d could not be applied", decision.id)
            status, detail = model_pb2.DECISION_STATUS_REJECTED, f"{error!r}"
        receipt = model_pb2.Receipt(
            decision_id=decision.id,
            status=status,
            applied_step=self._rates.step,
            branch_before=branch,
            branch_after=self._branch,
            lrs_before=before,
            lrs_after=self._trainer.get_lrs(),
            detail=detail,
        )
        self._judge.answered(decision, receipt)
        line.report(session_pb2.Report(receipt=receipt))
        log.log(*self._judge.line(decision, receipt))

    def _apply(
        self, decision: model_pb2.Decision, line: Line
    ) -> tuple[model_pb2.DecisionStatus, str]:
        plan = self._judge.plan(decision, self._rates)
        if decision.HasField("restore_snapshot"):
            slot = self._snapshots.slot_of(decision.restore_snapshot) if self._snapshots else None
            if slot is None or self._snapshots is None:
                return (
                    model_pb2.DECISION_STATUS_REJECTED,
                    f"snapshot {decision.restore_snapshot} is not held any more",
                )
            try:
                self._trainer.restore(slot, rng=decision.restore_rng)
            except Exception:
                if plan is not None:  # to train on at the old LR would be the worst of all
                    self._rates.follow(plan)
                raise
            self._branch += 1
            line.restored()
            self._snapshots.rolled_back(self._rates.step)
        if decision.release or plan is not None:
            self._rates.follow(plan)
        else:
            self._rates.write()
        if decision.stop:
            self._stop = True
            self._trainer.request_stop()
        return model_pb2.DECISION_STATUS_APPLIED, ""

    def _take_snapshot(self, line: Line) -> None:
        assert self._snapshots is not None
        try:
            taken = self._snapshots.take(self._rates.step)
        except Exception as error:  # out of memory, most likely: guard on without snapshots
            log.exception("LRPilot: a snapshot failed; this run goes on without snapshots")
            self._snapshots = None
            line.notice("snapshot_failed", self._rates.step, f"a snapshot failed: {error!r}")
            return
        if taken is not None:
            line.report(
                session_pb2.Report(
                    snapshot=session_pb2.SnapshotTaken(
                        id=taken[0], step=self._rates.step, branch=self._branch, proven=taken[1]
                    )
                )
            )
