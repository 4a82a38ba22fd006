"""The pilot at step boundaries: what it reports, which decisions it follows, what it survives."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo
from lrpilot.testing import FakeDaemon
from lrpilot.torch.losses import TorchLosses
from lrpilot.torch.trainer import TorchTrainer
from lrpilot_proto.v1 import model_pb2, session_pb2
from support.schedules import SCHEDULERS

LR = 0.1


@pytest.fixture(autouse=True)
def _steps_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """These loops step in microseconds; real ones can afford their snapshots."""
    monkeypatch.setattr("lrpilot.snapshots.TIME_SHARE", 1e9)


class Loop:
    """A tiny training loop under a pilot whose daemon is the test."""

    def __init__(
        self,
        *,
        mode: str = "auto",
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        state: dict[str, Any] | None = None,
        lrs: tuple[float, ...] = (LR,),
        total_steps: int | None = 250,
    ) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in lrs)
        groups = [
            {"params": list(part.parameters()), "lr": lr}
            for part, lr in zip(self.model, lrs, strict=True)
        ]
        self.optimizer = torch.optim.SGD(groups, momentum=0.9)
        self.scheduler = scheduler(self.optimizer) if scheduler else None
        self.daemon = FakeDaemon()
        trainer = TorchTrainer(
            self.optimizer, self.model, schedulers=[self.scheduler] if self.scheduler else []
        )
        info = RunInfo("p", "r", "a", mode=mode, total_steps=total_steps)
        self.pilot = Pilot(
            trainer, self.daemon, info, TorchLosses(), lambda base: Bounds(base * 1e-4, base)
        )
        if state is not None:
            self.pilot.load_state_dict(state)
        self.pilot.start()

    def train(self, steps: int = 1, loss: float | None = None) -> None:
        for _ in range(steps):
            x = torch.ones(3, 4)
            out = sum((part(x).square().mean() for part in self.model), torch.zeros(()))
            self.optimizer.zero_grad()
            out.backward()
            self.optimizer.step()
            if self.scheduler:
                self.scheduler.step()
            self.pilot.step(out if loss is None else loss)

    @property
    def weights(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


def cut(factor: float, **fields: Any) -> model_pb2.Decision:
    """A decision that scales the native LR by `factor`."""
    plan = model_pb2.Plan(
        kind="PLAN_KIND_SCALE",
        segments=[
            model_pb2.Segment(
                shape="SHAPE_CONSTANT", start=0, end=1, start_value=factor, end_value=factor
            )
        ],
    )
    return model_pb2.Decision(
        **{"id": 1, "action": "ACTION_CUT", "reason": "because", "plan": plan} | fields
    )


def rollback(snapshot: int, factor: float = 0.5, **fields: Any) -> model_pb2.Decision:
    return cut(factor, action="ACTION_ROLLBACK", restore_snapshot=snapshot, **fields)


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


# -- the user's own LR


@pytest.mark.parametrize("first", ["scheduler", "pilot"])
def test_a_sample_has_the_lr_its_step_ran_at_whoever_is_called_first(first: str) -> None:
    loop = Loop(scheduler=SCHEDULERS["ExponentialLR"])
    assert loop.scheduler is not None
    ran_at = []
    for k in range(6):
        ran_at.append(loop.optimizer.param_groups[0]["lr"])
        loop.optimizer.step()
        if k == 2:
            loop.daemon.decide(cut(0.5))
        calls = [loop.scheduler.step, lambda: loop.pilot.step(1.0)]
        for call in calls if first == "scheduler" else reversed(calls):
            call()
    assert [item[6][0] for item in loop.daemon.items] == ran_at


def test_a_foreign_scheduler_is_reported_once_and_still_followed() -> None:
    loop = Loop()
    outside = torch.optim.lr_scheduler.ExponentialLR(loop.optimizer, 0.9)
    loop.train(2)
    loop.daemon.decide(cut(0.5))
    loop.train()
    for _ in range(5):
        loop.train()
        outside.step()
    loop.train()
    notices = [r.notice.kind for r in loop.daemon.reports if r.WhichOneof("body") == "notice"]
    assert notices == ["foreign_lr"]
    assert loop.pilot.lrs[0] == pytest.approx(LR * 0.9**5 * 0.5)


def test_a_loop_that_writes_the_lr_before_each_step_is_told_once_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = Loop()
    loop.train()
    loop.daemon.decide(cut(0.5))
    loop.train()
    for _ in range(5):
        loop.optimizer.param_groups[0]["lr"] = LR
        loop.train()
    (told,) = [text for text in caplog.messages if "something else writes it" in text]
    assert "set the LR to 0.05 and it is 0.1" in told
    assert "scheduler=" in told
    assert "LambdaLR" in told
    assert loop.daemon.items[-1][6] == (LR,)  # what the step ran at, for the run's story


def test_without_a_plan_the_users_own_writes_are_native() -> None:
    loop = Loop()
    loop.train()
    loop.optimizer.param_groups[0]["lr"] = 0.07
    loop.train(2)
    assert loop.pilot.lrs == [0.07]
    assert loop.daemon.items[-1][6] == (0.07,)
    loop.daemon.decide(cut(0.5))
    loop.train()
    assert loop.pilot.lrs == [0.035]


# -- checkpoints


def test_a_checkpoint_carries_step_branch_plan_and_native_lr() -> None:
    loop = Loop(scheduler=SCHEDULERS["ExponentialLR"])
    loop.train(3)
    loop.daemon.decide(rollback(1, 0.5))
    loop.train(2)
    state = json.loads(json.dumps(loop.pilot.state_dict()))
    resumed = Loop(scheduler=SCHEDULERS["ExponentialLR"], state=state)
    assert resumed.pilot.step_count == 5
    assert resumed.pilot.lrs == loop.pilot.lrs
    resumed.train()
    hello = resumed.daemon.hello
    assert hello is not None
    assert (hello.resumes, hello.start_step, hello.branch) == ("a", 5, 1)
    assert hello.plan.segments[-1].end_value == 0.5
    assert hello.last_decision_id == 1


def test_an_optimizer_loaded_before_attach_does_not_narrow_the_bounds() -> None:
    loop = Loop()
    loop.daemon.decide(cut(0.25))
    loop.train()
    state = loop.pilot.state_dict()
    resumed = Loop(lrs=(LR * 0.25,), state=state)  # as its optimizer's checkpoint says
    assert resumed.pilot.lrs == [LR * 0.25]
    resumed.daemon.decide(model_pb2.Decision(id=2, action="ACTION_RELEASE", release=True, branch=0))
    resumed.train()
    hello = resumed.daemon.hello
    assert hello is not None
    assert (hello.groups[0].base_lr, hello.max_lr) == (LR, LR)
    assert resumed.pilot.lrs == [LR]


def test_a_state_that_does_not_fit_is_refused_with_both_numbers() -> None:
    state = Loop().pilot.state_dict()
    with pytest.raises(ValueError, match="2 param groups, the optimizer 1"):
        Loop(state=Loop(lrs=(LR, LR)).pilot.state_dict())
    with pytest.raises(ValueError, match="version 99"):
        Loop(state=state | {"version": 99})


def test_a_group_added_since_the_checkpoint_is_no_reason_to_refuse_it() -> None:
    resumed = Loop(lrs=(LR, LR), state=Loop().pilot.state_dict())
    resumed.train()
    assert len(resumed.pilot.lrs) == 1


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_who_writes_nothing_writes_nothing_on_a_resume_either(mode: str) -> None:
    loop = Loop()
    loop.daemon.decide(cut(0.5))
    loop.train()
    state = loop.pilot.state_dict()
    assert Loop(mode=mode, state=state).pilot.lrs == [LR]


def test_state_is_loaded_before_the_first_step_or_not_at_all() -> None:
    loop = Loop()
    loop.train()
    with pytest.raises(RuntimeError, match="before the first"):
        loop.pilot.load_state_dict(loop.pilot.state_dict())


def test_a_decision_about_the_old_attempts_snapshot_is_refused_after_a_resume() -> None:
    state = Loop().pilot.state_dict()
    loop = Loop(state=state)
    loop.daemon.decide(rollback(7))
    loop.train()
    assert loop.daemon.receipts[0].status == model_pb2.DECISION_STATUS_REJECTED


class Running(torch.nn.Module):
    """Re-assigns its buffer instead of writing into it, as much code does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x)
        self.mean = 0.9 * self.mean + 0.1 * out.detach().mean(0)
        return out - self.mean


