"""Programs: probes that the trainer carries out by itself."""

import math
from typing import Any

import pytest
import torch

from lrpilot_proto.v1 import model_pb2
from support.searches import LR, Search, brings, over, program, runs, same

APPLIED = model_pb2.DECISION_STATUS_APPLIED
REJECTED = model_pb2.DECISION_STATUS_REJECTED
STALE = model_pb2.DECISION_STATUS_STALE


# -- before step 0


def test_a_search_begins_before_step_0_so_that_no_step_is_wasted() -> None:
    run = Search(runs(program(length=3)), over(2))
    run.train(5)
    hello = run.daemon.hello
    assert hello is not None
    assert hello.search
    assert (hello.capabilities.snapshot, hello.capabilities.program) == (True, True)
    assert hello.capabilities.replay
    assert (hello.min_lr, hello.max_lr) == (LR * 1e-6, LR * 1e6)
    assert hello.job == "job/batch 6"
    assert run.programs == [1, 1, 1, 0, 0]
    assert run.daemon.receipts[0].applied_step == 0


def test_the_first_program_trains_on_the_gradient_of_the_batch_at_hand() -> None:
    plain = Search(runs(program(length=3)), over(2), batches=False)
    plain.train(3)
    assert plain.state != []
    alone = Search(search=False, mode="observe")
    for group, lr in zip(alone.optimizer.param_groups, (0.05, 0.025), strict=True):
        group["lr"] = lr
    alone.train(3)
    assert same(plain.state, alone.state)


@pytest.mark.parametrize("answers", [True, False])
def test_without_a_first_program_this_run_is_only_guarded_and_told_so_once(
    answers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run = Search()  # a daemon that searches and says nothing
    if not answers:
        run.daemon.wait_ready = lambda timeout_s: False  # type: ignore[method-assign]
    run.train(3)
    assert [r.message for r in caplog.records if "no search" in r.message] == [
        "LRPilot: no search: no program came; this run is only guarded"
        if answers
        else "LRPilot: no search: no daemon answers; this run is only guarded"
    ]
    assert run.daemon.hello is not None
    assert not run.daemon.hello.search  # nor does one begin when it is late
    assert run.programs == [0, 0, 0]
    assert run.pilot.lrs == [LR, LR / 2]


def test_a_daemon_that_does_not_search_is_not_waited_for() -> None:
    run = Search()
    run.daemon._searches = False
    run.train(2)
    assert run.daemon.waits == []
    assert not run.pilot.searching


def test_a_run_that_cannot_search_says_why_and_asks_for_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Search(mode="observe")
    run.train()
    assert "mode='observe' writes nothing" in caplog.text
    assert run.daemon.hello is not None
    assert not run.daemon.hello.search


def test_a_run_that_goes_on_from_a_checkpoint_is_only_guarded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = Search(runs(program(length=2)), over(2, lr=3.0))
    first.train(4)
    then = Search()
    then.pilot.load_state_dict(first.pilot.state_dict())
    then.train(2)
    assert "a state was loaded" in caplog.text
    assert then.daemon.hello is not None
    assert not then.daemon.hello.search
    assert then.pilot.lrs[0] == pytest.approx(3.0)  # found by the search, far above the base LR


# -- while one is open


def test_a_program_sets_the_lrs_of_each_step_and_stamps_its_samples() -> None:
    ramp = model_pb2.Segment(shape="SHAPE_LINEAR", start=0, end=4, start_value=0.0, end_value=0.4)
    run = Search(runs(program(segments=[ramp])), over(2))
    run.train(5)
    lrs = [item[6][0] for item in run.daemon.items]
    assert lrs == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.02])
    assert run.daemon.items[3][6][1] == pytest.approx(0.15)  # groups keep their ratio
    assert run.programs == [1, 1, 1, 1, 0]


def test_a_program_cannot_pass_the_users_highest_lr() -> None:
    run = Search(runs(program(lr=1e9, length=2)), over(2))
    run.train(2)
    assert run.daemon.items[0][6][0] == LR * 1e6


def test_its_result_holds_every_loss_and_asks_for_a_flush() -> None:
    run = Search(runs(program(length=3)), over(2))
    run.train(4)
    (result,) = run.daemon.results
    assert (result.id, result.first_step, result.stop_reason) == (1, 0, "length")
    assert list(result.losses) == run.losses[:3]
    assert result.branch == 1
    assert run.daemon.urgencies > 0


