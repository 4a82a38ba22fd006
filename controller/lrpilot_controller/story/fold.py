"""A run's records folded into its story."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lrpilot_controller.core import events
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    DecisionStatus,
    Mode,
    Outcome,
    Receipt,
    RunState,
    Signal,
)
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal.base import Record, RunKey
from lrpilot_controller.story.curve import Curve
from lrpilot_controller.story.left import AttemptTold, means_of, points_of
from lrpilot_controller.story.model import (
    Command,
    Cost,
    DecisionTold,
    Notice,
    Refusal,
    Story,
)
from lrpilot_controller.story.searching import SearchFold, is_of_search, restored_by
from lrpilot_controller.story.thinned import ThinnedFold, train_rows
from lrpilot_controller.story.trend import Trend

_KEPT = 100  # newest refusals and notices
_MEANS = 80  # of the trend, at most

OUTLINE = (
    *(events.SessionOpened, events.SessionLost, events.SaidGoodbye, events.Commanded),
    *(events.Decided, events.ReceiptArrived, events.OutcomeMeasured),
    *(events.ProgramEnded, events.FellBack, events.SearchEnded),
)
"""What a story's summary depends on, beside the newest telemetry."""


def tell(run: RunKey, records: Iterable[Record], *, points: int = 500) -> Story:
    """Folds a run's records into its story, in one pass and in memory bounded by the story's size.

    Args:
        run: Whose records they are.
        records: All of them, in order.
        points: The most points of the curve, at least 4.

    Raises:
        ValueError: `points` is below 4.
    """
    fold = Fold(run, points)
    for record in records:
        fold.feed(record.event)
    return fold.story()