def test_a_buffer_that_was_put_in_anothers_place_is_restored() -> None:
    model = Running()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    trainer = TorchTrainer(optimizer, model)
    trainer.snapshot(0)
    with torch.no_grad():
        model(torch.full((2, 4), torch.nan))
    assert model.mean.isnan().all()
    trainer.restore(0, rng=False)
    assert model.mean.eq(0).all()


def test_a_tensor_that_no_longer_fits_is_refused_before_anything_is_touched() -> None:
    model = torch.nn.Linear(4, 4)
    trainer = TorchTrainer(torch.optim.SGD(model.parameters(), lr=LR), model)
    trainer.snapshot(0)
    with torch.no_grad():
        model.weight.fill_(3.0)
    model.bias = torch.nn.Parameter(torch.ones(5))
    with pytest.raises(RuntimeError, match="bias"):
        trainer.restore(0, rng=False)
    assert model.weight.eq(3.0).all()


def test_a_restore_that_fails_still_lowers_the_lr(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("half-way")

    monkeypatch.setattr(TorchTrainer, "restore", fail)
    loop = Loop()
    loop.daemon.decide(rollback(1, 0.5))
    loop.train()
    assert loop.pilot.lrs == [LR / 2]
    assert loop.daemon.receipts[0].status == model_pb2.DECISION_STATUS_REJECTED


def test_a_tensor_lr_under_a_plan_is_nobody_elses_writing() -> None:
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(LR))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    daemon = FakeDaemon()
    trainer = TorchTrainer(optimizer, model, schedulers=[scheduler])
    info = RunInfo("p", "r", "a", total_steps=250)
    pilot = Pilot(trainer, daemon, info, TorchLosses(), lambda base: Bounds(base * 1e-4, base))
    seen = []
    for k in range(6):
        if k == 1:
            daemon.decide(cut(0.5))
        optimizer.step()
        scheduler.step()
        pilot.step(1.0)
        seen.append(pilot.lrs[0])
    native = [LR * 0.9 ** (k + 1) for k in range(6)]
    assert seen == pytest.approx([native[0], *(lr / 2 for lr in native[1:])])
    assert all(r.WhichOneof("body") != "notice" for r in daemon.reports)


