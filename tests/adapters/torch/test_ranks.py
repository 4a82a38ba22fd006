"""Several ranks under their pilots: all do the same at the same step, or none does anything."""

import logging
import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrpilot.lockstep import PROGRAM_WINDOW, WINDOW
from lrpilot.testing import FakeDaemon
from lrpilot_proto.v1 import model_pb2
from support.ranks import LR, Crew, Rank, dawdle
from support.searches import Script, Search, constant, over, program, runs

SLOW = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _steps_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """These loops step in microseconds; real ones can afford their snapshots."""
    monkeypatch.setattr("lrpilot.snapshots.TIME_SHARE", 1e9)


def cut(number: int, factor: float = 0.5, **fields: Any) -> model_pb2.Decision:
    plan = model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[constant(factor)])
    return model_pb2.Decision(
        **{"id": number, "action": "ACTION_CUT", "reason": "because", "plan": plan} | fields
    )


def rollback(number: int, snapshot: int = 1, **fields: Any) -> model_pb2.Decision:
    return cut(number, action="ACTION_ROLLBACK", restore_snapshot=snapshot, **fields)


# -- decisions


@SLOW
@given(
    world=st.integers(2, 3),
    arrivals=st.lists(st.integers(0, 60), min_size=1, max_size=3, unique=True).map(sorted),
    late=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 79)), max_size=4),
    back=st.booleans(),
    free=st.booleans(),
)
def test_a_decision_is_applied_at_the_same_step_on_all_ranks(
    world: int, arrivals: list[int], late: list[tuple[int, int]], back: bool, free: bool
) -> None:
    crew = Crew(world)

    def before(rank: Rank, k: int) -> None:
        if (rank.rank, k) in late:
            dawdle(0.005)
        if rank.rank == 0 and k in arrivals:
            number = arrivals.index(k) + 1
            branch = rank.pilot._stamp.branch
            decide = rollback if back and number == 1 else cut
            crew.daemon.decide(decide(number, branch=branch))

    crew.train(100, before, free=free)
    assert crew.alike
    applied = [r for r in crew.daemon.receipts if r.status == model_pb2.DECISION_STATUS_APPLIED]
    assert applied[0].decision_id == 1
    for receipt in applied:
        assert receipt.applied_step % WINDOW == 0
        asked = arrivals[receipt.decision_id - 1]
        assert asked < receipt.applied_step <= asked + 2 * WINDOW
    last = applied[-1]
    assert crew.lrs[last.applied_step] == last.lrs_after[0]
    for one in crew.ranks[1:]:
        assert [vars_of(d) for d in one.pilot.decisions] == [
            vars_of(d) for d in crew.ranks[0].pilot.decisions
        ]


def vars_of(decision: Any) -> tuple[Any, ...]:
    return decision.id, decision.status, decision.applied_step, decision.lrs_after


def test_a_rollback_puts_all_ranks_back_to_the_same_snapshot() -> None:
    crew = Crew(2)
    crew.train(40)
    crew.daemon.prove(2)
    crew.train(40)
    taken = {r.snapshot.id: r.snapshot.step for r in crew.daemon.reports if r.HasField("snapshot")}
    assert taken[1] == 0
    assert all(step % WINDOW == 0 for step in taken.values())
    crew.daemon.decide(rollback(1, 2))
    crew.train(40)
    (receipt,) = crew.daemon.receipts
    assert receipt.status == model_pb2.DECISION_STATUS_APPLIED
    assert (receipt.branch_before, receipt.branch_after) == (0, 1)
    assert crew.alike


def test_a_stop_ends_all_loops_at_the_same_step() -> None:
    crew = Crew(3)
    made: dict[int, int] = {}

    def loop(rank: Rank) -> None:
        for k in range(100):
            if rank.rank == 0 and k == 5:
                crew.daemon.decide(model_pb2.Decision(id=1, action="ACTION_STOP", stop=True))
            rank.step()
            made[rank.rank] = k + 1
            if rank.pilot.should_stop:
                return

    crew.do(loop)
    assert made == dict.fromkeys(range(3), 2 * WINDOW)


