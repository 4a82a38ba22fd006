"""Runs programs: from the decision that brings one to the word on what comes after it."""

import logging
from collections.abc import Callable, Iterable

from lrpilot.client.base import Message
from lrpilot.helm import Helm
from lrpilot.lockstep import Lockstep
from lrpilot.losses import LossReader, Row
from lrpilot.patience import Patience
from lrpilot.plan import Plan
from lrpilot.programs import (
    OpenProgram,
    Phase,
    fallback_of,
    id_in,
    plan_of,
    progress_of,
    still,
    why_no_word,
)
from lrpilot.ranks import Word
from lrpilot.replay import Replay
from lrpilot.trainer import ASIDE_SLOT, OWN_SLOT
from lrpilot_proto.v1 import model_pb2, session_pb2

log = logging.getLogger("lrpilot")


class Runner:
    """At most one program at a time, at step boundaries only.

    Args:
        helm: moves the weights.
        losses: drained at the end of each program.
        replay: serves a program's batches again.
        patience: how long to wait for the word on what comes after it.
        hear: reads the inbox, which may begin a program or end the search; returns the messages
            that are for later.
        lockstep: what several ranks agree on; None where there is one.
    """

    def __init__(
        self,
        helm: Helm,
        losses: LossReader,
        replay: Replay,
        patience: Patience,
        hear: Callable[[], list[Message]],
        lockstep: Lockstep | None = None,
    ) -> None:
        self._helm = helm
        self._lockstep = lockstep
        self._losses = losses
        self._replay = replay
        self._patience = patience
        self._hear = hear
        self._phase = Phase.OFF
        self._program: OpenProgram | None = None  # open, or the last one while a word is due
        self._told = ""
        # Whether the batch of the next step was served already, as it was before step 0.
        self.batch_is_out = False
        self.waited = 0.0  # at this boundary, so far

    @property
    def searching(self) -> bool:
        """Whether a program is open or the word on what comes after one is due."""
        return self._phase is not Phase.OFF

    @property
    def open(self) -> bool:
        """Whether a program is open, set aside or not."""
        return self._phase in (Phase.RUNNING, Phase.ASIDE)

    @property
    def own_weights(self) -> bool:
        """Whether the live state is the run's own, not a program's."""
        return self._phase is not Phase.RUNNING

    @property
    def progress(self) -> str:
        """How far the search is, in one line; empty without one."""
        return progress_of(self._program.message) if self._program else ""

    @property
    def own_plan(self) -> Plan | None:
        """The plan that the run follows when the program is forgotten."""
        return self._program.fallback if self._program else self._helm.rates.plan

    def begin(self, decision: model_pb2.Decision) -> None:
        """Begin the program that a decision brings, at this step boundary.

        Raises:
            PlanError: its LRs or its fallback cannot be followed.
            NotHeld: a snapshot that it needs is gone.
        """
        helm, rates, message = self._helm, self._helm.rates, decision.program
        plan = plan_of(message, rates.step, rates.bounds, rates.base_lrs)
        fallback = fallback_of(message, rates.bounds, rates.base_lrs)
        start = id_in(message, "restore_snapshot") or id_in(decision, "restore_snapshot")
        back = id_in(message, "fallback_snapshot") or start
        helm.check(start, back, saving=decision.save_snapshot)
        if self._lockstep is not None and self._phase is Phase.OFF:
            helm.save(ASIDE_SLOT)  # memory that one rank may need alone, where none may fail
        if decision.save_snapshot:
            helm.keep()
        before = OWN_SLOT
        if decision.save_snapshot and helm.snapshots is not None:
            before = helm.slot_of(helm.snapshots.taken)
        elif back is None or (message.restore_at_end and start is None):
            helm.save(OWN_SLOT)
        end = before if start is None else helm.slot_of(start)
        if start is not None:
            helm.restore(start, rng=decision.restore_rng, gradients=self.batch_is_out)
        self._program = OpenProgram(
            message,
            plan,
            fallback,
            first_step=rates.step,
            own_slot=before if back is None else helm.slot_of(back),
            end_slot=end if message.restore_at_end else None,
            fallback_slot=None if back is None else helm.slot_of(back),
            waited=self.waited,
        )
        goes_on = self._phase is Phase.DUE and start is None  # from where the last one ended
        self._phase = Phase.RUNNING
        helm.stamp.program = message.id
        if helm.snapshots is not None:
            helm.snapshots.pause()
        self._replay.begin(
            again=message.batches == model_pb2.BATCHES_REPLAYED,
            goes_on=goes_on or self.batch_is_out,
        )
        rates.follow(plan)
        self._tell_phase(message)

    def deliver(self, rows: Iterable[tuple[Row, float]]) -> None:
        """Hand in losses that arrived late; those of the open program are its own as well."""
        program = self._program if self.open else None
        for row, loss in rows:
            self._helm.line.train(row, loss)
            if program is not None and row[3] == program.message.id:
                program.heard(loss)

    def stepped(self, loss: float | None) -> None:
        """A step was made under a program, with this loss or one that `deliver` brings."""
        program = self._program
        if program is None:
            return
        if self._phase is Phase.ASIDE and self._lockstep is not None:
            self._spoiled(program, "a step was made on the run's own weights amid a program")
        if self._phase is Phase.ASIDE:  # it took no batch from `batches`: the run went on itself
            self._helm.leave_branch()
            self._close("interrupted", None)
        elif self._phase is Phase.RUNNING:
            self._replay.stepped()
            if loss is not None:
                program.heard(loss)
            reason = self._end(program)
            if not reason:
                return
            self._close(reason, program.end_slot)
        self._await_word(program)

    def _end(self, program: OpenProgram) -> str:
        """Why a program is over at this boundary, or an empty text."""
        step, lockstep = self._helm.rates.step, self._lockstep
        if lockstep is None:
            return program.end(step)
        if not lockstep.looks(step - program.first_step, program.message.length):
            return ""
        self._losses.meet()
        self.deliver(self._losses.ready(flush=True))
        return lockstep.agree(lambda: Word(end=program.end(step))).end

    # -- the run's own state in the middle of a program

    def settle(self) -> None:
        """Make the run's own state live, where a program's is.

        Where batches come through `batches` the program is set aside, and goes on with the next
        one as if nothing had happened; elsewhere it ends here. The step that follows then moves
        no weight, and the word on what comes after is awaited at its boundary.
        """
        if self._phase is not Phase.RUNNING or self._program is None:
            return
        if self._replay.serving and self._set_aside(self._program):
            return
        if self._lockstep is not None:
            self._spoiled(self._program, "a program could not be set aside")
            return
        self.interrupt()
        rates = self._helm.rates
        rates.follow(still(rates.bounds, rates.base_lrs))

    def _set_aside(self, program: OpenProgram) -> bool:
        trainer = self._helm.trainer
        try:
            trainer.snapshot(ASIDE_SLOT)
            trainer.restore(program.own_slot, rng=True)
        except Exception:  # no memory for a third copy, most likely
            log.warning("LRPilot: a program could not be set aside, and ends", exc_info=True)
            return False
        self._phase = Phase.ASIDE
        self._helm.rates.follow(program.fallback)
        return True

    def _spoiled(self, program: OpenProgram, why: str) -> None:
        """This rank has lost a program that goes on elsewhere: all ranks leave it soon, for the
        run's own state, which is shown here until then."""
        assert self._lockstep is not None
        self._lockstep.veto(why)
        self._phase = Phase.RUNNING
        self._helm.trainer.restore(program.own_slot, rng=True)

    def go_on(self) -> bool:
        """Put a program that was set aside back; returns whether there was one."""
        if self._phase is not Phase.ASIDE or self._program is None:
            return False
        try:
            self._helm.trainer.restore(ASIDE_SLOT, rng=True)
        except Exception:
            log.exception("LRPilot: a program could not go on, and ends")
            if self._lockstep is not None:
                self._spoiled(self._program, "a program could not go on")
            else:
                self._close("interrupted", self._program.own_slot)
            return False
        self._phase = Phase.RUNNING
        self._helm.rates.follow(self._program.plan)
        return True

    def interrupt(self) -> None:
        """End an open program here: the run's own state and plan are back."""
        program = self._program
        if program is None:
            return
        if self._phase is Phase.RUNNING:
            self._close("interrupted", program.own_slot)
        elif self._phase is Phase.ASIDE:
            self._helm.leave_branch()
            self._close("interrupted", None)
        self._helm.rates.follow(program.fallback)

    # -- its end

    def _close(self, reason: str, restore: int | None) -> None:
        """Tell what a program found; `restore` is the slot that is put back."""
        assert self._program is not None
        self.deliver(self._losses.drain())
        if restore is not None:
            self._helm.put_back(restore)
        self._phase = Phase.DUE
        line, step, branch = self._helm.line, self._helm.rates.step, self._helm.stamp.branch
        result = self._program.result(reason, step, branch)
        line.report(session_pb2.Report(program=result))
        line.transport.urgent()

    def _await_word(self, program: OpenProgram) -> None:
        """Wait at this boundary for what comes next, within the budget; else fall back."""
        line, allowed, later = self._helm.line, self._patience.allowance(), list[Message]()
        self._helm.stamp.program, self.waited = 0, 0.0
        try:
            while True:
                later += self._hear()
                if self._phase is not Phase.DUE:
                    return
                left = allowed - self.waited
                heard, took = self._patience.wait(line.transport.wait, left)
                self.waited += took
                if not heard:
                    break
            self._fall_back(program)
        finally:
            self.waited = 0.0
            line.inbox.extendleft(reversed(later))

    def _fall_back(self, program: OpenProgram) -> None:
        helm = self._helm
        reason = why_no_word(helm.line.transport.status, self.waited)
        helm.put_back(program.fallback_slot)
        helm.rates.follow(program.fallback)
        taken = program.fell_back(reason, helm.rates.step, helm.stamp.branch, self.waited)
        helm.line.report(session_pb2.Report(fallback=taken))
        lr = helm.trainer.get_lrs()[0]
        text = f"LRPilot: the search is over: {reason}; training goes on at LR {lr:.3g}"
        helm.line.tell(logging.WARNING, text)
        self.finish()

    def finish(self) -> None:
        """The search is over: normal life goes on, and what it held is freed."""
        if self._phase is Phase.OFF:
            return
        helm = self._helm
        self._phase, self._program, self._told = Phase.OFF, None, ""
        helm.stamp.program = 0
        if helm.snapshots is not None:
            helm.snapshots.resume(helm.rates.step)
        self._replay.stop()
        for slot in (OWN_SLOT, ASIDE_SLOT):
            helm.trainer.discard(slot)

    def _tell_phase(self, message: model_pb2.Program) -> None:
        phase = message.phase or "program"
        if phase != self._told:
            self._told = phase
            self._helm.line.tell(logging.INFO, progress_of(message))
