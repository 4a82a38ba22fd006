"""What learning the factors of cuts costs where the rule is right, and brings where it is wrong.

A simulated contextual bandit: 200 decisions, each in a run of its own, about four kinds of signal.
Everything is the daemon's: the engine asks, a project's trials answer, the guard cuts, losses lead
to an outcome on probation, and that is written as a trial. Only the losses after a cut are made up:
they fall by what the kind's best factor would bring, less the regret of the one used, with noise.
"""

import math
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _report
from lrpilot_controller.core.detectors import Detectors
from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    Answered,
    Asked,
    Configured,
    Decided,
    Input,
    Output,
    ReceiptArrived,
    SessionOpened,
    SnapshotTaken,
)
from lrpilot_controller.core.model import (
    Attempt,
    Decision,
    DecisionStatus,
    ParamGroup,
    Question,
    Receipt,
    Signal,
    SignalKind,
)
from lrpilot_controller.core.policies.tuned import rule_of
from lrpilot_controller.core.settings import CoreSettings, GuardSettings, TuneSettings
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import MemoryJournal, RunKey
from lrpilot_controller.tuning.advisor import InterventionAdvisor
from lrpilot_controller.tuning.cases import read_cases
from lrpilot_controller.tuning.interventions import entry_of
from lrpilot_controller.tuning.samplers import Sampler
from lrpilot_controller.tuning.trials import TrialBook

DECISIONS, BLOCK, SEEDS = 200, 50, 20
SEEDS_OF = {Sampler.TPE: 5, Sampler.CMAES: 5, Sampler.GP: 2}  # they are there to be compared with
NOISE = 0.15
MOST_EXTRA, MOST_SHARE, SLACK = 5.0, 0.4, 0.03
"""What must hold: extra regret where the rule is right, the share of its regret where it is wrong
by 3x, and by how much a mean block may be worse than chance."""

PROBATION = 50
LOOK = 20  # samples before the signal
LEVEL, SPAN = 1.0, 1.0  # loss at the signal, and the range that the run has covered


@dataclass(frozen=True)
class Kind:
    """One kind of signal: how often it comes, and its gain at the best factor."""

    signal: SignalKind
    frequency: float
    gain: float
    wrong: float  # what the best factor is of the rule's, where that is wrong by 3x


KINDS = (
    Kind(SignalKind.DIVERGENCE, 0.15, 0.1, 1 / 3),
    Kind(SignalKind.OSCILLATION, 0.25, 0.3, 3),
    Kind(SignalKind.NONFINITE, 0.40, 0.5, 1 / 3),
    Kind(SignalKind.TOO_HIGH, 0.20, 0.4, 3),  # lower than the rule no guardrail lets it go
)


def main(seeds: int = SEEDS) -> dict[str, Any]:
    """Every sampler, beside the rule and chance; about fifteen minutes."""
    figures: dict[str, Any] = {"decisions": DECISIONS, "noise": NOISE}
    rows = []
    for name, play in _players().items():
        count = min(seeds, SEEDS_OF.get(name, seeds))  # type: ignore[call-overload]
        figures[name] = {"seeds": count}
        for case, wrong in (("right", False), ("wrong", True)):
            regrets = [play(seed, wrong) for seed in range(count)]
            totals = [sum(one) for one in regrets]
            figures[name][case] = {
                "regret": statistics.mean(totals),
                "regret_max": max(totals),
                "blocks": [
                    statistics.mean(statistics.mean(one[i : i + BLOCK]) for one in regrets)
                    for i in range(0, DECISIONS, BLOCK)
                ],
            }
        right, wrong_ = figures[name]["right"], figures[name]["wrong"]
        blocks = ["/".join(f"{b:.3f}" for b in one["blocks"]) for one in (right, wrong_)]
        rows.append([name, count, right["regret"], wrong_["regret"], *blocks])
        print(*rows[-1], flush=True)
    figures["holds"] = holds(figures)
    _report.table(
        f"cumulative regret over {DECISIONS} decisions, and the mean of each block of {BLOCK}",
        ("who decides", "seeds", "rule right", "rule wrong", "blocks, right", "blocks, wrong"),
        rows,
    )
    print("what must hold of the default sampler:", figures["holds"], flush=True)
    return _report.save("tuning_bandit", figures)


def holds(figures: dict[str, Any]) -> dict[str, bool]:
    """What must, of the default sampler."""
    mine, rule, chance = figures[Sampler.QUADRATIC], figures["rule"], figures["random"]
    return {
        "right_extra": mine["right"]["regret"] - rule["right"]["regret"] <= MOST_EXTRA,
        "wrong_share": mine["wrong"]["regret"] <= MOST_SHARE * rule["wrong"]["regret"],
        "blocks": all(
            block <= by_chance + SLACK
            for case in ("right", "wrong")
            for block, by_chance in zip(mine[case]["blocks"], chance[case]["blocks"], strict=True)
        ),
    }