def test_only_rank_0_talks_to_the_daemon_and_to_the_user(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crew = Crew(3)
    crew.daemon.decide(cut(1))
    crew.train(2 * WINDOW)
    assert [item[2] for item in crew.daemon.items] == list(range(2 * WINDOW))
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
    assert [len(one.pilot.decisions) for one in crew.ranks] == [1, 1, 1]


def test_a_wish_of_rank_0_to_finish_leads_all_ranks_to_0_at_the_same_step() -> None:
    crew = Crew(2)

    def before(rank: Rank, k: int) -> None:
        if k == 5 and rank.rank == 0:
            rank.pilot.finish(60)

    crew.train(70, before)
    assert crew.alike
    assert crew.lrs[2 * WINDOW - 1] == LR
    assert crew.lrs[2 * WINDOW + 1] < LR
    assert crew.lrs[65] == 0.0
    assert crew.lrs[64] > 0.0


# -- searches


def search(*entries: Any, world: int = 2, **options: Any) -> Crew:
    return Crew(world, FakeDaemon(Script(*entries)), search=True, job="job", **options)


def test_a_search_runs_the_same_programs_on_all_ranks() -> None:
    length = 6
    crew = search(
        *(runs(program(i, lr=0.01 * i, length=length)) for i in (1, 2, 3)), over(4, lr=0.02)
    )
    crew.train(3 * length + 10, lambda rank, k: dawdle(0.002 * (k % 5 == rank.rank)))
    assert crew.alike
    assert crew.lrs == [0.01] * 6 + [0.02] * 6 + [0.03] * 6 + [0.02] * 10
    assert [list(result.losses) for result in crew.daemon.results] != []
    assert [len(result.losses) for result in crew.daemon.results] == [length] * 3
    for one in crew.ranks:
        assert one.seen[:6] == one.seen[6:12] == one.seen[12:18]


def test_a_stop_rule_is_rank_0s_alone() -> None:
    stopped = program(1, lr=0.05, length=12, stop=model_pb2.StopRule(loss_cap=1e6))
    crew = search(runs(stopped), over(2))

    def loop(rank: Rank) -> None:
        for k in range(20):
            high = rank.rank == 0 and k >= 1  # the others never see a high loss
            rank.step(loss=1e9 if high else None)

    crew.do(loop)
    (result,) = crew.daemon.results
    assert result.stop_reason == "loss_cap"
    assert len(result.losses) == PROGRAM_WINDOW
    assert crew.alike
    assert crew.lrs == [0.05] * PROGRAM_WINDOW + [0.02] * (20 - PROGRAM_WINDOW)


def test_where_no_word_comes_all_ranks_fall_back_alike() -> None:
    fallback = model_pb2.Plan(kind="PLAN_KIND_REPLACE", segments=[constant(0.07)])
    crew = search(runs(program(1, length=5, fallback=fallback)), world=3)
    crew.train(12)
    assert crew.alike
    assert crew.lrs == [0.05] * 5 + [0.07] * 7
    assert [one.pilot.searching for one in crew.ranks] == [False] * 3


def test_a_search_that_nobody_begins_is_given_up_alike(caplog: pytest.LogCaptureFixture) -> None:
    crew = search()
    crew.daemon._searches = False
    crew.train(5)
    assert crew.alike
    assert caplog.text.count("no search") == 1
    crew.daemon.decide(cut(1))
    crew.train(2 * WINDOW)
    assert crew.lrs[-1] == LR / 2


def test_ranks_search_only_where_batches_can_be_served_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crew = search(runs(program(1)), over(2))

    def loop(rank: Rank) -> None:
        for k in range(5):
            rank.step(torch.ones(6, 4) * k)

    crew.do(loop)
    assert "several ranks need pilot.batches" in caplog.text
    assert crew.lrs == [LR] * 5
    hello = crew.daemon.hello
    assert hello is not None
    assert not hello.search
    assert not hello.capabilities.program


@pytest.mark.parametrize("look", ["settle", "state_dict"])
def test_rank_0_alone_may_look_at_its_own_weights_amid_a_program(look: str) -> None:
    plain = search(runs(program(1, length=6)), runs(program(2, length=6)), over(3))
    plain.train(20)
    crew = search(runs(program(1, length=6)), runs(program(2, length=6)), over(3))
    start = crew.ranks[0].model.weight.detach().clone()

    def before(rank: Rank, k: int) -> None:
        if rank.rank == 0 and 0 < k < 12:
            getattr(rank.pilot, look)()
            assert torch.equal(rank.model.weight, start)

    crew.train(20, before)
    assert crew.alike
    assert crew.lrs == plain.lrs
    assert all(map(torch.equal, crew.ranks[0].state, plain.ranks[0].state))


def test_the_same_search_as_in_one_process() -> None:
    entries = [runs(program(i, lr=0.01 * i, length=5)) for i in (1, 2)]
    alone = Search(*entries, over(3))
    alone.train(10)
    crew = search(*entries, over(3))
    crew.train(10)
    assert [r.stop_reason for r in crew.daemon.results] == [
        r.stop_reason for r in alone.daemon.results
    ]
    assert [r.first_step for r in crew.daemon.results] == [
        r.first_step for r in alone.daemon.results
    ]


# -- what one rank cannot do, none does


def test_a_snapshot_that_one_rank_has_no_memory_for_is_no_ranks() -> None:
    crew = Crew(3)

    def no_memory(slot: int) -> None:
        raise MemoryError("no memory")

    crew.ranks[2].trainer.snapshot = no_memory  # type: ignore[method-assign]
    crew.train(3)
    crew.daemon.decide(rollback(1))
    crew.train(2 * WINDOW)
    (receipt,) = crew.daemon.receipts
    assert receipt.status == model_pb2.DECISION_STATUS_REJECTED
    crew.daemon.decide(cut(2))
    crew.train(2 * WINDOW)
    assert crew.alike
    assert crew.lrs[-1] == LR / 2
    failed = [r.notice.text for r in crew.daemon.reports if r.HasField("notice")]
    (text,) = failed
    assert "rank 2: MemoryError('no memory')" in text


def test_a_step_on_the_own_weights_amid_a_program_ends_control_alike(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fallback = model_pb2.Plan(kind="PLAN_KIND_REPLACE", segments=[constant(0.07)])
    crew = search(runs(program(1, length=20, fallback=fallback)), over(2), world=3)
    start = crew.ranks[0].model.weight.detach().clone()

    def loop(rank: Rank) -> None:
        for k in range(2 * PROGRAM_WINDOW + 1):
            batch = next(rank.feed)
            if rank.rank == 1 and k == 1:
                rank.pilot.settle()
            rank.step(batch)

    crew.do(loop)
    assert "on the run's own weights amid a program" in caplog.text
    assert not any(one.pilot.searching for one in crew.ranks)
    tails = [one.lrs[2 * PROGRAM_WINDOW :] for one in crew.ranks]
    assert tails == [[0.07]] * 3
    states = [one.state for one in crew.ranks]
    assert all(all(map(torch.equal, state, states[0])) for state in states)
    assert not torch.equal(crew.ranks[0].model.weight, start)


def test_a_fault_on_one_rank_ends_control_on_all_at_the_same_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crew = Crew(3)
    crew.daemon.decide(cut(1))
    crew.train(2 * WINDOW + 2)

    def break_once(rank: Rank) -> None:
        rank.pilot._give_up(ValueError("broken"))

    crew.do(break_once, only=[1])
    crew.daemon.decide(cut(2, 0.25))
    crew.train(4 * WINDOW)
    assert crew.alike
    assert crew.lrs[-1] == LR / 2
    assert [one.pilot._lockstep for one in crew.ranks] == [None] * 3
    assert crew.daemon.receipts[-1].detail == "this trainer only observes"
    assert caplog.text.count("do not act together: a fault on one rank: ValueError('broken')") == 1


@pytest.mark.parametrize("searching", [False, True])
def test_a_rank_that_lets_go_early_ends_control_and_nobody_waits_for_it(searching: bool) -> None:
    crew = search(runs(program(1, length=200)), world=3) if searching else Crew(3)
    crew.train(20)
    crew.do(lambda rank: rank.pilot.close(), only=[2])
    crew.train(3 * WINDOW, only=[0, 1])
    assert crew.ranks[0].lrs == crew.ranks[1].lrs
    assert [one.pilot._lockstep for one in crew.ranks[:2]] == [None] * 2


def test_a_lost_rank_0_is_waited_for_in_bounds_and_then_all_go_on_with_the_plan_in_force() -> None:
    crew = Crew(3, timeout_s=0.5)
    line = model_pb2.Segment(shape="SHAPE_LINEAR", start=0, end=200, start_value=1.0, end_value=0.0)
    plan = model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[line])
    crew.daemon.decide(cut(1, plan=plan))
    crew.train(2 * WINDOW + 1)
    crew.train(4 * WINDOW, only=[1, 2])
    _, second, third = crew.ranks
    assert second.lrs == third.lrs
    assert second.lrs[-1] == pytest.approx(LR * (1 - 96 / 200))
    assert second.pilot.summary().wait_seconds > 0.4
    assert all(map(torch.equal, second.state, third.state))
    # Rank 0 was only slow: it finds the others' note, and joins them in going on alone.
    crew.train(4 * WINDOW, only=[0])
    assert crew.alike


# -- ranks that were not attached alike


@pytest.mark.parametrize(
    ("field", "there"), [("mode", "advise"), ("total_steps", 7), ("search", True)]
)
def test_ranks_that_were_told_other_things_are_only_observed(
    field: str, there: Any, caplog: pytest.LogCaptureFixture
) -> None:
    crew = Crew(2, each=[{}, {field: there}])
    crew.daemon.decide(cut(1))
    crew.train(2 * WINDOW + 1)
    assert f"rank 1 has {field}={there!r}" in caplog.text
    assert crew.lrs == [LR] * (2 * WINDOW + 1)
    assert crew.alike
    hello = crew.daemon.hello
    assert hello is not None
    assert hello.mode == model_pb2.MODE_OBSERVE
    assert len(crew.daemon.losses) == 2 * WINDOW + 1


def test_a_rank_that_never_attached_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lrpilot.lockstep.JOIN_S", 0.05)
    crew = Crew(2)
    alone = Crew(2, each=[{}, {}])
    alone.ranks[0].pilot._lockstep._ranks.world = 3  # type: ignore[union-attr]
    alone.train(WINDOW, only=[0])
    assert "not every rank called lrpilot.attach" in caplog.text
    assert alone.lrs == [LR] * WINDOW
    crew.do(lambda rank: rank.pilot.close())


def test_all_ranks_go_on_from_one_checkpoint() -> None:
    crew = Crew(2)
    crew.daemon.decide(cut(1))
    crew.train(2 * WINDOW + 3)
    state = crew.ranks[0].pilot.state_dict()
    then = Crew(2, state=state)
    then.daemon.decide(cut(2, 0.25))
    then.train(3 * WINDOW)
    assert then.alike
    assert then.lrs[0] == LR / 2
    assert then.lrs[-1] == LR / 4
    assert then.daemon.receipts[0].applied_step == 4 * WINDOW
    assert math.isclose(then.daemon.items[0][2], 2 * WINDOW + 3)
