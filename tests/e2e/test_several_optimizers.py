"""Two optimizers and a real daemon: one run, whose blow-up is rolled back in both."""

import math
import time

import pytest
import torch

import lrpilot
from support.daemon import Daemon
from support.training import job, rollbacks


def test_a_blow_up_is_rolled_back_in_both(daemon: Daemon) -> None:
    daemon.start()
    one = job()
    optimizers = [
        torch.optim.SGD(one.model[0].parameters(), lr=0.05, momentum=0.5),  # type: ignore[index]
        torch.optim.AdamW(one.model[1].parameters(), lr=0.01),  # type: ignore[index]
    ]

    def update() -> torch.Tensor:
        rows = torch.randint(0, len(one.inputs), (16,), generator=one.order)
        loss = torch.nn.functional.mse_loss(one.model(one.inputs[rows]), one.targets[rows])
        one.model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        time.sleep(0.001)
        return loss

    with lrpilot.attach(optimizers, model=one.model, address=daemon.address, run="two") as pilot:
        for _ in range(100):
            pilot.step(update())
        one.spoil()
        deadline = time.monotonic() + 60
        while not rollbacks(pilot):
            assert time.monotonic() < deadline, str(pilot.summary())
            pilot.step(update())
        for _ in range(50):
            pilot.step(update())
        lrs = pilot.lrs
    assert math.isfinite(one.loss())
    assert lrs[0] < 0.05
    assert lrs[0] == pytest.approx(5 * lrs[1])
    story = daemon.story("two")
    assert story["state"] == "finished"
    assert story["lrs"] == pytest.approx(lrs)
    rollback = next(d for d in story["decisions"] if d["action"] == "rollback")
    assert rollback["lrs_before"] == [0.05, 0.01]
    assert rollback["status"] == "applied"
