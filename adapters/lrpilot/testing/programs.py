"""The part of the contract suite that runs programs: a pilot over the rig, and a script."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from lrpilot.losses import BadLoss, Row
from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo
from lrpilot.testing.daemon import FakeDaemon
from lrpilot.testing.rig import Rig
from lrpilot_proto.v1 import model_pb2, session_pb2

# Steps of each program here.
LENGTH = 6
# LRs of the first group, relative to its base LR.
CANDIDATE, FALLBACK = 0.7, 0.4


class HostLosses:
    """A `LossReader` for losses that are numbers already."""

    averages = False

    def read(self, loss: Any, row: Row) -> float | None:
        """The loss."""
        return self.number(loss)

    def ready(self, *, flush: bool = False) -> Sequence[tuple[Row, float]]:
        """None: each was read at once."""
        return ()

    def drain(self) -> Sequence[tuple[Row, float]]:
        """None: each was read at once."""
        return ()

    def meet(self) -> None:
        """There is one rank."""

    def part(self) -> None:
        """There is one rank."""

    def number(self, value: Any) -> float:
        """The value.

        Raises:
            BadLoss: it is no number.
        """
        try:
            return float(value)
        except (TypeError, ValueError):
            raise BadLoss(f"a loss must be a number, not {value!r}") from None


class Programs:
    """A rig under a pilot whose daemon sends one decision after another.

    Args:
        rig: what trains; it trains on the batch whose number `Pilot.batches` serves.
        decisions: sent at the start and then at the end of each program, on its branch.
    """

    def __init__(self, rig: Rig, *decisions: model_pb2.Decision) -> None:
        self.rig = rig
        self.losses: list[float] = []
        self._decisions = list(decisions)
        self.daemon = FakeDaemon(self._answer)
        trainer = rig.trainer
        run = RunInfo("contract", "programs", "attempt", search=True)
        self.pilot = Pilot(
            trainer,
            self.daemon,
            run,
            HostLosses(),
            lambda base, searched=False: Bounds(base * 1e-6, base * 1e6),
        )
        self._feed = self.pilot.batches(itertools.count())

    def _answer(self, report: session_pb2.Report) -> model_pb2.Decision | None:
        body = report.WhichOneof("body")
        first = body == "snapshot" and report.snapshot.id == 1
        if not self._decisions or not (first or body == "program"):
            return None
        decision = self._decisions.pop(0)
        decision.branch = report.program.branch
        return decision

    def train(self, steps: int) -> list[float]:
        """So many steps; returns their losses."""
        made = []
        for _ in range(steps):
            made.append(self.rig.step(next(self._feed)))
            self.pilot.step(made[-1])
        self.losses += made
        return made

    @property
    def results(self) -> list[list[float]]:
        """The losses of each program that ended."""
        return [list(result.losses) for result in self.daemon.results]


class ProgramContract(ABC):
    """What programs need of a `TrainerPort`."""

    @abstractmethod
    def rig(self) -> Rig:
        """A new set-up, the same one each time: it seeds the global generators."""

    def test_a_program_gives_the_same_losses_each_time(self) -> None:
        rig = self.rig()
        run = Programs(rig, *(_program(rig, i) for i in (1, 2, 3)))
        run.train(3 * LENGTH)
        first, second, third = run.results
        assert first == second == third
        assert len(set(first)) > 1

    def test_a_programs_lr_is_the_one_that_trains(self) -> None:
        rig = self.rig()
        run = Programs(rig, _program(rig, 1), _program(rig, 2, lr=0.1 * rig.trainer.base_lrs[0]))
        run.train(2 * LENGTH)
        first, second = run.results
        assert first[0] == second[0]
        assert first[1:] != second[1:]

    def test_a_kept_state_is_come_back_to(self) -> None:
        rig = self.rig()
        run = Programs(
            rig,
            _program(rig, 1),
            _program(rig, 2, restore=2, save_snapshot=True),
            _program(rig, 3, restore=1),
            _program(rig, 4, restore=2),
        )
        run.train(4 * LENGTH)
        first, second, third, fourth = run.results
        assert first == third
        assert second == fourth
        assert first != second

    def test_a_program_may_go_on_from_where_another_ended(self) -> None:
        rig = self.rig()
        one = _program(rig, 3)
        one.program.length = 2 * LENGTH
        run = Programs(rig, _program(rig, 1), _program(rig, 2, restore=None), one)
        run.train(4 * LENGTH)
        first, second, both = run.results
        assert first + second == both

    def test_a_stop_rule_ends_a_program_early(self) -> None:
        rig = self.rig()
        stopped = _program(rig, 1)
        stopped.program.stop.loss_cap = -1e300
        run = Programs(rig, stopped, _program(rig, 2))
        run.train(1 + LENGTH)
        assert [r.stop_reason for r in run.daemon.results] == ["loss_cap", "length"]
        assert run.results[0] == run.results[1][:1]

    def test_settling_shows_the_own_state_and_the_program_goes_on(self) -> None:
        def look(run: Programs) -> None:
            run.pilot.settle()
            run.rig.draw()

        self._looks(look)

    def test_state_dict_shows_the_own_state_and_the_program_goes_on(self) -> None:
        self._looks(lambda run: run.pilot.state_dict())

    def _looks(self, look: Callable[[Programs], Any]) -> None:
        plain = Programs(rig := self.rig(), _program(rig, 1), _program(rig, 2))
        plain.train(2 * LENGTH)
        looked = Programs(rig := self.rig(), _program(rig, 1), _program(rig, 2))
        for _ in range(2 * LENGTH - 1):
            looked.train(1)
            look(looked)
            assert rig.trainer.get_lrs()[0] == FALLBACK * rig.trainer.base_lrs[0]
        looked.train(1)
        assert looked.results == plain.results

    def test_an_interrupted_program_leaves_the_own_state(self) -> None:
        expected = self._losses_from_the_start()
        rig = self.rig()
        run = Programs(rig, _program(rig, 1))
        run.train(LENGTH - 2)
        run.pilot.settle()
        run.pilot.finish(1)  # the search is over
        rig.trainer.set_lrs([FALLBACK * lr for lr in rig.trainer.base_lrs])
        assert [rig.step(i) for i in range(LENGTH)] == expected

    def test_when_nobody_answers_the_run_goes_on_from_its_own_state(self) -> None:
        expected = self._losses_from_the_start()
        rig = self.rig()
        run = Programs(rig, _program(rig, 1))
        run.train(LENGTH)
        (taken,) = [r.fallback for r in run.daemon.reports if r.WhichOneof("body") == "fallback"]
        assert (taken.program, taken.step) == (1, LENGTH)
        assert rig.trainer.get_lrs()[0] == FALLBACK * rig.trainer.base_lrs[0]
        assert [rig.step(i) for i in range(LENGTH)] == expected

    def _losses_from_the_start(self) -> list[float]:
        """The losses of a run that never had a program, at the fallback's LR."""
        rig = self.rig()
        rig.trainer.set_lrs([FALLBACK * lr for lr in rig.trainer.base_lrs])
        return [rig.step(i) for i in range(LENGTH)]

    def test_leaving_in_a_program_leaves_the_own_state(self) -> None:
        expected = self._losses_from_the_start()
        rig = self.rig()
        run = Programs(rig, _program(rig, 1))
        run.train(LENGTH - 2)
        run.pilot.close()
        assert [r.stop_reason for r in run.daemon.results] == ["interrupted"]
        assert [rig.step(i) for i in range(LENGTH)] == expected


def _constant(lr: float) -> model_pb2.Segment:
    return model_pb2.Segment(
        shape=model_pb2.SHAPE_CONSTANT, start=0, end=1, start_value=lr, end_value=lr
    )


def _program(
    rig: Rig,
    number: int,
    *,
    lr: float | None = None,
    restore: int | None = 1,
    save_snapshot: bool = False,
) -> model_pb2.Decision:
    """The decision that brings a program of one LR, the candidate's unless given."""
    base = rig.trainer.base_lrs[0]
    program = model_pb2.Program(
        id=number,
        restore_snapshot=restore,
        segments=[_constant(CANDIDATE * base if lr is None else lr)],
        length=LENGTH,
        batches=model_pb2.BATCHES_REPLAYED,
        fallback=model_pb2.Plan(
            kind=model_pb2.PLAN_KIND_REPLACE, segments=[_constant(FALLBACK * base)]
        ),
    )
    return model_pb2.Decision(
        id=number,
        action=model_pb2.ACTION_PROGRAM,
        restore_rng=True,
        program=program,
        save_snapshot=save_snapshot,
    )
