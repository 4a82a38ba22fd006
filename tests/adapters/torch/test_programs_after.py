"""What comes after a program, and what people see of one."""

from typing import Any

import pytest
import torch

from lrpilot.client.base import Status
from lrpilot_proto.v1 import model_pb2
from support.searches import LR, Search, brings, constant, ends, over, program, replaces, runs, same

APPLIED = model_pb2.DECISION_STATUS_APPLIED
REJECTED = model_pb2.DECISION_STATUS_REJECTED
STALE = model_pb2.DECISION_STATUS_STALE


# -- what comes after it


def test_when_nobody_answers_the_run_falls_back(caplog: pytest.LogCaptureFixture) -> None:
    run = Search(runs(program(fallback=replaces(0.03))))
    start = run.state
    run.train(4)
    assert same(run.state[: len(start)], start)
    assert run.pilot.lrs[0] == 0.03
    (taken,) = run.reports("fallback")
    assert (taken.program, taken.step, taken.branch) == (1, 4, 2)
    assert "no word came" in taken.reason
    assert run.daemon.waits == [0.25]
    assert not run.pilot.searching
    assert [r.levelname for r in caplog.records if "the search is over" in r.message] == ["WARNING"]
    run.train(2)
    assert run.programs == [1] * 4 + [0, 0]


def test_a_fallback_without_a_plan_is_the_native_lr() -> None:
    run = Search(runs(program()))
    run.train(4)
    assert run.pilot.lrs == [LR, LR / 2]


def test_a_fallback_that_restores_nothing_is_a_branch_all_the_same() -> None:
    run = Search(runs(program(restore_snapshot=None)))
    run.train(4)
    end = run.reports("fallback")[0]
    assert end.branch == 1
    assert run.pilot.state_dict()["branch"] == 1


def test_a_fallback_may_restore_another_snapshot_than_the_program() -> None:
    kept: list[torch.Tensor] = []

    def second(branch: int) -> model_pb2.Decision:
        kept.extend(run.state)
        made = program(2, fallback_snapshot=2, fallback=replaces(0.03))
        return brings(made, branch, save_snapshot=True)

    run = Search(runs(program(1)), second)
    run.train(8)
    assert same(run.state, kept)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (Status(welcomed=True), "the line to the daemon is lost"),
        (Status(refused="superseded"), "the daemon refused this run: superseded"),
    ],
)
def test_the_reason_of_a_fallback_is_told(status: Status, reason: str) -> None:
    run = Search(runs(program()))
    run.train(3)
    run.daemon.status = status
    run.train()
    assert run.reports("fallback")[0].reason == reason


def test_a_decision_that_comes_after_the_fallback_is_stale() -> None:
    run = Search(runs(program()))
    run.train(4)
    run.daemon.decide(brings(program(2), branch=1))
    run.train()
    assert run.daemon.receipts[-1].status == STALE


def test_a_program_that_cannot_be_carried_out_is_rejected_and_the_next_one_heard() -> None:
    bad = program(2, segments=[constant(-1.0)])
    run = Search(runs(program(1)), runs(bad))
    run.train(3)
    run.daemon._answer = lambda report: {1: brings(bad, 1), 2: brings(program(3), 1)}.get(
        report.program.id if report.WhichOneof("body") == "program" else report.receipt.decision_id
    )
    run.train(2)
    assert [r.status for r in run.daemon.receipts] == [APPLIED, REJECTED, APPLIED]
    assert run.programs[-1] == 3


@pytest.mark.parametrize(
    ("made", "detail"),
    [
        (program(1, length=0), "steps"),
        (program(1, segments=[]), "no segment"),
        (program(1, restore_snapshot=7), "snapshot 7 is not held"),
        (program(1, fallback_snapshot=7), "snapshot 7 is not held"),
        (program(1, fallback=model_pb2.Plan(segments=[constant(1.0)])), "plan kind"),
    ],
)
def test_a_bad_program_changes_nothing_and_is_answered(made: Any, detail: str) -> None:
    run = Search(search=False)
    run.train(2)
    run.daemon.decide(brings(made))
    before = run.pilot.lrs
    run.train()
    (receipt,) = run.daemon.receipts
    assert receipt.status == REJECTED
    assert detail in receipt.detail
    assert run.pilot.lrs == before
    assert not run.pilot.searching


def test_the_last_decision_leaves_no_lr_of_a_program_behind() -> None:
    run = Search(
        runs(program(fallback=replaces(0.03))),
        lambda branch: model_pb2.Decision(id=2, action="ACTION_ROLLBACK", branch=branch),
    )
    run.train(5)
    assert run.pilot.lrs[0] == 0.03


def test_a_note_is_not_the_word_that_is_waited_for() -> None:
    run = Search(
        runs(program(fallback=replaces(0.03))),
        lambda branch: model_pb2.Decision(id=2, action="ACTION_NOTE", branch=branch),
    )
    run.train(4)
    assert len(run.reports("fallback")) == 1