def test_the_same_program_gives_the_same_losses_to_the_last_bit() -> None:
    run = Search(*(runs(program(i, length=5)) for i in (1, 2, 3)), over(4))
    run.train(15)
    first, second, third = run.daemon.results
    assert list(first.losses) == list(second.losses) == list(third.losses)
    assert [r.branch for r in run.daemon.results] == [1, 2, 3]
    assert [r.first_step for r in run.daemon.results] == [0, 5, 10]


def test_a_state_is_kept_on_the_daemons_word_and_come_back_to() -> None:
    kept: list[torch.Tensor] = []

    def second(branch: int) -> model_pb2.Decision:
        kept.extend(run.state)
        return brings(program(2, lr=0.01), branch, save_snapshot=True)

    run = Search(runs(program(1, lr=0.05)), second, over(3, restore_snapshot=2, restore_rng=True))
    run.train(8)
    assert same(run.state, kept)
    assert [(s.id, s.step, s.branch, s.proven) for s in run.reports("snapshot")] == [
        (1, 0, 0, True),
        (2, 4, 1, False),
    ]


def test_a_kept_state_takes_the_place_of_what_is_not_proven() -> None:
    run = Search(
        runs(program(1)),
        runs(program(2), save_snapshot=True),
        runs(program(3), save_snapshot=True),
        over(4, restore_snapshot=2),
        over(5),
    )
    run.train(13)
    gone = run.daemon.receipts[3]
    assert (gone.status, gone.decision_id) == (REJECTED, 4)
    assert "snapshot 2 is not held" in gone.detail


def test_a_kept_state_that_is_proven_stays() -> None:
    run = Search(
        runs(program(1)),
        runs(program(2), save_snapshot=True),
        runs(program(3, restore_snapshot=2), save_snapshot=True),
        over(4, restore_snapshot=2),
    )
    run.train(6)
    run.daemon.prove(2)
    run.train(6)
    assert [r.status for r in run.daemon.receipts] == [APPLIED] * 4


def test_a_program_may_go_on_from_where_the_last_one_ended() -> None:
    run = Search(runs(program(1)), runs(program(2, restore_snapshot=None)), over(3))
    run.train(8)
    alone = Search(runs(program(1, length=8)), over(2))
    alone.train(8)
    assert run.losses == alone.losses
    assert run.seen == [0, 1, 2, 3, 4, 5, 6, 7]
    assert [r.branch for r in run.daemon.results] == [1, 1]


@pytest.mark.parametrize("restores", [True, False])
def test_at_its_end_a_program_may_restore(restores: bool) -> None:
    snapshot = 1 if restores else None
    run = Search(runs(program(1, restore_snapshot=snapshot, restore_at_end=True)), over(2))
    start = run.state
    run.train(4)
    assert same(run.state[: len(start)], start)
    assert run.daemon.results[0].branch == (2 if restores else 1)


# -- its stop rule


def rule(**fields: Any) -> Any:
    return program(stop=model_pb2.StopRule(**fields), length=50)


class Losses(Search):
    """A search whose losses are given."""

    def give(self, *losses: float) -> None:
        for loss in losses:
            next(self._feed)
            if self.pilot.step_count == 0:
                self.pilot.start()
            self.pilot.step(loss)


@pytest.mark.parametrize(
    ("stop", "losses", "reason"),
    [
        ({"non_finite": True}, [1.0, 9.0, math.nan], "non_finite"),
        ({"non_finite": True}, [1.0, -math.inf], "non_finite"),
        ({"loss_cap": 2.0}, [1.0, 2.0, 2.5], "loss_cap"),
        ({"loss_cap": 2.0}, [math.nan], "loss_cap"),
        ({"ema_cap": 2.0, "ema_decay": 0.5}, [1.0, 2.5, 2.0, 2.5], "ema_cap"),
        ({"ema_cap": 2.0}, [2.1], "ema_cap"),  # it starts at the first loss
        ({"ema_rise": 0.5, "ema_decay": 0.5}, [4.0, 2.0, 2.0, 3.0, 3.4], "ema_rise"),
        ({"ema_rise": 0.5, "ema_decay": 0.5}, [4.0, math.inf], "ema_rise"),
    ],
)
def test_a_stop_rule_ends_a_program_at_its_step(
    stop: dict[str, Any], losses: list[float], reason: str
) -> None:
    run = Losses(runs(rule(**stop)), over(2))
    run.give(*losses[:-1])
    assert run.daemon.results == []
    run.give(losses[-1])
    (result,) = run.daemon.results
    assert result.stop_reason == reason
    assert repr(list(result.losses)) == repr(losses)


def test_without_a_rule_a_program_goes_on_whatever_the_loss() -> None:
    run = Losses(runs(program(length=3)), over(2))
    run.give(math.nan, 1e300, math.inf)
    assert run.daemon.results[0].stop_reason == "length"