def test_an_optimizer_loaded_after_attach_brings_its_lr(tmp_path: Any) -> None:
    """LRPilot adopted in the middle of a run: there is no state of a pilot yet."""
    old = Loop(mode="observe", scheduler=SCHEDULERS["StepLR"])
    old.train(7)
    loop = Loop(scheduler=SCHEDULERS["StepLR"])
    loop.optimizer.load_state_dict(old.optimizer.state_dict())
    loop.scheduler.load_state_dict(old.scheduler.state_dict())
    for one in (old, loop):
        one.train(4)
    assert loop.pilot.lrs == old.pilot.lrs


def test_unknown_messages_of_a_newer_daemon_are_ignored() -> None:
    loop = Loop()
    loop.daemon.inbox.append(session_pb2.Welcome())
    loop.daemon.decide(model_pb2.Decision(id=1, action=99, reason="from the future"))
    loop.train()
    assert loop.pilot.lrs == [LR]
    assert loop.pilot.decisions[0].action == "99"


# -- the mode in force


def welcome(mode: str) -> session_pb2.Welcome:
    return session_pb2.Welcome(mode=f"MODE_{mode}")


def modes_told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if "mode" in text]


@pytest.mark.parametrize(
    ("lowered", "means"),
    [("OFF", "nothing is done"), ("OBSERVE", "would do"), ("ADVISE", "lrpilot approve")],
)
def test_a_mode_that_the_daemon_lowered_is_told_once(
    lowered: str, means: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop = Loop()
    loop.train()
    for _ in range(3):  # the line was lost in between
        loop.daemon.inbox.append(welcome(lowered))
        loop.train()
    (told,) = modes_told(caplog)
    assert f"'{lowered.lower()}'" in told
    assert "'auto'" in told
    assert means in told
    loop.daemon.inbox.append(welcome("AUTO"))  # a restarted daemon with another file
    loop.train()
    assert "sets mode 'auto'" in modes_told(caplog)[-1]


@pytest.mark.parametrize("mode", ["auto", "advise", "observe"])
def test_nothing_is_said_of_the_mode_that_was_asked_for(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop = Loop(mode=mode)
    loop.train(3)
    loop.daemon.inbox.append(session_pb2.Welcome())  # a daemon that does not say
    loop.daemon.inbox.append(session_pb2.Welcome(mode=99))  # or knows more modes
    loop.train()
    assert loop.daemon.inbox == type(loop.daemon.inbox)()
    assert modes_told(caplog) == []
