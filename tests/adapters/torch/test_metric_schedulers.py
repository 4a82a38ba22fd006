"""A scheduler that follows a metric, in a raw loop: a search's programs are no news of the run."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

import lrpilot
from lrpilot.pilot import Pilot
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from support.loopback import Loopback

STEPS = 300


class Own(ReduceLROnPlateau):
    """A user's own."""


def attached(kind: Any, line: Any, **options: Any) -> tuple[torch.nn.Module, Any, Pilot]:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    scheduler = kind(optimizer, patience=0, factor=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Options, "_connect", lambda _: line)
        pilot = lrpilot.attach(
            optimizer, model=model, scheduler=scheduler, total_steps=STEPS, **options
        )
    return model, scheduler, pilot


@pytest.mark.parametrize("kind", [ReduceLROnPlateau, Own])
def test_it_is_not_fed_in_a_search_and_goes_on_after_it(kind: Any) -> None:
    model, scheduler, pilot = attached(kind, Loopback(), search=True)
    inputs = torch.randn(64, 4)
    fed, searched = [], 0
    for rows in pilot.batches(torch.randint(0, 64, (STEPS, 8))):
        loss = (model(inputs[rows]) - inputs[rows].sum(1, keepdim=True)).square().mean()
        scheduler.optimizer.zero_grad()
        loss.backward()
        scheduler.optimizer.real.step()
        pilot.step(loss)
        searched += pilot.searching
        before = scheduler.last_epoch
        scheduler.step(metrics=1.0)  # never better: it would halve the LR each time
        fed.append(scheduler.last_epoch > before)
    assert searched > 20
    assert fed == [False] * searched + [True] * (STEPS - searched)


def test_it_is_the_same_scheduler_to_whoever_looks() -> None:
    _, scheduler, pilot = attached(Own, FakeDaemon())
    assert isinstance(scheduler, Own)
    assert type(scheduler).__name__ == "Own"
    assert scheduler.state_dict().keys() == Own(scheduler.optimizer.real).state_dict().keys()
    for other in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert type(other) is Own
        assert type(other.optimizer) is torch.optim.SGD
        assert other.state_dict() == scheduler.state_dict()
    pilot.close()
    assert type(scheduler) is Own


def test_a_pilot_that_writes_nothing_leaves_it_alone() -> None:
    _, scheduler, _ = attached(Own, FakeDaemon(), mode="observe")
    assert type(scheduler) is Own
    assert isinstance(scheduler, LRScheduler)