class Fold:
    """The story so far."""

    def __init__(self, run: RunKey, points: int) -> None:
        self._run = run
        self._curve = Curve(points)
        self._trend = Trend(_MEANS)
        self._attempts: dict[str, AttemptTold] = {}
        self._current = ""
        self._mode: Mode | None = None
        self._step = 0
        self._lrs: tuple[float, ...] = ()
        self._lrs_step = 0  # they hold from here on
        self._received = 0
        self._thinned = ThinnedFold()
        self._loss: float | None = None
        self._signals: list[Signal] = []
        self._decisions: dict[int, DecisionTold] = {}
        self._undone = 0
        self._searches = SearchFold()
        self._refusals: deque[Refusal] = deque(maxlen=_KEPT)
        self._notices: deque[Notice] = deque(maxlen=_KEPT)
        self._commands: deque[Command] = deque(maxlen=_KEPT)
        self._frozen = False
        self._on_probation: set[int] = set()
        self._stopped = False
        self._ended: RunState | None = None

    def feed(self, event: events.Event) -> None:
        """Takes the next event."""
        match event:
            case Samples():
                self._samples(event)
            case Thinned():
                self._thin(event)
            case events.SessionOpened(attempt):
                self._opened(attempt)
            case events.SessionLost(attempt) if attempt == self._current:
                self._ended = self._ended or RunState.LOST
            case events.ReceiptArrived(attempt, _, receipt):
                self._receipt(attempt, receipt)
            case events.SnapshotTaken():
                self._attempt(event.attempt).snapshots[event.snapshot] = event.step
            case events.ProgramEnded():
                self._searches.program_ended(event)
            case events.FellBack():
                self._searches.fell_back(event)
            case events.SearchEnded(_, result):
                self._searches.ended(result)
            case events.Noticed():
                self._notices.append(Notice(event.step, event.kind, event.text))
            case events.SaidGoodbye(attempt) if attempt == self._current:
                finished = event.reason == "finished"
                self._ended = RunState.FINISHED if finished else RunState.STOPPED
                self._step = max(self._step, event.step)
            case events.SignalSeen(signal):
                self._signals.append(signal)
            case events.Decided(decision):
                self._decided(decision)
            case events.Resolved(number, status, who):
                if told := self._decisions.get(number):
                    self._decisions[number] = replace(told, status=status, who=who or told.who)
            case events.Commanded():
                self._commanded(event)
            case events.Refused(signal, reason):
                self._refusals.append(Refusal(signal.step, signal.kind, reason))
            case events.OutcomeMeasured(outcome):
                self._measured(outcome)
            case _:
                pass  # nothing that a story tells

    def story(self) -> Story:
        """The story of what was fed."""
        attempts = list(self._attempts.values())
        return Story(
            run=self._run,
            state=self._state(),
            mode=self._mode,
            attempts=len(self._attempts),
            step=self._step,
            lrs=self._lrs,
            received=self._received,
            thinned=self._thinned.told,
            dropped=sum(attempt.dropped for attempt in attempts),
            signals=tuple(self._signals),
            decisions=tuple(
                replace(told, steps=self._searches.steps.get(told.decision.id, 0))
                for told in self._decisions.values()
            ),
            cost=Cost(self._searches.probe_steps, self._undone, self._searches.wait_seconds),
            refusals=tuple(self._refusals),
            notices=tuple(self._notices),
            commands=tuple(self._commands),
            points=points_of(attempts, self._curve.samples()),
            searches=tuple(self._searches.results),
            progress=self._searches.progress,
            loss=self._loss,
            trend=means_of(attempts, self._trend.means()),
            undone=tuple(span for a in attempts for span in a.undone),
        )

    def _attempt(self, name: str) -> AttemptTold:
        return self._attempts.setdefault(name, AttemptTold(len(self._attempts)))

    def _opened(self, attempt: Attempt) -> None:
        self._attempt(attempt.id).start_step = attempt.start_step
        self._mode = attempt.mode
        self._ended = None
        if attempt.id == self._current:
            self._step = max(self._step, attempt.start_step)
            return
        self._current = attempt.id
        self._stopped = False
        self._on_probation.clear()
        self._searches.opened()
        self._step = self._lrs_step = attempt.start_step
        self._lrs = tuple(group.base_lr * attempt.scale for group in attempt.groups)

    def _alive(self, attempt: str) -> bool:
        """Whether this is the newest attempt; word from it means that it is not lost."""
        if attempt != self._current:
            return False
        if self._ended is RunState.LOST:
            self._ended = None
        return True

    def _samples(self, samples: Samples) -> None:
        attempt = self._attempt(samples.attempt)
        attempt.dropped = max(attempt.dropped, samples.dropped)
        known = max(attempt.next_seq - samples.first_seq, 0)
        attempt.next_seq = max(attempt.next_seq, samples.next_seq)
        train: Sequence[int] = range(known, len(samples.step))
        if any(samples.validation):
            train = [i for i in train if not samples.validation[i]]
        if not train:
            self._alive(samples.attempt)
            return
        shared = len(samples.lrs) == 1

        def lrs(i: int) -> tuple[float, ...]:
            return samples.lrs[0 if shared else train[i]]

        self._curve.extend(
            attempt.index,
            [samples.step[i] for i in train],
            [samples.loss[i] for i in train],
            lambda i: next(iter(lrs(i)), math.nan),
            lambda i: samples.program[train[i]] != 0,
        )
        own = [i for i in train if not samples.program[i]] if any(samples.program) else train
        self._trend.extend(
            attempt.index, [samples.step[i] for i in own], [samples.loss[i] for i in own]
        )
        self._received += len(train)
        self._loss = samples.loss[train[-1]]
        if self._alive(samples.attempt):
            last = samples.step[train[-1]]
            self._step = max(self._step, last + 1)
            self._apply(last, lrs(-1))

    def _thin(self, thinned: Thinned) -> None:
        """What is left of samples that were received; the newest of them always is."""
        attempt = self._attempt(thinned.attempt)
        attempt.dropped = max(attempt.dropped, thinned.rows.dropped)
        attempt.next_seq = max(attempt.next_seq, thinned.next_seq)
        self._received += thinned.train
        self._thinned.take(thinned)
        span = thinned.next_seq - thinned.first_seq
        train = train_rows(thinned, attempt.index)
        self._curve.extend_thinned(span, train)
        own = [row for row in train if not row.probe]
        self._trend.extend(attempt.index, [r.step for r in own], [r.loss for r in own])
        self._loss = train[-1].loss if train else self._loss
        if self._alive(thinned.attempt) and train:
            self._step = max(self._step, train[-1].step + 1)
            self._apply(train[-1].step, thinned.rows.lrs[-1])

    def _apply(self, step: int, lrs: tuple[float, ...]) -> None:
        # Telemetry of before a decision may arrive after its receipt.
        if lrs and step >= self._lrs_step:
            self._lrs, self._lrs_step = lrs, step

    def _decided(self, decision: Decision) -> None:
        told = self._decisions.get(decision.id)
        if told is None or told.receipt is None:
            who = decision.who if told is None else told.who  # sent once a person approved it
            self._decisions[decision.id] = DecisionTold(decision, decision.status, who=who)
            self._searches.decided(decision)

    def _commanded(self, command: events.Commanded) -> None:
        if command.kind == "verdict":
            self._judged(command)
            return
        self._commands.append(Command(self._step, command.kind, command.who, command.why))
        if command.kind in ("freeze", "release"):
            self._frozen = command.kind == "freeze"

    def _receipt(self, name: str, receipt: Receipt) -> None:
        current = self._alive(name)
        told = self._decisions.get(receipt.decision_id)
        if told is None or told.receipt is not None:
            return
        self._decisions[receipt.decision_id] = replace(told, status=receipt.status, receipt=receipt)
        under_way = self._searches.active
        self._searches.answered(told.decision, receipt)
        if receipt.status is not DecisionStatus.APPLIED:
            return
        decision, applied = told.decision, receipt.applied_step
        search = is_of_search(decision)
        restored = restored_by(decision)
        if restored is not None and not (search and under_way):  # then they are the search's own
            attempt = self._attempt(name)
            before = attempt.steps_undone()
            since = attempt.snapshots.get(restored, applied)
            attempt.undone.append((since, applied))
            self._undone += attempt.steps_undone() - before
        if current:
            self._stopped = self._stopped or decision.stop
            self._step = max(self._step, applied)
            self._apply(applied, receipt.lrs_after)
            changes = decision.action not in (Action.NOTE, Action.RELEASE)
            if changes and told.outcome is None and not search:
                self._on_probation.add(decision.id)

    def _judged(self, command: events.Commanded) -> None:
        if told := self._decisions.get(command.decision_id or 0):
            remark = f"{command.who or 'somebody'}: {command.why}" if command.why else command.who
            self._decisions[told.decision.id] = replace(told, good=command.good, remark=remark)

    def _measured(self, outcome: Outcome) -> None:
        self._on_probation.discard(outcome.decision_id)
        if told := self._decisions.get(outcome.decision_id):
            self._decisions[outcome.decision_id] = replace(told, outcome=outcome)

    def _state(self) -> RunState:
        if self._stopped:
            return RunState.STOPPED
        if self._ended is not None:
            return self._ended
        if self._searches.active:
            return RunState.SEARCHING
        if self._frozen:
            return RunState.FROZEN
        return RunState.PROBATION if self._on_probation else RunState.TRACKING