def _players() -> dict[str, Callable[[int, bool], list[float]]]:
    """What gives the regret of each decision, of a seed and whether the rule is wrong."""

    def told(answer: Callable[[Question, random.Random], float | None]) -> Any:
        def play(seed: int, wrong: bool) -> list[float]:
            rng = random.Random(-seed)
            return Bandit(seed, wrong).play(lambda run, question: answer(question, rng), None)

        return play

    def learnt(sampler: Sampler) -> Any:
        return lambda seed, wrong: learning(sampler, seed, wrong)

    def anywhere(question: Question, rng: random.Random) -> float:
        factor = math.exp(rng.uniform(math.log(question.low), math.log(question.high)))
        return min(max(factor, question.low), question.high)

    return {
        "rule": told(lambda question, rng: None),
        "random": told(anywhere),
        **{sampler: learnt(sampler) for sampler in Sampler},
    }


def learning(sampler: Sampler, seed: int, wrong: bool, decisions: int = DECISIONS) -> list[float]:
    """The regrets of a project that learns, with its trials in a file as a daemon's."""
    with tempfile.TemporaryDirectory() as storage:
        advisor = InterventionAdvisor(Path(storage), sampler)
        book = TrialBook(Path(storage), 5.0)
        try:
            bandit = Bandit(seed, wrong, decisions)
            attempt = bandit.attempt
            return bandit.play(
                lambda run, question: advisor.advise(run, attempt, question).result(60).factor, book
            )
        finally:
            book.close()
            advisor.close()


class Bandit:
    """A project of runs with one intervention each."""

    attempt = Attempt("t1", (ParamGroup("all", 0.1),), 1e-9, 1.0, "AdamW", can_snapshot=True)
    settings = CoreSettings(tune=TuneSettings(factors=True), probation_steps=PROBATION)

    def __init__(self, seed: int, wrong: bool, decisions: int = DECISIONS) -> None:
        self._chance = random.Random(seed)
        self._project = f"bandit{seed}"  # a sampler's seed is made of the run's name
        self._wrong, self._decisions = wrong, decisions

    def play(
        self, answer: Callable[[RunKey, Question], float | None], book: TrialBook | None
    ) -> list[float]:
        """The regret of each decision."""
        frequencies = [kind.frequency for kind in KINDS]
        return [
            self._one(number, self._chance.choices(KINDS, frequencies)[0], answer, book)
            for number in range(self._decisions)
        ]

    def _one(
        self,
        number: int,
        kind: Kind,
        answer: Callable[[RunKey, Question], float | None],
        book: TrialBook | None,
    ) -> float:
        run, journal = RunKey(self._project, f"run-{number}"), MemoryJournal()
        engine = Engine(make_detectors=lambda *_: _Scripted(kind.signal))

        def feed(event: Input) -> list[Output]:
            outputs = engine.feed(event)
            journal.append([(run, float(number), one) for one in (event, *outputs)])
            return outputs

        feed(Configured(self.settings))
        for output in feed(SessionOpened(self.attempt)):
            if isinstance(output, Asked) and output.question.kind is kind.signal:
                factor = answer(run, output.question)
                feed(Answered("t1", output.question.id, factor, "as simulated"))
        feed(SnapshotTaken("t1", 1, 1, 0, 0, proven=True))
        seen = feed(_samples(1, [LEVEL] * LOOK, 0))
        (decision,) = (output.decision for output in seen if isinstance(output, Decided))
        regret = self._regret(kind, decision)
        receipt = _receipt(decision)
        feed(ReceiptArrived("t1", 2, receipt))
        gain = kind.gain - regret + self._chance.gauss(0, NOISE)
        fallen = LEVEL - SPAN * min(max(gain, -1.0), 1.0)
        feed(_samples(LOOK + 1, [fallen] * PROBATION, receipt.branch_after))
        if book is not None:
            (case,) = read_cases(journal, run)
            book.put(entry_of(journal, case))
        return regret

    def _regret(self, kind: Kind, decision: Decision) -> float:
        best = rule_of(GuardSettings(), kind.signal) * (kind.wrong if self._wrong else 1.0)
        return min(1.0, math.log10(decision.factor / best) ** 2)


class _Scripted(Detectors):
    """Sees one signal at the end of the first samples; the levels are what a probation compares."""

    def __init__(self, kind: SignalKind) -> None:
        super().__init__()
        self._kind = kind

    level = property(lambda self: LEVEL)  # type: ignore[assignment]
    best = property(lambda self: LEVEL)  # type: ignore[assignment]
    start = property(lambda self: LEVEL + SPAN)  # type: ignore[assignment]

    def update(
        self,
        step: int,
        train_loss: float | None = None,
        val_loss: float | None = None,
        lr: float | None = None,
    ) -> list[Signal]:
        if step != LOOK - 1:
            return []
        return [Signal(self._kind, step, step - 5, 1.0, {"dispersion": 1.0})]


def _samples(first: int, losses: Sequence[float], branch: int) -> Samples:
    count = len(losses)
    return Samples(
        attempt="t1",
        first_seq=first,
        validation=(False,) * count,
        step=tuple(range(first - 1, first - 1 + count)),
        branch=(branch,) * count,
        program=(0,) * count,
        loss=tuple(losses),
        lrs=((0.1,),),
    )


def _receipt(decision: Decision) -> Receipt:
    after = (0.1 * decision.factor,)
    branch = int(decision.restore_snapshot is not None)
    return Receipt(decision.id, DecisionStatus.APPLIED, LOOK, 0, branch, (0.1,), after)
