"""The pilot at step boundaries: what it reports, and which decisions it follows."""

import math
from typing import Any

import pytest
import torch

from lrpilot.torch.trainer import TorchTrainer
from lrpilot_proto.v1 import model_pb2
from support.guarded import LR, Loop, cut, rollback
from support.schedules import SCHEDULERS


@pytest.fixture(autouse=True)
def _steps_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """These loops step in microseconds; real ones can afford their snapshots."""
    monkeypatch.setattr("lrpilot.snapshots.TIME_SHARE", 1e9)


# -- what is reported


def test_every_step_is_one_sample_with_the_lr_it_ran_at() -> None:
    loop = Loop()
    loop.train(3)
    assert [(i[0], i[1], i[2], i[3], i[4], i[6]) for i in loop.daemon.items] == [
        (seq, 1, step, 0, 0, (LR,)) for seq, step in ((1, 0), (2, 1), (3, 2))
    ]
    assert loop.pilot.step_count == 3


@pytest.mark.parametrize("loss", [2.5, 3, torch.tensor(2.0), torch.ones(1).requires_grad_()])
def test_a_loss_may_be_a_number_or_a_tensor_of_one_element(loss: Any) -> None:
    loop = Loop()
    loop.pilot.step(loss)
    assert loop.daemon.losses == [loss.item() if isinstance(loss, torch.Tensor) else loss]


@pytest.mark.parametrize("loss", [torch.ones(2), None, "low", [1.0, 2.0]])
def test_anything_else_is_refused_with_what_to_do(loss: Any) -> None:
    with pytest.raises(TypeError, match="one element"):
        Loop().pilot.step(loss)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_strange_losses_are_reported_as_they_are(loss: float) -> None:
    loop = Loop()
    loop.pilot.step(loss)
    assert repr(loop.daemon.losses) == repr([loss])


def test_a_loss_worse_than_all_before_asks_for_a_flush() -> None:
    loop = Loop()
    for loss in (1.0, 0.9, 0.8):
        loop.pilot.step(loss)
    calm = loop.daemon.urgencies
    loop.pilot.step(5.0)
    loop.pilot.step(math.nan)
    assert loop.daemon.urgencies == calm + 2


def test_validation_is_an_item_of_its_own_even_before_the_first_step() -> None:
    loop = Loop()
    loop.pilot.validate(4.0)
    loop.train(2)
    loop.pilot.validate(torch.tensor(3.0))
    kinds = [(i[0], i[1], i[2]) for i in loop.daemon.items]
    assert kinds == [(1, 2, 0), (2, 1, 0), (3, 1, 1), (4, 2, 2)]


def test_the_session_opens_with_the_first_step() -> None:
    loop = Loop(lrs=(LR, LR / 10))
    assert loop.daemon.hello is None
    loop.train()
    hello = loop.daemon.hello
    assert hello is not None
    assert [group.base_lr for group in hello.groups] == [LR, LR / 10]
    assert hello.optimizer == "SGD"
    assert hello.capabilities.snapshot


def test_leaving_says_goodbye_once() -> None:
    loop = Loop()
    with loop.pilot:
        loop.train()
    loop.pilot.close()
    goodbyes = [r.goodbye for r in loop.daemon.reports if r.WhichOneof("body") == "goodbye"]
    assert [(g.reason, g.step) for g in goodbyes] == [("finished", 1)]
    assert loop.daemon.closed


def test_an_error_in_the_loop_is_the_goodbyes_reason() -> None:
    loop = Loop()

    def fail() -> None:
        with loop.pilot:
            loop.train()
            raise KeyError("user's own")

    with pytest.raises(KeyError):
        fail()
    assert loop.daemon.reports[-1].goodbye.reason == "error"


# -- snapshots


def test_the_start_is_proven_and_later_ones_wait_for_the_daemon() -> None:
    loop = Loop(total_steps=250)
    loop.train(60)
    taken = [r.snapshot for r in loop.daemon.reports if r.WhichOneof("body") == "snapshot"]
    assert [(s.id, s.step, s.proven) for s in taken] == [(1, 0, True), (2, 10, False)]
    loop.daemon.prove(2)
    loop.train(2)
    assert loop.daemon.reports[-1].snapshot.id == 3


def test_watching_leaves_the_weights_bit_identical() -> None:
    watched, alone = Loop(), Loop(mode="observe")
    for _ in range(50):
        watched.train()
        watched.daemon.prove(len(watched.daemon.reports))
    alone.train(50)
    assert watched.pilot.summary().snapshots > 3
    assert all(map(torch.equal, watched.weights, alone.weights))


# -- decisions


def test_a_cut_is_applied_at_the_next_boundary_and_read_back() -> None:
    loop = Loop(lrs=(LR, LR / 10))
    loop.train(2)
    loop.daemon.decide(cut(0.5))
    loop.train()
    assert loop.pilot.lrs == [LR / 2, LR / 20]
    (receipt,) = loop.daemon.receipts
    assert receipt.status == model_pb2.DECISION_STATUS_APPLIED
    assert receipt.applied_step == 3
    assert list(receipt.lrs_before) == [LR, LR / 10]
    assert list(receipt.lrs_after) == [LR / 2, LR / 20]
    loop.train()
    assert loop.daemon.items[-1][6] == (LR / 2, LR / 20)
    assert loop.pilot.decisions[0].reason == "because"


def test_a_rollback_is_restore_plan_and_branch_in_one() -> None:
    loop = Loop()
    start = loop.weights
    loop.train(3)
    loop.daemon.decide(rollback(1))
    loop.train()
    assert all(map(torch.equal, loop.weights, start))
    assert loop.pilot.lrs == [LR / 2]
    (receipt,) = loop.daemon.receipts
    assert (receipt.branch_before, receipt.branch_after) == (0, 1)
    loop.train()
    assert [item[3] for item in loop.daemon.items] == [0, 0, 0, 0, 1]
    assert [item[2] for item in loop.daemon.items] == [0, 1, 2, 3, 4]


