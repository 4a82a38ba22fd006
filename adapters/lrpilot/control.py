"""Decisions as they are carried out: read from the inbox, judged, applied, answered."""

import logging
import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

from lrpilot.client.base import Finish, Forgotten, Message
from lrpilot.decisions import Judge
from lrpilot.helm import Helm, NotHeld
from lrpilot.lockstep import Elsewhere, Lockstep
from lrpilot.losses import LossReader
from lrpilot.patience import Patience
from lrpilot.plan import Bounds, Plan, PlanError
from lrpilot.replay import Replay
from lrpilot.run import MODE_MEANS, RunInfo, mode_named
from lrpilot.runner import Runner
from lrpilot.trainer import NoRoom
from lrpilot_proto.v1 import model_pb2, session_pb2

log = logging.getLogger("lrpilot")

APPLIED = model_pb2.DECISION_STATUS_APPLIED
T = TypeVar("T")


class Control:
    """What the daemon may do to a run, at step boundaries.

    Args:
        helm: moves the weights.
        judge: the trainer's own check of every decision.
        losses: reads loss values.
        patience: the budget of waits.
        run: its mode says whether decisions are followed; an observer answers them only.
        lockstep: what several ranks agree on; None where there is one.

    Attributes:
        welcome: the daemon's newest welcome.
        answers: decisions that were followed and brought no program.
        stop: whether the loop was asked to end.
    """

    def __init__(
        self,
        helm: Helm,
        judge: Judge,
        losses: LossReader,
        patience: Patience,
        run: RunInfo,
        lockstep: Lockstep | None = None,
    ) -> None:
        self.helm = helm
        self._losses = losses
        self.lockstep = lockstep
        self.judge = judge
        self.patience = patience
        self.replay = Replay(self._cannot_replay)
        self.runner = Runner(helm, losses, self.replay, patience, self.hear, lockstep)
        self.welcome: session_pb2.Welcome | None = None
        self.answers = 0
        self.stop = False
        self.can_set_aside = True  # else no program is begun: several ranks, and no `batches`
        self._controls = run.acts
        self._mode = run.mode  # in force, as far as the user knows
        self._line = helm.line
        self._rates = helm.rates

    @property
    def can_search(self) -> bool:
        """Whether a program would be followed."""
        return self._controls and self.helm.can_restore and self.can_set_aside

    def meet(self, step: int) -> bool:
        """The end of a window of several ranks; returns whether all take a snapshot here."""
        assert self.lockstep is not None
        searching, snapshots = self.runner.searching, self.helm.snapshots
        due = snapshots.next_step if snapshots is not None else math.inf
        take = self.lockstep.meet(step, searching=searching, snapshot_due=due)
        if not self.lockstep.why:  # else another rank may be gone
            self._losses.meet()
            self.runner.deliver(self._losses.ready())
        return take and not searching

    def boundary(self, program: int, loss: float | None) -> None:
        """A step is over: end its program if it is time, and do what the daemon said.

        Args:
            program: the one that the step was made under; 0 for none.
            loss: the step's loss where it is known already.
        """
        if program:
            self.runner.stepped(loss)
        if self._line.inbox:
            self._line.inbox.extendleft(reversed(self.hear()))

    def hear(self) -> list[Message]:
        """Read the inbox at this boundary; returns what is for a later one, in order.

        A fault in a message must not reach the loop.
        """
        inbox, later = self._line.inbox, list[Message]()
        for _ in range(len(inbox)):
            message = inbox.popleft()
            try:
                if not self._follow(message):
                    later.append(message)
            except Exception as error:
                log.exception("LRPilot: a message of the daemon could not be followed")
                text = f"a message of the daemon could not be followed: {error!r}"
                self._line.notice("fault", self._rates.step, text)
        return later

    def _follow(self, message: Message) -> bool:
        """Do what a message says; False where its time has not come."""
        if isinstance(message, model_pb2.Decision):
            early = self._rates.step < message.not_before_step
            if early or (self.runner.open and not message.stop):
                return False
            self._decide(message)
        elif isinstance(message, session_pb2.Welcome):
            self.welcome = message
            self._tell_mode(message.mode)
        elif isinstance(message, Forgotten):
            text = "the daemon's journal is older than this run; it goes on from where training is"
            self._line.notice("older_journal", self._rates.step, text)
            self.helm.tell_again()
        elif isinstance(message, Finish):
            self._decay(max(message.end - self._rates.step, 1))
        elif self.helm.snapshots is not None:
            self.helm.snapshots.prove(message.id, self._rates.step)
        return True

    def _tell_mode(self, in_force: int) -> None:
        """Say that the daemon's configuration allows less than was asked for, or no longer does."""
        mode = mode_named(in_force)
        if mode is not None and mode != self._mode:
            text = (
                f"LRPilot: the daemon's configuration sets mode {mode!r} for this run, in place "
                f"of {self._mode!r}: {MODE_MEANS[mode]}"
            )
            self._line.tell(logging.WARNING, text)
            self._mode = mode

    def _decide(self, decision: model_pb2.Decision) -> None:
        helm, stamp = self.helm, self.helm.stamp
        before, branch = helm.trainer.get_lrs(), stamp.branch
        # A stop is meant for the run, not for the program that it crosses on its way.
        crosses = decision.stop and self.runner.searching
        waited = self.runner.waited
        try:
            refusal = self.judge.refusal(
                decision,
                self._rates.step,
                decision.branch if crosses else branch,
                controls=self._controls,
                programs=self.can_search,
            )
            status, detail = refusal or self._apply(decision)
        except (NotHeld, PlanError, NoRoom, Elsewhere) as error:
            status, detail = model_pb2.DECISION_STATUS_REJECTED, str(error)
        except Exception as error:  # a restore that failed half-way is told, never raised
            log.exception("LRPilot: decision %d could not be applied", decision.id)
            status, detail = model_pb2.DECISION_STATUS_REJECTED, f"{error!r}"
        receipt = model_pb2.Receipt(
            decision_id=decision.id,
            status=status,
            applied_step=self._rates.step,
            branch_before=branch,
            branch_after=stamp.branch,
            lrs_before=before,
            lrs_after=helm.trainer.get_lrs(),
            wait_seconds=waited,
            detail=detail,
        )
        self.judge.answered(decision, receipt)
        self._line.report(session_pb2.Report(receipt=receipt))
        self._line.tell(*self.judge.line(decision, receipt))

    def _apply(self, decision: model_pb2.Decision) -> tuple[model_pb2.DecisionStatus, str]:
        helm, rates, runner = self.helm, self._rates, self.runner
        if decision.HasField("program"):
            runner.begin(decision)
            return APPLIED, ""
        plan = self.judge.plan(decision, rates)
        restores = decision.HasField("restore_snapshot")
        wanted = decision.restore_snapshot if restores else None
        helm.check(wanted, saving=decision.save_snapshot)
        if decision.save_snapshot:
            helm.keep()
        if runner.open:  # a stop crosses it
            runner.interrupt()
        own = runner.own_plan
        if restores:
            try:
                helm.restore(decision.restore_snapshot, rng=decision.restore_rng)
            except Exception:
                if plan is not None:  # to train on at the old LR would be the worst of all
                    rates.follow(plan)
                raise
            if helm.snapshots is not None:
                helm.snapshots.rolled_back(rates.step)
        if _says_something(decision):
            runner.finish()  # no program's LRs outlive the search
        if decision.release or plan is not None:
            rates.follow(plan)
        elif not runner.searching:
            rates.follow(own)
        self.answers += 1
        if decision.stop:
            self.stop = True
            helm.trainer.request_stop()
        return APPLIED, ""

    def feed(self, loader: Iterable[T]) -> Iterator[T]:
        """The loader's batches, or those of a search in their place: as many as the loader's."""
        runner, replay = self.runner, self.replay
        if not runner.searching:
            replay.restart()
        went_on = runner.go_on()  # before the loader draws from the generators of the program
        source = iter(loader)
        while True:
            went_on = runner.go_on() or went_on
            try:
                batch = next(source)
            except StopIteration:
                if went_on:
                    runner.settle()  # there is no next batch to go on with
                return
            yield replay.serve(batch)
            del batch
            went_on = False

    def finish(self, steps: int) -> None:
        """Lead from the LR in force to 0 in a straight line, over so many steps from here on.

        An open program and its search end first. An observer only reports it. Of several ranks
        the first one's wish counts, and all of them begin at the same step.
        """
        rates = self._rates
        if self.lockstep is not None:
            self.lockstep.ask(Finish(rates.step + steps))
        elif self._controls:
            self._decay(steps)
        request = session_pb2.Request(kind="finish", step=rates.step, steps=steps)
        self._line.report(session_pb2.Report(request=request))

    def _decay(self, steps: int) -> None:
        rates = self._rates
        if self._controls:
            self.give_up()
            kind = rates.plan.message.kind if rates.plan else model_pb2.PLAN_KIND_SCALE
            line = model_pb2.Segment(
                shape=model_pb2.SHAPE_LINEAR,
                start=rates.step,
                end=rates.step + steps,
                start_value=rates.in_force(kind),
            )
            plan = model_pb2.Plan(kind=kind, segments=[line])
            rates.follow(Plan(plan, Bounds(0.0, rates.bounds.high), rates.base_lrs))

    def give_up(self) -> None:
        """Nobody decides any more: the run's own state and plan, if a program has the live one."""
        try:
            self.runner.interrupt()
        finally:
            self.runner.finish()

    def retire(self) -> None:
        """From here on this is an observer: the plan in force goes on, and nothing else comes."""
        self.lockstep, self._controls = None, False
        self.give_up()
        if self.helm.snapshots is not None:
            self.helm.snapshots.give_up()

    def _cannot_replay(self, text: str) -> None:
        self._line.notice("replay_off", self._rates.step, text)


def _says_something(decision: model_pb2.Decision) -> bool:
    """Whether a decision is more than a note in the log."""
    does = decision.HasField("plan") or decision.HasField("restore_snapshot")
    does = does or decision.stop or decision.release or decision.save_snapshot
    return does or decision.action != model_pb2.ACTION_NOTE
