"""What must hold after a storm: the journal beside the books of the trainers."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tests.chaos.crew import Book, Trainer

from lrpilot_controller.core.events import Decided, ReceiptArrived, SessionOpened
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal.base import JournalMissing, Record, RunKey
from lrpilot_controller.story.replay import check
from support.daemon import PROJECT, Daemon
from support.faults.books import ANSWERS, complaints

TOLD = 25  # lines of a log that tell of one fault


@dataclass
class Verdict:
    """What was found.

    Attributes:
        counts: how much there was to be judged, by what it is.
        wrong: what must not be, in words; empty where all is well.
        kept: else where journal, logs and books are, and what happened.
    """

    counts: Counter[str]
    wrong: list[str]
    kept: str = ""


def judge(daemon: Daemon, trainers: Sequence[Trainer]) -> Verdict:
    """Look at everything."""
    verdict = Verdict(Counter(), complaints(daemon))
    books = [book for trainer in trainers for book in trainer.books()]
    runs: dict[str, list[Book]] = defaultdict(list)
    for book in books:
        runs[book.run].append(book)
    for run, attempts in runs.items():
        _Run(daemon, run, verdict).judge(attempts)
    for trainer in trainers:
        bad = ("Traceback", "fault of its own", "could not be followed", "refused")
        lines = trainer.log.splitlines()
        verdict.wrong += [
            f"{trainer.name}: " + "\n    ".join(lines[at : at + TOLD])
            for at, line in enumerate(lines)
            if any(words in line for words in bad)
        ]
        if not trainer.home:
            verdict.wrong.append(f"{trainer.name} did not come to its end by itself")
        told = trainer.log.count("lost the daemon")
        verdict.counts["times that a user was told of a lost daemon"] += told
    return verdict


class _Run:
    """One run's records."""

    def __init__(self, daemon: Daemon, run: str, verdict: Verdict) -> None:
        self.run, self.verdict = run, verdict
        self.records: list[Record] = []
        with suppress(JournalMissing):  # killed before any daemon recorded anything
            self.records = daemon.records(run)

    def judge(self, attempts: Sequence[Book]) -> None:
        """All that is known of it."""
        self.verdict.counts["runs"] += 1
        self._decisions()
        for book in attempts:
            self._attempt(book)
        found = check(RunKey(PROJECT, self.run), self.records)
        if found.difference is not None:
            self.wrong("replay differs", found.difference)

    def wrong(self, what: str, value: object) -> None:
        """Something that must not be."""
        self.verdict.wrong.append(f"{self.run}: {what}: {value}")

    def _decisions(self) -> None:
        """Each once, each answered once at most, each restore made once."""
        counts = self.verdict.counts
        decided = [r.event.decision for r in self.records if isinstance(r.event, Decided)]
        ids = [decision.id for decision in decided]
        counts["decisions"] += len(ids)
        if ids != sorted(set(ids)):
            self.wrong("decisions repeated", ids)
        receipts = [r.event.receipt for r in self.records if isinstance(r.event, ReceiptArrived)]
        counts["rollbacks and restores applied"] += sum(
            r.branch_after != r.branch_before for r in receipts
        )
        answered = Counter(receipt.decision_id for receipt in receipts)
        if twice := [number for number, count in answered.items() if count > 1]:
            self.wrong("decisions answered twice", twice)
        if strange := set(answered) - set(ids):
            self.wrong("answers to nothing", strange)
        odd = {r.status for r in receipts} - ANSWERS
        if odd:
            self.wrong("answers", odd)

    def _attempt(self, book: Book) -> None:
        counts, end = self.verdict.counts, book.end
        samples = [
            r.event
            for r in self.records
            if isinstance(r.event, Samples) and r.event.attempt == book.attempt
        ]
        seqs = Counter(seq for s in samples for seq in range(s.first_seq, s.next_seq))
        counts["attempts"] += 1
        counts["sessions"] += sum(
            r.event.attempt.id == book.attempt
            for r in self.records
            if isinstance(r.event, SessionOpened)
        )
        counts["samples acknowledged"] += book.acknowledged
        whole = end is not None and end["delivered"]
        last = end["items"] if whole else max(book.acknowledged, *seqs, 0)
        if lost := sorted(set(range(1, last + 1)) - set(seqs)):
            counts["samples lost"] += len(lost)
            self.wrong("samples lost", lost)
        if twice := sorted(seq for seq, count in seqs.items() if count > 1):
            counts["samples twice"] += len(twice)
            self.wrong("samples twice", twice)
        if end is None:
            counts["attempts whose trainer was killed"] += 1
            return
        counts["samples reported"] += end["items"]
        counts["attempts that ended with something undelivered"] += not end["delivered"]
        counts["attempts that were asked to stop"] += end["stopped"]
        if not end["finite"]:
            self.wrong("the loss at its end is not finite", end)
        if end["refused"] or end["dropped"]:
            self.wrong("refused or dropped", end)
        if whole:
            self._answers(book.attempt, end["reached"])

    def _answers(self, attempt: str, reached: list[int]) -> None:
        """What the trainer followed is what the journal says that it followed."""
        answered = [
            r.event.receipt.decision_id
            for r in self.records
            if isinstance(r.event, ReceiptArrived) and r.event.attempt == attempt
        ]
        if answered != reached:
            self.wrong("decisions that reached the trainer, and answers", (reached, answered))
