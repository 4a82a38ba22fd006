"""What earlier runs of the same job found, read from the study `<project>/runs`."""

import logging
import math
import queue
import statistics
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lrpilot_controller.core.events import PriorAnswered
from lrpilot_controller.core.findings import Reach
from lrpilot_controller.core.model import Attempt
from lrpilot_controller.core.search.ladder import NOTCH
from lrpilot_controller.journal.base import RunKey
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning import studies
from lrpilot_controller.tuning.faults import words_of
from lrpilot_controller.tuning.found import FOUND
from lrpilot_controller.tuning.places import TrialsUnavailable
from lrpilot_controller.tuning.reading import TrialReader
from lrpilot_controller.tuning.searches import progress_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

NEWEST = 20
NEAR = 0.01  # of the best value: nobody can tell two such runs apart
HORIZONS = (0.8, 1.25)
SEARCHED = frozenset(end.value for end in FOUND)
"""How the searches ended whose LRs are told on: a native one was compared with nothing."""
NO_RUN = "no earlier run of this job"
ANOTHER = NOTCH
"""Of a decade, by which what a run found is another LR than it was told: neighbours on the ladder.
Searches of one noisy job end so far apart by chance."""
# A daemon is mostly started by the very trainer that asks, and Optuna takes a second to load.
# Waiting costs no step here, an answer that is too late a hundred.
LOADED_S, LOADING_S = 1.0, 2.0


class JobPriors:
    """Answers from the file of trials, on a thread of its own; Optuna is slow to load.

    Args:
        storage: A storage, or its directory.
    """

    def __init__(self, storage: Storage | Path) -> None:
        self._memory = TrialReader(storage)
        self._queue: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="lrpilot-priors", daemon=True)
        self._thread.start()

    @property
    def deadline_s(self) -> float:
        """How long an answer is worth waiting for, in seconds: longer while Optuna loads."""
        return LOADED_S if self._memory.ready else LOADING_S

    def ask(self, run: RunKey, attempt: Attempt) -> "Future[PriorAnswered]":
        """The LR that did best in earlier runs of this job; None where there is none.

        Returns at once. The future fails with whatever is wrong with the file.
        """
        answer: Future[PriorAnswered] = Future()
        self._queue.put((run, attempt, answer))
        return answer

    def close(self, timeout_s: float = 1.0) -> None:
        """Ends the thread, or leaves it to the end of the process after the timeout."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _work(self) -> None:
        with suppress(Exception):  # whoever asks is told
            self._memory.open()
        while (question := self._queue.get()) is not None:
            run, attempt, answer = question
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(self._answer(run, attempt))
            except Exception as error:
                self._memory.close()
                log.info("run %s is not told what earlier runs found: %s", run, error)
                answer.set_exception(TrialsUnavailable(words_of(error, self._memory.place)))
        self._memory.close()

    def _answer(self, run: RunKey, attempt: Attempt) -> PriorAnswered:
        """Looks through the newest runs of the job."""
        if not attempt.job:
            return PriorAnswered(attempt.id, None, "the trainer does not say what job it is")
        parts = self._memory.newest(studies.runs_study(run.project))
        found = choose([trial for part in parts for trial in part.trials], attempt)
        return PriorAnswered(attempt.id, *found)


_Question = tuple[RunKey, Attempt, "Future[PriorAnswered]"]


def choose(
    trials: "Sequence[FrozenTrial]", attempt: Attempt
) -> tuple[float | None, str, tuple[Reach, ...]]:
    """The LR that did best in the newest runs of this job, why it or none, and what they measured.

    Runs that measured how far their program came go before those that did not: what a run says of
    its end alone, no other run can repeat.

    Args:
        trials: Of whole runs, oldest first.
        attempt: The one that asks.
    """
    same_job = [
        trial
        for trial in trials
        if trial.state.name == "COMPLETE"
        and trial.user_attrs.get("job") == attempt.job
        and trial.user_attrs.get("end") in SEARCHED
        and "lr" in trial.params
    ]
    if not same_job:
        return None, NO_RUN, ()
    known = [trial for trial in same_job if _same_horizon(trial, attempt)]
    if not known:
        other = same_job[-1].user_attrs.get("total_steps")
        return (
            None,
            (
                f"an earlier run had another horizon: {other or 'unknown'}, "
                f"now {attempt.total_steps or 'unknown'}"
            ),
            (),
        )
    newest = _since_refuted(known)[-NEWEST:]
    newest = [trial for trial in newest if _progress(trial)] or newest
    # A validation loss and a train loss are not to be compared.
    measure = newest[-1].user_attrs.get("measure")
    newest = [trial for trial in newest if trial.user_attrs.get("measure") == measure]
    best = min(newest, key=lambda trial: _value(trial))
    near = [t for t in newest if _value(t) - _value(best) <= NEAR * abs(_value(best))]
    lr = statistics.median_low([_lr(trial) for trial in near])
    runs = f"{len(newest)} earlier run{'s' * (len(newest) != 1)} of this job"
    reason = f"LR {lr:.4g} did best in {runs} ({best.user_attrs.get('run')})"
    agree = [trial for trial in newest if abs(math.log10(_lr(trial) / lr)) <= ANOTHER]
    agree.sort(key=lambda trial: _lr(trial) != lr)  # those of this very LR come first
    return lr, reason, tuple(came for trial in agree if (came := _progress(trial)))


def _lr(trial: "FrozenTrial") -> float:
    return float(trial.params["lr"])


def _progress(trial: "FrozenTrial") -> Reach | None:
    return progress_of(trial.user_attrs.get("progress"))


def _since_refuted(trials: "Sequence[FrozenTrial]") -> "Sequence[FrozenTrial]":
    """Those from the newest one on that was told an LR, tested it, and found another.

    What all before it agreed on does not hold any more, or never did.
    """
    for place in range(len(trials) - 1, 0, -1):
        told, found = trials[place].user_attrs.get("prior"), _lr(trials[place])
        if told and abs(math.log10(found / told)) > ANOTHER:
            return trials[place:]
    return trials


def _same_horizon(trial: "FrozenTrial", attempt: Attempt) -> bool:
    then, now = trial.user_attrs.get("total_steps"), attempt.total_steps
    if not then or not now:
        return not then and not now
    low, high = HORIZONS
    return bool(low * now <= then <= high * now)


def _value(trial: "FrozenTrial") -> float:
    assert trial.value is not None
    return trial.value