def test_a_receipt_keeps_its_place_before_the_next_sample() -> None:
    loop = Loop()
    loop.daemon.decide(cut(0.5))
    loop.train()
    assert [r.before_seq for r in loop.daemon.reports if r.WhichOneof("body") == "receipt"] == [2]


@pytest.mark.parametrize(
    ("decision", "status"),
    [
        (cut(0.5, branch=3), model_pb2.DECISION_STATUS_STALE),
        (cut(0.5, expires_at_step=1), model_pb2.DECISION_STATUS_EXPIRED),
        (rollback(99), model_pb2.DECISION_STATUS_REJECTED),
        (cut(math.nan), model_pb2.DECISION_STATUS_REJECTED),
        (cut(-1.0), model_pb2.DECISION_STATUS_REJECTED),
        (cut(0.5, program=model_pb2.Program(id=1)), model_pb2.DECISION_STATUS_REJECTED),
        (cut(0.5, plan=model_pb2.Plan()), model_pb2.DECISION_STATUS_REJECTED),
    ],
)
def test_a_decision_that_cannot_be_followed_changes_nothing_and_is_answered(
    decision: model_pb2.Decision, status: int
) -> None:
    loop = Loop()
    loop.daemon.decide(decision)
    loop.train()
    assert loop.pilot.lrs == [LR]
    (receipt,) = loop.daemon.receipts
    assert receipt.status == status
    assert receipt.detail


def test_the_trainer_clamps_whatever_the_daemon_says() -> None:
    loop = Loop()
    loop.daemon.decide(cut(1e9))
    loop.train()
    assert loop.pilot.lrs == [LR]
    loop.daemon.decide(cut(1e-9, id=2))
    loop.train()
    assert loop.pilot.lrs == [LR * 1e-4]


def test_a_decision_for_later_waits_for_its_step() -> None:
    loop = Loop()
    loop.daemon.decide(cut(0.5, not_before_step=3))
    loop.train(2)
    assert loop.pilot.lrs == [LR]
    loop.train()
    assert loop.pilot.lrs == [LR / 2]


def test_a_ramp_leads_from_the_lr_in_force_to_the_plan() -> None:
    loop = Loop()
    loop.daemon.decide(cut(0.5, ramp_steps=4))
    seen = []
    for _ in range(6):
        loop.train()
        seen.append(loop.pilot.lrs[0] / LR)
    assert seen == pytest.approx([1.0, 0.875, 0.75, 0.625, 0.5, 0.5])


def test_release_gives_the_native_lr_back_to_the_last_bit() -> None:
    loop = Loop(lrs=(0.1, 0.017))
    loop.daemon.decide(cut(0.3))
    loop.train(3)
    loop.daemon.decide(model_pb2.Decision(id=2, action="ACTION_RELEASE", release=True))
    loop.train()
    assert loop.pilot.lrs == [0.1, 0.017]


def test_a_stop_asks_the_loop_to_end() -> None:
    loop = Loop()
    loop.daemon.decide(model_pb2.Decision(id=1, action="ACTION_STOP", stop=True))
    loop.train()
    assert loop.pilot.should_stop


def test_an_observer_writes_nothing_and_takes_no_snapshot() -> None:
    loop = Loop(mode="observe")
    loop.daemon.decide(rollback(1))
    loop.train(30)
    assert loop.pilot.lrs == [LR]
    assert [r.WhichOneof("body") for r in loop.daemon.reports] == ["receipt"]
    assert loop.daemon.receipts[0].status == model_pb2.DECISION_STATUS_REJECTED


def test_a_fault_of_ours_never_reaches_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(TorchTrainer, "restore", fail)
    loop.train(2)
    loop.daemon.decide(rollback(1))
    loop.train()
    assert "out of memory" in loop.daemon.receipts[0].detail


def test_a_fault_in_the_step_itself_leaves_the_loop_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    loop.daemon.decide(cut(0.5))
    loop.train(2)

    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(TorchTrainer, "get_lrs", fail)
    loop.train(3)
    assert loop.pilot.step_count == 5
    assert loop.optimizer.param_groups[0]["lr"] == LR / 2
    assert [r.WhichOneof("body") for r in loop.daemon.reports[-2:]] == ["notice", "goodbye"]
    loop.pilot.close()


@pytest.mark.parametrize("scheduler", [None, "ExponentialLR"])
def test_a_group_added_after_attach_keeps_its_own_lr(scheduler: str | None) -> None:
    loop = Loop(scheduler=SCHEDULERS[scheduler] if scheduler else None)
    loop.train(2)
    extra = torch.nn.Linear(4, 4)
    loop.optimizer.add_param_group({"params": list(extra.parameters()), "lr": 0.07})
    loop.train()
    loop.daemon.decide(cut(0.5))
    loop.pilot.step(1.0)
    own = 0.07 * (0.97 if scheduler else 1)  # its scheduler moves it, the plan does not
    assert loop.optimizer.param_groups[1]["lr"] == pytest.approx(own)
    assert len(loop.pilot.lrs) == 1
    assert loop.daemon.receipts[0].status == model_pb2.DECISION_STATUS_APPLIED


def test_no_memory_for_a_snapshot_is_told_and_training_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(TorchTrainer, "snapshot", fail)
    loop = Loop()
    loop.train(30)
    assert [r.notice.kind for r in loop.daemon.reports] == ["snapshot_failed"]
    assert len(loop.daemon.losses) == 30
