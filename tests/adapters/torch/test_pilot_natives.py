"""The pilot beside others who write the LR, and in another mode than was asked for."""

import pytest
import torch

from lrpilot_proto.v1 import session_pb2
from support.guarded import LR, Loop, cut
from support.schedules import SCHEDULERS


@pytest.fixture(autouse=True)
def _steps_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """These loops step in microseconds; real ones can afford their snapshots."""
    monkeypatch.setattr("lrpilot.snapshots.TIME_SHARE", 1e9)


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
