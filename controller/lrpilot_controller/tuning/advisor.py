"""What earlier interventions of a project say to an engine's question, on a thread of its own."""

import hashlib
import logging
import math
import queue
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

from lrpilot_controller.core.events import Answered
from lrpilot_controller.core.model import Attempt, Question
from lrpilot_controller.journal.base import RunKey
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.faults import words_of
from lrpilot_controller.tuning.interventions import gain_of, interventions_study
from lrpilot_controller.tuning.places import TrialsUnavailable
from lrpilot_controller.tuning.reading import Part, TrialReader
from lrpilot_controller.tuning.samplers import FACTOR, Past, Range, Sampler, propose

log = logging.getLogger(__name__)

_Asked = tuple[RunKey, Attempt, Question, "Future[Answered]"]


class InterventionAdvisor:
    """Answers one question after the other, on a thread that nothing else waits for.

    Args:
        storage: A storage, or its directory.
        sampler: Proposes the factors.
    """

    def __init__(self, storage: Storage | Path, sampler: Sampler = Sampler.QUADRATIC) -> None:
        self._reader = TrialReader(storage)
        self._sampler = sampler
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._faulty = False

    def advise(self, run: RunKey, attempt: Attempt, question: Question) -> "Future[Answered]":
        """The factor to try for a signal, and on what it rests.

        Returns at once. The future fails with whatever is wrong with the trials or the sampler.
        """
        answer: Future[Answered] = Future()
        self._queue.put((run, attempt, question, answer))
        if self._thread is None:  # most daemons are never asked
            self._thread = threading.Thread(target=self._work, name="lrpilot-advice", daemon=True)
            self._thread.start()
        return answer

    def close(self, timeout_s: float = 1.0) -> None:
        """Ends the thread, or leaves it to the end of the process after the timeout."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self) -> None:
        while (asked := self._queue.get()) is not None:
            run, attempt, question, answer = asked
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(self._answer(run, attempt, question))
                self._faulty = False
            except Exception as error:
                self._reader.close()
                words = words_of(error, self._reader.place)
                if not self._faulty:
                    log.warning("factors are the rule's until this is mended: %s", words)
                self._faulty = True
                answer.set_exception(TrialsUnavailable(words))
        self._reader.close()

    def _answer(self, run: RunKey, attempt: Attempt, question: Question) -> Answered:
        study = interventions_study(run.project, question.kind.value, attempt.optimizer)
        past = earned(self._reader.newest(study), question.rule)
        within = Range(question.rule, question.low, question.high)
        factor = propose(self._sampler, within, past, seed_of(run, attempt, question))
        # An end of the range may come back a rounding error beyond it.
        factor = min(max(factor, question.low), question.high)
        reason = f"{self._sampler} on {len(past)} earlier interventions of {study}"
        return Answered(attempt.id, question.id, factor, reason)


def earned(parts: Iterable[Part], rule: float) -> list[Past]:
    """What factors brought, as they would be with this rule: it is the ratio to it that counts.

    Only first cuts tell the rule that they were measured against; a decision without one (another
    rule's, a person's) says nothing about it.
    """
    found = []
    for part in parts:
        for trial in part.trials:
            factor, then = trial.params.get(FACTOR), trial.user_attrs.get("rule")
            gain = gain_of(trial, part.attributes) if trial.state.is_finished() else None
            if factor and then and gain is not None and math.isfinite(gain):
                found.append(Past(float(factor) / float(then) * rule, gain))
    return found


def seed_of(run: RunKey, attempt: Attempt, question: Question) -> int:
    """Another one for each question, the same whenever that is asked again."""
    text = f"{run} {attempt.id} {question.id}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