def test_decisions_wait_for_the_end_of_a_program_and_a_stop_does_not() -> None:
    run = Search(runs(program(length=9, fallback=replaces(0.03))))
    start = run.state
    run.train(2)
    run.daemon.decide(ends(5, branch=1))
    run.train()
    assert len(run.daemon.receipts) == 1
    run.daemon.decide(model_pb2.Decision(id=6, action="ACTION_STOP", stop=True, branch=0))
    run.daemon.inbox.rotate(1)
    run.train()
    assert run.pilot.should_stop
    assert run.daemon.results[0].stop_reason == "interrupted"
    assert same(run.state[: len(start)], start)
    assert run.pilot.lrs[0] == 0.03
    assert not run.pilot.searching


def test_no_snapshots_are_taken_while_a_search_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrpilot.snapshots.TIME_SHARE", 1e9)
    run = Search(*(runs(program(i, length=20)) for i in (1, 2)), over(3))
    run.train(49)
    assert len(run.reports("snapshot")) == 1
    run.train(2)
    assert run.reports("snapshot")[-1].step == 50  # ten steps after the end


# -- in mid-run


def test_a_program_may_come_in_mid_run() -> None:
    run = Search(over(2), search=False)
    run.train(7)
    run.daemon._answer = None
    run.daemon.decide(brings(program(1, restore_snapshot=1)))
    run.train()
    run.train(4)
    assert run.programs == [0] * 8 + [1] * 4
    assert run.seen[8:] == [8, 9, 10, 11]
    assert len(run.reports("fallback")) == 1


# -- the losses of a device


class Late:
    """A reader whose values arrive when the test says so."""

    averages = False

    def __init__(self) -> None:
        self.rows: list[tuple[Any, float]] = []
        self.arrived = 0
        self.flushes = 0

    def read(self, loss: float, row: Any) -> None:
        self.rows.append((row, loss))

    def ready(self, *, flush: bool = False) -> list[tuple[Any, float]]:
        self.flushes += flush
        out, self.rows = self.rows[: self.arrived], self.rows[self.arrived :]
        return out

    def drain(self) -> list[tuple[Any, float]]:
        out, self.rows = self.rows, []
        return out

    def number(self, value: float) -> float:
        return value


def test_late_losses_are_all_in_the_result() -> None:
    late = Late()
    run = Search(runs(program(length=5)), over(2), losses=late)
    run.train(5)
    assert list(run.daemon.results[0].losses) == run.losses[:5]
    assert late.flushes == 5
    assert run.programs == [1] * 5


def test_a_stop_rule_may_lag_behind_a_device() -> None:
    late = Late()
    made = program(length=50, stop=model_pb2.StopRule(loss_cap=1e-9))
    run = Search(runs(made), over(2), losses=late)
    run.train(3)
    late.arrived = 1
    run.train()
    (result,) = run.daemon.results
    assert result.stop_reason == "loss_cap"
    assert list(result.losses) == run.losses


def test_losses_of_before_a_program_are_no_part_of_it() -> None:
    late = Late()
    run = Search(over(2), search=False, losses=late)
    run.train(3)
    run.daemon.decide(brings(program(1, length=2)))
    run.train(3)
    assert list(run.daemon.results[0].losses) == run.losses[4:6]


# -- what people see


def test_progress_is_told_by_phase(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run = Search(
        runs(program(1, phase="range test", lr=0.0316, share=0.461)),
        runs(program(2)),
        runs(program(3)),
        over(4),
    )
    run.train()
    assert run.pilot.searching
    assert run.pilot.progress == "LRPilot search: range test, LR 0.0316, 46 % of its budget"
    run.train(12)
    assert not run.pilot.searching
    assert run.pilot.progress == ""
    told = [r.message.split(",")[0] for r in caplog.records if "LRPilot search" in r.message]
    assert told == ["LRPilot search: range test", "LRPilot search: ladder"]


def test_the_summary_counts_programs_and_waits() -> None:
    run = Search(runs(program(1)), runs(program(2)))
    run.train(8)
    summary = run.pilot.summary()
    assert summary.programs == 2
    assert summary.wait_seconds >= 0.0
    assert "2 programs" in str(summary)


def test_a_fault_of_ours_in_a_program_gives_the_run_its_own_state_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Search(runs(program(fallback=replaces(0.03))))
    start = run.state
    run.train(2)

    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("lrpilot.control.Control.boundary", fail)
    run.train()
    assert same(run.state[: len(start)], start)
    assert run.pilot.lrs[0] == 0.03
    run.train(3)
    assert run.pilot.step_count == 6


def test_leaving_in_a_program_leaves_the_runs_own_state() -> None:
    run = Search(runs(program(fallback=replaces(0.03))))
    start = run.state
    with run.pilot:
        run.train(2)
    assert same(run.state[: len(start)], start)
    assert run.daemon.results[0].stop_reason == "interrupted"
    assert run.pilot.lrs[0] == 0.03
    assert torch.is_tensor(run.state[0])
